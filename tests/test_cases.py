"""The figures of inputs that other tools read as something else: those of originals, from files on.

The right values are those of the same pictures and labels in their plainest form.
"""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dillema import report
from dillema.config import build
from dillema.counterfactual.edits import Random
from dillema.dataset import shift
from dillema.dataset.folder import Folder
from dillema.errors import UserError
from dillema.execution.local import Local
from dillema.image_size import ImageSize
from dillema.mini.render import render
from dillema.mini.scene import Appearance, sample_scene, scene_seed
from dillema.model.callable import CallableModel
from dillema.runner import Runner
from dillema.steps.items import make_original
from dillema.steps.predict import PredictStep
from dillema.steps.source import SourceStep
from dillema.store import Store
from dillema.task import get_task
from tests.backends import Model, run_pipeline
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
    (model,) = (build(block) for block in cfg.model.values())
    return score(store, build(cfg.dataset), model)


def score(store, dataset, model):
    """Returns the main metric of a model on the originals of a data set."""
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


def find_bright(images):
    """Returns the scores of a segmenter that finds what is bright exactly."""
    bright = np.stack([np.asarray(image.convert("L")) >= 128 for image in images])
    return 20 * np.stack([~bright, bright], 1).astype(np.float32)


def find_nothing(images):
    """Returns the scores of a segmenter that finds nothing but class 0."""
    none = np.zeros((len(images), *np.asarray(images[0]).shape[:2]), bool)
    return 20 * np.stack([~none, none], 1).astype(np.float32)


def measure_lanes(tmp_path, root, mask, function="find_bright", ending="png"):
    """Returns the mean IoU where the left quarter of each picture is a bright lane, and `mask` its mask."""
    image = np.full((160, 256, 3), (30, 60, 30), np.uint8)
    image[:, :64] = 200
    Image.fromarray(image).save(place(root / "images/s0.png"))
    mask.save(place(root / f"masks/s0.{ending}"))
    (root / "classes.csv").write_text("name,colour\nbackground,#000000\nlane,#00ff00\n")
    data = Folder(str(root), images="images", masks="masks", mask_suffix=f".{ending}")
    return score(
        tmp_path / "store",
        data,
        CallableModel("lanes", {"_target_": f"tests.test_cases.{function}", "_partial_": True}),
    )


LANE = np.zeros((160, 256), np.uint8)
LANE[:, :64] = 1
PAINTED = Image.fromarray(np.where(LANE[..., None], (0, 255, 0), (0, 0, 0)).astype(np.uint8))
MASKS = {
    "8 bits": (Image.fromarray(LANE), "png"),
    "1 bit": (Image.fromarray(LANE * 255).convert("1"), "png"),
    "16 bits": (Image.fromarray(LANE.astype(np.uint16)), "png"),
    "32 bits": (Image.fromarray(LANE.astype(np.int32)), "tif"),
    "with transparency": (Image.merge("LA", (Image.fromarray(LANE), Image.new("L", (256, 160), 255))), "png"),
    "painted in the colours of the classes": (PAINTED, "png"),
}


def test_masks_of_every_encoding_give_the_same_figure(tmp_path):
    figures = {
        name: measure_lanes(tmp_path, tmp_path / name, mask, ending=ending)
        for name, (mask, ending) in MASKS.items()
    }
    assert figures == dict.fromkeys(MASKS, 1.0)
    assert measure_lanes(tmp_path, tmp_path / "nothing", PAINTED, "find_nothing") == 0.375  # 0.75 and 0


@pytest.mark.parametrize(
    ("kind", "ending", "words"),
    [(np.float32, "tif", "values of the kind F"), (np.uint8, "jpg", "lossy JPEG.*save masks as PNG")],
)
def test_masks_that_hold_no_ids_end_the_run_in_words(tmp_path, kind, ending, words):
    with pytest.raises(UserError, match=f"the mask of s0 (is a|has) {words}"):
        measure_lanes(tmp_path, tmp_path / "data", Image.fromarray(LANE.astype(kind)), ending=ending)


@pytest.mark.parametrize("kind", ["sixteen", "decimals"])
def test_photographs_of_16_bits_and_decimals_have_the_figure_of_8_bits(tmp_path, kind):
    figures = []
    for name in ("eight", kind):
        write_streets(tmp_path / name, count=1)
        path = tmp_path / name / "images/s0.jpg"
        grey = np.asarray(Image.open(path).convert("L"))
        path.unlink()
        pixels = {
            "eight": grey,
            "sixteen": grey.astype(np.uint16) * 257,
            "decimals": (grey / 255).astype("f"),
        }
        Image.fromarray(pixels[name]).save(path.with_suffix(".tif"))
        figures.append(measure(tmp_path / "store", *of_streets(tmp_path / name), "model=mini_segformer"))
    assert figures[0] == figures[1] > 0.1


def test_sources_that_all_fail_end_the_run_with_one_message(tmp_path):
    write_streets(tmp_path / "data")
    for path in (tmp_path / "data" / "masks").iterdir():
        Image.open(path).resize((200, 160), Image.Resampling.NEAREST).save(path)
    data = Folder(str(tmp_path / "data"), images="images", masks="masks")
    with pytest.raises(
        UserError, match=r"^all 2 items of the step source failed, most often because: .*200x160"
    ):
        run_pipeline(tmp_path / "run", tmp_path / "store", dataset=data)
    assert len((tmp_path / "run" / "failures.jsonl").read_text().splitlines()) == 2


def test_a_segmentation_run_without_any_pair_has_a_page(tmp_path):
    class Nothing(Random):
        def plan(self, *arguments):
            return []

    run, _ = run_pipeline(tmp_path / "run", tmp_path / "store", edits=Nothing(), models=[Model()])
    report.write(run)
    assert "brightest" in (tmp_path / "run" / "report.html").read_text()


def test_names_as_long_as_a_file_system_allows_make_a_whole_run(tmp_path):
    title = "红色复古自行车城市通勤女士轻便单车" * 4
    for number, kind in enumerate(("自行车与电动车及其配件", "汽车")):
        Image.new("RGB", (64, 40), (99 * number, 90, 120)).save(
            place(tmp_path / f"data/{kind}/{title}{number}.png")
        )
    data = Folder(str(tmp_path / "data"), vary={"weather": ["foggy"]})
    run, _ = run_pipeline(tmp_path / "run", tmp_path / "store", dataset=data)
    assert len(list(run.generated())) == run.results["counts"]["generated"] > 0
    assert run.results["counts"]["failed"] == 0
    assert all(image.path.is_file() for image in run.generated())
