from dataclasses import replace

import numpy as np
import pytest

from dillema.statistics import summary
from dillema.statistics.paired import PairedTallies
from tests.statistics.outcomes import FOG, answer, losses

SEQUENCES, FRAMES, CORRELATION = 50, 50, 0.2
SIMULATIONS = 100


def test_groups_of_one_source_are_sources(table):
    """A group of its own for each source gives the figures of sources without groups."""
    outcomes = [(f"s{i:02}", [FOG], answer(0), answer(int(i % 3 == 0))) for i in range(30) for _ in range(2)]
    named = summary(table(outcomes, group=lambda source: f"video {source}"), 0, valid=True)
    assert named == summary(table(outcomes), 0, valid=True)


def test_frames_of_one_video_are_no_more_than_one_source(table):
    """Frames that all show the same, in one group, tell as much as one frame of each."""
    frames = [
        (f"s{i:02}{frame}", [FOG], answer(0), answer(int(i < 10))) for i in range(20) for frame in range(5)
    ]
    grouped = summary(table(frames, group=lambda source: source[:3]), 0, valid=True)
    single = summary(table(losses(20, 10)), 0, valid=True)
    assert (grouped["sources"], grouped["groups"], grouped["images"]) == (100, 20, 100)
    for name in (
        "drop",
        "low",
        "high",
        "p",
        "flip_rate",
        "flip_rate_low",
        "flip_rate_high",
        "any_flip_rate_low",
    ):
        assert grouped[name] == pytest.approx(single[name])
    for row in (*grouped["per_attribute"], *grouped["per_class"].values()):
        assert row["groups"] == 20


def test_intervals_over_sequences_hold_the_truth_where_those_over_frames_do_not(table):
    """The frames of a sequence are correlated: intervals over frames hold the truth in half of the cases."""
    frames = [f"{sequence:02}-{frame:02}" for sequence in range(SEQUENCES) for frame in range(FRAMES)]
    outcomes = [(name, [FOG], answer(0), answer(0)) for name in frames]
    grouped = table(outcomes, group=lambda source: source[:2])
    before, after = grouped.pairs()
    random, hits = np.random.default_rng(0), np.zeros(2)
    concentration = (
        1 - CORRELATION
    ) / CORRELATION  # of the beta distribution whose draws have this correlation
    for seed in range(SIMULATIONS):
        share = random.beta(0.3 * concentration, 0.7 * concentration, SEQUENCES)
        tallies = grouped.tallies.copy()
        tallies[after, 0] = random.random(len(after)) >= np.repeat(share, FRAMES)
        simulated = replace(grouped, tallies=tallies)
        for i, predictions in enumerate((simulated, replace(simulated, group=np.arange(len(frames))))):
            low, high = PairedTallies(predictions, before, after, seed).bounds()
            hits[i] += low[0] <= 0.3 <= high[0]
    over_sequences, over_frames = hits / SIMULATIONS
    assert over_sequences >= 0.9
    assert over_frames < 0.6
