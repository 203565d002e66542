"""The disk under a store: a power cut, a full disk, files that cannot be written, and many items."""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path

import psutil
import pytest

from dillema import runner
from dillema.decoding import read_saved_image
from dillema.errors import UserError
from dillema.store import Store
from tests.backends import Generator, Noise, run_pipeline
from tests.test_pipeline import left_behind

SOURCES_PER_BLOCK = 40
FRAME, HEADER = 4096 + 24, 32  # bytes of SQLite's write-ahead log


def run(folder, name, **parts):
    return run_pipeline(folder / name, folder / "store", counterfactuals=2, **parts)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns a folder with a finished run, whose records are still in SQLite's log, and what it left."""
    folder = tmp_path_factory.mktemp("finished")
    keeper = Store(folder / "store")  # the log stays as long as a connection is open
    yield folder, left_behind(run(folder, "first"))
    keeper.close()


def cut_power(source, target, rng):
    """Copies a store as a power cut may leave it: the log ends anywhere, and the latest names may be lost."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))
    log = target / "records.db-wal"
    content = bytearray(log.read_bytes())
    end = rng.randrange(len(content) + 1)
    if rng.random() < 0.5:
        end = HEADER + (end // FRAME) * FRAME  # the end of a record
    if rng.random() < 0.5:
        content[end:] = bytes(len(content) - end)  # the length is on the disk, the content is not
    else:
        del content[end:]
    log.write_bytes(content)
    images = sorted((target / "images").rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    for image in images[rng.randrange(len(images) + 1) :]:
        image.unlink()  # the rename was not on the disk yet
        image.with_name(f"{image.name}.4711.tmp").write_bytes(b"\x89PNG half")
    return len(content) - end


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(i, marks=pytest.mark.slow) for i in range(4, 60))]
)
def test_after_a_power_cut_the_same_command_ends_with_the_same_bytes(finished, tmp_path, seed):
    folder, expected = finished
    cut_power(folder / "store", tmp_path / "store", random.Random(seed))
    assert left_behind(run(tmp_path, "again")) == expected


def test_no_record_is_written_before_its_image_is_on_the_disk(tmp_path, monkeypatch):
    """The order of system calls: an image is flushed, renamed, and only then its record is committed."""
    flushed, placed, wrong = set(), set(), []
    fsync, replace, put = os.fsync, Path.replace, Store.put

    def note_fsync(descriptor):
        fsync(descriptor)
        flushed.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def note_replace(file, target):
        if target.suffix == ".png" and (tmp_path / "store") in target.parents:
            wrong.extend([] if str(file) in flushed else [f"{target} is renamed before it is flushed"])
            placed.add(target.stem)
        return replace(file, target)

    def note_put(store, step, records):
        if step in ("source", "control", "generate"):
            wrong.extend(f"the record of {r.item} has no image yet" for r in records if r.key not in placed)
        put(store, step, records)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    monkeypatch.setattr(Store, "put", note_put)
    run(tmp_path, "run")
    assert not wrong and len(placed) == 6 + 6 + 12


def limited(size):
    """Limits the size of the files that this process may write, as a full disk or a quota would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("size", [0, 100, 4096, 20_000, 50_000])
def test_a_disk_that_is_full_is_said_and_the_same_command_goes_on(finished, tmp_path, size):
    _, expected = finished
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limited(size)
    try:
        with pytest.raises(UserError, match=r"make room|cannot go on|cannot be written|cannot be used"):
            run(tmp_path, "full")
            raise UserError("the run was too small to fill the disk: make room")
    finally:
        limited(before)
    assert not list(tmp_path.rglob("results.json"))
    for image in (tmp_path / "store").rglob("*.png"):
        assert image.read_bytes().endswith(b"IEND\xaeB`\x82")
    assert left_behind(run(tmp_path, "again")) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [64, 128, 200, 300, 400, 500])
