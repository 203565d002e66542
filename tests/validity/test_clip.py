import pytest
import torch

from dillema.config_check import check
from dillema.errors import UserError
from dillema.types import Counterfactual, Edit
from dillema.validity.clip import ClipGate
from tests import tiny
from tests.test_config import composed
from tests.validity import checkpoints

FOGGY = Counterfactual("a foggy street", (Edit("weather", "clear", "foggy"),), caption="a clear street")
PLACEBO = Counterfactual("a clear street", (), caption="a clear street")
CARS = tiny.dataset(task="classification", classes=("car", "bus", "tram"))


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    result = ClipGate(checkpoints.clip(tmp_path_factory.mktemp("clip")))
    result.load()
    return result


def score(gate, sample, counterfactual, image, dataset=CARS):
    (scores,) = gate.score([sample], [counterfactual], [image], dataset)
    return scores


def test_scores_are_those_of_transformers(gate):
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(gate.model), CLIPProcessor.from_pretrained(gate.model)
    texts = [FOGGY.caption, FOGGY.text, *(f"a photo of a {name}" for name in CARS.classes)]
    inputs = processor(images=[tiny.image(0), tiny.image(1)], text=texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    images, features = output.image_embeds, output.text_embeds
    scores = score(gate, tiny.sample(seed=0, label=1), FOGGY, tiny.image(1))
    assert scores["image_image"] == pytest.approx(float(images[0] @ images[1]), abs=1e-5)
    assert scores["text_original"] == pytest.approx(float(images[0] @ features[0]), abs=1e-5)
    assert scores["text_generated"] == pytest.approx(float(images[1] @ features[1]), abs=1e-5)
    assert scores["label_text"] == pytest.approx(float(images[1] @ features[3]), abs=1e-5)
    assert scores["label"] == pytest.approx(float((100 * features[2:] @ images[1]).softmax(0)[1]), abs=1e-4)
    change = torch.nn.functional.cosine_similarity(images[1] - images[0], features[1] - features[0], dim=0)
    assert scores["direction"] == pytest.approx(float(change), abs=1e-4)


def test_only_the_scores_that_apply_are_given(gate):
    assert set(score(gate, tiny.sample(label=0), FOGGY, tiny.image(1))) == set(ClipGate.scores)
    always = {"image_image", "text_original", "text_generated"}
    assert set(score(gate, tiny.sample(), PLACEBO, tiny.image(1))) == always
    assert set(score(gate, tiny.sample(label=0), PLACEBO, tiny.image(1))) == always | {"label", "label_text"}
    insertion = Counterfactual("a street in fog", (Edit("weather", "", "in fog"),), caption="a street")
    assert set(score(gate, tiny.sample(label=0), insertion, tiny.image(1))) == set(ClipGate.scores) - {
        "edit_margin",
        "label_distance",
    }


def test_an_edit_of_the_label_has_no_distance_from_it(gate):
    of_label = Counterfactual("a tram", (Edit("thing", "car", "tram"),), caption="a car")
    assert score(gate, tiny.sample(label=0), of_label, tiny.image(1))["label_distance"] == pytest.approx(
        0, abs=1e-6
    )


def test_every_floor_must_be_passed_or_as_many_as_are_needed(gate):
    scores = {"image_image": 0.5, "label_text": 0.3, "text_generated": 0.1}
    minimum = {"image_image": 0.8, "label_text": 0.28, "text_generated": 0.3, "direction": 0.2}
    reasons = [
        "similarity with the original is 0.50, below 0.8",
        "similarity with the counterfactual is 0.10, below 0.3",
    ]
    assert ClipGate(gate.model, minimum=minimum).reasons(scores) == reasons
    assert ClipGate(gate.model, minimum=minimum, needed=2).reasons(scores) == reasons
    assert ClipGate(gate.model, minimum=minimum, needed=1).reasons(scores) == []


def test_a_floor_of_no_score_is_a_mistake():
    with pytest.raises(
        UserError, match=r"validity.clip.minimum: must be a mapping of one of 'image_image', "
    ):
        check(composed("validity=clip", "validity.clip.minimum={image: 0.7}"))


def test_a_batch_scores_as_single_images_do(gate):
    samples = [tiny.sample(seed=i, label=i) for i in range(3)]
    images, texts = [tiny.image(10 + i) for i in range(3)], [FOGGY, PLACEBO, FOGGY]
    singles = [score(gate, s, t, i) for s, t, i in zip(samples, texts, images, strict=True)]
    assert gate.score(samples, texts, images, CARS) == [pytest.approx(scores, abs=1e-4) for scores in singles]


SCENE = {"image_image": 0.7, "text_original": 0.2, "text_generated": 0.2, "direction": 0.2}


@pytest.mark.parametrize(
    ("preset", "minimum", "needed"),
    [
        ("instructpix2pix", SCENE, None),
        ("lance", SCENE | {"label_distance": 0.5, "edit_margin": 0.0}, None),
        ("pascal_ea", SCENE | {"text_original": 0.15, "text_generated": 0.15, "direction": 0.07}, None),
        ("cns_bench", {"image_image": 0.806, "label_text": 0.2874, "text_generated": 0.3529}, 2),
    ],
)
def test_presets_have_the_published_thresholds(preset, minimum, needed):
    gate = composed(f"validity=clip_{preset}").validity.clip
    assert (dict(gate.minimum), gate.needed) == (minimum, needed)
    assert gate.model == "openai/clip-vit-large-patch14"
