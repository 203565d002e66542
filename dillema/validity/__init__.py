"""Gates: whether a generated image may count as a test."""

from collections.abc import Mapping


def below(scores: Mapping[str, float], score: str, floor: float | None, meaning: str) -> list[str]:
    """Returns the reason against an image whose score is under a floor; none without either."""
    value = scores.get(score)
    if floor is None or value is None or value >= floor:
        return []
    return [f"{meaning} is {value:.2f}, below {floor:g}"]


def above(scores: Mapping[str, float], score: str, ceiling: float | None, meaning: str) -> list[str]:
    """Returns the reason against an image whose score is over a ceiling; none without either."""
    value = scores.get(score)
    if ceiling is None or value is None or value <= ceiling:
        return []
    return [f"{meaning} is {value:.2f}, above {ceiling:g}"]
