import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dillema.errors import UserError
from dillema.report import write
from dillema.tracking import figures, track

from .backends import Generator, Model, Noise, pipeline

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def settings(tmp_path, monkeypatch, mlflow_tables):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    shutil.copy(mlflow_tables, "here/mlflow.db")
    return {"uri": "sqlite:///here/mlflow.db", "artifacts": "here/artifacts", "experiment": "test"}


def runs(tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/here/mlflow.db")
    return client, client.search_runs([client.get_experiment_by_name("test").experiment_id], order_by=["attributes.start_time ASC"])


def start(settings, name="first", folder=Path("run"), **more):
    return track(
        **settings,
        folder=folder,
        name=name,
        params={"llm": "scripted", "llm.temperature": 0.2, "long": "x" * 9999, "vary.\u00e9tat (ciel)": 1},
        config="seed: 0\n",
        **more,
    )


def test_a_run_can_be_found_and_looked_at(tmp_path, settings, monkeypatch, capfd):
    folder = tmp_path / "run"
    folder.mkdir()
    whole = pipeline(tmp_path / "store", models=(Model(), Model(name="same")))
    with start(settings) as tracked:
        out = whole.run(folder)
        write(out, whole.dataset, folder)
        tracked.log(out)
    assert "alembic" not in capfd.readouterr().err
    monkeypatch.chdir("/")  # what was written must not depend on where the process stood
    client, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["llm"] == "scripted" and run.data.params["llm.temperature"] == "0.2"
    assert run.data.metrics["counts/generated"] == 12
    assert run.data.metrics["brightest/drop"] == pytest.approx(out.results["models"]["brightest"]["drop"])
    assert run.data.metrics["brightest/all/counterfactual/mean_iou"] == pytest.approx(out.results["models"]["brightest"]["all"]["counterfactual"]["mean_iou"])
    names = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "pairs.json", "per_attribute.json", "comparisons.json", "images", "predictions.parquet", "report.html"}
    images = {f.path.removeprefix("images/").split("+")[0] for f in client.list_artifacts(run.info.run_id, "images")}
    assert images == {pair.id for pair in out.pairs}  # so that the same pair stands in the same place of the grid of each run
    assert run.data.metrics["validity"] == pytest.approx(out.results["counts"]["valid"] / 12)
    assert run.data.metrics["seconds_total"] == pytest.approx(sum(out.results["seconds"].values()))
    assert run.data.metrics["seconds_per_valid_image"] > 0
    assert run.data.tags["models"] == "brightest, same" and run.data.params["vary._tat _ciel_"] == "1"
    edits = json.loads(Path(client.download_artifacts(run.info.run_id, "per_attribute.json")).read_text())
    assert len(edits["data"]) == 2 * len(out.results["models"]["brightest"]["per_attribute"]) > 0
    assert {"model", "attribute", "from", "to", "drop"} <= set(edits["columns"])
    differences = json.loads(Path(client.download_artifacts(run.info.run_id, "comparisons.json")).read_text())
    assert len(differences["data"]) == 1 and {"a", "b", "drop_difference", "drop_p_adjusted"} <= set(differences["columns"])
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "pairs.json")).read_text())
    assert len(table["data"]) == 12 and "counterfactual" in table["columns"]
    (generated,) = run.inputs.dataset_inputs
    assert generated.dataset.name == "noise-counterfactuals" and len(generated.dataset.digest) == 32
    assert json.loads(generated.dataset.source)["uri"] == (folder / "generated").as_uri()
    assert not (folder / "unsent").exists()


def test_a_run_that_dies_is_marked_with_its_error(tmp_path, settings):
    with pytest.raises(UserError), start(settings):
        raise UserError("no weights for 'x'")
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert "no weights for 'x'" in run.data.tags["error"]


def test_the_runs_of_a_sweep_lie_under_one_parent(tmp_path, settings):
    for i, sweep in enumerate(("one", "one", "other")):
        with start(settings, f"child of {sweep}", tmp_path / str(i), sweep=tmp_path / sweep):
            pass
    _, found = runs(tmp_path)
    parents = {r.info.run_id: r for r in found if "mlflow.parentRunId" not in r.data.tags}
    children = [r for r in found if "mlflow.parentRunId" in r.data.tags]
    assert len(parents) == 2 and len(children) == 3
    assert all(p.info.status == "FINISHED" for p in parents.values())
    by_name = {r.info.run_name: set() for r in children}
    for child in children:
        by_name[child.info.run_name].add(child.data.tags["mlflow.parentRunId"])
    assert all(len(ids) == 1 for ids in by_name.values()) and by_name["child of one"] != by_name["child of other"]


