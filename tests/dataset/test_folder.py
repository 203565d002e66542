import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dillema.config import build
from dillema.dataset import check_sample, describe
from dillema.dataset.classes import read_classes
from dillema.dataset.folder import Folder
from dillema.errors import ItemError, UserError
from tests.test_config import composed

SHAPES = """id,name,colour,ignore
1,round,#ff8000,
0,square,#0080ff,
2,blurred,#808080,yes
255,void,#000000,yes
"""


@pytest.fixture
def shapes(tmp_path):
    path = tmp_path / "shapes.csv"
    path.write_text(SHAPES)
    return str(path)


def picture(path, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 120, 30)).save(path)


def mask(path, value, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def test_the_first_folder_of_an_image_is_its_class(tmp_path):
    for name in ("polar_bear/1.jpg", "polar_bear/zoo/1.jpg", "cat/photo of Tom.PNG", "zebra, Equus/2.webp"):
        picture(tmp_path / "val" / name)
    (tmp_path / "val/cat/notes.txt").touch()
    data = Folder(root=str(tmp_path), split="val")
    assert (data.task, data.classes) == ("classification", ("cat", "polar bear", "zebra"))
    samples = data.samples()
    assert [s.label for s in samples] == [0, 1, 1, 2]
    assert [s.id for s in samples[1:3]] == ["polar_bear_1", "polar_bear_zoo_1"]
    for sample in samples:
        check_sample(sample, data)
    assert pickle.loads(pickle.dumps(samples[0])).digest == samples[0].digest


def test_a_file_of_classes_gives_the_ids_that_a_model_knows(tmp_path):
    for name in ("polar_bear", "cat"):
        picture(tmp_path / "images" / name / "1.jpg")
    path = tmp_path / "classes.csv"
    path.write_text("name\nzebra\npolar bear\ncat\n")
    data = Folder(root=str(tmp_path), images="images", classes_file=str(path))
    assert [(s.id, s.label) for s in data.samples()] == [("cat_1", 2), ("polar_bear_1", 1)]
    picture(tmp_path / "images" / "dog" / "1.jpg")
    with pytest.raises(UserError, match="classes_file does not name: dog"):
        Folder(root=str(tmp_path), images="images", classes_file=str(path)).samples()


def test_a_few_of_each_class_are_drawn(tmp_path):
    for name in ("cat", "dog"):
        for i in range(9):
            picture(tmp_path / name / f"{i}.jpg")
    picks = [[s.id for s in Folder(root=str(tmp_path), per_class=2, seed=seed).samples()] for seed in (0, 1)]
    assert [[i[:3] for i in each] for each in picks] == [["cat", "cat", "dog", "dog"]] * 2
    assert picks[0] != picks[1]


@pytest.mark.parametrize("masks", ["masks", "images"])
def test_masks_have_the_stem_of_their_image(tmp_path, shapes, masks):
    for i, name in enumerate(("a", "town/b", "c.d")):
        picture(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / masks / f"{name}.png", (0, 1, 255)[i])
    data = Folder(root=str(tmp_path), images="images", masks=masks, classes_file=shapes)
    assert (data.task, data.classes, data.ignored) == (
        "segmentation",
        ("square", "round", "blurred"),
        {2, 255},
    )
    assert data.colours == ((0, 128, 255), (255, 128, 0), (128, 128, 128))
    samples = data.samples()
    assert {s.id: int(s.mask[0, 0]) for s in samples} == {"a": 0, "town_b": 1, samples[1].id: 255}
    for sample in samples:
        check_sample(sample, data)


LAYOUTS = {
    "dataset=cityscapes": (
        "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png",
        "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelTrainIds.png",
    ),
    "experiment=bdd100k": (
        "images/10k/val/7d06fefd-f7be05a6.jpg",
        "labels/sem_seg/masks/val/7d06fefd-f7be05a6.png",
    ),
    "experiment=acdc": (
        "rgb_anon/fog/val/GOPR0476/GOPR0476_frame_000854_rgb_anon.png",
        "gt/fog/val/GOPR0476/GOPR0476_frame_000854_gt_labelTrainIds.png",
    ),
}


@pytest.mark.parametrize("option", LAYOUTS)
def test_street_scenes_with_train_ids_are_read_as_they_are_unpacked(tmp_path, option):
    image, labels = LAYOUTS[option]
    picture(tmp_path / image)
    mask(tmp_path / labels, 13)
    mask(
        tmp_path / labels.replace("TrainIds", "Ids").replace("masks", "colormaps"), 26
    )  # what lies beside the masks
    cfg = composed(option, f"dataset.root={tmp_path}")
    data = build(cfg.dataset)
    (sample,) = data.samples()
    check_sample(sample, data)
    assert data.name == option.partition("=")[2]
    assert (len(data.classes), data.classes[sample.mask[0, 0]], data.colours[13]) == (19, "car", (0, 0, 142))
    assert sample.id in image.replace("/", "_")
    assert "segformer_trainids" in str(cfg.model)  # not the one whose classes are sent to SHIFT's


def damage(root, how):
    image, labels = root / "images/a.jpg", root / "masks/a.png"
    if how == "no image":
        image.unlink()
    elif how == "no mask":
        labels.unlink()
    elif how == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(image)
        image.write_bytes(image.read_bytes()[:1000])
    elif how == "other size":
        mask(labels, 1, (40, 60))
    else:
        mask(labels, 77)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no image", "the image of a is missing in .*images"),
        ("no mask", "the mask of a is missing in .*masks"),
        ("truncated", "the image of a cannot be read"),
        ("other size", "the mask of a is 40x60, its image 60x40"),
        ("unknown id", r"unknown class ids \[77\]"),
    ],
)
def test_bad_input_is_an_error_of_its_sample_alone(tmp_path, shapes, how, words):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}.png", 1)
    damage(tmp_path, how)
    data = Folder(root=str(tmp_path), images="images", masks="masks", classes_file=shapes)
    bad, good = data.samples()
    with pytest.raises(ItemError, match=words):
        check_sample(bad, data)
    check_sample(good, data)


