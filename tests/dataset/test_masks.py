"""Masks of a folder: what their files say, and what the file of classes says about them."""

import numpy as np
import pytest
from PIL import Image

from dillema.dataset import check_masks, check_sample
from dillema.dataset.folder import Folder
from dillema.errors import ItemError, UserError
from tests.dataset.test_folder import mask, picture


def masked(root, *masks, images="images"):
    for i, content in enumerate(masks):
        picture(root / images / f"s{i}.jpg", content.size)
        (root / "masks").mkdir(exist_ok=True)
        content.save(root / "masks" / f"s{i}.png")


def make_mask(*values):
    """Returns a mask of four columns."""
    return Image.fromarray(np.tile(np.array(values, np.uint8), (4, 1)))


def test_masks_in_the_colours_of_a_classes_file_beside_the_data_are_read(tmp_path):
    colours = np.array([(0, 0, 0), (0, 255, 0)], np.uint8)
    masked(tmp_path, Image.fromarray(np.tile(colours[[0, 1, 1, 0]], (4, 1, 1))))
    (tmp_path / "classes.csv").write_text("name,id,colour\nbackground,0,#000000\nlane,1,#00ff00\n")
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    (sample,) = data.samples()
    check_sample(sample, data)
    assert sample.mask[0].tolist() == [0, 1, 1, 0]
    before = sample.digest
    (tmp_path / "classes.csv").write_text("name,id,colour\nlane,0,#00ff00\nbackground,1,#000000\n")
    (after,) = Folder(root=str(tmp_path), images="images", masks="masks").samples()
    assert after.mask[0].tolist() == [1, 0, 0, 1]
    assert after.digest != before  # or records of the other classes would be found


def test_a_mask_that_is_turned_as_its_image_is_not_fits_after_all(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 60)).save(tmp_path / "images" / "s0.jpg", exif=exif)
    mask(tmp_path / "masks" / "s0.png", 0, (60, 40))
    (tmp_path / "classes.csv").write_text("name,colour\nroad,#804080\n")
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    check_sample(data.samples()[0], data)


@pytest.mark.parametrize(
    ("masks", "lines"),
    [
        ([make_mask(0, 2, 255)], ["class 0,0,#", "class 1,1,#", "class 2,2,#", "void,255,#000000,yes"]),
        ([make_mask(0, 255)], ["class 0,0,#000000,", "class 1,1,#ffffff,"]),
        (
            [
                Image.new("RGB", (4, 4), (0, 9, 0)),
                Image.fromarray(np.tile(np.array([(9, 0, 0), (0, 9, 0)], np.uint8), (4, 2, 1))),
            ],
            ["class 0,0,#000900,", "class 1,1,#090000,"],
        ),
    ],
)
def test_without_a_classes_file_one_that_fits_is_proposed_and_works(tmp_path, masks, lines):
    masked(tmp_path, *masks)
    with pytest.raises(UserError, match=r"save what they mean as classes\.csv in dataset\.root") as error:
        _ = Folder(root=str(tmp_path), images="images", masks="masks").classes
    draft = str(error.value).partition("(edit the names):\n")[2].splitlines()
    assert draft[0] == "name,id,colour,ignore"
    assert all(line.startswith(start) for line, start in zip(draft[1:], lines, strict=True))
    (tmp_path / "classes.csv").write_text("\n".join(draft))
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    for sample in data.samples():
        check_sample(sample, data)
    check_masks(data.samples(), data)


@pytest.mark.parametrize(
    ("header", "rows", "line", "new_header"),
    [
        ("name,colour", ["other,#404040", "road,#804080"], "void,#000000,255,yes", "name,colour,id,ignore"),
        (
            "name,colour,ignore",
            ["other,#404040,", "road,#804080"],
            "void,#000000,yes,255",
            "name,colour,ignore,id",
        ),
        (
            "id,name,colour",
            ["0,other,#404040", "1,road,#804080"],
            "255,void,#000000,yes",
            "id,name,colour,ignore",
        ),
        ("name,id,colour,ignore", ["other,0,#404040,", "road,1,#804080,"], "void,255,#000000,yes", None),
    ],
)
def test_the_lines_that_leave_unknown_ids_out_fit_the_classes_file(tmp_path, header, rows, line, new_header):
    masked(tmp_path, *[make_mask(0, 1, 255)] * 3)
    file = tmp_path / "classes.csv"
    file.write_text("\n".join([header, *rows, ""]))
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    with pytest.raises(UserError, match=rf"255 in 3 of 3 masks: add `{line}`") as error:
        check_masks(data.samples(), data)
    with pytest.raises(
        ItemError, match=rf"unknown class ids \[255\].*add `{line}` to dataset\.classes_f"
    ) as item_error:
        check_sample(data.samples()[0], data)
    for message in (str(error.value), str(item_error.value)):
        assert (f"whose first line becomes `{new_header}`" in message) == (new_header is not None)
    file.write_text("\n".join([new_header or header, *rows, line]))
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    check_masks(data.samples(), data)
    check_sample(data.samples()[0], data)
    assert (data.classes, data.ignored) == (("other", "road"), {255})


def test_a_class_that_no_mask_holds_is_warned_about(tmp_path, caplog):
    masked(tmp_path, *[make_mask(0, 255, 255, 255)] * 2)  # 255 stood for the road
    (tmp_path / "classes.csv").write_text(
        "name,id,colour,ignore\nother,0,#404040,\nroad,1,#804080,\nvoid,255,#000000,yes\n"
    )
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    check_masks(data.samples(), data)
    assert (
        "In the 2 masks of folder that were looked at, only other is scored; 75 % of the pixels are ign"
        in caplog.text
    )
    assert "never found: road" in caplog.text


def test_a_jpeg_mask_is_refused(tmp_path):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "masks").mkdir()
    Image.new("L", (60, 40), 1).save(tmp_path / "masks/a.jpg")
    (tmp_path / "classes.csv").write_text("name,colour\nother,#404040\nroad,#804080\n")
    data = Folder(root=str(tmp_path), images="images", masks="masks", mask_suffix=".jpg")
    with pytest.raises(ItemError, match="the mask of a is a lossy JPEG"):
        check_sample(data.samples()[0], data)
