import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dillema.conditioning.detail import NO_DETAIL, SegmentationDetail, class_codes
from dillema.errors import ItemError, UserError
from dillema.mini.render import render
from dillema.mini.scene import Appearance, sample_scene, scene_seed
from dillema.types import Sample
from tests import tiny

SIZE = (256, 160)


def control(image, mask, size=SIZE):
    sample = Sample("s", lambda: tiny.png(image), lambda: tiny.png(mask))
    return np.asarray(SegmentationDetail().control(sample, tiny.dataset(), size).image).astype(int)


def street(weather, time):
    return render(sample_scene(scene_seed("val", "street", 5)), Appearance(weather, time, "red"))


def test_each_class_has_a_code_of_its_own_and_keeps_it_everywhere():
    codes = class_codes(23)
    assert len({tuple(code) for code in codes[:23]}) == 23
    image, mask = street("clear", "daytime")
    shown = control(image, mask)
    assert (shown[..., :2] == codes[mask]).all()


def test_the_level_of_light_leaves_no_trace():
    image, mask = street("cloudy", "daytime")
    darker = (image * 0.6).astype(np.uint8)
    changes = np.abs(control(image, mask) - control(darker, mask))
    assert np.percentile(changes, 95) <= 8


def test_a_flat_image_has_no_detail_and_an_edge_has_its_direction():
    image = np.full((160, 256, 3), 90, np.uint8)
    mask = np.zeros((160, 256), np.uint8)
    assert (control(image, mask)[..., 2] == NO_DETAIL).all()
    image[:, 128:] = 180
    row = control(image, mask)[80, :, 2]
    assert row[127] < NO_DETAIL - 20
    assert row[128] > NO_DETAIL + 20
    assert row[100] == row[156] == NO_DETAIL


def test_a_thin_pole_stays_visible_beside_its_class():
    image = np.full((160, 256, 3), 150, np.uint8)
    mask = np.zeros((160, 256), np.uint8)
    cv2.line(image, (40, 20), (40, 140), (60, 60, 60), 1)
    mask[20:141, 40] = 5
    shown = control(image, mask)
    assert (shown[30:130, 40, 2] < 40).all()
    assert (shown[30:130, 40, :2] == class_codes(23)[5]).all()


def test_image_and_mask_are_resized_to_the_size_of_the_generated_image():
    image, mask = street("clear", "daytime")
    shown = control(image, mask, (128, 80))
    assert shown.shape == (80, 128, 3)
    resized = np.asarray(Image.fromarray(mask).resize((128, 80), Image.Resampling.NEAREST))
    assert (shown[..., :2] == class_codes(23)[resized]).all()


def test_a_sample_without_a_mask_and_unknown_classes_are_refused():
    with pytest.raises(UserError, match="conditioning=segmentation_detail needs masks"):
        SegmentationDetail().control(tiny.sample(), tiny.dataset(), SIZE)
    file = io.BytesIO()
    Image.fromarray(np.full((32, 64), 99, np.uint8)).save(file, "PNG")
    with pytest.raises(ItemError, match=r"class ids that tiny does not have: \[99\]"):
        SegmentationDetail().control(tiny.sample(mask=np.full((32, 64), 99, np.uint8)), tiny.dataset(), SIZE)
