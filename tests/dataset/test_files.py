import os
import threading
import zipfile

import pytest

from dillema.dataset import check_sample, subset
from dillema.dataset.classes import read_classes
from dillema.dataset.files import MAX_ID_BYTES, list_files, list_folders, make_ids, read_later
from dillema.dataset.folder import Folder
from dillema.errors import UserError
from tests.dataset.test_folder import mask, picture


def test_ids_are_short_enough_for_a_file_name_with_something_after_it():
    title = "红色复古自行车城市通勤女士轻便单车" * 6
    names = [f"{title}/{title[:40]}{i}.png" for i in range(3)]
    ids = make_ids(names)
    assert len(set(ids)) == 3
    assert all(len(name.encode()) <= MAX_ID_BYTES and name.startswith("红色复古") for name in ids)
    assert make_ids(names[:1]) == ids[:1]  # whatever else there is


def test_names_that_differ_in_their_characters_alone_have_different_ids():
    names = ["caf\u00e9.jpg", "cafe\u0301.jpg", "a b.jpg", "a_b.jpg"]
    assert len(set(make_ids(names))) == 4
    assert make_ids(["cafe\u0301.jpg"]) == ["caf\u00e9"]


def test_names_that_are_not_utf_8_are_read_and_can_be_written(tmp_path):
    picture(tmp_path / "cat" / "a.jpg")
    picture(tmp_path / "dog" / "a.jpg")
    (tmp_path / "cat" / "a.jpg").rename(tmp_path / "cat" / os.fsdecode(b"gr\xfc\xdfe.jpg"))
    (tmp_path / "dog").rename(tmp_path / os.fsdecode(b"h\xfcnd"))
    data = Folder(root=str(tmp_path), group="^.+/")
    samples = data.samples()
    for sample in samples:
        check_sample(sample, data)
        f"{sample.id} {sample.group} {data.classes}".encode()
    assert data.classes == ("cat", "h\ufffdnd")
    assert subset(list_files(tmp_path), 1, 0)


def test_composed_and_decomposed_names_of_an_image_and_its_mask_belong_together(tmp_path):
    picture(tmp_path / "images" / "stra\u00dfe-caf\u00e9.jpg")
    mask(tmp_path / "masks" / "stra\u00dfe-cafe\u0301.png", 0)
    (tmp_path / "classes.csv").write_text("name,colour\nroad,#804080\n")
    data = Folder(root=str(tmp_path), images="images", masks="masks")
    (sample,) = data.samples()
    check_sample(sample, data)
    picture(tmp_path / "folders" / "cafe\u0301" / "a.jpg")
    (tmp_path / "names.csv").write_text("name\ncaf\u00e9\n")
    (labelled,) = Folder(root=str(tmp_path / "folders"), classes_file=str(tmp_path / "names.csv")).samples()
    assert labelled.label == 0


def test_an_archive_of_windows_is_read(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "images.zip", "w") as archive:
        for name in ("cat\\a.jpg", "dog\\b.jpg", "./emu/c.jpg", "@eaDir/d.jpg"):
            archive.write(tmp_path / "a.jpg", name)
        archive.writestr("fox/", "")
    source = tmp_path / "data" / "images.zip"
    assert list_files(source) == ["cat/a.jpg", "dog/b.jpg", "emu/c.jpg"]
    assert list_folders(source) == ["cat", "dog", "emu", "fox"]
    assert read_later(source, "cat/a.jpg")() == (tmp_path / "a.jpg").read_bytes()


def test_a_folder_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "data" / "cat" / "a.jpg")
    (tmp_path / "names.csv").write_text("name\ndog\ncat\n")
    (sample,) = Folder(root="~/data", classes_file="~/names.csv").samples()
    assert (sample.label, sample.image.size) == (1, (60, 40))


def test_links_are_followed_but_not_in_circles(tmp_path):
    picture(tmp_path / "cat" / "a.jpg")
    picture(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    (tmp_path / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cat" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert list_files(tmp_path) == ["cat/a.jpg", "cat/gone.jpg", "dog/b.jpg", "elsewhere/b.jpg"]


def test_a_pipe_is_no_file(tmp_path):
    picture(tmp_path / "cat" / "a.jpg")
    os.mkfifo(tmp_path / "cat" / "b.jpg")
    os.mkfifo(tmp_path / "classes.csv")
    thread = threading.Thread(target=lambda: Folder(root=str(tmp_path)).samples(), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert list_files(tmp_path) == ["cat/a.jpg"]
    with pytest.raises(UserError, match="is no file"):
        read_classes(str(tmp_path / "classes.csv"))


def test_a_file_that_cannot_be_read_as_an_archive_is_named(tmp_path):
    (tmp_path / "images").write_text("no archive")
    with pytest.raises(UserError, match=r"images is damaged .*: download it again"):
        list_files(tmp_path / "images")


def test_a_pipe_in_the_place_of_an_archive_is_refused(tmp_path):
    os.mkfifo(tmp_path / "images.zip")
    with pytest.raises(UserError, match=r"images\.zip is no file"):
        list_files(tmp_path / "images.zip")
