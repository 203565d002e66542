"""Joins the results of all steps: verdicts, generated images, predictions, and numbers of items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..backend import Gate
from ..types import COUNTERFACTUAL, ORIGINAL, Sample, Verdict
from .items import GeneratedImage, ImageRecord, Outcomes, Prediction
from .predict import PredictItem
from .verdict import FAILED, verdict


@dataclass(frozen=True)
class Block:
    """The results of some of the sources: generated images, predictions, and numbers of items."""

    images: list[GeneratedImage]
    predictions: list[Prediction]
    counts: dict[str, int]


def join_verdicts(
    generated: Outcomes, gates: Sequence[Gate], scores: Mapping[str, Outcomes]
) -> dict[str, Verdict]:
    """Returns the verdict of all gates on each image; `scores` has the outcomes of each gate by its name."""
    verdicts = {}
    for image in generated:
        measured: dict[str, float] = {}
        for gate in gates:
            scored = scores[gate.name].get(image)
            values = scored.value if scored else {FAILED: 1.0}
            measured |= {f"{gate.name}.{score}": value for score, value in values.items()}
        verdicts[image] = verdict(gates, measured)
    return verdicts


def join_images(
    generated: Outcomes, sources: Outcomes, captions: Outcomes, controls: Mapping[str, Outcomes],
    verdicts: Mapping[str, Verdict], quality: Sequence[Outcomes],
) -> list[GeneratedImage]:  # fmt: skip
    """Returns the generated images with the results of all steps."""
    images = []
    for name, image in generated.items():
        source_id = image.item.sample.id
        figures: dict[str, float] = {}
        for outcomes in quality:
            figures |= outcomes[name].value if name in outcomes else {}
        images.append(
            GeneratedImage(
                id=name,
                sample=image.item.sample,
                caption=captions[source_id].value,
                counterfactual=image.item.counterfactual,
                seed=image.item.seed,
                path=image.image,
                original=sources[source_id].image,
                controls={
                    conditioning: outcomes[source_id].image for conditioning, outcomes in controls.items()
                },
                verdict=verdicts[name],
                quality=figures,
            )
        )
    return images


def join_predictions(
    model: str, images: Sequence[tuple[PredictItem, ImageRecord]], outcomes: Outcomes
) -> list[Prediction]:
    """Returns the predictions of a model.

    Sources without a prediction of the original, or of any counterfactual, are left out.
    """
    predicted = [(item, record) for item, record in images if item.image_id in outcomes]
    with_original = {record.source_id for _, record in predicted if record.kind == ORIGINAL}
    with_counterfactual = {record.source_id for _, record in predicted if record.kind == COUNTERFACTUAL}
    return [
        Prediction(model, record, outcomes[item.image_id].value)
        for item, record in predicted
        if record.source_id in with_original & with_counterfactual
    ]


def count_verdicts(gates: Sequence[Gate], verdicts: Sequence[Verdict]) -> tuple[int, int]:
    """Returns how many images are valid, and how many count because no gate could judge them.

    Without gates all images are among the first, which no page then calls valid.
    """
    unjudged = sum(not verdict.checked for verdict in verdicts) if gates else 0
    return sum(verdict.valid for verdict in verdicts) - unjudged, unjudged


def count(
    samples: Sequence[Sample],
    captions: Outcomes,
    rewritten: Outcomes,
    images: Sequence[GeneratedImage],
    gates: Sequence[Gate],
) -> dict[str, int]:
    """Returns how many items of each kind there are."""
    counterfactuals = [image for image in images if not image.is_placebo]
    valid, unjudged = count_verdicts(gates, [image.verdict for image in counterfactuals])
    corrected = sum(bool(caption.value.uncorrected) for caption in captions.values())
    return {
        "sources": len(samples),
        "captions": len(captions),
        "counterfactuals": len(rewritten),
        "generated": len(counterfactuals),
        "valid": valid,
        "placebos": len(images) - len(counterfactuals),
        **({"corrected_captions": corrected} if corrected else {}),
        **({"unjudged": unjudged} if unjudged else {}),
    }
