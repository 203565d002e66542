"""A run folder of two models, with texts that would harm a careless page."""

import shutil

from dillema import predictions
from dillema.run_folder import RunFolder

HOSTILE = "a clear day <script>document.title = 'owned'</script><img src=x onerror=alert(1)> on a street"
EFFECT = {
    "n": 9, "sources": 8, "groups": 8, "drop": 0.3, "low": 0.1, "high": 0.4, "rough": True, "p": 0.01,
    "p_adjusted": 0.02, "edit_n": 9, "edit_drop": 0.2, "edit_low": 0.05, "edit_high": 0.3, "edit_p": 0.01,
    "edit_p_adjusted": 0.02, "harmful": True, "always_with": [],
}  # fmt: skip
SINGLE = EFFECT | {
    "n": 1,
    "sources": 1,
    "groups": 1,
    "low": None,
    "high": None,
    "p": None,
    "p_adjusted": None,
}
TRUTH = {
    "n": 3, "sources": 8, "groups": 8, "estimated": 0.3, "true": 0.2, "error": 0.1, "low": 0.0, "high": 0.2,
    "rough": True,
}  # fmt: skip
FIGURES = EFFECT | {
    "metric": "accuracy",
    "images": 9,
    "level": 0.95,
    "original": {"accuracy": 0.9, "f1": 0.8},
    "counterfactual": {"accuracy": 0.6, "f1": 0.5},
    "placebo": {"original": 0.9, "placebo": 0.8, "drop": 0.1, "low": 0.0, "high": 0.2, "n": 8, "sources": 8},
    "near_chance": True,
    "chance": 0.34,
    "dead_classes": ["<b>pole"],
    "flip_rate": 0.2,
    "flip_rate_low": 0.1,
    "flip_rate_high": 0.3,
    "any_flip_rate": 0.5,
    "mcnemar_p": 0.0004,
    "per_attribute": [
        {"attribute": "weather", "from": original, "to": "foggy"} | EFFECT for original in ("clear", "rainy")
    ],
    "per_value": [
        {"attribute": "weather", "to": "foggy"}
        | EFFECT
        | {"effect": 0.2, "effect_low": -0.1, "effect_high": 0.4},
        {"attribute": "weather", "to": "rainy"}
        | EFFECT
        | {"harmful": None, "always_with": [["time of day", "dusk"]]},
        {"attribute": "time of day", "to": "dusk"}
        | EFFECT
        | {"harmful": None, "always_with": [["weather", "rainy"]]},
        {"attribute": "weather", "to": "cloudy"}
        | EFFECT
        | {
            "drop": -0.1,
            "low": -0.2,
            "harmful": False,
            "effect": 0.0,
            "effect_low": -3.0,
            "effect_high": 9.0,
        },
        {"attribute": "time of day", "to": "night"} | SINGLE,
    ],
    "per_pair": [
        {"attributes": ["time of day", "weather"], "to": ["night", weather]} | EFFECT | {"drop": drop}
        for weather, drop in (("foggy", 0.4), ("rainy", -0.2))
    ],
    "per_class": {
        f"class {i}": {
            "original": 0.9,
            "counterfactual": i / 50,
            "drop": 0.9 - i / 50,
            "low": None,
            "high": None,
        }
        for i in range(25)
    },
    "confusions": [
        {"true": "sky", "predicted": "road", "original": 1, "counterfactual": 12345, "share": 0.2}
    ],
    "truth": TRUTH
    | {
        "mean_absolute_error": 0.1,
        "rank_correlation": 0.9,
        "per_attribute": [{"attribute": "weather", "from": "clear", "to": "<b>foggy"} | TRUTH],
    },
}
MODELS = {"net": "foggy", "other <i>net": "scene-2"}
"""The models, and where each of them is wrong."""


def change_results(folder, **changes):
    """Changes results.json."""
    results = {name: value for name, value in folder.results.items() if name != "version"} | changes
    folder.write_results(results)


def write_predictions(folder):
    """Writes predictions of two models, of which each is wrong somewhere."""
    rows = []
    for model, wrong in MODELS.items():
        labels = {image.source: int(image.label["label"]) for image in folder.generated()}
        for source, label in labels.items():
            record = {
                "label": label,
                "predicted": label,
                "certainty": 0.9,
                "confidence": 0.9,
                "top5": [label],
            }
            rows.append(predictions.row(model, source, source, "original", record))
        for image in folder.generated():
            label = labels[image.source]
            flipped = wrong in f"{image.counterfactual.text} {image.id}"
            record = {"label": label, "predicted": (label + flipped) % 3, "certainty": 0.9, "top5": [label]}
            record["confidence"] = 0.1 if flipped else 0.8
            edits, verdict = image.counterfactual.edits, image.verdict
            row = predictions.row(
                model, image.id, image.source, "counterfactual", record, edits=edits, verdict=verdict
            )
            rows.append(row)
    predictions.write(folder.predictions_file, rows, folder.labels, ["brightness.mean"])


def copy_run(folder, target):
    """Returns a copy of a run folder, which a test may change."""
    shutil.copytree(folder.path, target)
    return RunFolder.open(target)
