"""The command `dillema init`, as a user types it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from dillema.config import build, package_file
from dillema.config_check import check
from dillema.dataset.classes import read_classes
from dillema.dataset.mini import MiniShift
from dillema.dataset.shift import CLASSES, COLOURS, IGNORED
from dillema.errors import UserError
from dillema.init import init
from dillema.run_folder import RunFolder
from tests import tiny
from tests.test_config import composed

ROOT = Path(__file__).parents[1]
SMALL = (
    "captioner=mini", "llm=smollm2", "prompt=mini", "generator=mini", "generator.steps=1", "validity=none",
    "model=mini_segformer", "dataset.limit=2", "counterfactuals=1", "placebo=0",
)  # fmt: skip


def picture(path, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 90).convert("RGB").save(path)


def mask(path, value, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


@pytest.fixture
def look(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        """Returns what the command prints."""
        init(arguments)
        return capsys.readouterr().out

    return run


def find_command(printed):
    """Returns the last command that was printed."""
    return shlex.split([line for line in printed.splitlines() if "python -m dillema" in line][-1])


def read_data(name):
    """Returns the data set that the configuration file describes, as the command composes it."""
    return build(composed(f"experiment={name}").dataset)


def run_printed(folder, printed, *small):
    """Runs the printed command with small models; returns the run folder."""
    _, *arguments = find_command(printed)
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments, *small]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return RunFolder.open(folder / "outputs" / "latest")


@pytest.mark.slow
def test_the_printed_command_makes_images_of_class_folders_before_there_is_a_model(tmp_path, look):
    for name in ("our car", "our van"):
        for i in range(2):
            picture(tmp_path / "garage" / name / f"{i}.jpg")
    tiny.generator(tmp_path / "pipeline")
    printed = look("garage")
    folder = run_printed(
        tmp_path, printed, "captioner=label", "captioner.template='a photo of a {label} on a sunny day'",
        "llm=smollm2", "prompt=mini", "generator.model=pipeline", "generator.controlnet=null",
        "generator.width=64", "generator.height=64", "generator.steps=1", "validity=none", "dataset.limit=2",
        "counterfactuals=1", "placebo=0",
    )  # fmt: skip
    assert folder.results["dataset"] == "garage" and folder.results["counts"]["generated"] == 2
    assert folder.models == [] and "No model was tested" in (folder.path / "report.html").read_text()


@pytest.mark.slow
def test_the_printed_command_makes_images_of_a_folder_with_masks(tmp_path, look):
    for i, sample in enumerate(MiniShift(limit=3).samples()):
        for part, read in (("images", sample.read_image), ("masks", sample.read_mask)):
            path = tmp_path / "night drive" / part / f"frame_{i}_{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read())
    rows = [
        f"{name},{i},#{bytes(colour).hex()},{'yes' if i in IGNORED else ''}"
        for i, (name, colour) in enumerate(zip(CLASSES, COLOURS, strict=True))
    ]
    (tmp_path / "night drive" / "labels.csv").write_text("\n".join(["name,id,colour,ignore", *rows]))
    printed = look("night drive")
    assert "night drive: images with masks, read by dataset=folder" in printed
    assert "labels.csv names 23 classes" in printed and "3 images, segmentation into 14 classes" in printed
    folder = run_printed(tmp_path, printed, *SMALL)
    assert folder.results["dataset"] == "night_drive" and folder.results["counts"]["generated"] == 2
    assert "mini_segformer" in folder.models


def test_what_is_missing_is_counted_with_examples_and_a_classes_file_is_drafted(tmp_path, look):
    for i in range(8):
        picture(tmp_path / "mine" / "images" / "val" / f"{i}.jpg")
        picture(tmp_path / "mine" / "images" / "train" / f"{i}.jpg")
        if i != 5:
            mask(tmp_path / "mine" / "masks" / "val" / f"{i}.png", i % 3)
    printed = look("mine")
    assert "dataset.split also takes train" in printed
    assert "with 3 classes, of which 3 occur in the masks looked at" in printed
    assert "1 image without a mask, such as 5.jpg: they fail in a run" in printed and "60x40 (7)" in printed
    draft = Path("conf/mine_classes.csv").read_text()
    assert draft.startswith("name,id,colour,ignore\nclass 0,0,#")
    data = read_data("mine")
    assert data.classes == ("class 0", "class 1", "class 2") and len(data.samples()) == 8
    assert "No model of DILLEMA has these classes" in printed
    assert "No gate will look at the masks" in printed
    assert list(composed("experiment=mine").validity) == ["questions", "clip", "image"]
    assert "PyTorch finds no GPU here" in printed or torch.cuda.is_available()
    assert "A first look" not in printed  # the whole run is as small


def test_force_writes_the_file_again_with_the_classes_that_came_later(tmp_path, look):
    for i in range(25):
        picture(tmp_path / "mine" / "images" / f"{i}.jpg")
        mask(tmp_path / "mine" / "masks" / f"{i}.png", 22 * (i % 2))
    assert "with 23 classes, of which 2 occur" in look("mine")
    rows = [f"{name},{i},#0000{i:02x}," for i, name in enumerate(CLASSES)]
    (tmp_path / "mine" / "classes.csv").write_text("\n".join(["name,id,colour,ignore", *rows]))
    with pytest.raises(UserError, match=r"exists already.*--force"):
        init(["mine"])
    printed = look("mine", "--force")
    assert "mine_classes.csv of an earlier time is not used any more" in printed and "A first look" in printed
    assert read_data("mine").classes == tuple(CLASSES)
    (tmp_path / "mine" / "classes.csv").write_text("name,id\n")
    written = Path("conf/experiment/mine.yaml").read_text()
    with pytest.raises(UserError):
        init(["mine", "--force"])
    assert Path("conf/experiment/mine.yaml").read_text() == written


def test_the_classes_of_shift_get_a_model_that_maps_to_them(tmp_path, look):
    picture(tmp_path / "mine" / "images" / "1.jpg")
    mask(tmp_path / "mine" / "masks" / "1.png", 7)
    rows = [f"{name},{i},#0000{i:02x},{'yes' if i in IGNORED else ''}" for i, name in enumerate(CLASSES)]
    (tmp_path / "mine" / "classes.csv").write_text("\n".join(["name,id,colour,ignore", *rows]))
    assert "No model of DILLEMA" not in look("mine")
    cfg = composed("experiment=mine")
    assert list(cfg.model) == ["segformer_cityscapes"]
    assert list(cfg.validity) == ["segmenter", "questions", "image"]
    assert cfg.validity.segmenter.default_class_map
    check(cfg)


@pytest.mark.parametrize(("ids", "maps_to_shift"), [(range(19), False), (range(18, -1, -1), True)])
def test_masks_of_cityscapes_classes_get_a_gate_that_knows_them(tmp_path, look, ids, maps_to_shift):
    picture(tmp_path / "mine" / "images" / "1.jpg")
    mask(tmp_path / "mine" / "masks" / "1.png", 7)
    names = read_classes(package_file("dillema", "dataset/cityscapes.csv")).names[:19]
    rows = [f"{names[i]},{number},#0000{number:02x}," for number, i in enumerate(ids)]
    (tmp_path / "mine" / "classes.csv").write_text("\n".join(["name,id,colour,ignore", *rows]))
    assert "No gate" not in look("mine")
    gate = composed("experiment=mine").validity.segmenter
    assert "mask2former" in gate.model and ("default_class_map" in gate) == maps_to_shift


def test_class_folders_get_a_model_that_knows_their_classes(tmp_path, look):
    for i in range(7):
        picture(tmp_path / "pets" / "train" / "goldfish" / f"{i}.jpg")
        picture(tmp_path / "pets" / "train" / "tabby" / f"{i}.jpg")
        picture(tmp_path / "animals" / "cat" / f"{i}.jpg")
        picture(tmp_path / "animals" / "dog" / f"{i // 3}.jpg")
    (tmp_path / "animals" / "train.txt").write_text("cat/1.jpg 0\n")
    (tmp_path / "animals" / "dog" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    printed = look("pets")
    assert "images in 2 class folders" in printed and "No model" not in printed
    assert list(composed("experiment=pets").model) == ["resnet18"]
    printed = look("animals")
    assert "1 of 11 images looked at cannot be used: the image of dog_broken" in printed
    assert "train.txt is not read (its first line: 'cat/1.jpg 0')" in printed
    assert "classes with fewer than 6 images: dog (4)" in printed and "model=vit_base" in printed
    assert OmegaConf.to_container(composed("experiment=animals").model) == {}


STREETS = {
    "leftImg8bit/val/ulm/a_leftImg8bit.png": ("gtFine/val/ulm/a_gtFine_labelTrainIds.png", "Cityscapes"),
    "images/10k/val/7d06fefd.jpg": ("labels/sem_seg/masks/val/7d06fefd.png", "BDD100K"),
    "rgb_anon/rain/val/G4/a_rgb_anon.png": ("gt/rain/val/G4/a_gt_labelTrainIds.png", "ACDC"),
}


@pytest.mark.parametrize("image", STREETS)
def test_known_data_sets_of_streets_are_recognised(tmp_path, look, image):
    labels, kind = STREETS[image]
    picture(tmp_path / "streets" / image)
    mask(tmp_path / "streets" / labels, 13)
    printed = look("streets", "--name", "mine")
    assert f"streets: {kind}" in printed and "1 image, segmentation into 19 classes" in printed
    (sample,) = read_data("mine").samples()
    assert sample.mask[0, 0] == 13
    assert list(composed("experiment=mine").model) == ["segformer_trainids"]


def test_shift_and_imagenet_are_recognised(tmp_path, look):
    view = tmp_path / "town" / "discrete" / "videos" / "train" / "left_45"
    picture(view / "img" / "00aa-0000" / "00000000_img_left_45.jpg")
    mask(view / "semseg" / "00aa-0000" / "00000000_semseg_left_45.png", 7)
    assert "town: SHIFT" in look("town") and len(read_data("town").samples()) == 1
    picture(tmp_path / "photos" / "val" / "n02109047" / "1.JPEG")
    assert "photographs of ImageNet" in look("photos")
    assert read_data("photos").samples()[0].label == 246
    picture(tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "flat" / "labels.txt").write_text(
        "ILSVRC2012_val_00000001.JPEG 246\nILSVRC2012_val_00000001.JPEG 246"
    )
    assert "with the list labels.txt" in look("flat")
    assert [sample.label for sample in read_data("flat").samples()] == [246, 246]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_texts_as_windows_saves_them_are_recognised(tmp_path, look, encoding):
    picture(tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG")
    lines = "ILSVRC2012_val_00000001.JPEG 246\n" * 2
    (tmp_path / "flat" / "labels.txt").write_text(lines, encoding=encoding)
    assert "with the list labels.txt" in look("flat")
    assert [sample.label for sample in read_data("flat").samples()] == [246, 246]
    picture(tmp_path / "pets" / "cat" / "0.jpg")
    (tmp_path / "pets" / "names.csv").write_text("name\ndog\ncat\n", encoding=encoding)
    (tmp_path / "pets" / "list.txt").write_text("cat/0.jpg 1\n", encoding=encoding)
    printed = look("pets")
    assert "names.csv names 2 classes" in printed and "(its first line: 'cat/0.jpg 1')" in printed
    assert read_data("pets").samples()[0].label == 1


def test_a_folder_that_no_option_reads_is_described(tmp_path, look):
    picture(tmp_path / "flat" / "1.jpg")
    (tmp_path / "flat" / "list.txt").write_text("1.jpg cat\n")
    with pytest.raises(
        UserError, match=r"1 \.jpg, 1 \.txt(?s:.*)list\.txt may list images \(its first line: "
    ):
        init(["flat"])
    with pytest.raises(UserError, match="there is no such folder"):
        init(["nowhere"])
    assert not Path("conf").exists()


def test_a_file_that_exists_is_kept_and_a_name_of_the_package_is_not_taken(tmp_path, look):
    for i in range(6):
        picture(tmp_path / "acdc" / "cat" / f"{i}.jpg")
        picture(tmp_path / "acdc" / "dog" / f"{i}.jpg")
    assert find_command(look("acdc"))[-1] == "experiment=acdc_data"
    with pytest.raises(UserError, match=r"conf/experiment/acdc_data\.yaml exists already.*--name"):
        init(["acdc"])
