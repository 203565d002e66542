import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from omegaconf import open_dict

from dillema.benchmark.bare import Question, make_loop
from dillema.benchmark.measuring import StageFigures
from dillema.benchmark.naive import find_way
from dillema.benchmark.table import write_results
from dillema.config import compose
from dillema.context import JobContext
from dillema.counterfactual.editor import Editor
from dillema.errors import UserError
from dillema.job.benchmark import benchmark
from dillema.llm.llama_cpp import LlamaCpp
from dillema.model.transformers import TransformersSegmentation
from dillema.steps.keywords import KeywordsItem, KeywordsStep
from dillema.steps.predict import PredictItem, PredictStep
from dillema.steps.rewrite import RewriteItem, RewriteStep
from dillema.types import Caption, Expression, Variant
from tests import tiny
from tests.backends import Captioner, Gate
from tests.job.test_run import SMALL
from tests.llm.checkpoints import TEMPLATE


@dataclass
class OnceLoaded(Captioner):
    """Loads once only: the run works, and the measurement fails."""

    loaded: ClassVar[list[str]] = []

    def load(self) -> None:
        if self.loaded:
            raise UserError("the memory does not suffice")
        self.loaded.append("")


@dataclass
class Broken(Gate):
    """Ends the run in the middle."""

    def score(self, *arguments):
        raise UserError("the disk is full")


@pytest.fixture
def measure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def measure(sources=1, rounds=1, **parts):
        """Runs the job on small back-ends; returns what it wrote, and keeps its stages and its table."""
        cfg = compose(["job=benchmark"])
        blocks = {group: {"_target_": f"tests.backends.{name}"} for group, name in SMALL.items()}
        blocks |= {group: {"_target_": f"{__name__}.{name}"} for group, name in parts.items()}
        with open_dict(cfg):
            for group, block in blocks.items():
                cfg[group] = {"small": block} if group in ("model", "validity") else block
        try:
            benchmark(JobContext(cfg, tmp_path), sources, items=3, rounds=rounds)
        finally:
            content = json.loads((tmp_path / "benchmark.json").read_text())
            measure.stages = {stage["stage"]: stage for stage in content["stages"]}
            measure.table = (tmp_path / "benchmark.md").read_text()
        return content

    return measure


def test_every_stage_is_measured_against_the_naive_way_in_rounds(measure):
    content = measure(sources=2, rounds=2)
    assert [*measure.stages] == [
        "source", "caption", "keywords", "rewrite", "control grey", "generate", "gate brightness",
        "similarity", "predict brightest",
    ]  # fmt: skip
    for stage in content["stages"]:
        assert stage["error"] == "" and len(stage["ours"]) == len(stage["naive"]) == 2
        assert min(stage["ours"] + stage["naive"]) > 0
        assert stage["bare"] == []  # small back-ends have no library
    assert measure.stages["caption"]["items"] == 2 and measure.stages["generate"]["items"] == 3
    assert measure.stages["generate"]["per_source"] == 4
    assert len(content["all_stages"]["naive"]) == 2 and content["machine"]["cores"] > 0
    assert "| caption | 1 | " in measure.table and "| all stages |" in measure.table


def test_a_stage_that_fails_leaves_its_reason_and_the_others_are_measured(measure, caplog):
    OnceLoaded.loaded.clear()
    measure(captioner="OnceLoaded")
    assert measure.stages["caption"]["error"] == "UserError: the memory does not suffice"
    assert "caption is not measured: the memory does not suffice" in caplog.text
    assert "- caption: UserError: the memory does not suffice" in measure.table
    assert len(measure.stages["predict brightest"]["ours"]) == 1


def test_what_was_measured_is_kept_when_the_run_stops(measure):
    with pytest.raises(UserError, match="the disk is full"):
        measure(validity="Broken")
    assert len(measure.stages["generate"]["ours"]) == 1 and "gate brightness" not in measure.stages


def test_a_bare_loop_is_that_of_the_library(tmp_path):
    model = TransformersSegmentation("tiny", tiny.segmenter(tmp_path), device="cpu")
    image = tiny.image(0)
    items = [PredictItem(str(i), tiny.sample(), "", lambda: image, "", image.size) for i in range(3)]
    loop = make_loop(PredictStep(model, tiny.dataset()), items, [])
    model.load()
    (expected,) = model.logits([image])
    logits = loop.work(loop.inputs).logits
    assert len(logits) == 3 and logits.shape[1] == len(expected)
    assert loop.operations > 1000 and loop.batches


def test_a_language_model_is_compared_with_the_tokens_that_it_reads_and_writes(tmp_path):
    llm = LlamaCpp(tiny.gguf(tmp_path / "model.gguf", TEMPLATE), threads=1)
    step = KeywordsStep(Editor(llm, "unused"), {})
    questions = [Question([{"role": "user", "content": "what?"}], "this")] * 2
    loop = make_loop(step, ["item"] * 4, questions)
    loop.work(loop.inputs)
    assert loop.per_item == 0.5 and not loop.batches
    assert loop.bytes == 4 * (tmp_path / "model.gguf").stat().st_size  # a token for each letter
    assert loop.operations > 0
    assert make_loop(step, ["item"], []) is None


def test_the_naive_way_opens_the_language_model_again_for_each_caption(tmp_path):
    editor = Editor(LlamaCpp(tiny.gguf(tmp_path / "model.gguf", TEMPLATE), threads=1), "unused")
    caption, expressions = Caption("a clear day"), {"weather": Expression("clear", "clear")}
    variant = Variant({"weather": ("foggy",)})
    ways = [
        (KeywordsStep(editor, {}), KeywordsItem("scene", caption, "", 0)),
        (RewriteStep(editor), RewriteItem("scene_1", caption, expressions, variant, "", 0)),
    ]
    for step, item in ways:
        find_way(step)(item)
    (tmp_path / "model.gguf").unlink()
    for step, item in ways:
        with pytest.raises(UserError, match="No weights"):
            find_way(step)(item)


def test_the_table_has_ratios_with_their_spread(tmp_path):
    fast = StageFigures("caption", 1, 8, "cpu", 8, 4, ours=[1, 2], naive=[9, 20], bare=[1, 1], limit=[0.5, 1])
    slow = StageFigures("generate", 3, 8, "cpu", 8, ours=[3, 3], naive=[6, 9])
    write_results(tmp_path, {"cores": 2, "gpu": None}, [fast, slow], 2)
    table = (tmp_path / "benchmark.md").read_text()
    assert "| caption | 1 | 1.5 | 9.5 (9 to 10) | 0.75 (0.5 to 1) (4) | 50 % (50 to 50) |" in table
    assert "| generate | 3 | 3 | 2.5 (2 to 3) | - | - |" in table
    assert "| all stages | | | 3.49 (2.7 to 4.27) | 0.75 (0.5 to 1) | |" in table
    assert "Measured on: cores 2." in table and "above 1, ours is faster" in table


def test_times_have_four_digits(tmp_path):
    stage = StageFigures("caption", 1, 8, "cpu", 8, ours=[0.039129423250415], naive=[1 / 3])
    write_results(tmp_path, {}, [stage], 1)
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["stages"][0]["ours"] == [0.03913] and content["all_stages"]["naive"] == [8.519]
