import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dillema import report
from dillema.config import compose
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.sync import sync
from dillema.tracking.run import open_run
from tests.backends import Model, run_pipeline

FOLDERS = ["outputs/*/*", "multirun/*/*/*"]


@pytest.fixture
def server(tmp_path, mlflow_tables, monkeypatch):
    """Gives an address and a context in which a real server listens there."""
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    shutil.copy(mlflow_tables, "outputs/mlflow.db")  # for what is local
    shutil.copy(mlflow_tables, "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"

    @contextmanager
    def listening():
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        storage = [
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            str(tmp_path / "kept"),
        ]
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with Path("server.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *storage], stdout=log, stderr=log, env=env
            )
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, Path("server.log").read_text()
                    time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait()

    return uri, listening


def context():
    return JobContext(compose(["job=sync"]), Path("outputs/day/sync"))


@contextmanager
def open_tracked_run(uri, path, **more):
    """Gives a run whose results are in its folder, and wait for MLflow."""
    path.mkdir(parents=True)
    settings = {"name": path.name, "params": {"seed": 0}, "config": "seed: 0\n", **more}
    with open_run(uri, "outputs/artifacts", "dillema", 7200, folder=path, **settings) as run:
        folder, _ = run_pipeline(path, Path("store"), models=(Model(),))
        report.write(folder)
        run.log(folder)
        yield


def content(uri):
    """Returns by name what MLflow holds of each run."""
    client = MlflowClient(uri)
    run_by_name = {}
    for run in client.search_runs([client.get_experiment_by_name("dillema").experiment_id]):
        files = sorted(
            f.path for part in (None, "images") for f in client.list_artifacts(run.info.run_id, part)
        )
        table = (
            Path(client.download_artifacts(run.info.run_id, "pairs.json")).read_text()
            if "pairs.json" in files
            else ""
        )
        inputs = [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs]
        assert run.info.run_name not in run_by_name
        run_by_name[run.info.run_name] = (
            run.info.status,
            run.data.metrics,
            run.data.params,
            run.data.tags,
            files,
            table,
            inputs,
        )
    return run_by_name


def seconds_to_end(run):
    begun = time.perf_counter()
    run.__exit__(None, None, None)
    return time.perf_counter() - begun


def check_that_all_hold_the_same(run_by_name):
    values = run_by_name["before"]
    assert len(values[4]) == 7 + 2 * 12  # each image also small
    assert values[1]["cost_per_valid_image"] == pytest.approx(2 * values[1]["seconds_per_valid_image"])
    for name in ("hangs", "middle", "never", "killed"):
        _, metrics, params, tags, files, table, generated = run_by_name[name]
        assert metrics.keys() == values[1].keys() and metrics["drop"] == values[1]["drop"]
        assert params == values[2] and tags["models"] == "brightest"
        assert table == values[5] and generated == values[6]
        assert [file.split("+")[0] for file in files] == [file.split("+")[0] for file in values[4]]


def test_nothing_is_lost_and_nothing_waits_when_a_server_goes_away_at_any_time(
    server, tmp_path, caplog, monkeypatch
):
    uri, listening = server
    before, hangs, middle, never, killed = (
        Path(f"outputs/day/{name}") for name in ("before", "hangs", "middle", "never", "killed")
    )
    with listening() as process:
        with open_tracked_run(uri, before):
            pass
        silent, broken = open_tracked_run(uri, hangs), open_tracked_run(uri, middle)
        silent.__enter__()
        broken.__enter__()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # else 5
        processes = [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        assert seconds_to_end(silent) < 4  # two questions, no answer
        for each in processes:
            os.kill(each, signal.SIGCONT)
    assert seconds_to_end(broken) < 2  # the server went away after the start
    with open_tracked_run(uri, never, sweep=tmp_path / "multirun" / "day" / "time"):
        pass
    with pytest.raises(KeyboardInterrupt), open_tracked_run(uri, killed):
        raise KeyboardInterrupt
    pending = json.loads((killed / "unsent" / "run.json").read_text())
    pending["tags"]["dillema.started"] = "1"  # as kill -9 leaves it: at work by the note, and no such process
    (killed / "unsent" / "run.json").write_text(json.dumps(pending | {"status": "RUNNING"}))
    assert not (before / "unsent").exists() and all(
        (folder / "unsent").exists() for folder in (hangs, middle, never)
    )
    with pytest.raises(UserError, match="4 runs wait for it"):
        sync(context(), FOLDERS)

    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    with listening():
        assert {name: run[0] for name, run in content(uri).items()} == {
            "before": "FINISHED",
            "hangs": "RUNNING",
            "middle": "RUNNING",
        }
        sync(context(), FOLDERS)
        run_by_name = content(uri)
        assert {name: run[0] for name, run in run_by_name.items()} == {
            "before": "FINISHED",
            "hangs": "FINISHED",
            "middle": "FINISHED",
            "never": "FINISHED",
            "killed": "KILLED",
            "sweep day time": "FINISHED",
        }
        check_that_all_hold_the_same(run_by_name)
        assert "was killed" in run_by_name["killed"][3]["error"]
        sync(context(), FOLDERS)
        assert content(uri) == run_by_name
    assert not list(Path("outputs").glob("*/*/unsent"))


def test_what_is_sent_twice_is_there_once(server):
    folder = Path("multirun/day/time/0")
    uri = f"sqlite:///{Path('server.db').resolve()}"
    run = open_tracked_run(uri, folder)
    run.__enter__()
    shutil.copytree(folder / "unsent", "unsent")
    run.__exit__(None, None, None)
    run_by_name = content(uri)
    pending = json.loads(Path("unsent/run.json").read_text())
    Path("unsent/run.json").write_text(json.dumps(pending | {"status": "FINISHED", "end": pending["start"]}))
    shutil.copytree(
        "unsent", folder / "unsent"
    )  # as when the process dies after the last word and before it tidies up
    sync(context(), FOLDERS)
    assert content(uri) == run_by_name and not (folder / "unsent").exists()


def test_a_copied_run_folder_is_sent_without_data_or_store(server, tmp_path):
    uri = f"sqlite:///{Path('server.db').resolve()}"
    path, copied = Path("outputs/day/time"), tmp_path / "elsewhere" / "copy"
    run = open_tracked_run(uri, path)
    run.__enter__()
    shutil.copytree(path, copied)
    pending = json.loads((copied / "unsent" / "run.json").read_text())
    end = {"status": "FINISHED", "end": pending["start"]}
    (copied / "unsent" / "run.json").write_text(json.dumps(pending | end))
    shutil.rmtree("store")
    shutil.rmtree(path)
    sync(context(), [str(tmp_path / "elsewhere" / "*")])
    status, metrics, _, _, files, *_ = content(uri)["time"]
    assert status == "FINISHED" and "drop" in metrics and {"report.html", "predictions.parquet"} <= set(files)
    assert not (copied / "unsent").exists()
    path.mkdir()  # where the process of the run still writes
    run.__exit__(None, None, None)


def test_a_run_of_many_models_and_images_is_sent(server):
    uri = f"sqlite:///{Path('server.db').resolve()}"
    folder = Path("outputs/day/time")
    (folder / "report").mkdir(parents=True)
    for i in range(3):
        (folder / "report" / f"{i}.jpg").write_bytes(b"image")
    (folder / "report.html").write_text('<img src="report/0.jpg">')
    many = {f"model {i}/drop": i / 1200 for i in range(1200)}
    with open_run(uri, "outputs/artifacts", "dillema", folder=folder, name="time", params={}, config=""):
        shutil.copytree(folder / "unsent", "unsent")
    pending = json.loads(Path("unsent/run.json").read_text())
    Path("unsent/run.json").write_text(
        json.dumps(pending | {"metrics": many, "status": "FINISHED", "end": pending["start"]})
    )
    shutil.copytree("unsent", folder / "unsent")
    sync(context(), FOLDERS)
    _, metrics, _, _, files, *_ = content(uri)["time"]
    assert metrics == pytest.approx(many) and "report.zip" in files


def test_a_run_at_work_is_left_alone(server, caplog):
    caplog.set_level("INFO")
    uri = f"sqlite:///{Path('server.db').resolve()}"
    with open_tracked_run(uri, Path("outputs/day/time")):
        sync(context(), FOLDERS)
        assert "outputs/day/time: left" in caplog.text
        assert content(uri)["time"][0] == "RUNNING"
    assert content(uri)["time"][0] == "FINISHED"
