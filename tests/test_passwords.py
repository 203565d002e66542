"""The password of an address stands in no file and in no message."""

import pytest

from dillema.config import compose
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.sync import sync
from dillema.passwords import find_address, hide_passwords, lacks_password
from tests.job.test_sync import FOLDERS, content, server  # noqa: F401  # a fixture
from tests.test_main_job import start

PASSWORD = "s3cretpw"
SMALL = ("experiment=quick", "dataset.limit=1", "generator.steps=1", "placebo=0")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:secret@host/db x", "postgresql://me:***@host/db x"),
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("uri: 'http://me:p@ss@host', a: b@c", "uri: 'http://me:***@host', a: b@c"),
        ("postgresql://me:sec/ret@host/db", "postgresql://me:***@host/db"),
        (r"++uri=http\://me\:secret@host\:80 a", r"++uri=http\://me\:***@host\:80 a"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("http://host:8000/v1/me@home http://host:80,b=me@home", None),
        ("postgresql://me@host/db, sqlite:///a@b:c.db", None),
    ],
)
def test_passwords_are_hidden_and_nothing_else(text, hidden):
    hidden = hidden or text
    assert hide_passwords(text) == hidden == hide_passwords(hidden)
    assert lacks_password(hidden) == (text != hidden)
    assert find_address(hidden, ["http://other", text]) == text
    assert find_address(hidden, []) == hidden


def list_files_with_the_password(folder):
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]


def test_a_password_stands_in_no_file_of_a_run_and_not_in_mlflow(server, tmp_path, monkeypatch):  # noqa: F811
    uri, listening = server
    address = uri.replace("//", f"//me:{PASSWORD}@")
    process = start(
        tmp_path, "-m", "seed=0", f"tracking.uri={address}", *SMALL, MLFLOW_HTTP_REQUEST_TIMEOUT="1"
    )
    output, _ = process.communicate()
    assert process.returncode == 0 and "job=sync sends it later" in output and PASSWORD not in output
    (run,) = (path.parent for path in tmp_path.glob("multirun/*/*/*/results.json"))
    assert (run / "unsent" / "run.json").exists() and (run.parent / "multirun.yaml").exists()
    assert list_files_with_the_password(tmp_path) == []
    with listening():
        with pytest.raises(UserError) as caught:
            sync(JobContext(compose(["job=sync"]), tmp_path), FOLDERS)
        message = str(caught.value)
        assert "1 runs wait" in message and "no file keeps the password of http://me:***@127" in message
        assert "Repeat job=sync with 'tracking.uri=http://me:***@127" in message
        assert "environment variable MLFLOW_TRACKING_URI" in message
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        sync(JobContext(compose(["job=sync"]), tmp_path), FOLDERS)
        (values,) = [run for name, run in content(uri).items() if not name.startswith("sweep")]
        assert values[0] == "FINISHED" and values[2]["tracking.uri"] == hide_passwords(address)
    assert not (run / "unsent").exists() and list_files_with_the_password(tmp_path) == []
