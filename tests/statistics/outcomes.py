"""Records of predictions, and outcomes of counterfactuals, for tests of figures."""

from dillema.types import Edit, Verdict

FOG, NIGHT, RED = (
    Edit("weather", "clear", "foggy"),
    Edit("time of day", "day", "night"),
    Edit("colour", "blue", "red"),
)
VALID, REJECTED = Verdict(), Verdict(reasons=("agreement is below 0.5",))


def answer(predicted, label=0, confidence=None):
    confidence = float(predicted == label) if confidence is None else confidence
    return {
        "label": label,
        "predicted": predicted,
        "certainty": 0.9,
        "confidence": confidence,
        "top5": [predicted],
    }


def pixels(*cells):
    return {"confusion": [list(cell) for cell in cells], "confidence": 0.5}


def losses(sources, lost, images=1):
    """Returns outcomes of so many sources, of which the first `lost` turn wrong."""
    return [
        (f"s{i:03}", [FOG], answer(0), answer(int(i < lost))) for i in range(sources) for _ in range(images)
    ]
