import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dillema import report
from dillema.errors import UserError
from dillema.tracking.client import absolute, artifact_location, connect, run_address
from dillema.tracking.content import flatten_metrics
from dillema.tracking.pending import PendingRun
from dillema.tracking.run import open_run
from dillema.tracking.sending import send

from .backends import Generator, Model, Noise, run_pipeline

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def settings(tmp_path, monkeypatch, mlflow_tables):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    shutil.copy(mlflow_tables, "here/mlflow.db")
    return {"uri": "sqlite:///here/mlflow.db", "artifacts": "here/artifacts", "experiment": "test"}


def runs(tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/here/mlflow.db")
    return client, client.search_runs(
        [client.get_experiment_by_name("test").experiment_id], order_by=["attributes.start_time ASC"]
    )


def start(settings, name="first", folder=Path("run"), **more):
    return open_run(
        **settings,
        folder=folder,
        name=name,
        params={"llm": "scripted", "llm.temperature": 0.2, "long": "x" * 9999, "vary.\u00e9tat (ciel)": 1},
        config="seed: 0\n",
        **more,
    )


def test_a_run_can_be_found_and_looked_at(tmp_path, settings, monkeypatch, capfd):
    path = tmp_path / "run"
    with start(settings, folder=path) as tracked_run:
        folder, _ = run_pipeline(path, tmp_path / "store", models=(Model(), Model(name="same")), placebos=1)
        report.write(folder)
        tracked_run.log(folder)
    assert "alembic" not in capfd.readouterr().err
    monkeypatch.chdir("/")  # what was written must not depend on where the process stood
    client, (run,) = runs(tmp_path)
    results = folder.results
    assert run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["llm"] == "scripted" and run.data.params["llm.temperature"] == "0.2"
    metrics = run.data.metrics
    brightest = results["models"]["brightest"]
    assert metrics["counts/generated"] == 12
    assert metrics["brightest/drop"] == pytest.approx(brightest["drop"])
    assert metrics["brightest/original"] == pytest.approx(brightest["original"]["mean_iou"])
    for name in ("original", "placebo", "drop", "low", "high"):
        assert metrics[f"brightest/placebo/{name}"] == pytest.approx(brightest["placebo"][name])
    assert not {name for name in metrics if name.endswith(("seed", "level"))}
    assert metrics["validity"] == pytest.approx(results["counts"]["valid"] / 12)
    assert metrics["seconds_total"] == pytest.approx(sum(results["seconds"].values()))
    assert metrics["seconds_per_valid_image"] > 0
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    tables = {"pairs.json", "per_attribute.json", "comparisons.json"}
    assert files == tables | {"config.yaml", "images", "predictions.parquet", "report.html", "figures.json"}
    images = {
        f.path.removeprefix("images/").split("+")[0] for f in client.list_artifacts(run.info.run_id, "images")
    }
    # so that the same image stands in the same place of the grid of each run
    assert images == {image.id for image in folder.generated()}
    assert run.data.tags["models"] == "brightest, same" and run.data.params["vary._tat _ciel_"] == "1"
    assert "Mean IoU of same" in run.data.tags["mlflow.note.content"]

    def table(name):
        return json.loads(Path(client.download_artifacts(run.info.run_id, name)).read_text())

    edits = table("per_attribute.json")
    assert len(edits["data"]) == 2 * len(brightest["per_attribute"]) > 0
    assert {"model", "attribute", "from", "to", "drop", "harmful"} <= set(edits["columns"])
    differences = table("comparisons.json")
    assert len(differences["data"]) == 1 and {"a", "b", "drop_difference", "drop_p_adjusted"} <= set(
        differences["columns"]
    )
    pairs = table("pairs.json")
    assert len(pairs["data"]) == 12 and {"counterfactual", "valid", "reasons"} <= set(pairs["columns"])
    assert table("figures.json")["counts"] == results["counts"]
    (generated,) = run.inputs.dataset_inputs
    assert generated.dataset.name == "noise-counterfactuals" and len(generated.dataset.digest) == 32
    assert json.loads(generated.dataset.source)["uri"] == (path / "generated").as_uri()
    assert not (path / "unsent").exists()
    experiment = client.get_experiment_by_name("test").experiment_id
    assert tracked_run.address.endswith(f"#/experiments/{experiment}/runs/{run.info.run_id}")


def test_entries_that_another_run_creates_at_the_same_time_are_found(tmp_path, settings, monkeypatch):
    """MLflow looks for an experiment or a data set, and creates it: another run may do so in between."""
    disturbed = []

    def disturb(name, call):
        def disturbed_call(client, *arguments):
            result = call(client, *arguments)
            if name not in disturbed:
                disturbed.append(name)
                raise mlflow.MlflowException("UNIQUE constraint failed")
            return result

        monkeypatch.setattr(mlflow.MlflowClient, name, disturbed_call)

    for name in ("create_experiment", "log_inputs"):
        disturb(name, getattr(mlflow.MlflowClient, name))
    data = {"name": "set", "digest": "1", "source_type": "local", "source": "{}"}
    where = {**settings, "uri": absolute(settings["uri"])}
    pending = PendingRun(
        **where,
        name="first",
        start=1,
        params={},
        tags={"dillema.id": "1"},
        sweep=None,
        status="FINISHED",
        end=2,
    )
    pending.dataset = data
    pending.write(tmp_path / "run")
    (tmp_path / "run" / "unsent" / "config.yaml").write_text("seed: 0\n")
    assert send(tmp_path / "run") and disturbed == ["create_experiment", "log_inputs"]
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and len(run.inputs.dataset_inputs) == 1


def test_a_run_that_dies_is_marked_with_its_error(tmp_path, settings):
    with pytest.raises(UserError), start(settings):
        raise UserError("no weights for 'x'")
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert "no weights for 'x'" in run.data.tags["error"]


def test_a_run_that_is_stopped_is_marked_as_killed(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(KeyboardInterrupt), start(settings):
        raise KeyboardInterrupt
    assert [run.info.status for run in runs(tmp_path)[1]] == ["KILLED"]


def pause(tracked_run):
    """Lets MLflow be slow, until the returned function is called."""
    pid = tracked_run._sender.process.pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def test_a_run_begins_while_mlflow_is_connected(tmp_path, settings):
    with start(settings, in_background=True) as tracked_run:
        proceed = pause(tracked_run)
        assert tracked_run.address == "" and (tmp_path / "run" / "unsent" / "run.json").exists()
        proceed()
    _, (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED" and run.data.params["llm"] == "scripted"
    assert tracked_run.address.endswith(run.info.run_id) and not (tmp_path / "run" / "unsent").exists()


def test_a_sender_that_dies_ends_no_run_and_the_next_run_has_another(tmp_path, settings, caplog):
    for name, in_background in (("early", True), ("late", False)):
        with start(settings, name, tmp_path / name, in_background=in_background) as tracked_run:
            os.kill(tracked_run._sender.process.pid, signal.SIGKILL)
        assert "ended with -9" in caplog.records[-1].message or "BrokenPipe" in caplog.records[-1].message
        assert "job=sync" in caplog.records[-1].message and (tmp_path / name / "unsent" / "run.json").exists()
    assert len(caplog.records) == 2
    with start(settings, "next", tmp_path / "next"):
        pass
    assert [run.info.status for run in runs(tmp_path)[1] if run.info.run_name == "next"] == ["FINISHED"]


def test_runs_after_each_other_share_a_sender_and_runs_at_once_do_not(tmp_path, settings):
    senders = []
    with start(settings, "one", tmp_path / "one") as one, start(settings, "two", tmp_path / "two") as two:
        senders += [one._sender, two._sender]
    with start(settings, "three", tmp_path / "three") as three:
        senders.append(three._sender)
    assert senders[0] is not senders[1] and senders[2] in senders[:2]
    assert [run.info.status for run in runs(tmp_path)[1]] == ["FINISHED"] * 3


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (UserError("no"), "FAILED")])
def test_a_run_that_ends_at_once_is_ended_in_mlflow_too(tmp_path, settings, error, status):
    with pytest.raises(type(error)), start(settings, in_background=True):
        raise error
    assert [run.info.status for run in runs(tmp_path)[1]] == [status]


def test_a_run_that_is_stopped_does_not_wait_for_mlflow(tmp_path, settings, caplog):
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), start(settings, in_background=True) as tracked_run:
        pause(tracked_run)
        raise KeyboardInterrupt
    assert time.perf_counter() - begun < 2.5 and "job=sync" in caplog.text
    assert send(tmp_path / "run")  # what job=sync does
    assert [run.info.status for run in runs(tmp_path)[1]] == ["KILLED"]


