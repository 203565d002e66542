import base64
import io
import os
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from dillema.errors import ItemError, UserError
from dillema.evaluation.module import evaluate
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from tests import tiny
from tests.backends import Model, Noise


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    model = TransformersSegmentation("m", tiny.segmenter(tmp_path_factory.mktemp("segmenter")))
    model.load()
    return model


def test_records_of_a_classifier(tmp_path):
    model = TransformersClassification("m", tiny.classifier(tmp_path))
    model.load()
    items = [(f"k{i}", lambda i=i: tiny.image(i), lambda i=i: i % 6) for i in range(7)]
    records = evaluate(model, items, tiny.dataset("classification", classes=tuple("abcdef")), 3)
    assert list(records) == [f"k{i}" for i in range(7)]
    for i, record in enumerate(records.values()):
        logits = model.predict([tiny.image(i)])[0]
        assert record["label"] == i % 6
        assert record["predicted"] == logits.argmax().item() == record["top5"][0]
        assert len(set(record["top5"])) == 5
        assert record["confidence"] == pytest.approx(logits.softmax(0)[i % 6].item(), abs=1e-5)
        assert record["certainty"] == pytest.approx(logits.softmax(0).max().item(), abs=1e-5)


def test_records_of_a_segmenter_count_every_pixel_that_is_not_ignored(segmenter):
    mask = np.random.default_rng(0).integers(0, 23, (32, 64), np.uint8)
    dataset = tiny.dataset()
    record = evaluate(segmenter, [("k", lambda: tiny.image(0), lambda: mask)], dataset, 2)["k"]
    predicted = segmenter.predict([tiny.image(0)])[0].argmax(0).numpy()
    kept = ~np.isin(mask, list(dataset.ignored))
    assert sum(n for _, _, n in record["confusion"]) == kept.sum()
    for true, guess, n in record["confusion"]:
        assert n == (kept & (mask == true) & (predicted == guess)).sum() > 0
    assert 0 < record["confidence"] < 1
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["mistakes"]))).convert("RGBA"))
    wrong = kept & (mask != predicted)
    assert 0 < wrong.sum() < wrong.size and (painted[..., 3] == np.where(wrong, 255, 0)).all()
    assert (painted[wrong][:, :3] == np.array(dataset.colours)[predicted[wrong]]).all()


def test_mistakes_are_painted_however_many_classes_there_are():
    colours = tuple((i, 255 - i, 7) for i in range(256))
    dataset, mask = Noise(classes=tuple(map(str, range(256))), colours=colours), np.full((32, 64), 255, np.uint8)
    record = evaluate(Model(), [("k", lambda: tiny.image(0), lambda: mask)], dataset, 1)["k"]
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["mistakes"]))).convert("RGBA"))
    found = {tuple(colour) for colour in painted.reshape(-1, 4).tolist()}
    assert found == {(*colours[predicted], 255) for _, predicted, _ in record["confusion"]}


def test_images_of_one_batch_may_differ_in_size(segmenter):
    sizes = [(64, 32), (96, 48)]
    records = evaluate(segmenter, [(str(s), lambda s=s: tiny.image(0, s), lambda s=s: np.ones(s[::-1], np.uint8)) for s in sizes], tiny.dataset(), 2)
    assert [sum(n for _, _, n in r["confusion"]) for r in records.values()] == [64 * 32, 96 * 48]


def test_classes_that_the_model_does_not_know_have_no_confidence(segmenter):
    dataset = tiny.dataset(classes=tuple(map(str, range(30))), ignored=frozenset())
    record = evaluate(segmenter, [("k", lambda: tiny.image(0), lambda: np.full((32, 64), 29, np.uint8))], dataset, 1)["k"]
    assert record["confidence"] == 0
    assert {true for true, _, _ in record["confusion"]} == {29}


