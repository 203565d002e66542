"""The figures of inputs that other tools read as something else: those of originals, from files on.

The right values are those of the same pictures and labels in their plainest form.
"""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dillema.config import build
from dillema.dataset import shift
from dillema.errors import UserError
from dillema.execution.local import Local
from dillema.image_size import ImageSize
from dillema.mini.render import render
from dillema.mini.scene import Appearance, sample_scene, scene_seed
from dillema.runner import Runner
from dillema.steps.items import make_original
from dillema.steps.predict import PredictStep
from dillema.steps.source import SourceStep
from dillema.store import Store
from dillema.task import get_task
from tests.test_config import composed

SIZE = ImageSize(256, 160)
TURNED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}


def scene(task, index):
    """Returns the scene of a seed, and its image and mask on a clear day."""
    seen = sample_scene(scene_seed("val", task, index), task)
    return seen, *map(Image.fromarray, render(seen, Appearance("clear", "daytime", "red")))


def place(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def measure(store, *overrides):
    """Returns the main metric of a model on the originals of a data set."""
    cfg = composed(*overrides)
    dataset, (model,) = build(cfg.dataset), (build(block) for block in cfg.model.values())
    runner = Runner(Store(store), Local(), 0, False)
    sources = runner.run(SourceStep(dataset, SIZE), dataset.samples())
    originals = [make_original(source)[0] for source in sources.values()]
    records = [outcome.value for outcome in runner.run(PredictStep(model, dataset), originals).values()]
    task = get_task(dataset.task)
    names = {name: kind for name, kind in task.columns.items() if not pa.types.is_binary(kind)}
    columns = {name: pa.array([record[name] for record in records], kind) for name, kind in names.items()}
    return float(task.score(task.tallies(columns, dataset).sum(0)))


def write_streets(root, orientation=1, count=2):
    """Writes streets as a camera stores them that is held so, and the masks that an annotator sees."""
    for index in range(count):
        _, image, mask = scene("street", index)
        exif, turn = Image.Exif(), TURNED[orientation]
        exif[0x0112] = orientation
        stored = image if turn is None else image.transpose(turn)
        stored.save(place(root / f"images/s{index}.jpg"), quality=97, exif=exif)
        mask.save(place(root / f"masks/s{index}.png"))
    lines = [
        f"{name},#{bytes(colour).hex()},{'yes' if i in shift.IGNORED else ''}\n"
        for i, (name, colour) in enumerate(zip(shift.CLASSES, shift.COLOURS, strict=True))
    ]
    (root / "classes.csv").write_text("name,colour,ignore\n" + "".join(lines))


def of_streets(root):
    return "dataset=folder", f"dataset.root={root}", "dataset.images=images", "dataset.masks=masks"


def test_turned_photographs_have_the_figures_of_upright_ones(tmp_path):
    figures = {}
    for orientation in TURNED:
        write_streets(tmp_path / str(orientation), orientation, 1)
        overrides = of_streets(tmp_path / str(orientation))
        figures[orientation] = measure(tmp_path / "store", *overrides, "model=mini_segformer")
    assert figures[1] > 0.8
    assert figures[3] == pytest.approx(figures[1], abs=0.02) and figures[6] == pytest.approx(
        figures[1], abs=0.02
    )


def test_a_checkpoint_of_ones_own_under_the_option_of_cityscapes_has_the_figures_of_its_own(tmp_path):
    write_streets(tmp_path / "data", count=1)
    checkpoint = composed().model.mini_segformer.model
    own = ("model=segformer_cityscapes", f"model.segformer_cityscapes.model={checkpoint}")
    data = of_streets(tmp_path / "data")
    plain = (*own, "model.segformer_cityscapes.default_class_map=null")
    figures = [
        measure(tmp_path / name, *data, *model) for name, model in {"own": own, "plain": plain}.items()
    ]
    assert figures[0] == figures[1] > 0.5


@pytest.fixture(scope="module")
def vehicles(tmp_path_factory):
    """Returns class folders, whose order is not the checkpoint's."""
    root = tmp_path_factory.mktemp("vehicles")
    kinds: dict[str, int] = {}
    for index in range(40):
        seen, image, _ = scene("vehicle", index)
        if kinds.setdefault(seen.kind, 0) < 1:
            kinds[seen.kind] += 1
            image.save(place(root / seen.kind / f"v{index}.png"))
    assert len(kinds) == 6
    return root


def test_class_folders_in_another_order_than_the_checkpoints_are_matched_by_name(tmp_path, vehicles):
    figure = measure(tmp_path, "dataset=folder", f"dataset.root={vehicles}", "model=mini_resnet")
    assert figure == 1.0


def test_a_folder_that_is_no_class_is_asked_about_and_shifts_nothing(tmp_path, vehicles):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(place(vehicles / "_rejected" / "a.png"))
    try:
        with pytest.raises(UserError, match="rejected"):
            measure(tmp_path, "dataset=folder", f"dataset.root={vehicles}", "model=mini_resnet")
    finally:
        (vehicles / "_rejected" / "a.png").unlink()
        (vehicles / "_rejected").rmdir()
