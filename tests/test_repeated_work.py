"""A repeated run computes only what has changed, with the real edit strategies and real data set changes."""

import shutil

import pytest

from dillema.counterfactual.edits import Pairwise, Random, Single
from dillema.dataset.folder import Folder
from dillema.steps.quality import SimilarityStep
from dillema.steps.rewrite import RewriteStep

from .backends import Captioner, Editor, Gate, Generator, Model, Noise, noise_image, run_pipeline
from .test_pipeline import images

STRATEGIES = [Random(), Single(), Pairwise()]
COUNT = 3


class Diary:
    """Lists the items that each back-end worked on."""

    def __init__(self, path):
        self.path = path

    def clear(self):
        self.path.write_text("")

    def lines(self, backend):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{backend} ")]


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path / "diary")


def run(tmp_path, diary, name, **parts):
    noted = {"diary": str(diary.path)}
    defaults = {"captioner": Captioner(**noted), "editor": Editor(**noted), "generator": Generator(**noted)}
    parts = defaults | {"counterfactuals": COUNT} | parts
    return run_pipeline(tmp_path / name, tmp_path / "store", **parts)[0]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_one_more_source_repaints_none_of_the_others(tmp_path, diary, strategy):
    before = images(run(tmp_path, diary, "forty", dataset=Noise(count=40), edits=strategy))
    diary.clear()
    after = images(run(tmp_path, diary, "forty-one", dataset=Noise(count=41), edits=strategy))
    assert len(diary.lines("Generator")) == COUNT and {
        text.partition(":")[0] for text in diary.lines("Generator")
    } == {"scene-40"}
    assert all(after[name] == content for name, content in before.items())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_a_caption_that_is_healed_repaints_its_source_alone(tmp_path, diary, strategy):
    broken = Captioner(diary=str(diary.path), fails="scene-7")
    before = images(run(tmp_path, diary, "broken", dataset=Noise(count=20), edits=strategy, captioner=broken))
    diary.clear()
    after = images(run(tmp_path, diary, "healed", dataset=Noise(count=20), edits=strategy, retry_failed=True))
    assert diary.lines("Captioner") == ["scene-7"]
    assert len(diary.lines("Generator")) == COUNT and all(
        "scene-7:" in text for text in diary.lines("Generator")
    )
    assert len(after) > len(before) and all(after[name] == content for name, content in before.items())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_more_counterfactuals_keep_those_that_are_there(tmp_path, diary, strategy):
    before = images(run(tmp_path, diary, "three", edits=strategy))
    diary.clear()
    after = images(run(tmp_path, diary, "four", edits=strategy, counterfactuals=COUNT + 1))
    assert len(diary.lines("Generator")) == 6
    assert all(after[name] == content for name, content in before.items())


def test_a_raised_limit_and_an_added_file_add_work_and_repeat_none(tmp_path, diary):
    root = tmp_path / "photos"
    for index in range(12):
        folder = root / ("cat" if index % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes(noise_image(index))
    vary = Noise().vary

    def paint(name, limit):
        dataset = Folder(str(root), limit=limit, vary=vary)
        diary.clear()
        return images(run(tmp_path, diary, name, dataset=dataset)), len(diary.lines("Generator"))

    few, painted_few = paint("few", 6)
    more, painted_more = paint("more", 9)
    assert (painted_few, painted_more) == (6 * COUNT, 3 * COUNT)
    assert all(more[name] == content for name, content in few.items())
    unlimited, _ = paint("whole", None)
    shutil.copy(root / "dog" / "0.png", root / "dog" / "new.png")
    (root / "dog" / "new.png").write_bytes(noise_image(99))
    added, generated = paint("added", None)
    assert generated == COUNT and all(added[name] == content for name, content in unlimited.items())


def test_a_batch_that_is_partly_done_is_not_done_again(tmp_path, diary):
    run(
        tmp_path,
        diary,
        "first",
        dataset=Noise(count=3),
        generator=Generator(diary=str(diary.path), batch_size=4),
    )
    diary.clear()
    run(
        tmp_path,
        diary,
        "more",
        dataset=Noise(count=4),
        generator=Generator(diary=str(diary.path), batch_size=50),
    )
    assert len(diary.lines("Generator")) == COUNT


def test_a_new_version_of_a_step_repeats_it_and_what_follows(tmp_path, diary, monkeypatch):
    parts = {"gates": [Gate(diary=str(diary.path))], "models": [Model(diary=str(diary.path))]}
    run(tmp_path, diary, "first", **parts)
    diary.clear()
    monkeypatch.setattr(SimilarityStep, "version", 99)
    run(tmp_path, diary, "similarity", **parts)
    assert diary.path.read_text() == ""  # no back-end is needed for it, and nothing follows
    monkeypatch.setattr(RewriteStep, "version", 99)
    run(tmp_path, diary, "rewrite", **parts)
    assert diary.lines("Captioner") == [] and len(diary.lines("Editor")) == 6 * COUNT
    # the same texts come out, so that the images are those that are there
    assert diary.lines("Generator") == [] and diary.lines("Gate") == [] and diary.lines("Model") == []