def test_trouble_with_mlflow_ends_no_run(tmp_path, settings, caplog):
    (tmp_path / "here" / "mlflow.db").write_text("this is no database, whatever its name says")
    folder = tmp_path / "run"
    folder.mkdir()
    with start(settings) as tracked:
        out = pipeline(tmp_path / "store").run(folder)
        tracked.log(out)
    assert (folder / "results.json").exists()
    assert "MLflow" in caplog.text and "job=sync" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from dillema.tracking import track
settings = {"uri": "sqlite:///here/mlflow.db", "artifacts": "here/artifacts", "experiment": "test"}
with track(**settings, folder=Path("killed"), name="killed", params={}, config=""):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_is_ended_by_the_next_and_one_that_is_at_work_is_not(tmp_path, settings):
    done = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == -signal.SIGKILL
    assert [run.info.status for run in runs(tmp_path)[1]] == ["RUNNING"]
    with start(settings, "at work", tmp_path / "one"), start(settings, "next", tmp_path / "other"):
        killed, at_work, _ = runs(tmp_path)[1]
        assert killed.info.status == "KILLED" and "process is gone" in killed.data.tags["error"]
        assert at_work.info.status == "RUNNING"
        assert not Path("killed/unsent").exists()
    assert [run.info.status for run in runs(tmp_path)[1]] == ["KILLED", "FINISHED", "FINISHED"]


def test_a_killed_run_whose_folder_is_gone_is_ended_too(tmp_path, settings):
    with start(settings):
        client, (run,) = runs(tmp_path)
        client.set_tag(run.info.run_id, "dillema.started", "1")  # as if another process had been given its number
        shutil.rmtree("run/unsent")
        with start(settings, "next", tmp_path / "other"):
            assert runs(tmp_path)[1][0].info.status == "KILLED"


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_is_away_or_silent_delays_nothing(tmp_path, settings, caplog, monkeypatch, answers):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what the user sets stays; else 5
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers:
            silent.listen()
        begun = time.perf_counter()
        with start(settings | {"uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}):
            pass
        assert time.perf_counter() - begun < 4
    assert len(caplog.records) == 1 and "job=sync" in caplog.text
    assert json.loads((tmp_path / "run" / "unsent" / "run.json").read_text())["status"] == "FINISHED"


def test_a_run_without_any_pair_is_tracked(tmp_path, settings):
    folder = tmp_path / "run"
    folder.mkdir()
    whole = pipeline(tmp_path / "store", generator=Generator(fails="street"))
    with start(settings) as tracked:
        out = whole.run(folder)
        assert len(out.pairs) == 0
        write(out, whole.dataset, folder)
        tracked.log(out)
    assert runs(tmp_path)[1][0].info.status == "FINISHED"


def test_figures_are_all_numbers_less_the_tables():
    model = {"drop": 0.5, "flip_rate": None, "all": {"drop": 0.1}, "per_class": {"sky": {"drop": 1}}, "per_attribute": [{"drop": 1}]}
    assert figures({"dataset": "d", "counts": {"valid": 3}, "models": {"m": model}}) == {"counts/valid": 3, "m/drop": 0.5, "m/all/drop": 0.1}


def test_the_grid_has_the_same_pairs_in_every_run(tmp_path, settings):
    grids, digests = [], []
    for strength in (1, 2):
        folder = tmp_path / str(strength)
        folder.mkdir()
        whole = pipeline(tmp_path / "store", dataset=Noise(count=18), generator=Generator(strength=strength))
        with start(settings, folder=folder) as tracked:
            tracked.log(whole.run(folder))
            grids.append(sorted(path.stem for path in (folder / "unsent" / "images").iterdir()))
        digests.append(runs(tmp_path)[1][-1].inputs.dataset_inputs[0].dataset.digest)
    assert grids[0] == grids[1] == sorted(f"scene-{i}_0" for i in range(16))
    assert digests[0] != digests[1]  # the images differ
