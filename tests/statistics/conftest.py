from itertools import count

import pytest

from dillema.predictions import COUNTERFACTUAL, ORIGINAL, PLACEBO, TRUTH, read, row, write
from tests.labels import CLASSIFICATION
from tests.statistics.outcomes import VALID


@pytest.fixture
def table(tmp_path):
    numbers = count()

    def table(outcomes, labels=CLASSIFICATION, renders=(), placebos=(), group=lambda source: ""):
        """Returns predictions: outcomes are (source, edits, original, counterfactual[, verdict]).

        `renders` has a record of the truth for each of the first outcomes, `placebos` one for some sources.
        """
        path = tmp_path / f"{next(numbers)}.parquet"
        rows = []
        for i, (source, edits, original, counterfactual, *verdict) in enumerate(outcomes):
            shared = {"group": group(source), "verdict": verdict[0] if verdict else VALID}
            rows.append(row("m", source, source, ORIGINAL, original, group=group(source)))
            rows.append(
                row("m", f"{source}_{i}", source, COUNTERFACTUAL, counterfactual, edits=edits, **shared)
            )
            if i < len(renders):
                rows.append(row("m", f"{source}_{i}", source, TRUTH, renders[i], edits=edits, **shared))
        for source, record in dict(placebos).items():
            rows.append(
                row("m", f"{source}_placebo", source, PLACEBO, record, group=group(source), verdict=VALID)
            )
        write(path, rows, labels, ())
        return read(path, "m", labels)

    return table
