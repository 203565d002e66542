import errno
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from dillema.errors import UserError
from dillema.fields import BatchSize, Transient, Weights
from dillema.files import link
from dillema.keys import digest, identity, seed_for
from dillema.store import Record, Store


@dataclass
class Inner:
    temperature: float = 0.2
    threads: Transient[int | None] = 2


@dataclass
class Outer:
    model: Weights[Any] = "some/hub-id"
    steps: int = 4
    device: Transient[str] = "cpu"
    batch_size: BatchSize = 4
    inner: Inner = field(default_factory=Inner)

    version: ClassVar[int] = 1


@dataclass
class WithoutMarks:
    """A back-end of a user, without marks and without a version."""

    gain: float = 1.0


def test_identity_changes_with_what_changes_results_and_with_nothing_else():
    same = digest(identity(Outer()))
    assert digest(identity(Outer(device="cuda", batch_size=9, inner=Inner(threads=8)))) == same
    assert digest(identity(Outer(steps=5))) != same
    assert digest(identity(Outer(inner=Inner(temperature=0.8)))) != same
    assert digest(identity(Outer(model="other/hub-id"))) != same


def test_a_backend_without_marks_is_known_by_its_fields():
    assert identity(WithoutMarks(2.0)) != identity(WithoutMarks()) == identity(WithoutMarks())
    assert identity(WithoutMarks())["version"] == 1


def test_an_object_whose_settings_cannot_be_told_has_no_identity():
    class Plain:
        def __init__(self, text):
            self.text = text

    for part in (Plain("a"), [Plain("a")], {"style": Plain("a")}, lambda: "a"):
        with pytest.raises(UserError, match="is no dataclass: its settings cannot be told"):
            identity(part)


def test_identity_changes_with_the_version_of_the_code(monkeypatch):
    before = digest(identity(Outer()))
    monkeypatch.setattr(Outer, "version", 2)
    assert digest(identity(Outer())) != before


def test_weights_are_known_by_content_and_not_by_path(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    a, b, c = (digest(identity(Outer(model=str(tmp_path / name)))) for name in "abc")
    assert a == b != c
    (tmp_path / "a" / "config.json").write_text("{}")
    assert digest(identity(Outer(model=str(tmp_path / "a")))) != a


def test_weights_that_a_field_names_one_by_one_are_known_by_content_too(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (
        digest(identity(Outer(model={"canny": str(tmp_path / name), "depth": "some/hub-id"})))
        for name in "abc"
    )
    assert a == b != c
    assert digest(identity(Outer(model={"canny": str(tmp_path / "a"), "depth": "other/hub-id"}))) != a


def test_seeds_depend_on_each_of_their_parts():
    parts = [
        (0, "a", "caption"),
        (1, "a", "caption"),
        (0, "b", "caption"),
        (0, "a", "generated"),
        (0, "a", "caption", 1),
    ]
    seeds = {seed_for(*p) for p in parts}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_for(0, "a", "caption") == seed_for(0, "a", "caption")


def test_records_and_images_survive_the_process_that_made_them(tmp_path):
    store = Store(tmp_path / "new" / "store")
    records = [Record("k1", "a", {"text": "naïve ☃"}), Record("k2", "b", message="refused", raw="<raw>")]
    store.images.write("k1", Image.new("RGB", (4, 2), "red"))
    store.put("caption", records)
    store.close()
    again = Store(tmp_path / "new" / "store")
    assert again.get(["k1", "k2", "k3"]) == {"k1": records[0], "k2": records[1]}
    assert Image.open(again.image("k1")).getpixel((0, 0)) == (255, 0, 0)
    assert not again.get(["k1"])["k1"].failed and again.get(["k2"])["k2"].failed


def test_more_keys_than_a_question_can_hold(tmp_path):
    store = Store(tmp_path)
    store.put("s", [Record(f"k{i}", f"{i}", i) for i in range(1234)])
    assert {key: r.value for key, r in store.get(f"k{i}" for i in range(1234)).items()} == {
        f"k{i}": i for i in range(1234)
    }


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(UserError):
        store.put("s", [Record("k1", "a", 1), Record("k2", None, 2)])
    assert store.get(["k1", "k2"]) == {}
    store.put("s", [Record("k1", "a", 1)])  # the failure has closed its transaction
    assert store.get(["k1"])["k1"].value == 1


def test_an_image_without_its_record_is_not_there(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="make room on the disk"):
        store.images.write("k1", Image.new("RGB", (4, 2)))
    assert store.get(["k1"]) == {}
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []


def test_two_processes_worth_of_connections_share_a_store(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    first.put("s", [Record("k1", "a", 1)])
    second.put("s", [Record("k2", "b", 2), Record("k1", "a", 1)])
    assert set(first.get(["k1", "k2"])) == {"k1", "k2"}


def test_replies_that_are_no_unicode_or_huge_are_kept_in_part(tmp_path):
    store = Store(tmp_path)
    store.put("s", [Record("k1", "a", message="bad \ud800 reply", raw="x" * 50_000_000)])
    assert store.get(["k1"])["k1"].message == "bad ? reply" and len(store.get(["k1"])["k1"].raw) == 10_000


def test_a_store_that_cannot_be_opened_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="store="):
        Store(tmp_path / "file")
    (tmp_path / "records.db").write_text("this is no database, whatever its name says")
    with pytest.raises(UserError, match="delete the damaged"):
        Store(tmp_path)


def test_a_store_of_version_0_1_is_brought_up_to_date(tmp_path, caplog):
    with sqlite3.connect(tmp_path / "records.db") as old:
        old.execute(
            "CREATE TABLE records (key TEXT PRIMARY KEY, stage TEXT NOT NULL, item TEXT NOT NULL, "
            "status TEXT NOT NULL, "
            "value TEXT NOT NULL, message TEXT NOT NULL, raw TEXT NOT NULL, created TEXT NOT NULL)"
        )
        old.execute("INSERT INTO records VALUES ('k0', 'caption', 'a', 'done', '1', '', '', '2026')")
    store = Store(tmp_path)
    assert "not used again" in caplog.text
    store.put("s", [Record("k1", "a", 1, seconds=2.5)])
    assert {key: record.seconds for key, record in store.get(["k0", "k1"]).items()} == {"k0": 0, "k1": 2.5}
    store.close()
    with sqlite3.connect(tmp_path / "records.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="newer version"):
        Store(tmp_path)


def test_a_link_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    target.write_text("old")
    for _ in range(2):
        link(source, target)
    assert target.read_text() == "new" and {p.name for p in tmp_path.iterdir()} == {"source", "target"}
