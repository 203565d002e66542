"""The sizes in the first lines of the options, held against what follows from the configuration."""

import re

import pytest

from dillema.config import conf_dir, read_yaml
from dillema.gguf_header import cache_bytes
from tests.test_config import composed

NETWORKS = {"7b": (32, 4096, 32), "13b": (40, 5120, 40)}  # layers, width and heads of Llama 2
CARDS = (8, 12, 16, 24, 32, 40, 48, 80)  # GB of memory of the GPUs that there are
UNITS = {"MB": 0.001, "GB": 1.0}
PAPER = ("imagenet_paper", "shift_paper")


def read_first_lines(option):
    """Returns the comment at the beginning of an option in one line."""
    lines = (conf_dir() / f"{option}.yaml").read_text().splitlines()
    comments = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comments)


def stated_download(option):
    """Returns the gigabytes that an option says it downloads."""
    found = re.search(r"[Dd]ownloads ([\d.]+) (MB|GB)", read_first_lines(option))
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def stated_memory(option):
    """Returns the gigabytes of the GPU that an option says it needs; 0 for one that needs none."""
    found = re.search(r"GPU\W* of (\d+) GB", read_first_lines(option))
    return int(found[1]) if found else 0


@pytest.mark.parametrize("option", sorted(file.stem for file in (conf_dir() / "llm").glob("llama2_*.yaml")))
def test_llama_2_needs_its_file_and_its_cache(option):
    cfg = composed(f"llm={option}")
    layers, width, heads = NETWORKS["7b" if "7B" in cfg.llm.model else "13b"]
    header = {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.embedding_length": width,
        "llama.attention.head_count": heads,
    }
    weights = stated_download(f"llm/{option}") + cache_bytes(header, cfg.llm.context) / 1e9
    assert weights <= stated_memory(f"llm/{option}") < weights + 1.2
    assert f"{stated_memory(f'llm/{option}')} GB of memory" in read_first_lines(f"llm/{option}")


@pytest.mark.parametrize("experiment", PAPER)
def test_the_papers_experiments_need_what_their_options_need(experiment):
    options = []
    for default in read_yaml(conf_dir() / "experiment" / f"{experiment}.yaml")["defaults"]:
        ((group, names),) = default.items()
        group = group.removeprefix("override /")
        if group not in ("dataset", "prompt", "validity"):
            options += [f"{group}/{name}" for name in (names if isinstance(names, list) else [names])]
    download = sum(map(stated_download, options))
    assert stated_download(f"experiment/{experiment}") == pytest.approx(download, abs=1)
    memory = max(map(stated_memory, options))
    assert stated_memory(f"experiment/{experiment}") == min(card for card in CARDS if card >= memory)
