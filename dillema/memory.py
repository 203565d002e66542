"""Computes the memory that the weights of each stage take, from the sizes and headers of their files."""

import io
import json
import logging
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import gguf_header, hub
from .downloads import TIMEOUT, Download, gigabytes, split_address
from .needs import ENDINGS, Need

log = logging.getLogger(__name__)

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.5}
HEADER_BYTES = 65_536  # of a GGUF file, which hold its numbers
GROWTH, WORKSPACE = 1.2, 1e9  # what a stage takes beside its weights, roughly: activations, the CUDA context


@dataclass(frozen=True)
class StageMemory:
    """The memory of the weights of a stage.

    Attributes:
        stage: Its option, such as captioner or model.resnet18.
        device: Where the weights go.
        size: Their size in bytes, with the cache of a language model.
        is_mapped: Whether the weights may stay in a file (llama.cpp on a CPU).
    """

    stage: str
    device: str
    size: float
    is_mapped: bool = False

    @property
    def likely(self) -> float:
        """Returns a rough size in bytes with activations."""
        return GROWTH * self.size + WORKSPACE


def measure_stages(downloads: Iterable[tuple[Need, Download]]) -> list[StageMemory]:
    """Returns the memory of each stage; only one stage is in memory at a time."""
    parts: dict[tuple[str, str, bool], list[float]] = {}
    for need, download in downloads:
        device, sizes, is_mapped = _measure(need, download)
        if sizes:
            held = parts.setdefault((need.stage, device, is_mapped), [])
            offload = getattr(need.part, "offload", None) if device.startswith("cuda") else None
            if offload == "model":  # one network at a time
                held[:] = [max([*held, *sizes])]
            elif offload != "sequential":
                held += sizes
    return [
        StageMemory(stage, device, sum(sizes), is_mapped)
        for (stage, device, is_mapped), sizes in parts.items()
    ]


def free_memory(device: str) -> float:
    """Returns how many bytes of a device are free."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    import psutil  # type: ignore[import-untyped]

    return float(psutil.virtual_memory().available)


def find_problems(stages: Iterable[StageMemory]) -> list[str]:
    """Returns a message for each stage whose weights alone do not fit; warns of those that hardly fit."""
    problems = []
    for stage in stages:
        free = free_memory(stage.device)
        if stage.size > free and not stage.is_mapped:
            problems.append(
                f"{stage.stage}: its weights take {gigabytes(stage.size)} on {stage.device}, where "
                f"{gigabytes(free)} are free. What helps: a smaller model, dtype=float16, quantization or "
                "offload where the option has them, or other programs ended"
            )
        elif stage.likely > free:
            log.warning(
                "%s may not fit: its weights take %s on %s, about %s with activations, and %s are free",
                stage.stage, gigabytes(stage.size), stage.device, gigabytes(stage.likely), gigabytes(free),
            )  # fmt: skip
    return problems


def _measure(need: Need, download: Download) -> tuple[str, list[float], bool]:
    """Returns the device of the weights, the bytes of each network, and whether they may stay in a file."""
    files = {name: size for name, size in download.sizes.items() if Path(name).suffix in ENDINGS}
    if any(name.endswith(".gguf") for name in files):
        return _measure_gguf(need, download)
    setting = getattr(need.part, "device", "auto")
    dtype: Any = getattr(need.part, "dtype", "float32")
    device, number_type = hub.placement(setting, dtype)
    width = BYTES[str(number_type).rpartition(".")[2]]
    quantization = getattr(need.part, "quantization", None) or {}
    for name, bits in (("load_in_8bit", "8bit"), ("load_in_4bit", "4bit")):
        width = BYTES[bits] if quantization.get(name) else width
    if download.parameters and not any("/" in name for name in files):
        return device, [sum(download.parameters.values()) * width], False
    networks: Counter[str] = Counter()
    for name, size in files.items():
        count = _count_parameters(download.paths[name]) if name in download.paths else None
        networks[name.rpartition("/")[0]] += int(size if count is None else count * width)
    return device, [float(size) for size in networks.values()], False


def _measure_gguf(need: Need, download: Download) -> tuple[str, list[float], bool]:
    """Returns the same for a file of llama.cpp: its size, and that of the cache of keys and values."""
    import llama_cpp

    (name,) = download.sizes
    cache = gguf_header.cache_bytes(_read_header(need, download, name), getattr(need.part, "context", 2048))
    on_gpu = bool(getattr(need.part, "gpu_layers", 0)) and llama_cpp.llama_supports_gpu_offload()
    return ("cuda" if on_gpu else "cpu"), [float(download.size + (cache or 0))], not on_gpu


def _read_header(need: Need, download: Download, name: str) -> dict[str, Any]:
    """Returns the numbers of a GGUF file, of which the hub sends the beginning only; empty if it cannot."""
    import huggingface_hub

    if name in download.paths:
        with download.paths[name].open("rb") as file:
            return gguf_header.read_numbers(io.BytesIO(file.read(HEADER_BYTES)))
    repository, path = split_address(need.address)
    known: dict[str, str] = huggingface_hub.utils.build_hf_headers()  # type: ignore[attr-defined]
    headers = known | {"Range": f"bytes=0-{HEADER_BYTES - 1}"}
    request = urllib.request.Request(huggingface_hub.hf_hub_url(repository, path), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return gguf_header.read_numbers(io.BytesIO(response.read(HEADER_BYTES)))
    except Exception as error:  # without it, the estimate lacks the cache
        log.warning("the header of %s cannot be read: %s", need.address, error)
        return {}


def _count_parameters(path: Path) -> int | None:
    """Returns how many numbers a file of safetensors holds; None for a file of another format."""
    if path.suffix != ".safetensors":
        return None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: Mapping[str, Any] = json.loads(file.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for side in tensor["shape"]:
                count *= side
            total += count
    return total
