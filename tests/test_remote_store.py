"""A store at s3://, on a server of moto that speaks S3."""

import boto3
import pytest
from moto.server import ThreadedMotoServer

from dillema.errors import UserError
from dillema.store import Record, Store

from .backends import Backend, run_pipeline
from .test_pipeline import left_behind

ADDRESS = "s3://bucket/dillema"


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def machine(server, monkeypatch, tmp_path):
    """Sets the environment of a machine that reaches the server; its argument names the machine."""
    variables = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (variables | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").Bucket("bucket")
    bucket.create()

    def switch(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    switch("first")
    yield switch
    bucket.objects.all().delete()


def test_a_run_with_a_store_at_s3_is_that_of_a_folder_and_another_machine_goes_on(tmp_path, machine):
    local, _ = run_pipeline(tmp_path / "local", tmp_path / "store")
    remote, _ = run_pipeline(tmp_path / "remote", ADDRESS)
    assert left_behind(remote) == left_behind(local)
    Backend.loads.clear()
    machine("second")
    again, _ = run_pipeline(tmp_path / "again", ADDRESS)
    assert Backend.loads == [] and left_behind(again) == left_behind(local)


def test_machines_that_write_at_the_same_time_lose_nothing_and_a_result_beats_a_failure(machine):
    first = Store(ADDRESS)
    machine("second")
    second = Store(ADDRESS)
    first.put("s", [Record("k1", "a", 1), Record("k2", "b", message="no")])
    second.put("s", [Record("k2", "b", 2), Record("k3", "c", 3)])
    first.flush()
    second.flush()
    machine("third")
    records = Store(ADDRESS).get(["k1", "k2", "k3"])
    assert [record.value for record in records.values()] == [1, 2, 3]


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next(machine):
    Store(ADDRESS).put("s", [Record("k1", "a", 1)])
    machine("second")
    assert Store(ADDRESS).get(["k1"]) == {}
    machine("first")
    Store(ADDRESS).flush()
    machine("third")
    assert Store(ADDRESS).get(["k1"])["k1"].value == 1


def test_a_folder_is_joined_into_a_remote_store(machine, tmp_path):
    run_pipeline(tmp_path / "local", tmp_path / "store")
    assert Store(ADDRESS).join(tmp_path / "store") > 0
    Backend.loads.clear()
    machine("second")
    run_pipeline(tmp_path / "again", ADDRESS)
    assert Backend.loads == []


def test_a_bucket_that_cannot_be_used_is_named(machine):
    with pytest.raises(UserError, match="store s3://nowhere/x cannot be used"):
        store = Store("s3://nowhere/x")
        store.put("s", [Record("k1", "a", 1)])
        store.flush()
