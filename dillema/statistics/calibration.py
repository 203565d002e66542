"""Thresholds of gates from the answers of raters.

The model is Raykar et al., Learning From Crowds (Journal of Machine Learning Research 11, 2010): the truth of
an image is a logistic function of its scores, and each rater sees the truth with a sensitivity and a
specificity of their own, both learnt together by expectation maximisation. Errors of raters therefore do not
move a threshold. Images with a known truth (controls) tell how good a rater is. Precision and recall of a
threshold are those of the model over all images of the run, so that it does not matter which of them were
judged.

Intervals are the 0.5 and 99.5 percentiles of a bootstrap over groups of images and over controls. In
simulations (200 images, 30 controls, three raters with 5 to 10 % wrong answers) they held the true threshold
in 100 of 100 cases, the 1 and 99 percentiles in 288 of 300, the 2.5 and 97.5 percentiles in 280 of 300.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

PERCENTILES = (0.005, 0.995)  # of the draws, see above

DRAWS = 1000
ITERATIONS = 50
ITERATIONS_OF_DRAWS = 20
FIRST_STEPS = 8  # of Newton's method, before raters are weighed
RIDGE = 0.1  # keeps coefficients finite where scores separate the answers completely
RIGHT, WRONG = 9.0, 1.0  # answers that a rater is taken to have given before any is known: 9 of 10 right


@dataclass(frozen=True)
class Controls:
    """Answers (images, raters), NaN where there is none, to images whose truth (images) is known."""

    votes: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A fitted model. The first of its draws is the estimate, the others are those of the bootstrap.

    Attributes:
        coefficients: (draws, 1 + scores), for standardised scores; the first one is the intercept.
        mean: Of each score.
        scale: The standard deviation of each score.
        sensitivity: (raters).
        specificity: (raters).
        posterior: The probability that each judged image is good, after the answers to it (images).
    """

    coefficients: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    posterior: np.ndarray

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Returns the probability (draws, images) that images with these scores (images, scores) are good.

        A missing score (NaN) counts as the mean.
        """
        return sigmoid(self.coefficients @ _features(scores, self.mean, self.scale).T)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns the logistic function."""
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def fit(
    scores: np.ndarray,
    votes: np.ndarray,
    groups: Sequence[str],
    population: np.ndarray,
    controls: Controls,
    seed: int,
    draws: int = DRAWS,
) -> Fit:
    """Fits the model.

    Args:
        scores: Of the judged images (images, scores); NaN where one is missing.
        votes: Whether raters call an image good, 1 or 0 (images, raters); NaN without an answer.
        groups: Of the judged images.
        population: The scores of all images of the run (images, scores).
        controls: Answers of the same raters to images with a known truth.
        seed: Of the bootstrap.
        draws: Of the bootstrap.
    """
    mean, deviation = np.nanmean(population, axis=0), np.nanstd(population, axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    features, weights = _features(scores, mean, scale), _draw_weights(groups, seed, draws)
    every_control = list(map(str, range(len(controls.truth))))
    control_weights = _draw_weights(every_control, seed + 1, draws)
    seen = ~np.isnan(votes)
    yes = np.nan_to_num(votes)
    answers = _Answers(yes, seen - yes, controls, control_weights[:1])
    posterior = (yes.sum(1) + 0.5) / (seen.sum(1) + 1)
    start = _State(np.zeros((1, features.shape[1])), posterior[None])
    for _ in range(FIRST_STEPS):
        start = replace(start, coefficients=_newton_step(start, features, weights[:1]))
    estimate = _maximise(start, features, weights[:1], answers, ITERATIONS)
    # draws are near the estimate: they need fewer iterations from there
    repeated = _State(np.repeat(estimate.coefficients, draws, 0), np.repeat(estimate.posterior, draws, 0))
    of_draws = replace(answers, control_weights=control_weights[1:])
    drawn = _maximise(repeated, features, weights[1:], of_draws, ITERATIONS_OF_DRAWS)
    sensitivity, specificity = answers.rates(estimate, weights[:1])
    coefficients = np.vstack([estimate.coefficients, drawn.coefficients])
    return Fit(coefficients, mean, scale, sensitivity[0], specificity[0], estimate.posterior[0])


@dataclass(frozen=True)
class _State:
    """Coefficients (draws, 1 + scores), and the posterior probability of each image (draws, images)."""

    coefficients: np.ndarray
    posterior: np.ndarray


@dataclass(frozen=True)
class _Answers:
    """Answers to images, 1 where a rater says yes and where one says no (images, raters), and to controls.

    `control_weights` says how often each control is drawn (draws, controls).
    """

    yes: np.ndarray
    no: np.ndarray
    controls: Controls
    control_weights: np.ndarray

    def rates(self, state: _State, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sensitivity and the specificity of each rater (draws, raters)."""
        good, bad = weights * state.posterior, weights * (1 - state.posterior)
        known = [self.control_weights * (self.controls.truth == truth) for truth in (1, 0)]
        says_yes, says_no = self.controls.votes == 1, self.controls.votes == 0
        sensitivity = _share(good @ self.yes + known[0] @ says_yes, good @ self.no + known[0] @ says_no)
        specificity = _share(bad @ self.no + known[1] @ says_no, bad @ self.yes + known[1] @ says_yes)
        return sensitivity, specificity


def _maximise(
    state: _State, features: np.ndarray, weights: np.ndarray, answers: _Answers, iterations: int
) -> _State:
    """Returns the state after some steps of expectation maximisation."""
    for _ in range(iterations):
        sensitivity, specificity = answers.rates(state, weights)
        evidence = np.log(sensitivity / (1 - specificity)) @ answers.yes.T
        evidence += np.log((1 - sensitivity) / specificity) @ answers.no.T
        posterior = sigmoid(state.coefficients @ features.T + evidence)
        state = _State(state.coefficients, posterior)
        state = _State(_newton_step(state, features, weights), posterior)
    return state


@dataclass(frozen=True)
class Threshold:
    """The lowest score from which on images have the wanted precision, and its interval.

    Infinite where no score reaches it.
    """

    value: float
    low: float
    high: float


def find_threshold(scores: np.ndarray, probability: np.ndarray, wanted: float) -> Threshold:
    """Returns the threshold of a score for a wanted precision.

    Args:
        scores: (images) or (draws, images), those of all images of the run.
        probability: That they are good (draws, images); the first draw is the estimate.
        wanted: The precision.
    """
    values = np.array(
        [
            _lowest(scores if scores.ndim == 1 else scores[draw], probability[draw], wanted)
            for draw in range(len(probability))
        ]
    )
    low, high = _bounds(values)
    return Threshold(float(values[0]), low, high)


def rates(chosen: np.ndarray, probability: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Returns precision and recall of a choice of images (images), each with its interval."""
    hits = probability[:, chosen].sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = {"precision": hits / chosen.sum(), "recall": hits / probability.sum(1)}
    figures: dict[str, dict[str, float | None]] = {}
    for name, share in shares.items():
        if np.isnan(share[0]):
            figures[name] = {"mean": None, "low": None, "high": None}
            continue
        low, high = _bounds(share)
        figures[name] = {"mean": float(share[0]), "low": low, "high": high}
    return figures


def _lowest(scores: np.ndarray, probability: np.ndarray, wanted: float) -> float:
    """Returns the lowest score from which on the mean probability is at least the wanted precision."""
    values, position, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    precision = np.bincount(position, probability).cumsum() / counts.cumsum()
    enough = np.flatnonzero(precision >= wanted)
    return float(-values[enough[-1]]) if len(enough) else float("inf")


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """Returns the percentiles of draws; no interpolation, because some are infinite.

    `values` begins with the estimate, which is always within.
    """
    low, high = np.quantile(values[1:], PERCENTILES, method="inverted_cdf")
    return min(float(low), float(values[0])), max(float(high), float(values[0]))


def _features(scores: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns standardised scores after a column of ones."""
    return np.column_stack([np.ones(len(scores)), np.nan_to_num((scores - mean) / scale)])


def _draw_weights(groups: Sequence[str], seed: int, draws: int) -> np.ndarray:
    """Returns how often each image is drawn (1 + draws, images); first as it is."""
    if not groups:
        return np.ones((1 + draws, 0))
    _, group = np.unique(list(groups), return_inverse=True)
    number = int(group.max()) + 1
    times = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), draws)
    return np.vstack([np.ones(len(group)), times[:, group]])


def _share(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return (right + RIGHT) / (right + wrong + RIGHT + WRONG)


def _newton_step(state: _State, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns better coefficients of the weighted logistic regressions, one for each draw."""
    predicted = sigmoid(state.coefficients @ features.T)
    penalty = np.full(features.shape[1], RIDGE)
    penalty[0] = 1e-6  # of the intercept
    gradient = (weights * (state.posterior - predicted)) @ features - penalty * state.coefficients
    curvature = weights * np.maximum(predicted * (1 - predicted), 1e-6)
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    hessian = (curvature @ products).reshape(len(weights), *2 * [features.shape[1]]) + np.diag(penalty)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return state.coefficients + np.clip(step, -2, 2)
