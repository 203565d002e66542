"""Kappas against published examples and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from dillema.statistics.agreement import cohen_kappa, fleiss_kappa

# 10 subjects, 14 raters, 5 categories: https://en.wikipedia.org/wiki/Fleiss%27_kappa, kappa 0.210
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
# Cohen, Psychological Bulletin 70 (1968): kappa 0.492
COHEN = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]


def as_ratings(table):
    """Returns the answers of a table of counts, by image and rater."""
    answers = [np.repeat(np.arange(len(row)), row).tolist() for row in table]
    return {i: {f"rater {j}": answer for j, answer in enumerate(row)} for i, row in enumerate(answers)}


def as_pairs(table):
    return [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]


def own_groups(count):
    return {i: str(i) for i in range(count)}


def test_fleiss_kappa_of_the_published_example():
    figures = fleiss_kappa(as_ratings(FLEISS), range(5), own_groups(10), 0)
    assert figures["kappa"] == pytest.approx(0.210, abs=5e-4)
    assert figures["images"] == 10 and figures["low"] < 0.21 < figures["high"]


def test_cohen_kappa_of_the_published_example():
    pairs = as_pairs(COHEN)
    figures = cohen_kappa(pairs, range(3), [str(i) for i in range(200)], 0)
    assert figures["kappa"] == pytest.approx(0.492, abs=5e-4)
    error = (0.7 * 0.3 / 200) ** 0.5 / (1 - 0.41)  # Cohen's own large-sample standard error
    assert figures["high"] - figures["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_cohen_kappa_of_ordered_categories_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    first = random.integers(1, 6, 80)
    second = np.clip(first + random.integers(-1, 2, 80), 1, 5)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    figures = cohen_kappa(pairs, range(1, 6), [str(i) for i in range(80)], 0, ordered=True)
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))


def test_ordered_fleiss_kappa_of_two_raters_is_near_cohens_and_far_answers_cost_more():
    near = {i: {"a": 1 + i % 5, "b": min(2 + i % 5, 5)} for i in range(50)}
    far = {i: {"a": 1 + i % 5, "b": 1 + (i + 3) % 5} for i in range(50)}
    kappas = [
        fleiss_kappa(ratings, range(1, 6), own_groups(50), 0, ordered=True)["kappa"]
        for ratings in (near, far)
    ]
    pairs = [tuple(answers.values()) for answers in near.values()]
    cohen = cohen_kappa(pairs, range(1, 6), list(own_groups(50).values()), 0, ordered=True)["kappa"]
    assert kappas[0] == pytest.approx(cohen, abs=0.05) and kappas[1] < kappas[0] - 0.5


def test_single_ratings_do_not_count_as_agreement():
    ratings = as_ratings(FLEISS)
    with_single = ratings | {100 + i: {"rater 0": i % 5} for i in range(5)}
    groups = own_groups(10) | {100 + i: str(100 + i) for i in range(5)}
    figures = fleiss_kappa(with_single, range(5), groups, 0)
    assert figures["images"] == 10 and figures["kappa"] == pytest.approx(0.21, abs=0.05)


def test_intervals_know_that_frames_of_a_video_are_not_independent():
    pairs = as_pairs(COHEN)
    random = np.random.default_rng(0)
    videos = [pairs[i] for i in random.integers(0, 200, 40) for _ in range(5)]  # five equal frames each
    alone = cohen_kappa(videos, range(3), [str(i) for i in range(200)], 0)
    grouped = cohen_kappa(videos, range(3), [str(i // 5) for i in range(200)], 0)
    assert alone["kappa"] == grouped["kappa"]
    assert grouped["high"] - grouped["low"] > 1.8 * (alone["high"] - alone["low"])


def test_what_is_not_defined_has_no_number():
    always = {i: {"a": "yes", "b": "yes"} for i in range(5)}
    nothing = {"kappa": None, "low": None, "high": None}
    assert fleiss_kappa(always, ("yes", "no"), own_groups(5), 0) == {"images": 5} | nothing
    assert cohen_kappa([], ("yes", "no"), [], 0) == {"images": 0} | nothing
