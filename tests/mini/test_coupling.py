import numpy as np
import pytest
import torch

from dillema.mini.render import BUILDING, light, render
from dillema.mini.render.buildings import LIT_SHARE, locate_windows
from dillema.mini.render.weather import locate_precipitation
from dillema.mini.scene import HEIGHT, WIDTH, Appearance, sample_scene, scene_seed
from dillema.mini.train.coupling import Particles, Windows, light_windows, move_brightest


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


@pytest.mark.parametrize("rows", [1, 4])
def test_the_brightest_noise_moves_to_the_places_and_nothing_is_lost(rows: int) -> None:
    torch.manual_seed(0)
    noise = torch.randn(3, 8 * rows, 8)
    brightness = _sums_of_places(noise, rows)
    places = torch.tensor([9, 60, 3, int(brightness.argmax())])
    moved = noise.clone()
    move_brightest(moved, Particles(rows, places))
    expected = brightness.sort(descending=True).values[:4]
    assert torch.allclose(_sums_of_places(moved, rows)[places], expected)
    assert torch.equal(moved.flatten().sort().values, noise.flatten().sort().values)
    untouched = (moved == noise).all(0).sum()
    assert untouched >= (64 - 8) * rows


def _sums_of_places(noise: torch.Tensor, rows: int) -> torch.Tensor:
    """Returns the sum of each place, which is some rows of pixels high."""
    channels, height, width = noise.shape
    return noise.view(channels, height // rows, rows, width).sum((0, 2)).flatten()


@pytest.mark.parametrize("time", ["dusk", "night"])
def test_windows_are_where_they_are_said_to_be(time: str) -> None:
    scene = sample_scene(scene_seed("train", "street", 3))
    image, mask = render(scene, Appearance("clear", time, "red"))
    numbers, lit = locate_windows(scene, Appearance("clear", time, "red"))
    assert numbers.shape == mask.shape and not lit[0]
    is_lit = lit[numbers] & (mask == BUILDING)
    is_dark = (numbers > 0) & ~lit[numbers] & (mask == BUILDING)
    brightness = image.mean(2)
    assert is_lit.sum() > 100 and is_dark.sum() > 100
    assert np.median(brightness[is_lit]) > 2 * np.median(brightness[is_dark])


def test_no_window_is_lit_by_day() -> None:
    scene = sample_scene(scene_seed("train", "street", 3))
    assert not locate_windows(scene, Appearance("clear", "daytime", "red"))[1].any()


def test_the_noise_of_lit_windows_is_bright_and_all_of_it_stays_gaussian() -> None:
    torch.manual_seed(0)
    share, count, size = LIT_SHARE["night"], 4000, 10
    lit = torch.rand(count) < share
    pixels = torch.randperm(80_000)[: count * size].int()
    windows = Windows(pixels, torch.arange(count).repeat_interleave(size).int(), lit, share)
    noise = torch.randn(3, 200, 400)
    before = noise.clone()
    light_windows(noise, windows)
    values = noise.flatten(1)[:, pixels.long()].view(3, count, size)
    means = values.mean((0, 2)) * (3 * size) ** 0.5
    threshold = torch.special.ndtri(torch.tensor(1 - share))
    assert torch.equal(means > threshold, lit)
    assert abs(means.mean()) < 0.06 and abs(means.std() - 1) < 0.04
    assert abs(means.pow(3).mean()) < 0.2 and abs(means.pow(4).mean() - 3) < 0.4
    changed = (noise != before).flatten(1).all(0)
    assert set(changed.nonzero().flatten().tolist()) <= set(pixels.tolist())
    centred = values - values.mean((0, 2), keepdim=True)
    original = before.flatten(1)[:, pixels.long()].view(3, count, size)
    assert torch.allclose(centred, original - original.mean((0, 2), keepdim=True), atol=1e-5)
