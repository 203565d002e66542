"""Which attributes of a caption change, and between which values the language model may choose.

A strategy plans one sample at a time: a plan follows from the sample's id, its expressions, `vary` and the
seed. The first variants of a plan stay as they are when more are asked for.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np

from ..backend import Vary
from ..fields import Positive
from ..keys import seed_for
from ..types import Expression, Variant

MAX_EDITS = 3  # of a caption
ANY_VALUE = ""  # the value of an attribute without listed values: the language model is free to choose

Assignment = dict[str, str]
"""A new value for each of some attributes."""

Options = Mapping[str, Sequence[str]]
"""The values that each attribute of a sample may change to."""


@dataclass
class Random:
    """Changes 1 to 3 attributes at a time, drawn at random; variants take different values in turn.

    In about half of the variants the language model may choose one of the values, out of `choices`. Values
    are offered only while enough others are left for later variants.
    """

    choices: Positive = 2

    version: ClassVar[int] = 2

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample."""
        options = _shuffled(_options(expressions, vary), sample_id, seed)
        uses = Counter[tuple[str, str]]()
        variants: list[Variant] = []
        for index in range(count):
            rng = np.random.default_rng(seed_for(seed, sample_id, "plan", index))
            candidates = (_as_variant(a, vary) for a in _draw_assignments(options, uses, rng))
            variant = next((v for v in candidates if _is_new(v, variants)), None)
            if variant is None:
                break
            variant = self._offer_choice(variant, options, uses, rng)
            uses.update((a, value) for a, values in variant.changes.items() for value in values)
            variants.append(variant)
        return variants

    def _offer_choice(
        self, variant: Variant, options: Options, uses: Counter[tuple[str, str]], rng: np.random.Generator
    ) -> Variant:
        """Returns the variant with more values for one of its attributes, in half of the cases.

        The values added were in no variant before, so that no outcome is that of another variant.
        """
        attribute = str(rng.choice(list(variant.changes)))
        values = variant.changes[attribute]
        unused = [v for v in options[attribute] if v not in values and not uses[attribute, v]]
        is_fresh = bool(values) and not uses[attribute, values[0]]
        if rng.random() < 0.5 or not is_fresh or len(unused) <= self.choices:
            return variant
        return Variant({**variant.changes, attribute: (*values, *unused[: self.choices - 1])})


