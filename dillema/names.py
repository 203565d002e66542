"""Finds the name that a misspelt one probably stands for."""

import difflib
from collections.abc import Iterable

NEAR = 0.8  # ratio of difflib: one wrong letter in four or more; "dust" is not near "dusk"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name that differs from a given one in few letters; None where there is none."""
    by_folded = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=NEAR)
    return by_folded[near[0]] if near else None
