"""Measures images per second and peak memory: a bare loop of diffusers, and our generator with each option.

Random weights in real sizes. Each result is printed and appended to $OUT/results.jsonl as soon as it exists;
after `--seconds` no further measurement begins, and what was left out is named.

    python -m tests.gpu.measure --seconds 300
    DILLEMA_TEST_DEVICE=cpu python -m tests.gpu.measure --tiny --seconds 60
"""

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dillema.conditioning.canny import Canny
from dillema.conditioning.depth import Depth
from dillema.conditioning.several import Several
from dillema.execution.batch import is_memory_error, release_memory
from dillema.generator.diffusers import ControlNetGenerator
from dillema.generator.speed import controlnets
from dillema.types import Control, Counterfactual
from tests import tiny
from tests.gpu import checkpoints
from tests.gpu.small import DEVICE

IS_CUDA = DEVICE.startswith("cuda")
GUIDANCE = 7.5
GREY = 90  # of the control images
GAIN = 1.03  # a larger batch is better if it paints this many times as many images per second
BATCHES = (2, 4, 8, 16, 32)
SHORTEST = 2.0  # seconds over which speed is measured, at least
CONDITIONINGS = {"canny": Canny(), "depth": Depth("none")}


@dataclass
class Setup:
    """One checkpoint, and how it is run."""

    kind: str
    home: Path
    side: int
    steps: int
    dtype: str
    deadline: float
    results: Path
    left_out: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def write(self, **result: Any) -> None:
        line = json.dumps({"kind": self.kind, "side": self.side, "steps": self.steps, **result})
        print(line, flush=True)
        with self.results.open("a") as file:
            file.write(line + "\n")

    def has_time(self, name: str, seconds: float = 0.0) -> bool:
        """Returns whether a measurement that takes so long may begin; notes one that may not."""
        if time.perf_counter() + seconds < self.deadline:
            return True
        self.left_out.append(name)
        return False

    @contextmanager
    def going_on(self, name: str) -> Iterator[None]:
        """Writes an error down: time on a GPU is short, and the other measurements do not depend on it."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failed.append(name)
            self.write(name=name, error=f"{type(error).__name__}: {error}")


def synchronise():
    if IS_CUDA:
        torch.cuda.synchronize()


def card():
    return torch.cuda.get_device_name() if IS_CUDA else "CPU"


def time_batches(paint, batch_size):
    """Returns images per second and, on a GPU, the peak of memory in GB; `paint` takes seeds.

    The first call is not measured: it compiles, chooses algorithms and takes memory.
    """
    paint(range(batch_size))
    synchronise()
    if IS_CUDA:
        torch.cuda.reset_peak_memory_stats()
    start, images = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < SHORTEST or not images:
        paint(range(images, images + batch_size))
        images += batch_size
        synchronise()
    result = {"batch": batch_size, "images_per_second": round(images / seconds, 3)}
    if IS_CUDA:
        result["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return result


def measure(setup, name, paint, batch_size):
    """Returns what was measured, and writes it; None where time or memory does not suffice."""
    if not setup.has_time(f"{name}, batch {batch_size}"):
        return None
    try:
        result = time_batches(paint, batch_size)
    except Exception as error:
        if not is_memory_error(error):
            raise
        setup.write(name=name, batch=batch_size, error="memory does not suffice")
        return None
    finally:
        release_memory()
    setup.write(name=name, **result)
    return result


def measure_batches(setup, name, paint):
    """Returns the best batch size, after measuring 1 and then larger ones as long as they gain."""
    best = measure(setup, name, paint, 1)
    for batch_size in BATCHES if best else ():
        result = measure(setup, name, paint, batch_size)
        if result is None or result["images_per_second"] < GAIN * best["images_per_second"]:
            break
        best = result
    return best["batch"] if best else 1


def open_bare(setup, names):
    """Returns a pipeline as the documentation of diffusers opens it."""
    import diffusers

    dtype = getattr(torch, setup.dtype)
    nets = [diffusers.ControlNetModel.from_pretrained(setup.home / name, dtype=dtype) for name in names]
    checker = {"safety_checker": None, "requires_safety_checker": False} if setup.kind == "sd15" else {}
    pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(
        setup.home / "base", controlnet=nets if len(nets) > 1 else nets[0], dtype=dtype, **checker
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(DEVICE)


def paint_bare(setup, pipeline, names, seeds):
    count = len(seeds)
    # the only form that pipelines with several ControlNets take for a batch
    structure = [torch.full((count, 3, setup.side, setup.side), GREY / 255)] * len(names)
    return pipeline(
        prompt=[f"a street {seed}" for seed in seeds],
        negative_prompt=["dark"] * count,
        image=structure if len(names) > 1 else structure[0],
        width=setup.side,
        height=setup.side,
        num_inference_steps=setup.steps,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
    ).images


def open_ours(setup, names, **options):
    backend = ControlNetGenerator(
        str(setup.home / "base"),
        {name: str(setup.home / name) for name in names},
        Several({name: CONDITIONINGS[name] for name in names}),
        width=setup.side,
        height=setup.side,
        steps=setup.steps,
        guidance=GUIDANCE,
        negative_prompt="dark",
        dtype=setup.dtype,
        device=DEVICE,
        **options,
    )
    backend.load()
    return backend


def paint_ours(setup, backend, names, seeds):
    structure = Control(Image.new("RGB", (setup.side, setup.side), (GREY,) * 3), 1.0)
    controls = [dict.fromkeys(names, structure) for _ in seeds]
    texts = [Counterfactual(f"a street {seed}", ()) for seed in seeds]
    images = backend.generate([tiny.sample()] * len(texts), texts, controls, list(seeds))
    if errors := [image for image in images if isinstance(image, Exception)]:
        print(f"{len(errors)} of {len(images)} images: {errors[0]}", flush=True)
    return images


def without_channels_last(backend):
    pipeline = backend._pipeline
    for network in (pipeline.unet, *controlnets(pipeline), pipeline.vae):
        network.to(memory_format=torch.contiguous_format)


def without_control_embedding(backend):
    for controlnet in controlnets(backend._pipeline):
        module = controlnet.controlnet_cond_embedding
        module.forward = lambda images, module=module: module.embedding(images)


def without_text_embeddings(backend):
    embeddings = backend._embeddings
    embeddings._embed = embeddings._encode


OFF = {
    "ours without channels-last": without_channels_last,
    "ours without kept embeddings of control images": without_control_embedding,
    "ours without kept embeddings of texts": without_text_embeddings,
}
"""What our generator always does, switched off."""
SAVING = {
    "ours, slicing": {"slicing": True},
    "ours, tiling": {"tiling": True},
    "ours, offload=model": {"offload": "model"},
    "ours, offload=sequential": {"offload": "sequential"},
}
"""What saves memory and costs time."""


def count_operations(setup, pipeline, names, name):
    """Writes the operations of one image: times images per second, they say how well the card is used."""
    if not setup.has_time(f"{name}, operations"):
        return
    with FlopCounterMode(display=False) as counter:
        paint_bare(setup, pipeline, names, range(1))
    setup.write(name=f"{name}, operations", tera_per_image=counter.get_total_flops() / 1e12)


def measure_bare(setup, names, name):
    """Returns the best batch size of a bare loop."""
    release_memory()
    if not setup.has_time(name):
        return 1
    with setup.going_on(name):
        pipeline = open_bare(setup, names)
        batch_size = measure_batches(setup, name, partial(paint_bare, setup, pipeline, names))
        count_operations(setup, pipeline, names, name)
        return batch_size
    return 1


def measure_ours(setup, names, name, batch_size, change=None, needed=0.0, **options):
    """Measures our generator with options, after a change of what is loaded."""
    release_memory()
    if not setup.has_time(name, needed):
        return
    with setup.going_on(name):
        backend = open_ours(setup, names, **options)
        if change:
            change(backend)
        measure(setup, name, partial(paint_ours, setup, backend, names), batch_size)


def measure_kind(setup, compile_seconds):
    """Measures one checkpoint, what matters most first."""
    one, two = ("canny",), ("canny", "depth")
    batch_size = measure_bare(setup, one, "bare")
    for size in sorted({1, batch_size}):
        measure_ours(setup, one, "ours", size)
    for name, change in OFF.items():
        measure_ours(setup, one, name, batch_size, change)
    measure_ours(setup, one, "ours, guidance in half of the steps", batch_size, guidance_share=0.5)
    measure_ours(setup, one, "ours, compile", batch_size, needed=compile_seconds, compile=True)
    measure_bare(setup, two, "bare, two ControlNets")
    measure_ours(setup, two, "ours, two ControlNets", batch_size)
    for name, options in SAVING.items():
        measure_ours(setup, one, name, batch_size, **options)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="after which no measurement begins")
    parser.add_argument("--compile-seconds", type=float, default=120, help="what torch.compile may take")
    parser.add_argument("--kinds", nargs="+", default=["sd15", "sdxl"], choices=["sd15", "sdxl"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tiny", action="store_true", help="small networks and images, for a CPU")
    return parser.parse_args()


def measure_checkpoint(setup, options):
    """Writes a checkpoint to the disk and measures it."""
    start = time.perf_counter()
    if options.tiny:
        checkpoints.save_tiny(setup.kind, setup.home)
    else:
        checkpoints.save(setup.kind, setup.home, DEVICE, getattr(torch, options.dtype))
    setup.write(name="checkpoint written", seconds=round(time.perf_counter() - start, 1))
    measure_kind(setup, options.compile_seconds)


def main():
    options = arguments()
    if IS_CUDA and not torch.cuda.is_available():
        raise SystemExit(
            "there is no GPU; on a CPU: DILLEMA_TEST_DEVICE=cpu python -m tests.gpu.measure --tiny"
        )
    start = time.perf_counter()
    results = Path(os.environ.get("OUT", "outputs/gpu")) / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    for number, kind in enumerate(options.kinds, 1):
        # a kind leaves time for those after it
        deadline = start + options.seconds * number / len(options.kinds)
        side = 64 if options.tiny else {"sd15": 512, "sdxl": 1024}[kind]
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(kind, Path(folder, kind), side, options.steps, options.dtype, deadline, results)
            setup.write(name="card", card=card(), torch=torch.__version__, dtype=options.dtype)
            with setup.going_on("checkpoint"):
                measure_checkpoint(setup, options)
            setup.write(name="end", seconds=round(time.perf_counter() - start, 1), left_out=setup.left_out)
            failed += setup.failed
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
