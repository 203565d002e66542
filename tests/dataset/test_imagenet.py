import re

import pytest
from PIL import Image

from dillema.dataset import check_sample
from dillema.dataset.imagenet import ImageNet
from dillema.errors import ItemError, UserError


def write(root, wnid, *names, mode="RGB"):
    (root / "val" / wnid).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new(mode, (60, 40)).save(root / "val" / wnid / name, "JPEG")


def test_a_few_of_the_classes_keep_torchvisions_indices(tmp_path):
    from torchvision.models import ResNet18_Weights

    write(tmp_path, "n02510455", "a.JPEG")
    write(tmp_path, "n01440764", "ILSVRC2012_val_00000293.JPEG")
    write(tmp_path, "n15075141", "c.JPEG")
    data = ImageNet(root=str(tmp_path))
    samples = data.samples()
    assert [(s.label, data.classes[s.label]) for s in samples] == [
        (0, "tench"),
        (388, "giant panda"),
        (999, "toilet tissue"),
    ]
    assert samples[0].id == "n01440764_ILSVRC2012_val_00000293"
    assert list(data.classes) == ResNet18_Weights.DEFAULT.meta["categories"]


def test_per_class_and_limit_draw_by_the_seed(tmp_path):
    for wnid in ("n01440764", "n02510455"):
        write(tmp_path, wnid, *(f"{i}.JPEG" for i in range(20)))
    few = ImageNet(root=str(tmp_path), per_class=3).samples()
    assert [s.label for s in few] == [0] * 3 + [388] * 3
    assert [s.id for s in few] != [s.id for s in ImageNet(root=str(tmp_path), per_class=3, seed=1).samples()]
    assert {s.id for s in ImageNet(root=str(tmp_path), per_class=3, limit=4).samples()} < {s.id for s in few}


LINES = {
    "Kaggle's": "ImageId,PredictionString\nb,n02510455 85 1 499 272 n02510455 3 4 5 6\na,n01440764 1 2 3 4\n",
    "class ids": "val/b.JPEG 388\nval/a.JPEG 0\n",
    "WordNet ids": "b.JPEG, n02510455\n\na.JPEG, n01440764\n",
}


@pytest.mark.parametrize(
    ("photographs", "listing", "lines"),
    [
        ("ILSVRC/Data/CLS-LOC/val", "LOC_val_solution.csv", "Kaggle's"),
        ("val", "LOC_val_solution.csv", "Kaggle's"),
        ("val", "val.txt", "class ids"),
        ("", "val.txt", "WordNet ids"),
    ],
)
def test_photographs_without_folders_take_their_labels_from_a_file(tmp_path, photographs, listing, lines):
    for name in "ab":
        (tmp_path / photographs).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / photographs / f"{name}.JPEG")
    (tmp_path / listing).write_text(LINES[lines])
    data = ImageNet(root=str(tmp_path), labels=None if lines == "Kaggle's" else str(tmp_path / listing))
    assert {s.id: s.label for s in data.samples()} == {"a": 0, "b": 388}
    check_sample(data.samples()[0], data)


@pytest.mark.parametrize("root", ["ILSVRC/Data/CLS-LOC/train", "train", "."])
def test_folders_of_classes_are_found_where_people_have_them(tmp_path, root):
    (tmp_path / root / "n02510455").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / root / "n02510455" / "a.JPEG")
    (tmp_path / "meta.bin").touch()
    assert [s.label for s in ImageNet(root=str(tmp_path), split="train").samples()] == [388]


def test_labels_that_are_missing_or_wrong_are_said(tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "val" / "a.JPEG")
    with pytest.raises(UserError, match=r"no folders of classes: set dataset\.labels"):
        ImageNet(root=str(tmp_path)).samples()
    listing = tmp_path / "val.txt"
    with pytest.raises(UserError, match=r"val\.txt cannot be read"):
        ImageNet(root=str(tmp_path), labels=str(listing)).samples()
    listing.write_text("a.JPEG 1000\n")
    with pytest.raises(UserError, match=r"line 1: 'a\.JPEG 1000' should be"):
        ImageNet(root=str(tmp_path), labels=str(listing)).samples()
    for line in ("a.JPEG 388.7", "a.JPEG true", "n01440764.JPEG"):
        listing.write_text(f"b.JPEG 1\n{line}\n")
        with pytest.raises(UserError, match=rf"line 2: '{line}' should be"):
            ImageNet(root=str(tmp_path), labels=str(listing)).samples()
    listing.write_bytes("a.JPEG 388\n".encode("utf-16"))
    assert [s.label for s in ImageNet(root=str(tmp_path), labels=str(listing)).samples()] == [388]
    listing.write_text("b.JPEG 999\n")
    data = ImageNet(root=str(tmp_path), labels=str(listing))
    with pytest.raises(ItemError, match=r"the image of b cannot be read.*b\.JPEG"):
        check_sample(data.samples()[0], data)


def test_photographs_of_any_mode_are_read_as_rgb(tmp_path):
    write(tmp_path, "n01440764", "cmyk.JPEG", mode="CMYK")
    data = ImageNet(root=str(tmp_path))
    check_sample(data.samples()[0], data)
    assert data.samples()[0].image.mode == "RGB"


def test_ids_are_safe_and_unique_file_names(tmp_path):
    write(
        tmp_path, "n01440764", "a b.JPEG", "a-b.JPEG", "a-b.jpg", "-.JPEG", "é.JPEG", "._é.JPEG"
    )  # the last is a leftover of macOS
    ids = [s.id for s in ImageNet(root=str(tmp_path)).samples()]
    assert len(set(ids)) == len(ids) == 5
    assert all(re.fullmatch(r"[\w-]+", i) for i in ids)


def test_a_truncated_photograph_is_an_error_of_its_sample(tmp_path):
    write(tmp_path, "n01440764", "a.JPEG", "b.JPEG")
    path = tmp_path / "val/n01440764/a.JPEG"
    path.write_bytes(path.read_bytes()[:-100])
    data = ImageNet(root=str(tmp_path))
    bad, good = data.samples()
    with pytest.raises(ItemError, match="the image of n01440764_a cannot be read"):
        check_sample(bad, data)
    check_sample(good, data)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no ImageNet data in .*val: set dataset.root"):
        ImageNet(root=str(tmp_path)).samples()
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="no photographs in"):
        ImageNet(root=str(tmp_path)).samples()
    write(tmp_path, "fish", "a.JPEG")
    with pytest.raises(UserError, match="no classes of ImageNet-1k: fish"):
        ImageNet(root=str(tmp_path)).samples()
