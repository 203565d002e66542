import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dillema import decoding
from dillema.decoding import (
    UnreadableImage,
    decode_image,
    decode_mask,
    find_encoding,
    list_colours,
    read_text,
)
from dillema.errors import UserError

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def pixels(content):
    return np.asarray(decode_image(content))


def scene():
    """Returns an image whose corners differ, so that every turn shows."""
    image = Image.new("RGB", (24, 16), (90, 90, 90))
    image.paste(RED, (0, 0, 8, 8))
    image.paste(GREEN, (16, 0, 24, 8))
    return image


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_images_are_shown_as_their_exif_orientation_says(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene() if turn is None else scene().transpose(turn)
    image = decode_image(encoded(stored, "JPEG", quality=97, exif=exif))
    assert image.size == scene().size
    assert np.abs(np.asarray(image, float) - np.asarray(scene(), float)).mean() < 10


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GREY.astype(np.uint16) * 257, "PNG"),
        (GREY.astype(np.uint16) * 257, "TIFF"),
        (GREY.astype(np.int32) * 257, "TIFF"),
        (GREY.astype(np.float32) / 255, "TIFF"),
    ],
)
def test_sixteen_bits_and_decimals_are_the_picture_of_eight_bits(values, kind):
    np.testing.assert_array_equal(pixels(encoded(values, kind)), pixels(encoded(GREY)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (GREY.astype(np.uint16), "whole numbers from 0 to 255, which fill neither 8 nor 16 bits"),
        (GREY.astype(np.int32) - 200, "whole numbers from -200 to 55"),
        (GREY.astype(np.float32), "decimals from 0 to 255"),
        (np.full((4, 4), np.nan, np.float32), "decimals from nan"),
    ],
)
def test_values_of_an_unknown_range_are_refused(values, words):
    with pytest.raises(UnreadableImage, match=words):
        decode_image(encoded(values, "TIFF"))


def test_transparent_parts_are_white_and_cmyk_is_converted(caplog):
    half = np.zeros((4, 8, 4), np.uint8)
    half[:, 4:] = (255, 0, 0, 255)
    image = pixels(encoded(half))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 7].tolist() == list(RED)
    cmyk = pixels(encoded(Image.new("RGB", (8, 8), RED).convert("CMYK"), "JPEG", quality=97))
    assert np.abs(cmyk.astype(int) - RED).max() < 8


def test_what_is_converted_is_said_once(caplog):
    decoding._report_once.cache_clear()
    with caplog.at_level(logging.INFO, "dillema"):
        for _ in range(3):
            decode_image(encoded(GREY.astype(np.uint16) * 257))
    assert [record.message for record in caplog.records] == [
        "Images with 16 bits a channel are read with their upper 8 bits"
    ]


def test_an_image_of_too_many_pixels_says_what_to_do(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="more than 0 million pixels: store a smaller one"):
        decode_image(encoded(np.zeros((50, 50), np.uint8)))


MASK = np.tile(np.array([0, 1], np.uint8), (6, 4))


def palette_mask(colours, mask=MASK):
    image = Image.fromarray(mask)
    image.putpalette([value for colour in colours for value in colour])
    return image


@pytest.mark.parametrize(
    "content",
    [
        encoded(MASK),
        encoded(Image.fromarray(MASK * 255).convert("1")),
        encoded(MASK.astype(np.uint16)),
        encoded(MASK.astype(np.int32), "TIFF"),
        encoded(palette_mask([BLACK, RED])),
        encoded(Image.merge("LA", [Image.fromarray(MASK), Image.new("L", MASK.shape[::-1], 255)])),
        encoded(Image.merge("RGB", [Image.fromarray(MASK)] * 3)),
    ],
    ids=["8 bits", "1 bit", "16 bits", "32 bits", "palette", "alpha", "grey as RGB"],
)
def test_masks_of_every_kind_hold_the_same_ids(content):
    for colours in ({}, {(64, 64, 64): 0, (128, 64, 128): 1, BLACK: 255}):
        np.testing.assert_array_equal(decode_mask(content, colours), MASK)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(MASK, "JPEG"), "lossy JPEG, whose compression changes class ids: save masks as PNG"),
        (encoded(Image.fromarray(MASK).convert("RGB"), "WEBP", quality=60), "lossy WEBP"),
        (encoded(MASK.astype(np.float32), "TIFF"), "values of the kind F, which are no class ids"),
        (encoded(MASK.astype(np.uint16) * 300), "values from 0 to 300: class ids are 0 to 255"),
    ],
)
def test_masks_that_cannot_hold_ids_are_refused(content, words):
    with pytest.raises(UnreadableImage, match=words):
        decode_mask(content)