def test_a_small_disk_fills_anywhere(finished, tmp_path, kilobytes):
    """Needs the right to mount a file system."""
    _, expected = finished
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], check=True)
    try:
        with pytest.raises(UserError, match=r"make room|cannot go on|cannot be written|cannot be used"):
            run(disk, "full")
            raise UserError("the disk was large enough: make room")
        assert not list(disk.rglob("full/results.json"))
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        assert left_behind(run(disk, "again")) == expected
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_can_only_be_read_is_named(finished, tmp_path):
    """Needs the right to mount a file system."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk], check=True)
    try:
        shutil.copytree(finished[0] / "store", disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(UserError, match=r"store=|cannot be written"):
            run(disk, "read only")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_store_that_loses_its_permission_half_way_is_named(tmp_path):
    class Revoked(Generator):
        def generate(self, samples, *arguments):
            if len(list((tmp_path / "store" / "images").rglob("*.png"))) > 8:
                limited(0)  # root may write anywhere, so that modes of files say nothing
            return super().generate(samples, *arguments)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    try:
        with pytest.raises(UserError, match=r"the store in .* cannot be used|the machine cannot go on"):
            run(tmp_path, "run", generator=Revoked())
    finally:
        limited(before)
    assert run(tmp_path, "again").results["counts"]["generated"] == 12


def measure(sources, folder):
    """Returns the memory (MB) and the open files after each block of a run with stand-ins."""
    process, points = psutil.Process(), []
    original = runner.Runner.run

    def noted(self, step, items):
        outcome = original(self, step, items)
        if step.name == "similarity":
            points.append((process.memory_info().rss / 1e6, process.num_fds()))
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Runner, "run", noted)
        patch.setattr("dillema.execution.local.Local.block_size", SOURCES_PER_BLOCK)
        run(folder, "run", dataset=Noise(count=sources))
    return points


@pytest.mark.parametrize("sources", [200, pytest.param(6_000, marks=pytest.mark.slow)])
def test_a_long_run_grows_neither_in_memory_nor_in_open_files(tmp_path, sources):
    points = measure(sources, tmp_path)
    warm = points[len(points) // 4]
    assert points[-1][1] <= warm[1] + 2
    growth = (points[-1][0] - warm[0]) / (len(points) - len(points) // 4 - 1) / SOURCES_PER_BLOCK
    kilobytes = 1000 * growth
    print(f"{sources} sources: {warm[0]:.0f} MB, {kilobytes:.2f} kB a source; {points[-1][1]} open files")
    assert growth * 1000 < 40  # kB a source: what the run itself keeps of an image until its end


def test_a_store_of_a_newer_version_or_another_table_is_named(tmp_path):
    statements = {"newer version": "PRAGMA user_version = 99", "delete the damaged": "DROP TABLE records"}
    for words, statement in statements.items():
        folder = tmp_path / words
        Store(folder).close()
        with sqlite3.connect(folder / "records.db") as database:
            database.execute(statement)
        with pytest.raises(UserError, match=words):
            Store(folder).get(["key"])


def test_a_record_that_the_disk_has_damaged_is_made_again(finished, tmp_path):
    folder, expected = finished
    shutil.copytree(folder / "store", tmp_path / "store")
    with sqlite3.connect(tmp_path / "store" / "records.db") as database:
        database.execute("UPDATE records SET value = replace(value, 'clear', 'cleer') WHERE step = 'caption'")
    assert left_behind(run(tmp_path, "again")) == expected


@pytest.mark.parametrize("step", ["source", "control", "generate"])
@pytest.mark.parametrize("content", [b"garbage", b"", b"half"])
@pytest.mark.parametrize("size", ["generated", (20, 20)])
def test_a_finished_image_that_a_crash_left_damaged_is_made_again(finished, tmp_path, step, content, size):
    folder, expected = finished
    shutil.copytree(folder / "store", tmp_path / "store")
    image = next(images_of(tmp_path / "store", step))
    damage(image, image.read_bytes()[:-40] if content == b"half" else content)
    if size == "generated":
        assert left_behind(run(tmp_path, "again")) == expected
    else:
        run(tmp_path, "again", size=size)
    (original,) = (folder / "store").rglob(image.name)
    assert image.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("step", ["source", "generate"])
def test_damage_that_only_the_page_meets_is_named_and_made_again(finished, tmp_path, step):
    folder, expected = finished
    shutil.copytree(folder / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    image = next(images_of(tmp_path / "store", step))
    damage(image, flip_a_bit(image))
    again = run(tmp_path, "again")
    copy = tmp_path / "copy.png"
    shutil.copy(image, copy)
    for file in (copy, *(path for path in again.path.rglob("*.png") if path.samefile(image))):
        damage(image, flip_a_bit(folder / image.relative_to(tmp_path)))
        with pytest.raises(UserError, match=f"the image {image} .* repeat the command"), store.healing():
            read_saved_image(file)
        assert not image.exists()
    assert left_behind(run(tmp_path, "once more")) == expected


def images_of(store, step):
    with sqlite3.connect(store / "records.db") as database:
        rows = database.execute("SELECT key FROM records WHERE step = ?", (step,)).fetchall()
    return (store / "images" / key[:2] / f"{key}.png" for (key,) in rows)


def flip_a_bit(image):
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 4
    return bytes(content)


def damage(image, content):
    if image.exists():
        image.chmod(0o644)
    image.write_bytes(content)


def test_a_damaged_image_of_the_store_is_named_and_made_again_without_it(finished, tmp_path):
    folder, expected = finished
    shutil.copytree(folder / "store", tmp_path / "store")
    with sqlite3.connect(tmp_path / "store" / "records.db") as database:
        ((key,), *_) = database.execute("SELECT key FROM records WHERE step = 'control'").fetchall()
        database.execute("DELETE FROM records WHERE step IN ('generate', 'similarity')")
    image = tmp_path / "store" / "images" / key[:2] / f"{key}.png"
    damage(image, flip_a_bit(image))
    with pytest.raises(UserError, match=rf"the image {image} of the store was damaged.*repeat the command"):
        run(tmp_path, "again")
    assert left_behind(run(tmp_path, "once more")) == expected
