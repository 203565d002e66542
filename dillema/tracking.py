"""The runs in MLflow: a copy of what the run folders hold, so nothing that goes wrong here may end a run."""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .pipeline import Pair, Run
from .store import digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

GRID = 16  # pairs whose images are logged: the same ones in all runs on the same sources
AT_ONCE = 100  # parameters that MLflow takes in one call
LONGEST = 500  # characters of a parameter


@contextmanager
def track(uri: str, artifacts: str, experiment: str, *, name: str, params: Mapping[str, Any], config: str, sweep: Path | None = None) -> Iterator["Tracked"]:
    """Gives a run in MLflow for as long as the job takes, and marks it failed, with the error, when that raises.

    `sweep` is the folder of the sweep that the job belongs to: its runs lie under one parent.
    """
    tracked = Tracked()
    with _kept("starts without tracking"):
        tracked.start(uri, artifacts, experiment, name, params, config, sweep)
    try:
        yield tracked
    except BaseException as error:
        with _kept("is not marked as failed"):
            tracked.end(error)
        raise
    with _kept("is not marked as finished"):
        tracked.end()


class Tracked:
    """One run in MLflow; does nothing when MLflow could not be reached."""

    _client: "MlflowClient | None" = None
    _run: str = ""

    def start(self, uri: str, artifacts: str, experiment: str, name: str, params: Mapping[str, Any], config: str, sweep: Path | None) -> None:
        """Makes the run, and the experiment and the sweep's parent where they are missing."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///")).resolve()
            database.parent.mkdir(parents=True, exist_ok=True)
            # a relative address would depend on where the process stands, and so would the artifacts
            client, location = MlflowClient(f"sqlite:///{database}"), Path(artifacts).resolve().as_uri()
        else:
            client, location = MlflowClient(uri), None
        known = client.get_experiment_by_name(experiment)
        where = known.experiment_id if known else client.create_experiment(experiment, location)
        tags = {"mlflow.source.name": "dillema"}
        if sweep:
            tags["mlflow.parentRunId"] = _parent(client, where, sweep)
        self._run = client.create_run(where, tags=tags, run_name=name).info.run_id
        self._client = client
        entries = [Param(key, str(value)[:LONGEST]) for key, value in params.items()]
        for i in range(0, len(entries), AT_ONCE):
            client.log_batch(self._run, params=entries[i : i + AT_ONCE])
        client.log_text(self._run, config, "config.yaml")

    def log(self, run: Run, folder: Path) -> None:
        """Sends the figures, the table of pairs, the images of 16 pairs, the generated set and the report of a run."""
        if self._client is None:
            return
        with _kept("is not sent in full"):
            self._log(self._client, run, folder)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the run: as finished, or as failed with the error in its tags."""
        if self._client is None:
            return
        if error is not None:
            self._client.set_tag(self._run, "error", "".join(traceback.format_exception(error))[-5000:])
        self._client.set_terminated(self._run, "FAILED" if error is not None else "FINISHED")

    def _log(self, client: "MlflowClient", run: Run, folder: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

        now = int(time.time() * 1000)
        client.log_batch(self._run, [Metric(key, value, now, 0) for key, value in figures(run.results).items()])
        generated = Dataset(
            f"{run.results['dataset']}-counterfactuals",
            digest(*(pair.image.name for pair in run.pairs))[:32],
            "local",
            json.dumps({"uri": (folder / "generated").resolve().as_uri()}),
            profile=json.dumps({"num_rows": len(run.pairs), "valid": run.results["counts"]["valid"]}),
        )
        client.log_inputs(self._run, [DatasetInput(generated, [InputTag("mlflow.data.context", "generated")])])
        if rows := [_row(pair) for pair in run.pairs]:
            client.log_table(self._run, {column: [row[column] for row in rows] for column in rows[0]}, "pairs.json")
        # the first counterfactual of each source, then the second ones: fixed by the sources, not by what became of them
        for i, pair in enumerate(sorted(run.pairs, key=lambda pair: pair.id.rpartition("_")[2])[:GRID]):
            client.log_image(self._run, beside(pair), key=f"pair_{i:02}", step=0)
        for file in ("results.json", "report.html"):
            client.log_artifact(self._run, str(folder / file))


def figures(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of results.json by the path to them, less the long tables."""
    found: dict[str, float] = {}
    for key, value in results.items():
        if isinstance(value, Mapping) and key != "per_class":
            found |= figures(value, f"{prefix}{'' if key == 'models' else f'{key}/'}")
        elif isinstance(value, Real) and not isinstance(value, bool):
            found[prefix + key] = float(value)
    return found


def beside(pair: Pair) -> Image.Image:
    """Returns the original and, on its right, the counterfactual image."""
    with Image.open(pair.image) as image:
        both = Image.new("RGB", (2 * image.width, image.height))
        both.paste(pair.sample.image.resize(image.size), (0, 0))
        both.paste(image, (image.width, 0))
    return both


def _row(pair: Pair) -> dict[str, Any]:
    edits = "; ".join(f"{e.attribute}: {e.original} -> {e.replacement}" for e in pair.counterfactual.edits)
    texts = {"caption": pair.caption.text, "counterfactual": pair.counterfactual.text, "edits": edits}
    return {"id": pair.id, "source": pair.sample.id} | texts | {"valid": pair.verdict.valid}


def _parent(client: "MlflowClient", experiment: str, sweep: Path) -> str:
    """Returns the run that stands for a sweep; the first of its jobs makes it."""
    found = client.search_runs([experiment], f"tags.`dillema.sweep` = '{sweep}'", max_results=1)
    if found:
        return found[0].info.run_id
    tags = {"dillema.sweep": str(sweep), "mlflow.source.name": "dillema"}
    parent = client.create_run(experiment, tags=tags, run_name=f"sweep {sweep.parent.name} {sweep.name}")
    client.set_terminated(parent.info.run_id)
    return parent.info.run_id


@contextmanager
def _kept(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning("MLflow: the run %s (%s: %s). The results are in the run folder all the same.", what, type(error).__name__, error)
