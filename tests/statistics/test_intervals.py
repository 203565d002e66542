from math import comb

import numpy as np
import pytest
from scipy import stats

from dillema.statistics import intervals
from dillema.statistics.intervals import (
    add_up,
    assign_units,
    benjamini_hochberg,
    bootstrap_interval,
    interval_of_draws,
    mcnemar,
    means,
    over_seeds,
    randomisation_test,
    rate,
    wilson_interval,
)


def test_statistics_agree_with_their_definitions_and_with_scipy():
    random = np.random.default_rng(0)
    for worse, better in [(1, 0), (5, 1), (12, 30), (300, 250)]:
        n = worse + better
        tail = sum(comb(n, k) for k in range(min(worse, better) + 1)) / 2**n
        assert mcnemar(worse, better) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(0, 0) == 1
    for hits, n in [(0, 10), (3, 17), (200, 200)]:
        expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson_interval(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert benjamini_hochberg([0.04, None, 0.01]) == pytest.approx([0.04, None, 0.02])
    assert benjamini_hochberg([0.01, 0.02, 0.2, 0.03]) == pytest.approx([0.04, 0.04, 0.2, 0.04])
    assert benjamini_hochberg([None]) == [None]
    x, y = random.normal(0.3, 1, (2, 40, 1))
    expected = stats.permutation_test(
        (x[:, 0], y[:, 0]), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=20_000, rng=0
    )
    assert randomisation_test(x, y, lambda sums: sums, 0)[0] == pytest.approx(expected.pvalue, abs=0.03)


def test_intervals_over_seeds_are_students():
    values = [0.61, 0.64, 0.58, 0.63]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    expected = {"mean": pytest.approx(0.615), "low": pytest.approx(low), "high": pytest.approx(high)}
    assert over_seeds(values) == expected
    # by hand: the mean of 1 and 3 is 2, their standard error 1, and t 12.7062
    low, high = pytest.approx(-10.7062, abs=1e-4), pytest.approx(14.7062, abs=1e-4)
    assert over_seeds([1, 3]) == {"mean": 2, "low": low, "high": high}
    assert over_seeds([0.5]) == {"mean": 0.5, "low": None, "high": None}
    assert over_seeds([float("nan")] * 3) == {"mean": None, "low": None, "high": None}


def test_the_interval_of_a_share_stays_within_0_and_1():
    assert over_seeds([0.90, 0.99], share=True)["high"] == 1 < over_seeds([0.90, 0.99])["high"]
    assert over_seeds([0.01, 0.10], share=True)["low"] == 0 > over_seeds([0.01, 0.10])["low"]


def simulate(random, sources):
    """Returns each source's images and those right before and after; the expected drop is 0.3."""
    images = random.integers(1, 11, sources)
    before = random.random(sources) < 0.9
    hurt = random.beta(
        0.5, 1, sources
    )  # one third of the right answers turn wrong, and those of a source together
    after = np.where(before, random.binomial(images, 1 - hurt), 0)
    return images, before * images, after


def coverage(sources, draws, seed=0):
    """Returns how often intervals hold the truth: drop by sources, drop by images, flip rate."""
    random, hits = np.random.default_rng(seed), np.zeros(3)
    for _ in range(draws):
        images, before, after = simulate(random, sources)
        sums = np.stack([before - after, images], 1)
        low, high = bootstrap_interval(
            [sums], lambda s: s[..., :1] / s[..., 1:], int(random.integers(1 << 30))
        )
        lost, total = before.sum() - after.sum(), images.sum()
        # a bootstrap of images: in a sample of them, the losses are binomial
        by_image = np.quantile(random.binomial(total, lost / total, intervals.DRAWS) / total, [0.025, 0.975])
        right = before > 0
        flips = rate("flip", (before - after)[right], images[right])
        hits += [
            low[0] <= 0.3 <= high[0],
            by_image[0] <= 0.3 <= by_image[1],
            flips["flip_low"] <= 1 / 3 <= flips["flip_high"],
        ]
    return hits / draws


FEW, MANY = (200, 0.91, 0.98), pytest.param(1000, 0.93, 0.97, marks=pytest.mark.slow)


@pytest.mark.parametrize(("draws", "least", "most"), [FEW, MANY])
def test_intervals_hold_what_they_promise(draws, least, most):
    by_source, by_image, flips = coverage(200, draws)
    assert least <= by_source <= most
    assert least <= flips <= most
    assert by_image < 0.8  # an interval that takes images for independent


@pytest.mark.slow
def test_intervals_of_random_sets_of_groups_hold_what_they_promise():
    random, hits = np.random.default_rng(0), []
    for seed in range(1000):
        images, before, after = simulate(random, 3000)
        lost = np.arange(images.sum()) < np.repeat(images.cumsum() - images + before - after, images)
        values = zip(np.repeat(np.arange(3000), images).tolist(), lost.tolist(), strict=True)
        figures = means(values, seed)
        hits.append(figures["low"] <= 0.3 <= figures["high"])
    assert 0.93 <= np.mean(hits) <= 0.97


def test_many_groups_are_drawn_in_random_sets():
    n, units = 3 * intervals.UNITS // 2, intervals.UNITS
    sums, unit = np.random.default_rng(0).random((n, 3)), assign_units(n, 0)
    assert np.bincount(unit).tolist() == [2] * (n - units) + [1] * (2 * units - n)
    expected = [sums[unit == i].sum(0) for i in range(units)]
    np.testing.assert_allclose(add_up(sums, np.arange(n), unit), expected)
    assert (unit != np.arange(n) % units).any() and (unit == assign_units(n, 0)).all()


def test_draws_are_bounded_in_memory():
    for units, width in ((1_000_000, 3), (3, 3), (24, 100_000)):
        blocks = list(intervals._blocks(units, width))
        assert sum(blocks) == intervals.DRAWS
        assert max(blocks) == 1 or max(blocks) * units <= intervals.NUMBERS_PER_BLOCK
        assert max(blocks) == 1 or max(blocks) * width <= intervals.TALLIES_PER_BLOCK


def test_means_of_images_read_them_once():
    values = [(f"s{i % 40:02}", float(i % 7)) for i in range(400)]
    figures = means(iter(values), 0)
    assert (figures["images"], figures["mean"]) == (
        400,
        pytest.approx(np.mean([value for _, value in values])),
    )
    assert figures["low"] < figures["mean"] < figures["high"]
    assert means(iter([]), 0) == {"images": 0, "mean": None, "low": None, "high": None}
    assert means(iter([("a", 1.0), ("a", 2.0)]), 0) == {"images": 2, "mean": 1.5, "low": None, "high": None}


def test_rates_of_nothing_and_of_everything_have_intervals():
    images = np.array([1, 5, 3, 2] * 5)
    none, every = rate("flip", np.zeros(20), images), rate("flip", images, images)
    # 20 groups, however many images
    assert none["flip"] == 0 == pytest.approx(none["flip_low"]) and 0.1 < none["flip_high"] < 0.2
    assert every["flip_high"] == pytest.approx(1) and 0.8 < every["flip_low"] < 0.9
    assert rate("flip", np.zeros(0), np.zeros(0)) == {"flip": None, "flip_low": None, "flip_high": None}


def test_draws_without_a_figure_do_not_count():
    draws = np.random.default_rng(0).normal(size=(200, 3))
    draws[::2, 1], draws[:, 2] = np.nan, np.nan  # half of the draws, and all
    low, high = interval_of_draws(draws, 30)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, False, True]
    assert (low[1], high[1]) == tuple(bound[0] for bound in interval_of_draws(draws[1::2, 1:2], 30))
