"""Every back-end with a network but generators: it runs in each type of number, and agrees with the CPU.

Convolutions compute in TF32 on a GPU (10 bits of a number, as PyTorch sets it), so float32 differs too.
"""

import json
import math

import numpy as np
import pytest
import torch

from dillema.quality.networks import Networks
from dillema.types import Caption, Counterfactual, Edit
from tests import tiny
from tests.gpu.small import DEVICE, DTYPES, assert_close, assert_on_device, load_option
from tests.model.test_trainable import (
    TorchvisionClassification,
    TorchvisionSegmentation,
    of_timm,
    of_torchvision,
)
from tests.validity import checkpoints as gates

pytestmark = pytest.mark.gpu

CAPTIONERS = ("mini", "blip", "blip2_opt27b", "git", "vit_gpt2", "florence2", "qwen3_vl_2b", "smolvlm2")
CONDITIONINGS = ("depth", "soft_edge")
GATES = (
    "segmenter", "segmenter_cityscapes", "reader", "features", "text", "questions", "clip",
    "detector", "detector_grounding_dino",
)  # fmt: skip
MODELS = ("mini_resnet", "mini_segformer", "mask2former_cityscapes")
OTHER_MODELS = {
    "torchvision classifier": of_torchvision(TorchvisionClassification, "resnet18", 3),
    "torchvision segmenter": of_torchvision(TorchvisionSegmentation, "lraspp_mobilenet_v3_large", 3),
    "timm": of_timm,
}
LOGITS = 0.02  # the share of the largest logit by which the CPU and the device may differ
SCORES = 0.05  # by which scores of gates may: a pixel whose classes are near each other tips
LEVELS = 3  # of 255, by which control images may, on average
VARY = {"weather": ["clear", "foggy"]}
CARS = tiny.dataset(task="classification", classes=("car", "bus", "tram"), vary=VARY)


def street(seed):
    mask = np.random.default_rng(seed).integers(1, 12, tiny.SIZE[::-1], np.uint8)
    return tiny.sample(f"s{seed}", seed=seed, mask=mask, label=seed, attributes={"weather": "clear"})


SAMPLES = [street(seed) for seed in range(3)]
TEXTS = [
    Counterfactual("a foggy car", (Edit("weather", "clear", "foggy"),), caption="a clear car"),
    Counterfactual("a clear car", (), caption="a clear car"),
    Counterfactual("a foggy bus", (Edit("weather", "clear", "foggy"),), caption="a clear bus"),
]
IMAGES = [tiny.image(10 + seed) for seed in range(3)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", CAPTIONERS)
def test_captioners_caption(option, dtype, tmp_path):
    captioner = load_option("captioner", option, tmp_path, dtype=dtype)
    assert_on_device(captioner._network)
    captions = captioner.caption(SAMPLES, CARS, [0, 1, 2])
    assert len(captions) == 3 and all(isinstance(caption, Caption) for caption in captions)
    assert captioner.caption(SAMPLES, CARS, [0, 1, 2]) == captions


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_language_model_answers_in_its_schema(dtype, tmp_path):
    llm = load_option("llm", "qwen3_4b_transformers", tmp_path, dtype=dtype)
    assert_on_device(llm._network)
    colour = {"type": "string", "enum": ["blue", "red"]}
    schema = {"type": "object", "properties": {"colour": colour}, "required": ["colour"]}
    schema["additionalProperties"] = False
    replies = [llm.ask([{"role": "user", "content": "sea"}], schema, 0) for _ in range(2)]
    assert json.loads(replies[0])["colour"] in ("blue", "red") and replies[0] == replies[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", CONDITIONINGS)
def test_conditionings_give_control_images(option, dtype, tmp_path):
    conditioning = load_option("conditioning", option, tmp_path, dtype=dtype)
    assert_on_device(conditioning._network)
    controls = [conditioning.control(sample, CARS, (80, 48)).image for sample in SAMPLES]
    assert all(image.size == (80, 48) and np.ptp(np.asarray(image)) > 0 for image in controls)
    if dtype == "float32":
        reference = load_option("conditioning", option, tmp_path, device="cpu")
        for sample, image in zip(SAMPLES, controls, strict=True):
            expected = np.asarray(reference.control(sample, CARS, (80, 48)).image, float)
            assert np.abs(np.asarray(image) - expected).mean() <= LEVELS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", GATES)
def test_gates_score(option, dtype, tmp_path):
    gate = load_option("validity", option, tmp_path, dtype=dtype)
    scores = gate.score(SAMPLES, TEXTS, IMAGES, CARS)
    assert len(scores) == 3 and any(scores)
    for row in scores:
        assert set(row) <= set(gate.scores) and all(math.isfinite(value) for value in row.values())
    if dtype == "float32":
        expected = load_option("validity", option, tmp_path, device="cpu").score(SAMPLES, TEXTS, IMAGES, CARS)
        assert scores == [pytest.approx(row, abs=SCORES) for row in expected]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", MODELS)
def test_models_under_test_predict(option, dtype, tmp_path):
    model = load_option("model", option, tmp_path, dtype=dtype)
    assert_on_device(model.module)
    outputs = torch.stack(list(model.predict(IMAGES)))
    assert outputs.dtype == torch.float32 and outputs.device.type == "cpu" and outputs.isfinite().all()
    if dtype == "float32":
        reference = load_option("model", option, tmp_path, device="cpu")
        assert_close(outputs, torch.stack(list(reference.predict(IMAGES))), LOGITS)


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_models_of_other_libraries_predict(kind, tmp_path):
    outputs = []
    for device in (DEVICE, "cpu"):
        model = OTHER_MODELS[kind](tmp_path)
        model.device = device
        model.load()
        outputs.append(torch.stack(list(model.predict(IMAGES))))
    assert_close(*outputs, LOGITS)


def test_quality_networks_measure_images_and_sets(tmp_path):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    features = {name: value for name, value in alexnet().state_dict().items() if name.startswith("features.")}
    torch.save(features, tmp_path / "alexnet.pth")
    clip, encoder = gates.clip(tmp_path / "clip"), tiny.classifier(tmp_path / "encoder")
    images = [tiny.image(seed, (64, 64)) for seed in range(8)]
    results = []
    for device in (DEVICE, "cpu"):
        networks = Networks(encoder, clip, str(tmp_path / "alexnet.pth"), device=device)
        networks.load()
        openers = [lambda image=image: image for image in images]
        distance = networks.distance(openers[:4], openers[4:])
        rows = networks.score(images[:4], images[4:], ["a foggy car"] * 4)
        results.append([*rows, {name: distance[name] for name in ("fid", "kid")}])
    (on_device, on_cpu) = results
    assert on_device == [pytest.approx(row, rel=0.02, abs=1e-3) for row in on_cpu]
