"""Damaged inputs of every format: read rightly, recorded as an item's failure, or refused in one message."""

import pytest

from .cases import FAULTS, make_cases, run_cases

LONG = [pytest.param(*case, marks=pytest.mark.slow) for case in ((501, 0), (2_000, 1))]


@pytest.mark.parametrize(("count", "seed"), [(120, 0), *LONG])
def test_no_damaged_input_crashes_hangs_or_is_silently_wrong(count, seed):
    outcomes = list(run_cases(make_cases(count, seed)))
    assert len(outcomes) == count
    faults = [
        f"{outcome.case}: {outcome.kind}: {outcome.detail}" for outcome in outcomes if outcome.kind in FAULTS
    ]
    assert not faults, "\n\n".join(faults)
    assert {outcome.case.format for outcome in outcomes if outcome.kind == "read"}  # some damages are none