def test_what_is_missing_or_does_not_fit_is_said(tmp_path, shapes):
    def samples(**options):
        data = Folder(root=str(tmp_path), **options)
        return data.classes, data.samples()

    with pytest.raises(UserError, match=r"no data in .*val: there is no such folder.*dataset.split"):
        samples(split="val")
    with pytest.raises(UserError, match=r"no images in .*\.jpg or .*dataset.image_suffix"):
        samples()
    picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(UserError, match=r"in no folder of a class.*dataset\.masks"):
        samples(images="images")
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"dataset\.classes_file. It is a CSV"):
        samples(images="images", masks="masks")
    with pytest.raises(
        UserError, match=r"no image of .* has a mask in .*: a\.jpg should have a_ids\.png there"
    ):
        samples(images="images", masks="masks", mask_suffix="_ids.png", classes_file=shapes)
    picture(tmp_path / "images" / "a.jpeg")
    with pytest.raises(UserError, match=r"differ in their extension alone.*image_suffix"):
        samples(images="images", masks="masks", classes_file=shapes)
    Path(shapes).write_text("name\nround\n")
    with pytest.raises(UserError, match="needs a column colour"):
        samples(images="images", masks="masks", classes_file=shapes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no class"),
        ("round\nsquare\n", "line 1 has the columns round"),
        ("name,colour\n,#ffffff\n", "line 2 names no class"),
        ("name,id\nround,x\n", "line 2: the id 'x'"),
        ("name,id\nround,0\nsquare,0\n", "line 3: the id '0'"),
        ("name,id\nround,0\nsquare,2\n", "no class 1, but a class 2"),
        ("name,colour\nround,red\n", "line 2: the colour 'red'"),
        (
            "name,color\nround,#ffffff\n",
            "line 1 has the columns name, color: the first line should be name,id,colour",
        ),
        ("name,ignored\nround,yes\n", "line 1 has the columns name, ignored"),
        (
            "name,ignore\nround,\nsquare,x\n",
            "line 3: the word 'x' in the column ignore should be yes, or nothing",
        ),
        ("name,ignore\nround,ignore\n", "line 2: the word 'ignore'"),
        ("name,id\nzebra, Equus,0\n", "line 2 has 3 cells for 2 columns: put names with commas in quotes"),
        ("name\npolar bear\npolar_bear\n", "classes 'polar bear' and 'polar_bear' read the same"),
    ],
)
def test_mistakes_in_a_file_of_classes_are_named(tmp_path, text, words):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_classes(str(path))