def test_a_lossless_webp_is_a_mask():
    content = encoded(Image.merge("RGB", [Image.fromarray(MASK)] * 3), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_mask(content), MASK)


def test_masks_may_be_painted_in_the_colours_of_the_classes():
    colour_mask = np.array([BLACK, GREEN], np.uint8)[MASK]  # the first channel is 0 everywhere
    colours = {BLACK: 0, GREEN: 1}
    np.testing.assert_array_equal(decode_mask(encoded(colour_mask), colours), MASK)
    np.testing.assert_array_equal(decode_mask(encoded(np.dstack([colour_mask, MASK + 254])), colours), MASK)
    np.testing.assert_array_equal(decode_mask(encoded(MASK * 255), {BLACK: 0, (255, 255, 255): 1}), MASK)
    swapped = palette_mask([GREEN, BLACK, BLACK, BLACK, RED], np.where(MASK, 0, 1).astype(np.uint8))
    with pytest.raises(
        UnreadableImage, match=r"the indices \[0, 1\] in its palette, whose colours are .* \[1, 0\]"
    ):
        decode_mask(encoded(swapped), colours)
    shifted = palette_mask([RED, RED, RED, BLACK, GREEN], MASK + 3)
    np.testing.assert_array_equal(decode_mask(encoded(shifted), colours), MASK)


def test_colours_that_stand_for_no_class_are_named():
    colour_mask = np.array([RED, GREEN], np.uint8)[MASK]
    with pytest.raises(UnreadableImage, match=r"colours that stand for no class, or for several.*: #ff0000$"):
        decode_mask(encoded(colour_mask), {BLACK: 0, GREEN: 1})
    assert list_colours(encoded(colour_mask)) == [GREEN, RED]
    assert list_colours(encoded(MASK)) == []


def test_a_mask_that_can_be_read_in_two_ways_is_refused():
    grey = encoded(Image.merge("RGB", [Image.fromarray(MASK)] * 3))
    with pytest.raises(UnreadableImage, match="as class ids and as colours"):
        decode_mask(grey, {(0, 0, 0): 1, (1, 1, 1): 0})


def test_no_flipped_bit_of_a_png_is_read_as_other_pixels():
    mask = np.random.default_rng(0).integers(0, 3, (40, 60), dtype=np.uint8)
    content = bytearray(encoded(mask, compress_level=0))
    start, end = content.index(b"IDAT") + 4, content.index(b"IEND") - 4
    wrong = 0
    for position in np.random.default_rng(1).integers(start, end, 200):
        damaged = content.copy()
        damaged[position] ^= 1
        try:
            wrong += not np.array_equal(decode_mask(bytes(damaged)), mask)
        except UnreadableImage:
            continue
    assert wrong == 0


@pytest.mark.parametrize(
    "content", [b"", b"no image", encoded(GREY)[:60], b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 9)]
)
def test_damaged_files_are_unreadable_images(content):
    for decode in (decode_image, decode_mask):
        with pytest.raises(UnreadableImage, match="cannot be read"):
            decode(content)


def test_a_chunk_that_promises_too_much_is_unreadable():
    content = encoded(GREY)
    text = b"zTXt" + b"a\0\0" + zlib.compress(b"x" * 200_000_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    with pytest.raises(UnreadableImage, match="cannot be read"):
        decode_image(content[:33] + chunk + content[33:])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_with_any_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("name\nStraße\n".encode(encoding))
    assert read_text(path, "dataset.classes_file") == "name\nStraße\n"
    assert "name\nStraße\n".encode(encoding).decode(find_encoding(path.read_bytes())) == "name\nStraße\n"


def test_a_relative_path_that_is_wrong_is_told_where_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=f"=classes.csv cannot be read: No such file in {tmp_path}, where rel"
    ):
        read_text(Path("classes.csv"), "dataset.classes_file")


def test_what_is_no_text_is_named_with_its_setting(tmp_path):
    (tmp_path / "latin").write_bytes("Straße".encode("latin-1"))
    (tmp_path / "wide").write_bytes("name".encode("utf-16-le"))
    for name, words in (
        ("latin", "can't decode"),
        ("wide", "Save it as UTF-8"),
        (".", "is no file"),
        ("none", "No such"),
    ):
        with pytest.raises(UserError, match=rf"prompt\.prompt={tmp_path / name} (?s:.*){words}"):
            read_text(tmp_path / name, "prompt.prompt")
