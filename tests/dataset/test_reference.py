import json

import numpy as np
import pytest
from PIL import Image

from dillema.config import build
from dillema.dataset.folder import Folder
from dillema.dataset.imagenet import ImageNet
from dillema.dataset.mini import MiniImageNet, MiniShift
from dillema.errors import UserError
from dillema.overrides import prepare
from tests import tiny
from tests.test_config import composed

FOGGY, NIGHT = {"weather": "foggy"}, {"time of day": "night"}
CLEAR_DAY = {"weather": "clear", "time of day": "daytime"}


def street(path, mask_path, class_id):
    for file, image in (
        (path, tiny.image(class_id, (32, 20))),
        (mask_path, Image.fromarray(np.full((20, 32), class_id, np.uint8))),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)


def reference(option, *settings):
    return build(composed(*prepare([f"reference={option}", *settings])).reference)


@pytest.fixture
def cityscapes(tmp_path, monkeypatch):
    """Returns the data set under test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    street(
        tmp_path / "data/cityscapes/leftImg8bit/val/ulm/a_leftImg8bit.png",
        tmp_path / "data/cityscapes/gtFine/val/ulm/a_gtFine_labelTrainIds.png",
        0,
    )
    return build(composed("dataset=cityscapes").dataset)


def test_acdc_is_read_in_its_layout_without_its_unlabelled_clear_days(tmp_path, cityscapes):
    root = tmp_path / "data/acdc"
    for class_id, condition in enumerate(("fog", "night", "rain", "snow")):
        for name in ("GOPR1/f1", "GOPR1/f2", "GP2/f3"):
            street(
                root / f"rgb_anon/{condition}/val/{name}_rgb_anon.png",
                root / f"gt/{condition}/val/{name}_gt_labelTrainIds.png",
                class_id,
            )
        unlabelled = root / f"rgb_anon/{condition}/val_ref/GOPR1/f1_rgb_ref_anon.png"
        unlabelled.parent.mkdir(parents=True)
        tiny.image(9, (32, 20)).save(unlabelled)
    samples = reference("acdc").samples(cityscapes)
    assert len(samples) == 12 and len({sample.id for sample in samples}) == 12
    by_id = {sample.id: sample for sample in samples}
    night = by_id["reference-night_val_GOPR1_f1"]
    assert night.attributes == CLEAR_DAY | NIGHT and night.group == "GOPR1"
    assert (night.mask == 1).all()
    assert by_id["reference-fog_val_GP2_f3"].attributes == CLEAR_DAY | FOGGY
    few = reference("acdc", "reference.per_condition=1").samples(cityscapes)
    assert [s.id.split("_")[0] for s in few] == [f"reference-{c}" for c in ("fog", "night", "rain", "snow")]
    again = reference("acdc", "reference.per_condition=1").samples(cityscapes)
    assert [s.id for s in few] == [s.id for s in again]


def test_bdd100k_takes_the_time_of_day_from_its_labels(tmp_path, cityscapes):
    root = tmp_path / "data/bdd100k"
    times = {"0a-1": "night", "0b-2": "dawn/dusk", "0c-3": "daytime", "0d-4": "undefined", "0e-5": None}
    for class_id, name in enumerate(times):
        street(root / f"images/10k/val/{name}.jpg", root / f"labels/sem_seg/masks/val/{name}.png", class_id)
    frames = [
        {"name": f"{name}.jpg", "attributes": {"timeofday": time, "weather": "rainy"}}
        for name, time in times.items()
        if time
    ]
    (root / "labels/det_20").mkdir(parents=True)
    table = root / "labels/det_20/det_val.json"
    table.write_text(json.dumps(frames))
    samples = reference("bdd100k_night").samples(cityscapes)
    assert {s.id.removeprefix("reference-val_"): s.attributes for s in samples} == {
        "0a-1": {"time of day": "night"},
        "0b-2": {"time of day": "dusk"},
        "0c-3": {"time of day": "daytime"},
    }
    table.write_text("{}")
    with pytest.raises(UserError, match=r"det_val.json is not in Scalabel's format"):
        reference("bdd100k_night").samples(cityscapes)


def test_folders_of_corruptions_match_the_classes_of_imagenet_by_wordnet_id(tmp_path):
    for folder, seed in (("fog/3", 1), ("snow/3", 2)):
        for wnid in ("n01440764", "n02109047"):
            (tmp_path / folder / wnid).mkdir(parents=True)
            tiny.image(seed, (64, 48)).save(tmp_path / folder / wnid / "ILSVRC_1.JPEG")
    settings = [
        f"reference.root={tmp_path}",
        "reference.folders={fog/3: {weather: foggy}, snow/3: {weather: snowy}}",
        "reference.table=null",
    ]
    dataset = ImageNet(str(tmp_path))
    samples = reference("folder", *settings).samples(dataset)
    assert [(s.attributes["weather"], dataset.classes[s.label]) for s in samples] == [
        ("foggy", "tench"),
        ("foggy", "Great Dane"),
        ("snowy", "tench"),
        ("snowy", "Great Dane"),
    ]
    with pytest.raises(UserError, match="no classes of mini_imagenet"):
        reference("folder", *settings).samples(MiniImageNet())
    with pytest.raises(UserError, match=r"labels for classification, but mini_shift for segmentation"):
        reference("folder", *settings).samples(MiniShift())
    with pytest.raises(UserError, match=r"glare is no attribute of reference.normal"):
        reference("folder", *settings[:1], "reference.folders={fog/3: {glare: strong}}", settings[2]).samples(
            dataset
        )


def test_a_folder_of_one_s_own_has_a_table_of_weather_and_time_of_day(tmp_path):
    for name, label in (("a", "cat"), ("b", "dog"), ("c", "dog"), ("d", "dog")):
        (tmp_path / label).mkdir(exist_ok=True)
        tiny.image(1, (32, 20)).save(tmp_path / label / f"{name}.jpg")
    (tmp_path / "conditions.csv").write_text(
        "file_name, weather, time of day\ncat/a.jpg,fog,daytime\ndog/b.jpg,clear,night\ndog/c.jpg,clear,\n"
    )
    settings = [f"reference.root={tmp_path}", "reference.values={fog: foggy}"]
    samples = reference("folder", *settings).samples(Folder(str(tmp_path)))
    assert [(s.id, s.label, s.attributes) for s in samples] == [
        ("reference-cat_a", 0, CLEAR_DAY | FOGGY),
        ("reference-dog_b", 1, CLEAR_DAY | NIGHT),
    ]  # d is not in the table, and the time of c is not known
    (tmp_path / "conditions.csv").write_text("file_name,weather\ncat/a.jpg,fog\n")
    with pytest.raises(UserError, match=r"image 1: there is no column time of day"):
        reference("folder", *settings).samples(Folder(str(tmp_path)))
    (tmp_path / "conditions.csv").write_text("file_name,weather,time of day\nelse.jpg,fog,night\n")
    with pytest.raises(UserError, match=r"has no image with a known condition"):
        reference("folder", *settings).samples(Folder(str(tmp_path)))


def test_masks_with_other_classes_are_refused(tmp_path, cityscapes):
    street(tmp_path / "data/acdc/rgb_anon/fog/val/a_rgb_anon.png",
           tmp_path / "data/acdc/gt/fog/val/a_gt_labelTrainIds.png", 0)  # fmt: skip
    with pytest.raises(UserError, match=r"must be the same, in the same order: see reference.classes_file"):
        reference("acdc", "reference.folders={fog/val: {weather: foggy}}").samples(MiniShift())


@pytest.mark.parametrize("dataset", [MiniShift(), MiniImageNet()])
def test_the_small_world_renders_the_same_other_scenes_in_every_condition(dataset):
    samples = reference("mini", "reference.per_condition=2").samples(dataset)
    assert len(samples) == 30 and len({sample.id for sample in samples}) == 30
    assert len({sample.group for sample in samples}) == 2
    assert {tuple(s.attributes.values()) for s in samples} >= {("clear", "daytime"), ("foggy", "night")}
    assert all("-test-" in sample.id and sample.group.startswith("test-") for sample in samples)
    assert len({s.image.tobytes() for s in samples}) == 30
