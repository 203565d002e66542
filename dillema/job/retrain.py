"""The job that retrains models under test on counterfactuals, and finds out on untouched sources what that buys."""

import copy
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import refuse
from ..dataset import split
from ..errors import UserError
from ..evaluation import predictions, statistics
from ..evaluation.predictions import COUNTERFACTUAL, KINDS, ORIGINAL, TRUTH, Predictions
from ..pairs import Pair
from ..pipeline import SAID, Pipeline
from ..report import retraining, words
from ..report.retraining import ARMS, COUNTERFACTUALS, ORIGINALS, UNTOUCHED
from ..stage import Item, Stages
from ..store import digest, identity, link
from ..types import Edit, Renders, Sample
from .run import assembled, farewell, tracked

if TYPE_CHECKING:
    from ..evaluation.training import Source

log = logging.getLogger(__name__)

T = TypeVar("T")
VERSION = 1  # of how models are trained
HELD = 2048  # images and masks in memory: a small network is done with them before they are read
EXAMPLES = 3  # of what was trained on, for the page
NEEDED = "a network of torch is needed, whose weights can be changed and saved: a model of transformers, torchvision or timm, or model=module with its class"


@dataclass(frozen=True)
class Exam:
    """An image of a test source: what reads it (None: the original), what sets it apart from that, and the condition it shows the source in."""

    image: str
    kind: str
    sample: Sample
    read: Callable[[], Image.Image] | None
    edits: tuple[Edit, ...]
    content: Any
    condition: str

    @property
    def id(self) -> str:
        """Returns what tells the image from all others."""
        return f"{self.image} ({self.kind})"


def retrain(
    cfg: DictConfig,
    test_fraction: float,
    seeds: Sequence[int],
    steps: int,
    batch_size: int,
    learning_rate: float,
    share: float,
    conditions: Sequence[str],
) -> None:
    """Trains the models under test further in three arms; leaves figures, weights and a page in Hydra's output folder, and the figures in MLflow.

    All arms start from the same weights and take the same steps; they draw originals alone, or augmented images or counterfactuals for a
    `share` of them. Groups of sources are split before anything is generated: `test_fraction` of them are tested on and never trained on.
    Every arm is trained once with each of the `seeds`. Where the data set renders, the truth is all combinations of the values of the `conditions`.
    """
    pipeline = assembled(cfg)
    mistakes = {
        f"job.test_fraction: must lie between 0 and 1, not {test_fraction}": not 0 < test_fraction < 1,
        f"job.seeds: must be one or more different numbers from 0 on, as in job.seeds=[0,1,2], not {list(seeds)}": not seeds
        or len(set(seeds)) < len(seeds)
        or min(seeds) < 0,
        f"job.steps: must be 1 or more, not {steps}": steps < 1,
        f"job.batch_size: must be 1 or more, not {batch_size}": batch_size < 1,
        f"job.learning_rate: must be more than 0, not {learning_rate}": learning_rate <= 0,
        f"job.share: must be more than 0 and 1 at most, not {share}": not 0 < share <= 1,
    } | {f"model.{m.name}: {type(m).__name__} cannot be trained as it is set; {NEEDED}": not getattr(m, "trainable", False) for m in pipeline.models}
    refuse([mistake for mistake, made in mistakes.items() if made])

    folder = Path(HydraConfig.get().runtime.output_dir)
    with tracked(cfg, folder) as tracking:
        samples = pipeline.dataset.samples()
        if isinstance(pipeline.dataset, Renders):
            known = frozenset.intersection(*(frozenset(s.attributes) for s in samples))
            refuse([f"job.conditions: the sources have no attribute {c!r}, but {', '.join(sorted(known))}" for c in conditions if c not in known])
        train, test = ([s.id for s in part] for part in split(samples, test_fraction, pipeline.seed))
        (folder / "split.json").write_text(json.dumps({"train": train, "test": test}, indent=2))
        log.info("split by group: %d sources to train on, %d to test on", len(train), len(test))
        out = replace(pipeline, models=()).run(folder)
        parts = [[pair for pair in out.pairs if pair.sample.id in part] for part in map(frozenset, (train, test))]
        if not any(pair.verdict.valid for pair in parts[0]):
            raise UserError("no counterfactual of a source to train on is valid: see failures.jsonl, or raise dataset.limit or counterfactuals")
        course = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "share": share}
        arms = [Arms(pipeline, model, parts[0], parts[1], course, seeds, conditions, folder) for model in pipeline.models]
        predictions.write(folder / "predictions.parquet", (row for each in arms for row in each.run()))
        for each in arms:
            out.results["models"][each.model.name] = each.results()
            for stage, seconds in each.stages.seconds.items():
                out.results["seconds"][stage] = round(out.results["seconds"].get(stage, 0) + seconds, 3)
        temporary = folder / "results.json.tmp"
        temporary.write_text(json.dumps(out.results, indent=2))
        temporary.replace(folder / "results.json")
        retraining.write(out.results, _examples(pipeline, parts[0]), folder)
        tracking.log(out)
    for name, figures in out.results["models"].items():
        _show(name, figures["retraining"])
    farewell(folder, cfg.tracking.uri)


