"""Runs the recipes of the README as they are written, on small checkpoints in the cache of the hub."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import test_experiments, tiny
from tests.dataset import test_shift

pytestmark = pytest.mark.slow

README = (Path(__file__).parent.parent / "README.md").read_text()
hub = test_experiments.hub  # a fixture


def recipe(*words):
    """Returns the arguments of the README's command that holds the words."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.S)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    (command,) = [line for line in commands if all(word in line for word in words)]
    python, option, module, *arguments = shlex.split(command, comments=True)
    assert (python, option, module) == ("python", "-m", "dillema")
    return arguments


@pytest.fixture
def dillema(hub, tmp_path):
    """Returns a function that runs a command in an empty folder without a network, and returns its output."""
    tiny.quantised(
        tiny.gguf(hub / "llama.gguf", None, "llama", unlikely="}"),
        tiny.cached(hub, "TheBloke/Llama-2-13B-chat-GGUF") / "llama-2-13b-chat.Q4_K_M.gguf",
        "Q4_K_M",
    )
    soft_edge = tiny.cached(hub, "lllyasviel/control_v11p_sd15_softedge")
    tiny.controlnet(tiny.unet(cross_attention_dim=32)).save_pretrained(soft_edge)
    environment = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}

    def start(arguments):
        command = [sys.executable, "-m", "dillema", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return start


def test_the_recipe_for_a_test_engineer(dillema, tmp_path):
    names = ["road", "building", "sky", "car"]
    for seed in range(3):
        for kind, image in (("images", tiny.image(seed, (128, 80))), ("masks", _mask(seed, len(names)))):
            (tmp_path / "data/mine" / kind).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "data/mine" / kind / f"{seed}.png")
    lines = [f"{name},{i},#{40 * i:06x}," for i, name in enumerate(names)]
    (tmp_path / "data/mine/classes.csv").write_text("\n".join(["name,id,colour,ignore", *lines]))
    checkpoint = Path(tiny.segmenter(tmp_path / "my/checkpoint", classes=len(names)))
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (checkpoint / "config.json").write_text(json.dumps(config))

    dillema(recipe("dataset=folder"))

    folder = (tmp_path / "outputs/latest").resolve()
    results = json.loads((folder / "results.json").read_text())
    assert results["name"] == "night-v2" and (folder / "report.html").exists()
    assert list(results["models"]) == ["segformer_cityscapes"]
    assert results["counts"]["sources"] == 3 and results["counts"]["generated"] > 0
    values = {value for counts in results["plan"].values() for value in counts}
    assert values and values <= {"foggy", "snowy", "night"}  # as the command says


def test_the_recipe_for_a_researcher(dillema, tmp_path):
    folder = test_shift.write(tmp_path / "data/shift", sequences=3, length=1)
    for seed, path in enumerate(folder.rglob("*.jpg")):
        tiny.image(seed, (128, 80)).save(path)
    dillema(recipe("-m", "dataset=shift"))
    runs = list((tmp_path / "multirun").glob("*/*/*/results.json"))
    assert len(runs) == 4  # two language models, two conditionings
    (sweep,) = {run.parent.parent for run in runs}

    *job, folders = recipe("job=compare")
    assert folders.startswith("job.runs=[outputs/") and "multirun/2026-11-22]" in folders
    output = dillema([*job, f"job.runs=[{sweep.parent.relative_to(tmp_path)}]"])
    assert all(name in output for name in ("llama2_q4", "llama2_q5", "canny", "soft_edge"))


def _mask(seed, classes):
    return Image.fromarray(test_shift.ids(seed) % classes)
