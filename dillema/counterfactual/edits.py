"""Which attributes of which captions change, and between which values the language model may choose.

Each strategy has the same method, `plan`. It returns up to `count` variants of each source, given the spans that express
its attributes; no two variants of a source can come out the same, and none changes an attribute to what it is. Sources are
gone through in their order, so a plan depends on all sources before. An attribute without listed values can tell no two
variants apart, so that a source may get fewer.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Spans = Mapping[str, str]
Vary = Mapping[str, Sequence[str]]
Variant = dict[str, tuple[str, ...]]
"""The attributes that change; each with the values it may take, none where any phrase will do."""
Assignment = dict[str, str]

MOST = 3  # edits of a caption
ANY = ""  # stands for whatever the language model will say


@dataclass
class Random:
    """Changes 1 to 3 attributes at a time, drawn by the seed, each to one of up to `choices` values; all values take turns."""

    choices: int = 2

    def plan(self, sources: Mapping[str, Spans], vary: Vary, count: int, seed: int) -> dict[str, list[Variant]]:
        """Returns the variants of each source."""
        rng, used, seen = np.random.default_rng(seed), Counter[tuple[str, str]](), set[tuple[str, str]]()

        def prefer(candidates: list[Assignment], spans: Spans) -> Assignment:
            sets = list(dict.fromkeys(map(tuple, candidates)))
            size = _any_of(sorted({len(s) for s in sets}), rng)
            attributes = _any_of([s for s in sets if len(s) == size], rng)
            return _least_used([c for c in candidates if tuple(c) == attributes], used, rng)

        plans = _plan(sources, vary, count, MOST, prefer)
        for source, variants in plans.items():
            for variant, (attribute, values) in [(v, item) for v in variants for item in v.items()]:
                # small models always choose the same of two values: what comes up for the first time, and half of the rest, stands alone
                if values and {(attribute, v) for v in values} <= seen and rng.random() < 0.5:
                    others = [v for v in variants if v is not variant]
                    for value in rng.permutation(_values(attribute, sources[source], vary)).tolist():
                        wider = {**variant, attribute: tuple(dict.fromkeys((*variant[attribute], value)))}
                        if len(wider[attribute]) <= self.choices and all(_apart(wider, other) for other in others):
                            variant[attribute] = wider[attribute]
                seen.update((attribute, v) for v in values)
        return plans


@dataclass
class Single:
    """Changes one attribute at a time, which isolates the cause of a failure; all values take turns."""

    def plan(self, sources: Mapping[str, Spans], vary: Vary, count: int, seed: int) -> dict[str, list[Variant]]:
        """Returns the variants of each source."""
        rng, used = np.random.default_rng(seed), Counter[tuple[str, str]]()
        return _plan(sources, vary, count, 1, lambda candidates, _: _least_used(candidates, used, rng))


@dataclass
class Pairwise:
    """Changes 1 to 3 attributes so that every pair of values of two attributes stands in some caption, then again, as far as the count allows."""

    def plan(self, sources: Mapping[str, Spans], vary: Vary, count: int, seed: int) -> dict[str, list[Variant]]:
        """Returns the variants of each source."""
        rng = np.random.default_rng(seed)
        listed = [[(a, v.casefold()) for v in values] for a, values in vary.items()]
        every = {pair for two in itertools.combinations(listed, 2) for pair in itertools.product(*two)}
        missing = set(every)

        def prefer(candidates: list[Assignment], spans: Spans) -> Assignment:
            gains = []
            for candidate in candidates:
                after = {**spans, **candidate}  # what is not changed stands in the caption too
                gains.append(missing.intersection(itertools.combinations([(a, after[a].casefold()) for a in vary if a in after], 2)))
            best = max(map(len, gains))
            chosen, gain = _any_of([(c, g) for c, g in zip(candidates, gains, strict=True) if len(g) == best], rng)
            missing.difference_update(gain)
            if not missing:
                missing.update(every)
            return chosen

        return _plan(sources, vary, count, MOST, prefer)


def _plan(sources: Mapping[str, Spans], vary: Vary, count: int, most: int, prefer: Callable[[list[Assignment], Spans], Assignment]) -> dict[str, list[Variant]]:
    """Returns up to `count` different ways to change each source, each time the one that a strategy prefers to those that are left."""
    plans: dict[str, list[Variant]] = {}
    for source, spans in sources.items():
        options = {a: values for a in vary if a in spans and (values := _values(a, spans, vary))}
        left = [
            dict(zip(attributes, values, strict=True))
            for size in range(1, most + 1)
            for attributes in itertools.combinations(options, size)
            for values in itertools.product(*(options[a] for a in attributes))
        ]
        plans[source] = []
        while left and len(plans[source]) < count:
            chosen = prefer(left, spans)
            left.remove(chosen)
            plans[source].append({a: () if v == ANY else (v,) for a, v in chosen.items()})
    return plans


def _values(attribute: str, spans: Spans, vary: Vary) -> list[str]:
    return [v for v in vary[attribute] if v.casefold() != spans[attribute].casefold()] if vary[attribute] else [ANY]


def _any_of(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]


def _least_used(candidates: list[Assignment], used: Counter[tuple[str, str]], rng: np.random.Generator) -> Assignment:
    uses = [sum(used[pair] for pair in c.items()) / len(c) for c in candidates]
    chosen = _any_of([c for c, n in zip(candidates, uses, strict=True) if n == min(uses)], rng)
    used.update(chosen.items())
    return chosen


def _apart(one: Variant, other: Variant) -> bool:
    """Returns whether two variants differ whatever is chosen."""
    return one.keys() != other.keys() or any(one[a] and set(one[a]).isdisjoint(other[a]) for a in one)
