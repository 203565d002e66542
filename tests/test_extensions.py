"""Extensions outside the package: a module, a YAML file and a test for each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import dillema
from dillema.errors import UserError
from dillema.run_folder import RunFolder

OPTIONS = f"hydra.searchpath=[file://{Path(__file__).parent / 'extensions' / 'conf'}]"
CHOSEN = ["captioner=plain", "conditioning=inverted", "edits=in_turn", "validity=[red,image]"]
SMALL = [
    "dataset.limit=2",
    "counterfactuals=2",
    "generator.steps=1",
    "generator.width=64",
    "generator.height=40",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory, mlflow_tables):
    home = tmp_path_factory.mktemp("home")
    (home / "outputs").mkdir()
    shutil.copy(mlflow_tables, home / "outputs" / "mlflow.db")
    return home


@pytest.fixture(scope="module")
def folder(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = dillema.run([OPTIONS, *CHOSEN, *SMALL])
    return RunFolder.open(home / run.path)


def test_the_captioner_writes_the_captions(folder):
    assert {image.caption.text for image in folder.generated()} == {
        "a clear daytime on a street with a red car"
    }


def test_the_strategy_plans_the_edits(folder):
    edits = [
        [(e.attribute, e.replacement) for e in image.counterfactual.edits] for image in folder.generated()
    ]
    assert edits == [[("weather", "cloudy")], [("weather", "rainy")]] * 2


def test_the_conditioning_makes_the_controls(folder):
    image = next(folder.generated())
    (control,) = image.controls.values()
    original = Image.open(image.original).convert("RGB")
    inverted = np.asarray(ImageOps.invert(original), int)
    assert np.abs(np.asarray(Image.open(control), int) - inverted).mean() < 4


def test_the_gate_scores_and_judges_beside_others_also_afterwards(folder, home, monkeypatch):
    monkeypatch.chdir(home)
    assert folder.results["gates"] == ["red", "image"]
    shares = [image.verdict.scores["red.share"] for image in folder.generated()]
    limit = float(np.median(shares))
    judged = dillema.run(
        [OPTIONS, "job=judge", f"run={folder.path}", CHOSEN[3], f"validity.red.max_red={limit}"]
    )
    reasons = [
        reason for image in judged.generated() for reason in image.verdict.reasons if "red: too red" in reason
    ]
    assert len(reasons) == sum(share > limit for share in shares) > 0


def test_a_mistake_in_a_setting_of_ones_own_is_named(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(UserError, match=r"validity.red.max_red: must be a number from 0 to 1, not 3"):
        dillema.run([OPTIONS, *CHOSEN, "validity.red.max_red=3"])
