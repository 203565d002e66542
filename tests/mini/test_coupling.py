import numpy as np
import pytest
import torch

from dillema.mini.render import light, render
from dillema.mini.render.weather import locate_precipitation
from dillema.mini.scene import HEIGHT, WIDTH, Appearance, sample_scene, scene_seed
from dillema.mini.train.coupling import move_brightest


@pytest.mark.parametrize("weather", ["rainy", "snowy"])
def test_precipitation_is_where_it_is_said_to_be(weather: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = scene_seed("train", "street", 3)
    scene, appearance = sample_scene(seed), Appearance(weather, "daytime", "red")
    image, _ = render(scene, appearance)
    monkeypatch.setattr(light, "add_precipitation", lambda canvas, image: image)
    without, _ = render(scene, appearance)
    changes = np.abs(image.astype(int) - without).sum(2)
    x, y = np.floor(locate_precipitation(seed, weather)).astype(int).T
    is_inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    changed = changes[y[is_inside], x[is_inside]] > 0
    assert changed.mean() > 0.9
    assert (changes > 0).mean() < 0.2


def test_dry_weather_has_no_precipitation() -> None:
    assert locate_precipitation(5, "foggy").shape == (0, 2)


def test_the_brightest_noise_moves_to_the_places_and_nothing_is_lost() -> None:
    torch.manual_seed(0)
    noise = torch.randn(3, 8, 8)
    places = torch.tensor([9, 60, 3, int(noise.sum(0).flatten().argmax())])
    moved = noise.clone()
    move_brightest(moved, places)
    brightness = moved.sum(0).flatten()
    assert brightness[places].tolist() == noise.sum(0).flatten().sort(descending=True).values[:4].tolist()
    assert torch.equal(moved.flatten().sort().values, noise.flatten().sort().values)
    untouched = (moved == noise).all(0).sum()
    assert untouched >= 64 - 8