def test_items_are_read_as_they_are_needed(segmenter):
    held = []

    def items():
        for i in range(6):
            held.append(i)
            yield f"k{i}", lambda i=i: tiny.image(i), lambda: read(len(held))

    def read(n):
        counts.append(n)
        return np.ones((32, 64), np.uint8)

    counts = []
    evaluate(segmenter, items(), tiny.dataset(), 2)
    assert counts == [4, 4, 6, 6, 6, 6]  # Lightning asks for the readers of one batch ahead


def test_mistakes_are_named(segmenter):
    with pytest.raises(UserError, match="m tells 23 classes apart, tiny has 3; give"):
        evaluate(segmenter, [("k", lambda: tiny.image(0), lambda: np.zeros((32, 64), np.uint8))], tiny.dataset(classes=("a", "b", "c")), 1)


def damaged():
    raise OSError("image file is truncated")


def test_a_damaged_item_costs_itself_and_nothing_is_read_twice(segmenter):
    read, mask = [], np.zeros((32, 64), np.uint8)
    items = [(f"k{i}", lambda i=i: read.append(i) or tiny.image(i), lambda: mask) for i in range(9)]
    whole = evaluate(segmenter, items, tiny.dataset(), 4)
    read.clear()
    items[5] = "k5", damaged, lambda: mask
    items[6] = "k6", items[6][1], lambda: mask[:4, :8]
    records = evaluate(segmenter, items, tiny.dataset(), 4)
    assert sorted(read) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert isinstance(records["k5"], OSError) and "truncated" in str(records["k5"])
    assert isinstance(records["k6"], ItemError) and "the mask of k6 is (8, 4) pixels" in str(records["k6"])
    for key in whole.keys() - {"k5", "k6"}:
        assert records[key] == whole[key] | {"confidence": pytest.approx(whole[key]["confidence"], abs=1e-6)}


def test_two_processes_say_what_one_says_of_an_odd_number_of_images(segmenter, tmp_path, monkeypatch):
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "77", "JOB_NAME": "train", "NODELIST": "localhost"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)  # in a job of Slurm, too, of which Lightning would take its ranks
    masks = [np.random.default_rng(i).integers(0, 23, (32, 64), np.uint8) for i in range(7)]

    def image(i):
        with (tmp_path / "read").open("a") as file:
            file.write(f"{i}\n")
        return tiny.image(i) if i != 3 else damaged()

    items = [(f"k{i}", lambda i=i: image(i), lambda i=i: masks[i]) for i in range(7)]
    dataset = Noise(classes=tiny.dataset().classes, colours=tiny.dataset().colours)
    one = evaluate(segmenter, items, dataset, 2)
    (tmp_path / "read").unlink()
    two = evaluate(segmenter, items, dataset, 2, devices=2)
    assert list(one) == list(two) == [f"k{i}" for i in range(7)]
    assert isinstance(one.pop("k3"), OSError) and str(two.pop("k3")) == "OSError: image file is truncated"
    for key, record in one.items():
        assert two[key] == record | {"confidence": pytest.approx(record["confidence"], abs=1e-6)}
    assert len((tmp_path / "read").read_text().split()) == 8  # Lightning's sampler hands out an eighth one


def test_what_ends_a_process_is_said_once():
    items = [(f"k{i}", lambda i=i: tiny.image(i), lambda: np.zeros((32, 64), np.uint8)) for i in range(3)]
    with pytest.raises(UserError, match=r"^model=m tells 3 classes apart, noise has 2; give"):
        evaluate(Model(name="m"), items, Noise(classes=("sky", "road")), 1, devices=2)
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"devices=2: model=m cannot be run .*: cannot pickle '_thread.lock' object"):
        evaluate(Model(name="m"), [("k", lambda: lock, lambda: 0)] * 2, Noise(), 1, devices=2)
    items[1] = "k1", lambda: os.kill(os.getpid(), signal.SIGKILL), items[1][2]  # as the kernel does when memory is short
    with pytest.raises(
        UserError, match=r"devices=2: model=m cannot be run by several processes, or one of them ended: process \d terminated with signal SIGKILL"
    ):
        evaluate(Model(name="m"), items, Noise(), 1, devices=2)
