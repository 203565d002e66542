"""Thresholds from simulated raters, whose truth and errors are known."""

import numpy as np
import pytest

from dillema.statistics.calibration import Controls, find_threshold, fit, rates, sigmoid

WANTED = 0.95
IMAGES, POPULATION = 200, 2000


def simulate(seed, raters=3, error=(0.05, 0.1), slope=12.0, draws=300):
    """Returns the true threshold, the found one, and the errors of the raters, true and found.

    Judged images are drawn evenly over the scores, as a review draws them.
    """
    random = np.random.default_rng(seed)
    scores = random.beta(4, 3, POPULATION)
    good = sigmoid(slope * (scores - 0.45))
    true = find_threshold(scores, np.stack([good] * 3), WANTED).value
    ranges = np.minimum((scores * 10).astype(int), 9)
    size = 1 / np.bincount(ranges, minlength=10)[ranges]
    judged = random.choice(POPULATION, IMAGES, False, size / size.sum())
    errors = random.uniform(*error, (2, raters))

    def vote(truth):
        wrong = random.random((len(truth), raters)) < np.where(truth[:, None], *errors[:, None])
        return (truth[:, None] ^ wrong).astype(float)

    known = np.arange(30) % 2 == 0
    controls = Controls(vote(known), known.astype(float))
    votes = vote(random.random(IMAGES) < good[judged])
    groups = [str(i) for i in range(IMAGES)]
    model = fit(scores[judged][:, None], votes, groups, scores[:, None], controls, seed, draws)
    probability = model.probability(scores[:, None])
    return true, find_threshold(scores, probability, WANTED), scores, probability, good, model, errors


@pytest.mark.slow
def test_the_interval_of_a_threshold_holds_the_truth_in_95_of_100_simulations():
    found = [simulate(seed, draws=1000)[:2] for seed in range(100)]
    inside = sum(threshold.low <= true <= threshold.high for true, threshold in found)
    width = np.median([threshold.high - threshold.low for _, threshold in found])
    print(f"{inside} of 100, median width {width:.3f}")
    assert inside >= 95 and width < 0.3


def test_intervals_hold_the_truth_and_are_not_wide():
    inside = {"threshold": 0, "precision": 0, "recall": 0}
    for seed in range(20):
        true, threshold, scores, probability, good, _, _ = simulate(seed)
        inside["threshold"] += threshold.low <= true <= threshold.high
        assert threshold.high - threshold.low < 0.5
        chosen = scores >= true
        truth = {"precision": good[chosen].mean(), "recall": good[chosen].sum() / good.sum()}
        for name, figure in rates(chosen, probability).items():
            inside[name] += figure["low"] <= truth[name] <= figure["high"]
    assert min(inside.values()) >= 16  # 19 are expected


def test_errors_of_raters_are_found_and_do_not_move_the_threshold():
    runs = [simulate(seed, error=(0.15, 0.2), draws=2) for seed in range(20)]
    biases = [threshold.value - true for true, threshold, *_ in runs]
    assert abs(np.median(biases)) < 0.04
    found = np.array([(1 - model.sensitivity.mean(), 1 - model.specificity.mean()) for *_, model, _ in runs])
    true = np.array([errors.mean(1) for *_, errors in runs])
    assert np.abs(found.mean(0) - true.mean(0)).max() < 0.02


def test_a_precision_out_of_reach_has_no_threshold():
    scores = np.linspace(0, 1, 50)
    threshold = find_threshold(scores, np.full((20, 50), 0.5), WANTED)
    assert threshold.value == threshold.low == threshold.high == np.inf


def test_everything_passes_where_all_images_are_good_enough():
    scores = np.linspace(0, 1, 50)
    assert find_threshold(scores, np.full((20, 50), 0.99), WANTED).value == 0


def test_equal_scores_stand_or_fall_together():
    scores = np.array([1.0, 1.0, 0.0, 0.0])
    probability = np.tile([1.0, 0.8, 1.0, 1.0], (3, 1))
    assert find_threshold(scores, probability, 0.95).value == 0.0
    assert find_threshold(scores, probability, 0.96).value == np.inf
