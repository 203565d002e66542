"""Which gates and thresholds job=judge uses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from dillema.config import compose, without_hydra
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job import link_files as link
from dillema.job.judge import choose_gates, judge
from dillema.job.rejudge import judge_again
from dillema.overrides import prepare
from dillema.run_folder import RunFolder
from dillema.steps.verdict import verdict
from dillema.validity.combination import CombinationGate
from dillema.validity.image import ImageGate

GOLDEN = Path(__file__).parents[1] / "golden" / "segmentation"
OPTION = """\
# @package validity
image:
  _target_: dillema.validity.image.ImageGate
  min_contrast: 0.3
"""


@pytest.fixture
def run(tmp_path):
    """Returns the folder of a run of two gates, one of which has a threshold of its own."""
    overrides = ["validity=[segmenter,image]", "validity.image.min_contrast=0.1"]
    composed = compose(overrides)
    settings = tmp_path / "run" / ".hydra"
    settings.mkdir(parents=True)
    choices = {"hydra": {"runtime": {"choices": {"validity": "[segmenter, image]"}}}}
    OmegaConf.save(without_hydra(composed), settings / "config.yaml")
    OmegaConf.save(OmegaConf.create(choices), settings / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(overrides), settings / "overrides.yaml")
    return RunFolder(tmp_path / "run")


def make_context(run, tmp_path, *arguments):
    overrides = prepare(["job=judge", f"run={run.path}", *arguments])
    return JobContext(without_hydra(compose(overrides)), tmp_path, tuple(overrides))


def choose(run, tmp_path, *arguments):
    gates = choose_gates(run, make_context(run, tmp_path, *arguments))
    return {name: block.get("min_contrast", block.get("min_agreement")) for name, block in gates.items()}


def test_gates_of_the_run_keep_its_thresholds(run, tmp_path):
    assert choose(run, tmp_path) == {"segmenter": 0.5, "image": 0.1}
    assert choose(run, tmp_path, "validity=image") == {"image": 0.1}
    assert choose(run, tmp_path, "validity=none") == {}
    changed = choose(run, tmp_path, "validity.segmenter.min_agreement=0.7")
    assert changed == {"segmenter": 0.7, "image": 0.1}


def test_an_option_that_the_run_did_not_use_brings_its_thresholds(run, tmp_path):
    (tmp_path / "conf" / "validity").mkdir(parents=True)
    (tmp_path / "conf" / "validity" / "calibrated.yaml").write_text(OPTION)
    search = f"hydra.searchpath=[file://{tmp_path}/conf]"
    assert choose(run, tmp_path, search, "validity=calibrated") == {"image": 0.3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validity.segmenter.min_class_share=0.5"], r"validity.segmenter.min_class_share: is no threshold"),
        (["validity.segmenter.model=other"], r"validity.segmenter.model: is no threshold.*job=score"),
        (["validity=segmenter_cityscapes"], r"(?s)model: is no threshold.*kind: is no threshold.*'pixels'"),
    ],
)
def test_settings_by_which_the_scores_were_not_made_are_refused(run, tmp_path, arguments, message):
    shutil.copytree(GOLDEN, run.path, dirs_exist_ok=True)
    with pytest.raises(UserError, match=message):
        judge(make_context(run, tmp_path, *arguments))


def test_thresholds_of_classes_need_scores_of_classes(run, tmp_path):
    """The stored run is of a version without them: without a refusal the thresholds would do nothing."""
    shutil.copytree(GOLDEN, run.path, dirs_exist_ok=True)
    table = pq.read_table(run.predictions_file)
    names = [name.replace("brightness.", "segmenter.") for name in table.column_names]
    renamed = table.rename_columns(names).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, run.predictions_file)
    of_class = "validity.segmenter.min_class_agreements={road: 0.9}"
    with pytest.raises(UserError, match=r"has no scores of single classes.*job=score"):
        judge(make_context(run, tmp_path, "validity=segmenter", of_class))


def test_settings_without_effect_are_named(run, tmp_path, caplog):
    shutil.copytree(GOLDEN, run.path, dirs_exist_ok=True)
    with pytest.raises(UserError):  # one setting is refused in the end, so that nothing is written here
        judge(make_context(run, tmp_path, "validity.segmenter.model=other", "seed=3", "dataset.limit=5"))
    assert "seed, dataset.limit has no effect" in caplog.text


def test_a_combination_judges_in_the_place_of_its_gates():
    weights = {"segmenter.agreement": 2.0, "reader.edited": 1.0}
    gate = CombinationGate(weights, dict.fromkeys(weights, 0.5), dict.fromkeys(weights, 0.25), 0.0)
    strict = ImageGate(min_brightness=0.9)
    strict.name = "segmenter"
    gates = [strict, gate, ImageGate()]
    good = {"segmenter.agreement": 0.6, "segmenter.brightness": 0.1, "image.brightness": 0.5}
    assert verdict(gates, good).valid  # the segmenter's own threshold does not count, the combination does
    bad = verdict(gates, good | {"segmenter.agreement": 0.3})
    assert bad.reasons == ("combination: probability of a good image is 0.17, below 0.5",)
    # what one score loses another one may make up for; the gate that is not combined still counts
    assert verdict(gates, good | {"segmenter.agreement": 0.4, "reader.edited": 0.9}).valid
    assert not verdict(gates, good | {"image.brightness": 0.0}).valid
    assert not verdict(gates, good | {"segmenter.failed": 1.0}).valid
    assert "there is none of the scores" in verdict([gate], {"image.brightness": 0.5}).reasons[0]


def link_files(*places):
    command = [sys.executable, "-I", "-S", link.__file__, "kept"]
    return subprocess.run(command, input=json.dumps(places), capture_output=True, text=True)


def test_files_are_linked_or_copied_and_what_cannot_be_is_named(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    for name in ("kept", "linked", "copied"):
        (source / name).write_text(name)
    (target / "copied").write_text("cannot be linked, as on another disk")
    done = link_files([str(source), str(target)])
    assert (done.returncode, done.stderr) == (0, "")
    assert {file.name: file.read_text() for file in target.iterdir()} == {
        "linked": "linked",
        "copied": "copied",
    }
    assert (target / "linked").samefile(source / "linked")
    done = link_files([str(tmp_path / "missing"), str(target)])
    assert done.returncode == 1 and "missing" in done.stderr and "Traceback" not in done.stderr


def test_a_run_is_not_judged_into_its_own_folder(tmp_path):
    run = shutil.copytree(GOLDEN, tmp_path / "run")
    files = sorted(run.rglob("*"))
    with pytest.raises(UserError, match="name another folder"):
        judge_again(RunFolder(run), JobContext(OmegaConf.create({}), run), {})
    assert sorted(run.rglob("*")) == files
