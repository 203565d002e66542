"""Memory of a GPU: a batch that does not fit is halved, and one back-end's memory is free for the next."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image

from dillema.conditioning.canny import Canny
from dillema.conditioning.soft_edge import SoftEdge
from dillema.config import package_file
from dillema.errors import UserError
from dillema.execution.batch import release_memory
from dillema.execution.local import Local
from dillema.generator.diffusers import ControlNetGenerator
from dillema.types import Control, Counterfactual
from tests import tiny

pytestmark = [pytest.mark.gpu, pytest.mark.cuda]

MIB = 2**20
SIDE = 1024
BATCH = 32
SETTINGS = {"width": SIDE, "height": SIDE, "steps": 1, "conditioning": Canny(), "device": "cuda"}


@dataclass
class Painting:
    """The step of a generator, as far as an executor looks at it."""

    backend: Any

    def work(self, backend, seeds):
        samples = [tiny.sample()] * len(seeds)
        texts = [Counterfactual("a street", ())] * len(seeds)
        control = {"canny": Control(Image.new("RGB", (SIDE, SIDE), (90, 120, 60)), 1.0)}
        return backend.generate(samples, texts, [control] * len(seeds), seeds)


@pytest.fixture
def fill_memory():
    """Returns a function that takes the GPU's memory but for a number of bytes, until the test ends."""
    filling = []

    def fill(left):
        release_memory()
        free, _ = torch.cuda.mem_get_info()
        assert free > left
        filling.append(torch.empty(free - left, dtype=torch.uint8, device="cuda"))

    yield fill
    filling.clear()
    release_memory()


@pytest.fixture
def executor(tmp_path):
    """Returns an executor whose generator is loaded and warm, and its step."""
    step = Painting(ControlNetGenerator(tiny.generator(tmp_path / "pipeline"), **SETTINGS))
    local = Local()
    (first,) = local.map(step, [[0]])
    assert isinstance(first[0], Image.Image)
    yield local, step
    local.unload()


def test_a_batch_that_does_not_fit_is_halved(executor, fill_memory, caplog):
    local, step = executor
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    list(local.map(step, [[0, 1]]))
    bytes_of_two = torch.cuda.max_memory_allocated() - base
    fill_memory(4 * bytes_of_two)  # enough for some, and not for all
    (images,) = local.map(step, [list(range(BATCH))])
    assert len(images) == BATCH and all(isinstance(image, Image.Image) for image in images)
    assert f"memory does not suffice for {BATCH} items at a time" in caplog.text


def test_one_image_that_does_not_fit_ends_the_run_with_what_helps(executor, fill_memory):
    local, step = executor
    fill_memory(16 * MIB)  # the control image alone takes more
    with pytest.raises(UserError, match=r"generator\.offload=model"):
        list(local.map(step, [[0, 1]]))


def test_the_memory_of_a_back_end_is_given_back_before_the_next_one_loads(tmp_path):
    generator = ControlNetGenerator(package_file("dillema", "mini/weights/generator"), **SETTINGS)
    backends = [SoftEdge(tiny.hed(tmp_path / "ControlNetHED.pth"), device="cuda"), generator]
    executor = Local()

    def load_in_turn():
        """Returns the bytes allocated and free when each back-end is loaded, and at the end."""
        used = []
        for backend in [*backends, None]:
            executor.load(backend) if backend else executor.unload()
            used.append((torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]))
        return used

    load_in_turn()  # the libraries keep some work space from now on
    base, base_free = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]
    (edges, _), (painter, _), (end, free) = load_in_turn()
    executor.load(generator)
    alone = torch.cuda.memory_allocated()
    executor.unload()
    assert edges - base > 10 * MIB and painter - base > 10 * MIB
    assert painter <= alone + MIB and end <= base + MIB
    assert free >= base_free - 64 * MIB
