import json
import pickle

import pytest
from PIL import Image

from dillema.dataset import check_sample, describe
from dillema.dataset.huggingface import HuggingFace
from dillema.errors import ItemError, UserError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def folder(root, **columns):
    """Writes an imagefolder of three images, with a mask each, and these columns."""
    rows = []
    for i in range(3):
        row = {"file_name": f"images/{i}.png", "mask_file_name": f"masks/{i}.png"} | {
            name: values[i] for name, values in columns.items()
        }
        for path, picture in (
            (row["file_name"], Image.new("RGB", (60, 40), (i, 0, 0))),
            (row["mask_file_name"], Image.new("L", (60, 40), i)),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(root / path)
        rows.append(row)
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(root)


def labelled(root, names=("n1 tabby, tabby cat", "crane, bird", "crane, machine")):
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=list(names))})
    images = [Image.new("RGB", (60, 40), (i, 0, 0)) for i in range(12)]
    return datasets.Dataset.from_dict({"img": images, "fine": [i % 3 for i in range(11)] + [-1]}, features)


@pytest.mark.parametrize("splits", [False, True])
def test_opens_what_the_library_saved(tmp_path, splits):
    table = labelled(tmp_path)
    (datasets.DatasetDict({"test": table}) if splits else table).save_to_disk(tmp_path / "saved")
    data = HuggingFace(path=str(tmp_path / "saved"), split="test", image="img", label="fine")
    assert (data.task, data.classes) == ("classification", ("n1 tabby", "crane, bird", "crane, machine"))
    *samples, unlabelled = data.samples()
    assert [s.label for s in samples] == [i % 3 for i in range(11)]
    assert samples[7].image.getpixel((0, 0)) == (7, 0, 0)
    assert pickle.loads(pickle.dumps(samples[7])).digest == samples[7].digest
    check_sample(samples[7], data)
    assert unlabelled.label is None


def test_a_few_of_each_class_are_drawn_by_the_seed(tmp_path):
    labelled(tmp_path).save_to_disk(tmp_path / "saved")
    ids = [
        HuggingFace(
            path=str(tmp_path / "saved"), image="img", label="fine", per_class=2, limit=7, seed=seed
        ).samples()
        for seed in (0, 1)
    ]
    assert all(len([s for s in each if s.label == label]) == 2 for each in ids for label in (0, 1, 2))
    assert [s.id for s in ids[0]] != [s.id for s in ids[1]]


def test_opens_a_folder_with_masks_as_a_run_of_ours_leaves_one(tmp_path):
    path = folder(tmp_path / "generated", caption=["a", "b", "c"])
    (tmp_path / "classes.csv").write_text("name,colour\nroad,#804080\nsky,#4682b4\n")
    data = HuggingFace(path=path, split="train", mask="mask", classes_file=str(tmp_path / "classes.csv"))
    first, second, third = data.samples()
    assert (data.task, data.classes, int(second.mask[0, 0])) == ("segmentation", ("road", "sky"), 1)
    check_sample(first, data)
    with pytest.raises(ItemError, match=r"unknown class ids \[2\]"):
        check_sample(third, data)


def test_labels_may_be_words_or_numbers_that_a_file_names(tmp_path):
    path = folder(tmp_path / "set", word=["sky", "road", "sky"], number=[1, 0, 1])
    assert HuggingFace(path=path, split="train", label="word").classes == ("road", "sky")
    (tmp_path / "classes.csv").write_text("name\nsky\nhouse\nroad\n")
    for column, ids in (("word", [0, 2, 0]), ("number", [1, 0, 1])):
        data = HuggingFace(path=path, split="train", label=column, classes_file=str(tmp_path / "classes.csv"))
        assert [s.label for s in data.samples()] == ids
    with pytest.raises(UserError, match=r"number of .* holds no names: set dataset\.label"):
        _ = HuggingFace(path=path, split="train", label="number").classes


def test_what_is_missing_is_said(tmp_path):
    path = folder(tmp_path / "set", label=["a", "b", "a"])
    with pytest.raises(UserError, match=r"the split val of .* cannot be opened: .*train"):
        HuggingFace(path=path, split="val").samples()
    with pytest.raises(
        UserError, match=r"no column picture: set dataset\.image to one of image, mask, label"
    ):
        HuggingFace(path=path, split="train", image="picture").samples()
    with pytest.raises(UserError, match=r"nobody/nothing cannot be opened.*\nGive dataset\.path"):
        HuggingFace(path="nobody/nothing").samples()


def test_rows_of_one_video_belong_together(tmp_path):
    labelled(tmp_path).add_column("video", [i // 4 for i in range(12)]).save_to_disk(tmp_path / "saved")
    samples = HuggingFace(path=str(tmp_path / "saved"), image="img", label="fine", group="video").samples()
    assert [s.group for s in samples] == [str(i // 4) for i in range(12)]
    with pytest.raises(UserError, match=r"has no column clip: set dataset\.group to one of"):
        HuggingFace(path=str(tmp_path / "saved"), image="img", label="fine", group="clip").samples()


def test_labels_may_be_decimals_or_true_and_false(tmp_path):
    path = folder(tmp_path / "set", decimal=[1.0, 0.0, None], flag=[True, False, True], score=[0.5, 1.0, 2.0])
    (tmp_path / "classes.csv").write_text("name\nsky\nroad\n")
    options = {"path": path, "split": "train"}
    data = HuggingFace(**options, label="decimal", classes_file=str(tmp_path / "classes.csv"))
    assert [s.label for s in data.samples()] == [1, 0, None]
    data = HuggingFace(**options, label="flag")
    assert (data.classes, [s.label for s in data.samples()]) == (("false", "true"), [1, 0, 1])
    with pytest.raises(UserError, match=r"row 0 of .* has 0\.5 in its column score, which is no class id"):
        HuggingFace(**options, label="score", classes_file=str(tmp_path / "classes.csv")).samples()


def test_labels_that_are_numbers_as_words_count_as_numbers(tmp_path):
    path = folder(tmp_path / "set", label=["10", "9", "10"])
    table = datasets.load_dataset(path, split="train").cast_column("label", datasets.Value("string"))
    table.save_to_disk(tmp_path / "saved")
    data = HuggingFace(path=str(tmp_path / "saved"))
    assert (data.classes, [s.label for s in data.samples()]) == (("9", "10"), [1, 0, 1])


def test_without_a_classes_file_one_for_the_masks_is_proposed(tmp_path):
    with pytest.raises(
        UserError, match=r"name,id,colour,ignore\nclass 0,0,#\w+,\nclass 1,1,#\w+,\nclass 2,2,"
    ):
        _ = HuggingFace(path=folder(tmp_path / "set"), split="train", mask="mask").classes


def test_the_number_before_the_limit_is_known(tmp_path):
    labelled(tmp_path).save_to_disk(tmp_path / "saved")
    data = HuggingFace(path=str(tmp_path / "saved"), image="img", label="fine", per_class=2, limit=5)
    names = "n1 tabby, crane, bird, crane, machine"
    line = describe(data, data.samples())
    assert line.startswith(
        "huggingface: 5 of 12 images (dataset.per_class, dataset.limit), classification into 3 c"
    )
    assert line.endswith(f": {names}")
