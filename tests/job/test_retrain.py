import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from omegaconf import open_dict

from dillema.config import build, compose
from dillema.config_check import check
from dillema.context import JobContext, group_options
from dillema.dataset import split
from dillema.errors import ItemError, UserError
from dillema.model.transformers import TransformersSegmentation
from dillema.retraining import training
from dillema.run_folder import RunFolder
from tests import tiny
from tests.backends import Backend, Noise
from tests.job.test_run import SMALL

ROOT = Path(__file__).parents[2]
SHORT = (
    "job=retrain",
    "counterfactuals=2",
    "job.steps=2",
    "job.batch_size=2",
    "job.test_fraction=0.25",
    "job.seeds=[0,1]",
)


@dataclass
class Photos(Noise):
    """Eight sources, two of each street."""

    count: int = 8
    streets: int = 4
    vary: dict[str, list[str]] = field(
        default_factory=lambda: {"weather": ["rainy", "foggy"], "time of day": ["night"]}
    )

    def samples(self):
        return [
            replace(
                s, group=f"street {i % self.streets}", attributes={"weather": "clear", "time of day": "day"}
            )
            for i, s in enumerate(super().samples())
        ]


class Streets(Photos):
    """Such as can be rendered at night and in the rain, but not in the fog."""

    def render(self, sample, edits):
        if any(edit.replacement == "foggy" for edit in edits):
            return None
        return lambda: sample.image.point(lambda value: value // (1 + len(edits)))


class Twins(Photos):
    """Eight sources, each of its own, with three pictures among them."""

    def samples(self):
        twins = super().samples()
        return [replace(s, read_image=twins[i % 3].read_image, group="") for i, s in enumerate(twins)]


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {
        "segmentation": tiny.segmenter(folder / "segmenter", 3),
        "classification": tiny.classifier(folder / "classifier", 3),
    }


@pytest.fixture
def start(tmp_path, monkeypatch, mlflow_tables, weights_folder):
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    shutil.copy(mlflow_tables, "outputs/mlflow.db")

    def start(name, *overrides, task="segmentation", **fields):
        """Runs the job on small back-ends and a small network; returns its folder and its results."""
        folder = Path("outputs/day", name)
        folder.mkdir(parents=True)
        cfg = compose([*SHORT, *overrides])
        options = group_options(cfg.hydra.runtime.choices)
        model = {
            "_target_": f"dillema.model.transformers.Transformers{task.capitalize()}",
            "model": weights_folder[task],
        }
        with open_dict(cfg):
            for group, kind in SMALL.items():
                block = {"_target_": f"tests.backends.{kind}", **fields.get(group, {})}
                cfg[group] = {"small": block} if group == "validity" else block
            cfg.dataset = {"_target_": f"{__name__}.Streets", "task": task} | fields.get("dataset", {})
            cfg.model = {"net": fields.get("model", {"name": "net", **model})}
            del cfg["hydra"]
        check(cfg)
        build(cfg.job)(JobContext(cfg, folder, tuple(overrides), options))
        return folder, json.loads((folder / "results.json").read_text())

    return start


@pytest.fixture
def trainings(monkeypatch):
    """Returns what is trained: arm and seed; `limit` of them, then the process is interrupted."""
    train = training.train

    class TrainedArms(list):
        limit = 99

    trained_arms = TrainedArms()

    def watched(model, sources, dataset, arm, schedule, seed):
        if len(trained_arms) == trained_arms.limit:
            raise KeyboardInterrupt
        trained_arms.append((arm, seed))
        trained_arms.sources = sources
        return train(model, sources, dataset, arm, schedule, seed)

    monkeypatch.setattr(training, "train", watched)
    return trained_arms


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_all_arms_are_trained_alike_and_held_against_each_other_on_untouched_sources(
    start, trainings, task, capsys
):
    folder, results = start("one", task=task)
    assert sorted(trainings) == [
        (arm, seed) for arm in ("augmentation", "counterfactuals", "originals") for seed in (0, 1)
    ]
    parts = json.loads((folder / "split.json").read_text())
    assert (len(parts["train"]), len(parts["test"])) == (6, 2)
    streets = [{int(i.removeprefix("scene-")) % 4 for i in part} for part in parts.values()]
    assert not streets[0] & streets[1]
    samples = {s.id: s for s in Streets(task=task).samples()}
    assert [source.image().tobytes() for source in trainings.sources] == [
        samples[i].image.tobytes() for i in parts["train"]
    ]  # and none of the others
    assert sum(len(source.counterfactuals) for source in trainings.sources) == 12
    figures = results["models"]["net"]["retraining"]
    assert figures["sources"] == {"train": 6, "test": 2} and figures["counterfactuals"] == 12
    assert figures["images"] == {"original": 2, "counterfactual": 4, "truth": 6}  # rainy, rainy night, night
    assert set(figures["arms"]["untouched"]["per_condition"]) == {
        "clear day",
        "clear night",
        "rainy day",
        "rainy night",
    } and figures["home"] == ["clear day"]
    for arm in ("originals", "augmentation", "counterfactuals"):
        part = figures["arms"][arm]
        assert part["steps"] == [2, 2]
        assert [sum(counts.values()) for counts in part["drawn"]] == [4, 4]
        assert part["truth"]["low"] <= part["truth"]["mean"] <= part["truth"]["high"]
        assert part["per_condition"]["clear day"] == part["original"]
        gained = part["over"]["untouched"]["truth"]["mean"]
        assert gained == pytest.approx(part["truth"]["mean"] - figures["arms"]["untouched"]["truth"]["mean"])
    assert figures["arms"]["untouched"]["truth"]["low"] is None
    assert {kind for counts in figures["arms"]["originals"]["drawn"] for kind in counts} == {"originals"}
    assert figures["over_sources"]["originals"]["truth"] == {
        "low": None,
        "high": None,
        "rough": True,
        "groups": 1,
    }  # two sources of a single street
    assert figures["rough"] and figures["seeds"] == [0, 1]
    rows = RunFolder.open(folder).predictions("net, counterfactuals, seed 1")
    assert set(rows.sources) == set(parts["test"])
    page = (folder / "report.html").read_text()
    assert "No verdict about net: too few sources to be sure: 2, at least 6 are needed" in page
    assert "Rough intervals: they are of few seeds." in page
    assert "counterfactuals" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').resolve()}")
    (run,) = client.search_runs([client.get_experiment_by_name("dillema").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["job.steps"] == "2"
    assert run.data.metrics["retraining/arms/counterfactuals/over/originals/truth/mean"] == pytest.approx(
        figures["arms"]["counterfactuals"]["over"]["originals"]["truth"]["mean"]
    )


def test_intervals_over_sources_hold_the_gain_and_are_rough_with_few(start):
    figures = start("one", dataset={"streets": 8})[1]["models"]["net"]["retraining"]
    for other in ("originals", "augmentation"):
        counts, gained = (
            figures["over_sources"][other]["truth"],
            figures["arms"]["counterfactuals"]["over"][other]["truth"]["mean"],
        )
        assert counts["rough"] and counts["groups"] == 2 and counts["low"] <= gained <= counts["high"]


def test_retrained_weights_are_used_again_with_the_same_class(start, weights_folder):
    folder, results = start("one")
    model = TransformersSegmentation("net", str(folder / "weights" / "net" / "counterfactuals-1"))
    model.load()
    before = TransformersSegmentation("net", weights_folder["segmentation"])
    before.load()
    setting = results["models"]["net"]["retraining"]["arms"]["originals"]["weights"][1]
    assert setting == f"model.net.model={folder}/weights/net/originals-1"
    other = TransformersSegmentation("net", setting.removeprefix("model.net.model="))
    other.load()
    states = [dict(m.module.named_parameters()) for m in (model, before, other)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert any(not torch.equal(value, states[j][name]) for name, value in states[i].items())


def test_what_is_trained_is_not_trained_again(start, trainings):
    first = start("one")[1]
    assert len(trainings) == 6
    Backend.loads.clear()
    again = start("two")[1]
    assert len(trainings) == 6 and Backend.loads == []
    assert (
        again["models"]["net"]["retraining"]["over_sources"]
        == first["models"]["net"]["retraining"]["over_sources"]
    )
    trainings.clear()
    start("three", "job.share=0.9")
    assert {arm for arm, _ in trainings} == {
        "augmentation",
        "counterfactuals",
    }  # originals alone draw no share
    trainings.clear()
    start("four", generator={"strength": 2})
    assert {arm for arm, _ in trainings} == {"counterfactuals"}
    trainings.clear()
    start("five", "job.steps=3")
    assert len(trainings) == 6


def test_a_retraining_that_was_cut_off_goes_on(start, trainings, tmp_path):
    trainings.limit = 2
    with pytest.raises(KeyboardInterrupt):
        start("one")
    done = list(trainings)
    trainings.limit = 99
    results = start("two")[1]
    assert len(trainings) == 6 and not set(trainings[2:]) & set(done)
    undisturbed = start("three", f"store={tmp_path / 'other'}")[1]
    for figures in (results, undisturbed):
        for arm in ("originals", "augmentation", "counterfactuals"):
            for key in ("seconds", "weights"):
                del figures["models"]["net"]["retraining"]["arms"][arm][key]
    assert results["models"] == undisturbed["models"]


def test_without_renders_there_is_no_table_of_conditions(start):
    folder, results = start("one", dataset={"_target_": f"{__name__}.Photos"})
    assert results["models"]["net"]["retraining"]["images"]["truth"] == 0
    page = (folder / "report.html").read_text()
    assert "No verdict about net" in page and "condition by condition" not in page


def test_mistakes_are_named_at_once_before_anything_is_made(start):
    with pytest.raises(UserError) as caught:
        start(
            "one",
            "job.test_fraction=1.5",
            "job.seeds=[]",
            "job.steps=0",
            "job.batch_size=0",
            "job.learning_rate=0",
            "job.share=2",
        )
    lines = str(caught.value).splitlines()
    assert lines == [
        "The configuration has 6 mistakes:",
        "  job.test_fraction: must be a number between 0 and 1, not 1.5",
        "  job.seeds: must be a list, each a whole number from 0 on, one or more and none twice, not []",
        "  job.steps: must be a whole number of at least 1, not 0",
        "  job.batch_size: must be a whole number of at least 1, not 0",
        "  job.learning_rate: must be a number above 0, not 0",
        "  job.share: must be a number above 0 and 1 at most, not 2",
    ]
    assert not Path("outputs/day/one/split.json").exists()
    with pytest.raises(UserError, match=r"job\.seeds: must be a list, .*none twice, not \[1, 1\]"):
        start("two", "job.seeds=[1,1]")
    with pytest.raises(UserError, match=r"job\.seeds: must be a list"):
        start("three", "job.seeds=3")


def test_a_condition_that_is_no_attribute_is_named(start):
    with pytest.raises(
        UserError,
        match=r"job\.conditions: the sources have no attribute 'light'; they have time of day, weather",
    ):
        start("one", "job.conditions=[weather,light]")


def test_models_that_cannot_be_trained_are_refused(start):
    function = {"_target_": "tests.model.networks.brightness", "_partial_": True}
    own = {
        "_target_": "dillema.model.callable.CallableModel",
        "_recursive_": False,
        "name": "net",
        "function": function,
    }
    with pytest.raises(
        UserError,
        match=r"model\.net: CallableModel cannot be trained as it is set; a network of torch is needed",
    ):
        start("one", model=own)


def test_sources_of_a_single_group_cannot_be_split(start):
    with pytest.raises(UserError, match=r"belong to 1 group.*raise dataset\.limit"):
        start("one", dataset={"streets": 1})
    assert not list(Path("outputs/store").glob("images/*/*"))  # nothing was generated


def test_training_parts_without_a_valid_counterfactual_are_refused(start):
    with pytest.raises(UserError, match="no counterfactual of a source to train on is valid"):
        start("one", validity={"least": 2.0})


def round_numbers(values):
    """Returns JSON with its numbers rounded."""
    return json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 5))


def test_images_that_are_asked_about_in_portions_give_the_same_figures(start, monkeypatch, tmp_path):
    uninterrupted = start("one", "job.seeds=[0]")[1]
    monkeypatch.setattr("dillema.job.retrain.IMAGES_IN_MEMORY", 5)
    portions = start("two", "job.seeds=[0]", f"store={tmp_path / 'other'}")[1]
    for results in (uninterrupted, portions):
        for arm in ("originals", "augmentation", "counterfactuals"):
            for key in ("seconds", "weights"):
                del results["models"]["net"]["retraining"]["arms"][arm][key]
    # other batches: a network's figures differ in their last digits
    assert round_numbers(portions["models"]) == round_numbers(uninterrupted["models"])


def test_sources_of_the_same_pixels_are_on_one_side(start):
    folder, _ = start("one", "job.seeds=[0]", dataset={"_target_": f"{__name__}.Twins"})
    parts = json.loads((folder / "split.json").read_text())
    numbers = [{int(i.removeprefix("scene-")) % 3 for i in part} for part in parts.values()]
    assert len(parts["test"]) and not numbers[0] & numbers[1]


def test_sources_without_counterfactuals_are_trained_on_and_tested_on_all_the_same(start):
    results = start("one", "job.seeds=[0]", generator={"fails": "foggy"})[
        1
    ]  # of each source all but one variant, or both
    figures = results["models"]["net"]["retraining"]
    assert figures["counterfactuals"] < 12
    assert (
        figures["sources"] == {"train": 6, "test": 2}
        and figures["images"]["original"] == 2
        and figures["images"]["truth"] == 6
    )


def test_an_image_that_one_model_could_not_be_asked_about_counts_for_none_and_is_listed(start, monkeypatch):
    predict = TransformersSegmentation.predict

    def blind(self, images):
        if "retrained" in self.model and any(image.tobytes() == lost for image in images):
            raise ItemError("too dark")
        return predict(self, images)

    lost = split(Streets().samples(), 0.25, 0)[1][0].image.tobytes()
    monkeypatch.setattr(TransformersSegmentation, "predict", blind)
    folder, results = start("one")
    figures = results["models"]["net"]["retraining"]
    assert (
        figures["images"] == {"original": 1, "counterfactual": 4, "truth": 6}
        and results["counts"]["failed"] == 1
    )
    (failure,) = map(json.loads, (folder / "failures.jsonl").read_text().splitlines())
    assert (
        failure["step"] == "predict"
        and failure["id"].endswith("(original)")
        and failure["message"] == "too dark"
    )


def test_classes_that_nothing_is_trained_on_are_named(start, caplog):
    results = start(
        "one",
        "job.seeds=[0]",
        task="classification",
        dataset={"_target_": f"{__name__}.Streets", "task": "classification", "count": 3, "streets": 3},
    )[1]
    figures = results["models"]["net"]["retraining"]
    assert len(figures["unseen"]) == 1
    assert f"The sources to train on lack 1 class of those to test on ({figures['unseen'][0]})" in caplog.text