@dataclass
class Arms:
    """One model under test, trained in all arms with all seeds, and what each of these answers on the test sources."""

    pipeline: Pipeline
    model: Any
    train: list[Pair]
    test: list[Pair]
    course: dict[str, Any]
    seeds: Sequence[int]
    conditions: Sequence[str]
    folder: Path

    stages: Stages = field(init=False)
    facts: list[Any] = field(init=False)
    exams: dict[str, Exam] = field(init=False)
    trained: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Settles on what the arms are held against each other."""
        data, painter = self.pipeline.dataset, self.pipeline.generator
        self.stages = Stages(self.pipeline.store, self.pipeline.execution)
        self.facts = [data.task, data.classes, data.colours, sorted(data.ignored), painter.width, painter.height]
        self.exams = {exam.id: exam for exam in self._exams()}

    def run(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of predictions.parquet; trains whatever is not trained yet."""
        items = [Item(i, [SAID, self.facts, e.sample.digest, e.kind, e.content], (e.sample, e.read)) for i, e in self.exams.items()]
        answers = {self.model.name: self.pipeline.predict(self.stages, self.model, items)}
        for seed, arm in product(self.seeds, ARMS):
            kept = self._trained(arm, seed)
            weights = self.folder / "weights" / self.model.name / f"{arm}-{seed}"
            shutil.copytree(kept, weights, copy_function=lambda source, target: link(Path(source), Path(target)))
            self.trained[arm, seed] = json.loads((kept / "training.json").read_text()) | {"weights": self._settings(weights)}
            answers[self._name(arm, seed)] = self.pipeline.predict(self.stages, self.model.saved(kept), items)
        for name, records in answers.items():
            for i, exam in self.exams.items():
                if all(i in each for each in answers.values()):  # what failed for one of them counts for none
                    yield predictions.row(name, exam.image, exam.sample.id, exam.kind, records[i].value, exam.edits)

    def results(self) -> dict[str, Any]:
        """Returns the figures of the model as it was on the test sources, and those of all arms (`retraining`)."""
        path, data = self.folder / "predictions.parquet", self.pipeline.dataset
        untouched = predictions.read(path, self.model.name, data)
        said = {arm: [predictions.read(path, self._name(arm, seed), data) for seed in self.seeds] for arm in ARMS}
        figures = {UNTOUCHED: [self._figures(untouched)] * len(self.seeds)} | {arm: list(map(self._figures, runs)) for arm, runs in said.items()}
        arms: dict[str, dict[str, Any]] = {}
        for arm, runs in figures.items():
            arms[arm] = _summed(runs[:1] if arm == UNTOUCHED else runs)
            arms[arm]["over"] = {other: _summed([_less(one, two) for one, two in zip(runs, figures[other], strict=True)]) for other in arms if other != arm}
            if arm != UNTOUCHED:
                took = [self.trained[arm, seed] for seed in self.seeds]
                arms[arm] |= {key: [each[key] for each in took] for key in ("steps", "seconds", "drawn", "weights")}
        kinds = [exam.kind for exam in self.exams.values()]
        return statistics.summary(untouched, data, self.pipeline.seed, valid=True) | {
            "retraining": {
                "metric": statistics.MAIN[data.task],
                "level": statistics.LEVEL,
                "seeds": list(self.seeds),
                "rough": len(self.seeds) < statistics.SEEDS,
                "sources": {name: len({pair.sample.id for pair in pairs}) for name, pairs in (("train", self.train), ("test", self.test))},
                "counterfactuals": sum(pair.verdict.valid for pair in self.train),
                "images": {kind: kinds.count(kind) for kind in KINDS},
                "home": sorted({exam.condition for exam in self.exams.values() if exam.kind == ORIGINAL}),
                "course": self.course,
                "arms": arms,
                "over_sources": {kind: self._over_sources(said[COUNTERFACTUALS], said[ORIGINALS], kind) for kind in KINDS},
            }
        }

    def _settings(self, weights: Path) -> str:
        """Returns the settings by which the class of the model loads weights."""
        before, after = (vars(model) for model in (self.model, self.model.saved(weights)))
        return " ".join(f"model.{self.model.name}.{name}={value}" for name, value in after.items() if value != before[name])

    def _name(self, arm: str, seed: int) -> str:
        return f"{self.model.name}, {arm}, seed {seed}"

    def _exams(self) -> Iterator[Exam]:
        data, sources = self.pipeline.dataset, {pair.sample.id: pair.sample for pair in self.test}
        names = self.conditions if isinstance(data, Renders) else ()
        values = {name: list(dict.fromkeys([*(s.attributes[name] for s in sources.values()), *data.vary.get(name, ())])) for name in names}
        for i, sample in sources.items():
            own = {name: sample.attributes[name] for name in values}
            yield Exam(i, ORIGINAL, sample, None, (), None, " ".join(own.values()))
            for combination in product(*values.values()):
                edits = tuple(Edit(name, own[name], value) for name, value in zip(values, combination, strict=True) if value != own[name])
                if edits and isinstance(data, Renders) and (render := data.render(sample, edits)):
                    condition = " ".join(combination)
                    yield Exam(f"{i} {condition}", TRUTH, sample, partial(held, render), edits, [asdict(edit) for edit in edits], condition)
        for pair in self.test:
            if pair.verdict.valid:
                yield Exam(pair.id, COUNTERFACTUAL, pair.sample, pair.painted, pair.counterfactual.edits, pair.image.name, "")

    def _trained(self, arm: str, seed: int) -> Path:
        """Returns the folder in the store with the weights of one arm and seed, trained now if they were not before."""
        from ..evaluation.training import Course, train

        course = self.course | ({"share": 0.0} if arm == ORIGINALS else {})
        drawn = [(s.digest, [pair.image.name for pair in pairs] if arm == COUNTERFACTUALS else []) for s, pairs in self._painted.values()]
        # what an arm does not draw is not in it, for it must not have the arm trained anew
        key = digest("training", VERSION, identity(self.model), arm, seed, course, self.facts, drawn)
        kept = self.pipeline.store.folder / "retrained" / key
        name = self._name(arm, seed)
        if kept.exists():
            log.info("training: %s is there already", name)
            return kept
        start = time.perf_counter()
        model = copy.deepcopy(self.model)
        model.load()
        took = train(model, self._sources, self.pipeline.dataset, arm, Course(**course), seed)
        temporary = kept.with_name(f"{key}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
        model.save(temporary)
        (temporary / "training.json").write_text(json.dumps({"model": self.model.name, "arm": arm, "seed": seed} | course | asdict(took), indent=2))
        try:
            temporary.rename(kept)
        except OSError:  # another run has trained the same meanwhile
            shutil.rmtree(temporary)
        seconds = time.perf_counter() - start
        self.stages.seconds["training"] = self.stages.seconds.get("training", 0) + seconds
        log.info("training: %s, %d steps in %.1f s", name, took.steps, seconds)
        return kept

    @cached_property
    def _painted(self) -> dict[str, tuple[Sample, list[Pair]]]:
        """Returns the sources to train on, each with its valid counterfactuals."""
        found: dict[str, tuple[Sample, list[Pair]]] = {}
        for pair in self.train:
            found.setdefault(pair.sample.id, (pair.sample, []))[1].extend([pair] if pair.verdict.valid else [])
        return found

    @cached_property
    def _sources(self) -> list["Source"]:
        from ..evaluation.training import Source

        sources = []
        for sample, pairs in self._painted.values():
            image, truth = self.pipeline.reading(sample)
            others = [self.pipeline.reading(sample, pair.painted)[0] for pair in pairs]
            sources.append(Source(partial(held, image), partial(held, truth), [partial(held, other) for other in others]))
        return sources

    def _figures(self, said: Predictions) -> dict[str, Any]:
        """Returns the main metric of what one model answered, by kind of image and by condition."""
        conditions = {exam.image: exam.condition for exam in self.exams.values() if exam.kind != COUNTERFACTUAL}
        shown = np.array([conditions.get(image, "") for image in said.image])

        def metric(rows: np.ndarray) -> float:
            return float(statistics.metric(said.tallies[rows].sum(0), self.pipeline.dataset))

        known = [name for name in dict.fromkeys(conditions.values()) if name]
        return {kind: metric(said.kind == kind) for kind in KINDS} | {"per_condition": {name: metric(shown == name) for name in known}}

    def _over_sources(self, ours: Sequence[Predictions], theirs: Sequence[Predictions], kind: str) -> dict[str, Any]:
        """Returns the interval of the mean difference of two arms on a kind of images, were other sources drawn, and whether it is rough."""
        sums = [statistics.by_source(said, said.kind == kind) for said in (*ours, *theirs)]
        if len(sums[0]) < 2:
            return {"low": None, "high": None, "rough": True}

        def gained(*drawn: np.ndarray) -> np.ndarray:
            each = np.stack([statistics.metric(part, self.pipeline.dataset) for part in drawn], -1)
            return each[..., : len(ours)].mean(-1, keepdims=True) - each[..., len(ours) :].mean(-1, keepdims=True)

        low, high = statistics.interval(sums, gained, self.pipeline.seed)
        return {"low": statistics.number(low[0]), "high": statistics.number(high[0]), "rough": len(sums[0]) < statistics.ENOUGH}


@lru_cache(maxsize=HELD)
def held(read: Callable[[], T]) -> T:
    """Returns what a function reads, from memory if that was lately."""
    return read()


def _less(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how much larger the figures of one are than those of another."""
    return {name: _less(value, other[name]) if isinstance(value, Mapping) else value - other[name] for name, value in one.items()}


def _summed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mean of each figure over seeds with its interval."""
    return {
        name: _summed([run[name] for run in runs]) if isinstance(value, Mapping) else statistics.over_seeds([run[name] for run in runs])
        for name, value in runs[0].items()
    }


def _examples(pipeline: Pipeline, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Returns an original, an augmented image and a counterfactual of some of the sources that were trained on."""
    from ..evaluation.augmentation import augmented

    shown = list({pair.sample.id: pair for pair in pairs if pair.verdict.valid}.values())[:EXAMPLES]
    found = []
    for number, pair in enumerate(shown):
        read, truth = pipeline.reading(pair.sample)
        images = {"original": read(), "augmented": augmented(read(), truth(), number)[0], "counterfactual": pair.painted()}
        found.append({"text": pair.counterfactual.text, "images": images})
    return found


def _show(model: str, figures: Mapping[str, Any]) -> None:
    metric = words.name_of(figures["metric"])
    table = Table("arm", *(retraining.NAMES[kind] for kind in KINDS), title=f"{model}: {metric} on untouched sources, {len(figures['seeds'])} seeds")
    for arm, part in figures["arms"].items():
        table.add_row(*map(Text, (arm, *(retraining.share(part[kind]) for kind in KINDS))))
    table.add_section()
    for other in (ORIGINALS, *ARMS[1:-1]):
        gains = (retraining.gain(figures["arms"][COUNTERFACTUALS]["over"][other][kind]) for kind in KINDS)
        table.add_row(*map(Text, (f"{COUNTERFACTUALS} over {other}, points", *gains)))
    Console().print(table)
    log.info("%s", " ".join(retraining.verdict(model, figures)))