def test_the_runs_of_a_sweep_lie_under_one_parent(tmp_path, settings):
    for i, sweep in enumerate(("one", "one", "other")):
        with start(settings, f"child of {sweep}", tmp_path / str(i), sweep=tmp_path / sweep):
            pass
    _, tracked_run_data = runs(tmp_path)
    parents = {r.info.run_id: r for r in tracked_run_data if "mlflow.parentRunId" not in r.data.tags}
    children = [r for r in tracked_run_data if "mlflow.parentRunId" in r.data.tags]
    assert len(parents) == 2 and len(children) == 3
    assert all(p.info.status == "FINISHED" for p in parents.values())
    by_name = {r.info.run_name: set() for r in children}
    for child in children:
        by_name[child.info.run_name].add(child.data.tags["mlflow.parentRunId"])
    assert (
        all(len(ids) == 1 for ids in by_name.values())
        and by_name["child of one"] != by_name["child of other"]
    )


def test_trouble_with_mlflow_ends_no_run(tmp_path, settings, caplog):
    (tmp_path / "here" / "mlflow.db").write_text("this is no database, whatever its name says")
    path = tmp_path / "run"
    with start(settings, folder=path) as tracked_run:
        folder, _ = run_pipeline(path, tmp_path / "store")
        tracked_run.log(folder)
    assert (path / "results.json").exists()
    assert "mlflow.db cannot be used" in caplog.text and "mlflow db upgrade" in caplog.text
    assert "MLflow" in caplog.text and "job=sync" in caplog.text


