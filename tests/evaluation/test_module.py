import base64
import gc
import io
import os
import signal
import threading
import weakref
from copy import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.errors import ItemError, UserError
from dillema.evaluation import evaluate
from dillema.model.transformers import TransformersClassification, TransformersSegmentation
from dillema.stops import Stopped
from tests import tiny
from tests.labels import labels

SLURM = {
    "NTASKS": "1",
    "PROCID": "0",
    "LOCALID": "0",
    "NODEID": "0",
    "JOB_ID": "77",
    "JOB_NAME": "train",
    "NODELIST": "localhost",
}


@dataclass
class Brightness:
    """Answers with the image itself: three classes, the brightest channel wins."""

    name: str = "m"

    def load(self):
        pass

    def predict(self, images):
        pixels = torch.stack([torch.from_numpy(np.asarray(image).copy()) for image in images])
        return pixels.permute(0, 3, 1, 2).float() / 64


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


def error_map(record):
    """Returns the pixels (height, width, 4) of the picture of a record."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(record["error_map"]))).convert("RGBA"))


def test_records_of_a_segmenter_count_every_pixel_of_a_class(segmenter):
    mask = np.random.default_rng(0).integers(0, 24, (32, 64), np.uint8)
    mask[mask == 23] = 255
    dataset = tiny.dataset(ignored=tiny.dataset().ignored | {255})
    record = evaluate(segmenter, [("k", lambda: tiny.image(0), lambda: mask)], dataset, 2)["k"]
    predicted = segmenter.predict([tiny.image(0)])[0].argmax(0).numpy()
    scored = ~np.isin(mask, list(dataset.ignored))
    assert sum(pixels for _, _, pixels in record["confusion"]) == (mask != 255).sum() > scored.sum()
    for true, guess, pixels in record["confusion"]:
        assert pixels == ((mask == true) & (predicted == guess)).sum() > 0
    assert 0 < record["confidence"] < 1
    picture, wrong = error_map(record), scored & (mask != predicted)
    assert 0 < wrong.sum() < wrong.size and (picture[..., 3] == np.where(wrong, 255, 0)).all()
    assert (picture[wrong][:, :3] == np.array(dataset.colours)[predicted[wrong]]).all()


def test_error_maps_are_drawn_however_many_classes_there_are():
    colours = tuple((i, 255 - i, 7) for i in range(256))
    dataset = tiny.dataset(classes=tuple(map(str, range(256))), colours=colours, ignored=frozenset())
    mask = np.full((32, 64), 255, np.uint8)
    model = Brightness()
    model.class_map = {i: i for i in range(3)}
    record = evaluate(model, [("k", lambda: tiny.image(0), lambda: mask)], dataset, 1)["k"]
    shown = {tuple(colour) for colour in error_map(record).reshape(-1, 4).tolist()}
    assert shown == {(*colours[predicted], 255) for _, predicted, _ in record["confusion"]}


def test_images_of_one_batch_may_differ_in_size(segmenter):
    items = [
        (str(size), lambda size=size: tiny.image(0, size), lambda size=size: np.ones(size[::-1], np.uint8))
        for size in ((64, 32), (96, 48))
    ]
    records = evaluate(segmenter, items, tiny.dataset(), 2)
    pixels = [sum(count for _, _, count in record["confusion"]) for record in records.values()]
    assert pixels == [64 * 32, 96 * 48]


def test_classes_that_the_model_does_not_know_have_no_confidence(segmenter):
    dataset = tiny.dataset(classes=tuple(map(str, range(30))), ignored=frozenset())
    items = [("k", lambda: tiny.image(0), lambda: np.full((32, 64), 29, np.uint8))]
    mapped = copy(segmenter)
    mapped.class_map = {i: i for i in range(23)}
    record = evaluate(mapped, items, dataset, 2)["k"]
    assert record["confidence"] == 0
    assert {true for true, _, _ in record["confusion"]} == {29}


def test_one_batch_is_read_while_another_is_predicted_and_no_more(segmenter):
    asked, predicted, ahead = [], [], []
    counting = copy(segmenter)
    counting.predict = lambda images: (predicted.extend(images), segmenter.predict(images))[1]

    def items():
        for i in range(8):
            asked.append(i)
            ahead.append(len(asked) - len(predicted))
            yield f"k{i}", lambda i=i: tiny.image(i), lambda: np.ones((32, 64), np.uint8)

    evaluate(counting, items(), tiny.dataset(), 2)
    assert ahead == [1, 2, 3, 4, 3, 4, 3, 4]


def test_a_model_that_failed_on_an_image_leaves_the_memory():
    class Failing(Brightness):
        def predict(self, images):
            raise RuntimeError("cannot")

    model = Failing()
    reference = weakref.ref(model)
    records = evaluate(model, [("k", lambda: tiny.image(0), lambda: 0)], tiny.dataset(), 2)
    assert isinstance(records["k"], RuntimeError)
    del model, records
    gc.collect()
    assert reference() is None


def test_an_interrupt_keeps_its_kind_and_its_exit_code(segmenter):
    handler = signal.getsignal(signal.SIGINT)

    def stop():
        raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        evaluate(segmenter, [("k", stop, lambda: np.ones((32, 64), np.uint8))], tiny.dataset(), 2)
    assert stopped.value.exit_code == 143 and signal.getsignal(signal.SIGINT) is handler


def test_a_model_with_other_classes_is_named(segmenter):
    items = [("k", lambda: tiny.image(0), lambda: np.zeros((32, 64), np.uint8))]
    with pytest.raises(UserError, match=r"model=m has 23 classes, tiny has 3.*Give model\.m\.class_map"):
        evaluate(segmenter, items, tiny.dataset(classes=("a", "b", "c")), 1)
    with pytest.raises(UserError, match="model=m has 23 classes, tiny has 30"):
        evaluate(segmenter, items, tiny.dataset(classes=tuple(map(str, range(30)))), 1)


def damaged():
    raise OSError("image file is truncated")


def test_a_damaged_item_costs_itself_and_nothing_is_read_twice(segmenter):
    read, mask = [], np.zeros((32, 64), np.uint8)
    items = [(f"k{i}", lambda i=i: read.append(i) or tiny.image(i), lambda: mask) for i in range(9)]
    clean = evaluate(segmenter, items, tiny.dataset(), 4)
    read.clear()
    items[5] = "k5", damaged, lambda: mask
    items[6] = "k6", items[6][1], lambda: mask[:4, :8]
    records = evaluate(segmenter, items, tiny.dataset(), 4)
    assert sorted(read) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert list(records) == [f"k{i}" for i in range(9)]
    assert isinstance(records["k5"], OSError) and "truncated" in str(records["k5"])
    assert isinstance(records["k6"], ItemError) and "the mask has (4, 8) rows and columns" in str(
        records["k6"]
    )
    for key in clean.keys() - {"k5", "k6"}:
        assert records[key] == clean[key] | {"confidence": pytest.approx(clean[key]["confidence"], abs=1e-6)}


def test_two_processes_give_what_one_gives_for_an_odd_number_of_images(segmenter, tmp_path, monkeypatch):
    for name, value in SLURM.items():  # Lightning would take its ranks from a job of Slurm
        monkeypatch.setenv(f"SLURM_{name}", value)
    masks = [np.random.default_rng(i).integers(0, 23, (32, 64), np.uint8) for i in range(7)]

    def image(i):
        with (tmp_path / "read").open("a") as file:
            file.write(f"{i}\n")
        return tiny.image(i) if i != 3 else damaged()

    items = [(f"k{i}", lambda i=i: image(i), lambda i=i: masks[i]) for i in range(7)]
    local = evaluate(segmenter, items, tiny.dataset(), 2)
    (tmp_path / "read").unlink()
    spread = evaluate(segmenter, items, tiny.dataset(), 2, devices=2)
    assert list(local) == list(spread) == [f"k{i}" for i in range(7)]
    assert (
        isinstance(local.pop("k3"), OSError) and str(spread.pop("k3")) == "OSError: image file is truncated"
    )
    for key, record in local.items():
        assert spread[key] == record | {"confidence": pytest.approx(record["confidence"], abs=1e-6)}
    # Lightning's sampler hands out an eighth one
    assert len((tmp_path / "read").read_text().split()) == 8


def test_what_ends_a_process_is_reported_once():
    items = [(f"k{i}", lambda i=i: tiny.image(i), lambda: np.zeros((32, 64), np.uint8)) for i in range(3)]
    with pytest.raises(UserError, match=r"^model=m has 3 classes, tests has 2: sky, road"):
        evaluate(Brightness(), items, labels("segmentation", ("sky", "road")), 1, devices=2)
    lock = threading.Lock()
    with pytest.raises(
        UserError, match=r"devices=2: model=m cannot be run .*: cannot pickle '_thread.lock' object"
    ):
        evaluate(Brightness(), [("k", lambda: lock, lambda: 0)] * 2, labels("segmentation"), 1, devices=2)
    items[1] = (
        "k1",
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        items[1][2],
    )  # as the kernel does without memory
    ended = (
        r"devices=2: model=m cannot be run .* one of them ended: process \d terminated with signal SIGKILL"
    )
    with pytest.raises(UserError, match=ended):
        evaluate(Brightness(), items, labels("segmentation"), 1, devices=2)
