import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from dillema.captioner.transformers import TransformersCaptioner
from dillema.dataset.mini import MiniShift
from dillema.errors import UserError
from dillema.generator.diffusers import ControlNetGenerator
from dillema.mini.train import __main__ as command
from dillema.mini.train import diffusion
from dillema.mini.train.loop import Limits, fit
from dillema.mini.train.muon import Muon, split
from dillema.mini.train.world import World, load_world
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from dillema.types import Control, Counterfactual
from tests import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return load_world(tmp_path_factory.mktemp("world"), "train", "street", 6, workers=1, paired=True)


def test_a_world_is_rendered_once(tmp_path: Path) -> None:
    first = load_world(tmp_path, "train", "vehicle", 2, workers=1)
    (tmp_path / "train-vehicle-2" / "images.npy").touch()
    again = load_world(tmp_path, "train", "vehicle", 2, workers=1)
    assert len(again) == 2
    assert again.rows == first.rows
    assert (again.images == first.images).all()


def test_an_interrupted_training_resumes_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    def train(folder: Path, *stops: int) -> nn.Module:
        folder.mkdir(exist_ok=True)
        for stop in stops:
            torch.manual_seed(0)
            model = nn.Linear(2, 1)

            def loss(
                rng: np.random.Generator, share: float, model: nn.Module = model, stop: int = stop
            ) -> torch.Tensor:
                if round(8 * share) == stop:
                    raise KeyboardInterrupt
                return ((model(torch.from_numpy(rng.random((4, 2))).float()) - 1) ** 2).mean()

            try:
                averaged = fit("line", model, loss, folder=folder, steps=8, lr=0.1, checkpoint_seconds=0)
            except KeyboardInterrupt:
                continue
        return averaged

    uninterrupted = train(tmp_path / "a", 99).state_dict()
    interrupted = train(tmp_path / "b", 4, 6, 99).state_dict()
    assert all(torch.equal(uninterrupted[name], interrupted[name]) for name in uninterrupted)


def test_muon_moves_matrices_by_as_much_in_every_direction() -> None:
    layer = nn.Linear(16, 16, bias=False)
    optimiser = Muon(split(layer)[0], lr=0.1)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.diag(torch.linspace(10, 100, 16))  # directions of very different steepness
    optimiser.step()
    moved = torch.linalg.svdvals(before - layer.weight.detach())
    assert moved.min() > 0.5 * moved.max()
    assert (before - layer.weight.detach()).square().mean().sqrt() == pytest.approx(0.02, rel=0.3)


def test_muon_leaves_small_matrices_and_vectors_to_another_optimiser() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Linear(16, 4), nn.Embedding(99, 16))
    matrices, others = split(model)
    assert [tuple(parameter.shape) for parameter in matrices] == [(16, 3, 3, 3)]
    assert len(matrices) + len(others) == len(list(model.parameters()))


def test_a_training_limited_by_time_passes_through_its_whole_schedule(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    shares: list[float] = []

    def loss(rng: np.random.Generator, share: float) -> torch.Tensor:
        shares.append(share)
        return (model(torch.ones(1, 2)) - 1).square().mean()

    def train(seconds: float) -> None:
        fit("line", model, loss, folder=tmp_path, steps=2, lr=0.1, limits=Limits(seconds=seconds))

    with pytest.raises(UserError, match="line: the 0 seconds were over before its first step"):
        train(0)
    train(1)
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1] < 1
    done = len(shares)
    train(1)  # goes on from its end
    assert len(shares) == done


@pytest.fixture(scope="module")
def saved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yields what one step of every recipe saves, on a small world."""
    folder = tmp_path_factory.mktemp("training")
    target = folder / "weights"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_world", lambda *_, **__: world)
        patch.setattr(
            sys, "argv", ["train", "--folder", str(folder), "--target", str(target), "--steps", "1"]
        )
        command.main()
        yield target


def test_the_captioner_opens_what_its_recipe_saves(saved: Path) -> None:
    backend = TransformersCaptioner(str(saved / "captioner"))
    backend.load()
    dataset = MiniShift(limit=2)
    assert len(backend.caption(dataset.samples(), dataset, [0, 0])) == 2


@pytest.mark.parametrize("name", ["segmenter", "judge"])
def test_segmentation_models_open_what_their_recipes_save(name: str, world: World, saved: Path) -> None:
    model = TransformersSegmentation(name, str(saved / name))
    model.load()
    assert model.predict([Image.fromarray(world.images[0])])[0].shape == (23, 160, 256)


@pytest.mark.parametrize(("name", "labels"), [("classifier", 6), ("reader", 14), ("gate_reader", 14)])
def test_classification_models_open_what_their_recipes_save(
    name: str, labels: int, world: World, saved: Path
) -> None:
    model = TransformersClassification(name, str(saved / name))
    model.load()
    assert model.predict([Image.fromarray(world.images[0])]).shape == (1, labels)


def test_a_generator_is_trained_on_from_the_weights_of_another(
    world: World, saved: Path, tmp_path: Path
) -> None:
    # the last of four steps is in the part of the training in which the observer is asked
    start = saved / "generator"
    diffusion.train([world], tmp_path, tmp_path / "generator", start, batch=4, limits=Limits(steps=4))
    before, after = (
        load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        for folder in (start, tmp_path / "generator")
    )
    changes = {name: (after[name].float() - value.float()).abs().mean() for name, value in before.items()}
    assert 0 < changes["conv_in.weight"] < 0.1 * before["conv_in.weight"].float().abs().mean()
    configs = [tmp_path / "generator" / name / "config.json" for name in ("unet", "controlnet")]
    assert not any(str(start) in config.read_text() for config in configs)
    words = [folder / "tokenizer" / "tokenizer.json" for folder in (start, tmp_path / "generator")]
    assert words[0].read_text() == words[1].read_text()


def test_the_generator_opens_what_its_recipe_saves(world: World, saved: Path) -> None:
    backend = ControlNetGenerator(str(saved / "generator"), width=256, height=160, steps=2)
    backend.load()
    counterfactual = Counterfactual(world.rows[0]["caption"], ())
    controls = {"segmentation_detail": Control(Image.new("RGB", (256, 160)))}
    (image,) = backend.generate([tiny.sample()], [counterfactual], [controls], [0])
    assert isinstance(image, Image.Image)
    assert image.size == (256, 160)
