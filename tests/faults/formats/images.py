"""Images in folders of classes, and masks of every mode, read by dataset=folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dillema.dataset import check_masks, check_sample
from dillema.dataset.folder import Folder

from ..damage import BYTES, PATHS
from ..format import Accepted, Format

HEIGHT, WIDTH = 40, 56
CLASSES = "name,id,colour\nsky,0,#0000ff\nroad,1,#00ff00\ncar,2,#ff0000\n"
COLOURS = np.array([(0, 0, 255), (0, 255, 0), (255, 0, 0)], np.uint8)


def picture() -> np.ndarray:
    """Returns an image that compresses like a photograph: gradients, edges, a little noise."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    channels = [rows * 6, columns * 4, (rows // 8 + columns // 8) % 2 * 200]
    noise = np.random.default_rng(0).integers(0, 8, (HEIGHT, WIDTH, 3))
    return np.clip(np.stack(channels, -1) + noise, 0, 255).astype(np.uint8)


def class_ids() -> np.ndarray:
    """Returns a mask of three classes with uneven edges."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ids = (rows > 14 + 3 * np.sin(columns / 3)).astype(np.uint8)
    ids[24:36, 20:44] = 2
    return ids


def _write_images(ending: str, image: Image.Image, folder: Path, **options: object) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        image.save(folder / name / f"a{ending}", **options)


def _read_image(folder: Path) -> np.ndarray | Accepted:
    data = Folder(str(folder))
    for sample in data.samples():
        if sample.id.startswith("cat"):
            check_sample(sample, data)
            return np.asarray(sample.image)
    return Accepted("left out, with a warning")


def _decode_by_opencv(ending: str, folder: Path) -> np.ndarray:
    content = np.frombuffer((folder / "cat" / f"a{ending}").read_bytes(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _write_masks(ending: str, mask: Callable[[], Image.Image], folder: Path, **options: object) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "classes.csv").write_text(CLASSES)
    for name in "ab":
        Image.fromarray(picture()).save(folder / "images" / f"{name}.png")
        mask().save(folder / "masks" / f"{name}{ending}", **options)


def _read_mask(ending: str, folder: Path) -> np.ndarray:
    data = Folder(str(folder), images="images", masks="masks", mask_suffix=ending)
    samples = data.samples()
    check_masks(samples, data)
    (sample,) = [sample for sample in samples if sample.id == "a"]
    check_sample(sample, data)
    return sample.mask


def _read_mask_by_opencv(ending: str, folder: Path) -> np.ndarray:
    content = np.frombuffer((folder / "masks" / f"a{ending}").read_bytes(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., 2]


def _palette() -> Image.Image:
    image = Image.fromarray(class_ids())
    image.putpalette(COLOURS.ravel().tolist())
    return image


IMAGES = {
    ".png": (Image.fromarray(picture()), {}),
    ".jpg": (Image.fromarray(picture()), {"quality": 92}),
    ".webp": (Image.fromarray(picture()), {"quality": 92}),
    ".bmp": (Image.fromarray(picture()), {}),
    ".tif": (Image.fromarray(picture()), {"compression": "tiff_adobe_deflate"}),
    ".ppm": (Image.fromarray(picture()), {}),
}
PNG_IMAGES = {
    "16 bits": Image.fromarray((picture()[..., 0].astype(np.uint16)) * 257),
    "alpha": Image.fromarray(np.dstack([picture(), np.full((HEIGHT, WIDTH), 200, np.uint8)])),
    "palette": Image.fromarray(picture()).quantize(64),
}
PNG_MASKS: dict[str, Callable[[], Image.Image]] = {
    "8 bits": lambda: Image.fromarray(class_ids()),
    "1 bit": lambda: Image.fromarray((class_ids() == 1).astype(np.uint8) * 255).convert("1"),
    "16 bits": lambda: Image.fromarray(class_ids().astype(np.uint16)),
    "palette": _palette,
    "ids in RGB": lambda: Image.merge("RGB", [Image.fromarray(class_ids())] * 3),
    "colours": lambda: Image.fromarray(COLOURS[class_ids()]),
    "grey and alpha": lambda: Image.merge(
        "LA", [Image.fromarray(class_ids()), Image.new("L", (WIDTH, HEIGHT), 255)]
    ),
}
OTHER_MASKS: dict[str, Callable[[], Image.Image]] = {
    ".bmp": lambda: Image.fromarray(class_ids()),
    ".tif": lambda: Image.fromarray(class_ids()),
}

FORMATS = [
    *(
        Format(
            f"image {ending}",
            f"cat/a{ending}",
            partial(_write_images, ending, image, **options),
            _read_image,
            BYTES | PATHS,
            None if ending == ".png" else partial(_decode_by_opencv, ending),
        )
        for ending, (image, options) in IMAGES.items()
    ),
    *(
        Format(f"image .png, {name}", "cat/a.png", partial(_write_images, ".png", image), _read_image, BYTES)
        for name, image in PNG_IMAGES.items()
    ),
    *(
        Format(
            f"mask .png, {name}",
            "masks/a.png",
            partial(_write_masks, ".png", mask),
            partial(_read_mask, ".png"),
            BYTES | PATHS,
        )
        for name, mask in PNG_MASKS.items()
    ),
    *(
        Format(
            f"mask {ending}",
            f"masks/a{ending}",
            partial(_write_masks, ending, mask),
            partial(_read_mask, ending),
            BYTES,
            partial(_read_mask_by_opencv, ending),
        )
        for ending, mask in OTHER_MASKS.items()
    ),
]