def test_a_file_of_classes_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_classes(str(tmp_path / "none.csv"))


def test_images_of_one_video_belong_together(tmp_path):
    for name in ("cat/v1_0001.jpg", "cat/v1_0002.jpg", "dog/v2_0001.jpg", "dog/still.jpg"):
        picture(tmp_path / name)
    samples = Folder(root=str(tmp_path), group=r"v\d+").samples()
    assert [(s.id, s.group) for s in samples] == [
        ("cat_v1_0001", "v1"),
        ("cat_v1_0002", "v1"),
        ("dog_still", ""),
        ("dog_v2_0001", "v2"),
    ]
    with pytest.raises(UserError, match=r"dataset\.group=\(v is no regular expression"):
        Folder(root=str(tmp_path), group="(v").samples()


def test_class_folders_that_are_numbers_count_as_numbers(tmp_path):
    for name in ("0", "1", "2", "10"):
        picture(tmp_path / name / "a.jpg")
    data = Folder(root=str(tmp_path))
    assert data.classes == ("0", "1", "2", "10")
    assert {s.id: s.label for s in data.samples()}["10_a"] == 3


def test_folders_of_systems_and_of_network_storage_are_no_classes(tmp_path):
    hidden = (".git", "@eaDir", "#recycle", "__MACOSX", "cat/@eaDir")
    for name in ("cat", "dog", *hidden):
        picture(tmp_path / name / "a.jpg")
    data = Folder(root=str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert [s.id for s in data.samples()] == ["cat_a", "dog_a"]


def test_a_class_without_a_readable_file_keeps_its_id_and_is_named(tmp_path, caplog):
    for name in ("cat", "zebra"):
        picture(tmp_path / name / "a.jpg")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.heic").touch()
    (tmp_path / "emu").mkdir()
    data = Folder(root=str(tmp_path))
    assert data.classes == ("cat", "dog", "emu", "zebra")
    assert [s.label for s in data.samples()] == [0, 3]
    assert "no image that can be read in dog, emu; the classes keep their ids" in caplog.text


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("train", "val"), r"holds train, val, which are no classes: choose with dataset\.split"),
        (
            ("images", "masks"),
            r"holds images, masks, which are no classes: choose with dataset\.images and dataset\.m",
        ),
        (("cat", "dog", "test"), r"holds test beside cat, dog: is it a class.*classes\.csv there"),
        (
            ("polar_bear", "polar bear"),
            r"classes 'polar bear' and 'polar_bear' read the same: rename or join them",
        ),
    ],
)
def test_folders_that_seldom_are_classes_are_asked_about(tmp_path, folders, words):
    for name in folders:
        picture(tmp_path / name / "a.jpg")
    with pytest.raises(UserError, match=words):
        _ = Folder(root=str(tmp_path)).classes


def test_a_classes_file_says_that_a_train_is_a_class(tmp_path):
    for name in ("bus", "train"):
        picture(tmp_path / name / "a.jpg")
    (tmp_path / "classes.csv").write_text("name\ntrain\nbus\n")
    data = Folder(root=str(tmp_path))
    assert data.classes == ("train", "bus")
    assert [s.label for s in data.samples()] == [1, 0]


def test_one_line_says_what_was_understood(tmp_path):
    for name in ("cat", "dog"):
        for i in range(20):
            picture(tmp_path / name / f"{i}.jpg")
    data = Folder(root=str(tmp_path), limit=24)
    assert (
        describe(data, data.samples())
        == "folder: 24 of 40 images (dataset.limit), classification into 2 classes: cat, dog"
    )
    data = Folder(root=str(tmp_path))
    assert describe(data, data.samples()) == "folder: 40 images, classification into 2 classes: cat, dog"


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("name,id,colour,ignore\nother,0,#404040,YES\nroad,1,#804080,\n", {0}),
        (" Name, ID , Colour, Ignore \nother,0,#404040, yes \nroad,1,#804080,no\n", {0}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_classes_files_are_read_as_spreadsheets_write_them(tmp_path, text, ignored, encoding):
    path = tmp_path / "classes.csv"
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    table = read_classes(str(path))
    assert (table.names, table.ignored) == (("other", "road"), ignored)