@dataclass
class Single:
    """Changes one attribute at a time, which isolates the cause of a failure; all of them take turns."""

    version: ClassVar[int] = 2

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample."""
        options = _shuffled(_options(expressions, vary), sample_id, seed)
        rounds = itertools.zip_longest(*([{a: value} for value in values] for a, values in options.items()))
        assignments = (assignment for turn in rounds for assignment in turn if assignment)
        return _take(assignments, vary, count)


@dataclass
class Pairwise:
    """Changes 1 to 3 attributes at a time, along an array that holds every pair of values of two attributes.

    The array follows from `vary` and the seed. A sample begins at a row that follows from its id and takes
    the rows after it. For an array of R rows, N samples with k variants each leave a row out with a
    probability of about (1 - k / R) ** N: with R = 30 and k = 3, 44 samples cover 99 % of the pairs and 100
    samples practically all. A value that a caption has already needs no edit; a pair is lost for a sample
    whose caption cannot express one of its attributes.
    """

    version: ClassVar[int] = 2

    def plan(
        self, sample_id: str, expressions: Mapping[str, Expression], vary: Vary, count: int, seed: int
    ) -> list[Variant]:
        """Returns up to `count` variants of one sample."""
        options = _options(expressions, vary)
        rows = covering_array(tuple((a, tuple(values) or (ANY_VALUE,)) for a, values in vary.items()), seed)
        start = seed_for(seed, sample_id, "plan") % max(len(rows), 1)
        assignments = (
            {a: value for a, value in row if value in options.get(a, ())}
            for row in (*rows[start:], *rows[:start])
        )
        rng = np.random.default_rng(seed_for(seed, sample_id, "plan"))
        remaining = _draw_assignments(_shuffled(options, sample_id, seed), Counter(), rng)
        return _take(itertools.chain(assignments, remaining), vary, count)


Row = tuple[tuple[str, str], ...]


@lru_cache(maxsize=16)
def covering_array(levels: tuple[tuple[str, tuple[str, ...]], ...], seed: int) -> tuple[Row, ...]:
    """Returns rows of up to 3 (attribute, value) that hold every pair of values of two attributes.

    Built greedily: each row begins with a pair that is missing and takes the attribute and value that add
    most.
    """
    rng = np.random.default_rng(seed_for(seed, "", "covering array"))
    if len(levels) < 2:
        return tuple(((a, v),) for a, values in levels for v in values)
    cells = [[(a, v) for v in values] for a, values in levels]
    missing = [
        frozenset(pair)
        for first, second in itertools.combinations(cells, 2)
        for pair in itertools.product(first, second)
    ]
    uncovered = dict.fromkeys(missing[i] for i in rng.permutation(len(missing)))
    rows = []
    while uncovered:
        row = dict(next(iter(uncovered)))
        while len(row) < min(MAX_EDITS, len(levels)):
            additions = [cell for group in cells for cell in group if cell[0] not in row]
            gains = [
                sum(frozenset((cell, chosen)) in uncovered for chosen in row.items()) for cell in additions
            ]
            best = [cell for cell, gain in zip(additions, gains, strict=True) if gain == max(gains)]
            attribute, value = best[int(rng.integers(len(best)))]
            row[attribute] = value
        for pair in itertools.combinations(row.items(), 2):
            uncovered.pop(frozenset(pair), None)
        rows.append(tuple((a, row[a]) for a, _ in levels if a in row))
    order = rng.permutation(len(rows))
    return tuple(rows[i] for i in order)


def _options(expressions: Mapping[str, Expression], vary: Vary) -> dict[str, list[str]]:
    """Returns the values that each attribute may change to: those it does not have."""
    options = {}
    for attribute, values in vary.items():
        if attribute in expressions:
            expression = expressions[attribute]
            current = {expression.span.casefold(), expression.value.casefold()}
            new_values = [v for v in values if v.casefold() not in current] if values else [ANY_VALUE]
            if new_values:
                options[attribute] = new_values
    return options


def _shuffled(options: Options, sample_id: str, seed: int) -> dict[str, list[str]]:
    """Returns the options with attributes and values in an order that follows from the sample."""
    rng = np.random.default_rng(seed_for(seed, sample_id, "order of values"))
    attributes = rng.permutation(list(options)).tolist()
    return {a: rng.permutation(list(options[a])).tolist() for a in attributes}


def _draw_assignments(
    options: Options, uses: Counter[tuple[str, str]], rng: np.random.Generator
) -> Iterator[Assignment]:
    """Yields every assignment of 1 to 3 attributes once, least used values first."""
    sizes = rng.permutation(range(1, min(MAX_EDITS, len(options)) + 1)).tolist()
    for size in sizes:
        for attributes in _draw_subsets(list(options), size, rng):
            cells = [
                [(a, value) for value in sorted(options[a], key=partial(_uses, uses, a))] for a in attributes
            ]
            rows = sorted(itertools.product(*cells), key=lambda row: sum(uses[cell] for cell in row))
            yield from map(dict, rows)


def _uses(uses: Counter[tuple[str, str]], attribute: str, value: str) -> int:
    return uses[attribute, value]


def _draw_subsets(attributes: list[str], size: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Yields every subset of a size once, in random order."""
    subsets = list(itertools.combinations(attributes, size))
    for i in rng.permutation(math.comb(len(attributes), size)):
        yield subsets[i]


def _as_variant(assignment: Assignment, vary: Vary) -> Variant:
    """Returns the variant that an assignment stands for, its attributes in the order of `vary`."""
    return Variant({a: (assignment[a],) if assignment[a] else () for a in vary if a in assignment})


def _take(assignments: Iterable[Assignment], vary: Vary, count: int) -> list[Variant]:
    """Returns the first `count` different variants."""
    variants: list[Variant] = []
    for assignment in assignments:
        if len(variants) == count:
            break
        variant = _as_variant(assignment, vary)
        if variant.changes and _is_new(variant, variants):
            variants.append(variant)
    return variants


def _is_new(variant: Variant, others: Sequence[Variant]) -> bool:
    """Returns whether a variant differs from all others whatever is chosen."""
    return all(
        variant.changes.keys() != other.changes.keys()
        or any(values and set(values).isdisjoint(other.changes[a]) for a, values in variant.changes.items())
        for other in others
    )