def test_a_database_of_another_version_is_named_with_one_remedy_a_sentence(tmp_path, settings, caplog):
    file = tmp_path / "here" / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with start(settings, folder=tmp_path / "run"):
        pass
    message = next(
        record.getMessage() for record in caplog.records if "cannot be used" in record.getMessage()
    )
    assert message.startswith("MLflow: the run starts without tracking. MLflow's database ")
    assert ".." not in message and "UserError" not in message and "(MLflow" not in message
    assert [message.count(remedy) for remedy in ("db upgrade", "move it away", "job=sync")] == [1, 1, 1]


KILLED = """
import os, signal, sys
from pathlib import Path
from dillema.tracking.run import open_run
settings = {"uri": "sqlite:///here/mlflow.db", "artifacts": "here/artifacts", "experiment": "test"}
with open_run(**settings, folder=Path("killed"), name="killed", params={}, config=""):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed_is_ended_by_the_next_and_one_that_is_at_work_is_not(tmp_path, settings):
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    assert done.returncode == -signal.SIGKILL
    assert [run.info.status for run in runs(tmp_path)[1]] == ["RUNNING"]
    with start(settings, "at work", tmp_path / "one"), start(settings, "next", tmp_path / "other"):
        killed, at_work, _ = runs(tmp_path)[1]
        assert killed.info.status == "KILLED" and "was killed" in killed.data.tags["error"]
        assert at_work.info.status == "RUNNING"
        assert not Path("killed/unsent").exists()
    assert [run.info.status for run in runs(tmp_path)[1]] == ["KILLED", "FINISHED", "FINISHED"]


def test_a_killed_run_whose_folder_is_gone_is_ended_too(tmp_path, settings):
    with start(settings):
        client, (run,) = runs(tmp_path)
        client.set_tag(
            run.info.run_id, "dillema.started", "1"
        )  # as if another process had been given its number
        shutil.rmtree("run/unsent")
        with start(settings, "next", tmp_path / "other"):
            assert runs(tmp_path)[1][0].info.status == "KILLED"


@pytest.mark.parametrize("reply", [False, True])
def test_a_server_that_is_away_or_silent_delays_nothing(tmp_path, settings, caplog, monkeypatch, reply):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what the user sets stays; else 5
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if reply:
            silent.listen()
        begun = time.perf_counter()
        with start(settings | {"uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}):
            pass
        assert time.perf_counter() - begun < 4
    assert len(caplog.records) == 1 and "job=sync" in caplog.text
    assert json.loads((tmp_path / "run" / "unsent" / "run.json").read_text())["status"] == "FINISHED"


def test_a_run_without_any_image_is_tracked(tmp_path, settings):
    path = tmp_path / "run"
    with start(settings, folder=path) as tracked_run:
        folder, _ = run_pipeline(path, tmp_path / "store", dataset=Noise(count=2), models=(Model(),))
        for line in ("generated", "placebo"):
            (path / line / "metadata.jsonl").write_text("")
        results = {name: value for name, value in folder.results.items() if name != "digest"}
        results["counts"] |= {"generated": 0, "placebos": 0}
        folder.write_results(results)
        report.write(folder)
        tracked_run.log(folder)
    assert runs(tmp_path)[1][0].info.status == "FINISHED"


def test_metrics_are_all_numbers_but_for_the_tables():
    model = {"metric": "accuracy", "drop": 0.5, "flip_rate": None, "all": {"drop": 0.1}, "level": 0.95}
    model |= {
        "per_class": {"sky": {"drop": 1}},
        "per_attribute": [{"drop": 1}],
        "original": {"accuracy": 0.9},
    }
    results = {"dataset": "d", "seed": 3, "counts": {"valid": 3}, "models": {"m": model}}
    metrics = {"counts/valid": 3, "drop": 0.5, "all/drop": 0.1, "original": 0.9, "original/accuracy": 0.9}
    assert flatten_metrics(results) == metrics
    both = flatten_metrics(results | {"models": {"m": model, "n": model}})
    assert both["m/drop"] == both["n/drop"] == 0.5 and "drop" not in both


def test_the_grid_has_the_same_images_in_every_run(tmp_path, settings):
    grids, digests = [], []
    for strength in (1, 2):
        path = tmp_path / str(strength)
        with start(settings, folder=path) as tracked_run:
            generator = Generator(strength=strength)
            folder, _ = run_pipeline(path, tmp_path / "store", dataset=Noise(count=18), generator=generator)
            tracked_run.log(folder)
            grids.append(sorted(file.stem for file in (path / "unsent" / "images").iterdir()))
        digests.append(runs(tmp_path)[1][-1].inputs.dataset_inputs[0].dataset.digest)
    assert (
        grids[0] == grids[1]
        and {name.rpartition("_")[2] for name in grids[0]} == {"0"}
        and len(grids[0]) == 16
    )
    assert digests[0] != digests[1]  # the images differ


@pytest.mark.parametrize("name", ["a%20b", "a%25b", "a 50% done", "a#2", "a?b", "ü [x] 'y'"])
def test_working_folders_of_any_name_are_tracked_in(tmp_path, monkeypatch, mlflow_tables, name):
    database = tmp_path / name
    (database / "outputs").mkdir(parents=True)
    monkeypatch.chdir(database)
    shutil.copy(mlflow_tables, "outputs/mlflow.db")
    client = connect(absolute("sqlite:///outputs/mlflow.db"))
    experiment = client.create_experiment("dillema", artifact_location("outputs/artifacts"))
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "report.html")
    assert [file.path for file in client.list_artifacts(run)] == ["report.html"]
    assert len(list(database.rglob("report.html"))) == 1


FIRST_USE = """
import sys
from dillema.tracking.client import connect
connect(sys.argv[1]).search_experiments()
"""


def test_several_first_runs_at_once_make_one_whole_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mlflow.db.new").write_text("what a process that was killed left")
    command = [sys.executable, "-c", FIRST_USE, uri]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mlflow.db"]


def test_the_link_to_a_run_shows_no_password():
    assert run_address("http://host:5000/", "1", "abc") == "http://host:5000/#/experiments/1/runs/abc"
    from dillema.report.origin import hide_passwords

    assert hide_passwords("postgresql://me:secret@host/db x") == "postgresql://me:***@host/db x"
