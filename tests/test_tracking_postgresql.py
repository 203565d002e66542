"""MLflow on PostgreSQL: a server of Debian's package postgresql, which the tests start."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from mlflow import MlflowClient

from .test_tracking import start

BEGIN = """
import sys
from pathlib import Path
from tests.test_tracking import start
settings = {"uri": sys.argv[1], "artifacts": sys.argv[2], "experiment": "test"}
with start(settings, name=sys.argv[3], folder=Path(sys.argv[2]) / sys.argv[3]):
    pass
"""


@pytest.fixture(scope="module")
def server():
    """Yields the address of a new server, without a database's name."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))  # apt-get install postgresql
    folder = Path(tempfile.mkdtemp())  # pytest's folders cannot be entered by another user
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = str(folder / "data")
    options = f"-p {port} -k {folder} -h 127.0.0.1 -F"
    subprocess.run([*as_user, binaries / "initdb", "-A", "trust", "-U", "tester", data], check=True, cwd="/")
    control = [*as_user, binaries / "pg_ctl", "-D", data, "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, cwd="/")
    yield f"postgresql://tester:secret@127.0.0.1:{port}"
    subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")
    shutil.rmtree(folder)


@pytest.fixture
def database(server, request):
    """Returns the address of a new, empty database."""
    import psycopg

    name = request.node.name.lower()[:40]
    connection = psycopg.connect(f"{server}/postgres", autocommit=True)
    connection.execute(f"CREATE DATABASE {name}")
    connection.close()
    return f"{server}/{name}"


def list_runs(uri):
    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("test").experiment_id])


@pytest.mark.slow
def test_a_run_is_kept_with_its_settings_and_without_the_password(database, tmp_path, capfd):
    settings = {"uri": database, "artifacts": str(tmp_path / "artifacts"), "experiment": "test"}
    with start(settings, folder=tmp_path / "run") as tracked_run:
        pass
    (run,) = list_runs(database)
    assert run.info.status == "FINISHED" and run.data.params["llm"] == "scripted"
    assert "secret" not in tracked_run.address
    assert not (tmp_path / "run" / "unsent").exists()


@pytest.mark.slow
def test_runs_that_start_at_once_on_an_empty_database_are_all_kept(database, tmp_path):
    command = [sys.executable, "-c", BEGIN, database, str(tmp_path)]
    processes = [subprocess.Popen([*command, f"run{i}"], stderr=subprocess.PIPE, text=True) for i in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [run.info.status for run in list_runs(database)] == ["FINISHED"] * 3, "\n".join(errors)
