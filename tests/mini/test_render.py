from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from dillema.mini.render import BUILDING, CLASSES, PAINT, PEDESTRIAN, ROAD, SKY, TERRAIN, VEHICLE, render
from dillema.mini.scene import COLOURS, TIMES, VEHICLE_KINDS, WEATHERS, Appearance, sample_scene, scene_seed

SUNNY = Appearance("clear", "daytime", "red")
SCENES = [sample_scene(scene_seed("test", "street", i)) for i in range(3)]


@cache
def images_and_masks(**changes):
    """Returns images, 0 to 1, and masks of all scenes."""
    rendered = [render(scene, replace(SUNNY, **changes)) for scene in SCENES]
    return np.stack([image for image, _ in rendered]) / 255, np.stack([mask for _, mask in rendered])


def brightness(class_id, **changes):
    images, masks = images_and_masks(**changes)
    return images[masks == class_id].mean()


def test_the_mask_depends_on_the_scene_alone():
    _, masks = images_and_masks()
    assert masks.shape == (3, 160, 256)
    assert set(np.unique(masks)) <= set(CLASSES)
    for weather, time in product(WEATHERS, TIMES):
        np.testing.assert_array_equal(images_and_masks(weather=weather, time_of_day=time)[1], masks)


def test_a_scene_is_rendered_the_same_each_time():
    for weather, time in (("rainy", "night"), ("snowy", "dusk")):
        again, _ = render(SCENES[0], Appearance(weather, time, "red"))
        np.testing.assert_array_equal(
            again, (images_and_masks(weather=weather, time_of_day=time)[0][0] * 255).round()
        )


@pytest.mark.parametrize("weather", WEATHERS)
def test_it_gets_darker_towards_the_night(weather):
    day, dusk, night = (images_and_masks(weather=weather, time_of_day=time)[0].mean() for time in TIMES)
    assert day > 1.15 * dusk
    assert dusk > 1.3 * night


def test_windows_are_lit_at_night():
    def warm_and_bright(time):
        images, masks = images_and_masks(time_of_day=time)
        walls = images[masks == BUILDING]
        return ((walls[:, 0] > 0.7) & (walls[:, 0] > walls[:, 2] + 0.25)).mean()

    assert warm_and_bright("night") > 4 * warm_and_bright("daytime")


def test_fog_thickens_with_distance():
    (clear, masks), (foggy, _) = images_and_masks(), images_and_masks(weather="foggy")
    road = masks == ROAD
    near, far = road.copy(), road.copy()
    near[:, :130], far[:, 100:] = False, False
    change = np.abs(foggy - clear).mean(-1)
    assert change[far].mean() > 1.5 * change[near].mean()


def test_snow_lies_on_the_ground():
    assert brightness(TERRAIN, weather="snowy") > 1.5 * brightness(TERRAIN, weather="cloudy")
    assert brightness(ROAD, weather="snowy") > 1.2 * brightness(ROAD, weather="cloudy")


def test_a_wet_road_mirrors_the_houses():
    road_colours = []
    for wall in ((0.9, 0.1, 0.1), (0.1, 0.9, 0.1)):
        scene = replace(SCENES[0], buildings=tuple(replace(b, wall=wall) for b in SCENES[0].buildings))
        image, mask = render(scene, replace(SUNNY, weather="rainy"))
        road_colours.append(image[mask == ROAD].mean(0))
    before_red_houses, before_green_houses = road_colours
    assert before_red_houses[0] > before_green_houses[0] + 1
    assert before_red_houses[1] < before_green_houses[1] - 1


def test_the_sky_is_blue_on_a_clear_day_and_grey_on_a_cloudy_one():
    def blueness(weather):
        images, masks = images_and_masks(weather=weather)
        sky = images[masks == SKY]
        return (sky[:, 2] - sky[:, 0]).mean()

    assert blueness("clear") > 0.2 > 2 * blueness("cloudy")


def test_the_nearest_vehicle_has_the_colour_of_the_appearance():
    for index in range(4):
        scene = sample_scene(scene_seed("test", "vehicle", index), "vehicle")
        images = np.stack([render(scene, replace(SUNNY, colour=colour))[0] for colour in COLOURS]) / 255
        is_paint = np.ptp(images, axis=0).max(-1) > 0.5  # nothing else depends on the colour
        for colour, image in zip(COLOURS, images, strict=True):
            median = np.median(image[is_paint], 0)
            assert min(COLOURS, key=lambda name: np.abs(median - PAINT[name]).sum()) == colour, index


def test_there_are_vehicles_of_six_kinds_and_the_dominant_one_is_in_full_view():
    scenes = [sample_scene(scene_seed("test", "vehicle", i), "vehicle") for i in range(30)]
    assert {s.kind for s in scenes} == set(VEHICLE_KINDS)
    for scene in scenes[:10]:
        _, mask = render(scene, SUNNY)
        columns = np.nonzero((mask == VEHICLE).any(0))[0]
        rows = np.nonzero(np.isin(mask[:, columns.min() : columns.max()], (VEHICLE, PEDESTRIAN)).any(1))[
            0
        ]  # with the rider
        assert max(np.ptp(rows) / 160, np.ptp(columns) / 256) > 0.2
