"""The job that retrains models under test on counterfactuals, and finds out on untouched sources what that buys."""

import copy
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import chain, islice, product
from operator import call
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import Must, Positive, build, refuse
from ..dataset import split
from ..errors import UserError
from ..evaluation import predictions, statistics
from ..evaluation.predictions import COUNTERFACTUAL, KINDS, ORIGINAL, TRUTH, Predictions
from ..pairs import Pair, opened
from ..pipeline import SAID, Pipeline
from ..report import retraining, words
from ..report.retraining import ARMS, AUGMENTATION, COUNTERFACTUALS, ORIGINALS, UNTOUCHED
from ..stage import Item, Stages
from ..store import digest, identity, link
from ..types import Edit, Renders, Sample
from .run import assembled, farewell, tracked

if TYPE_CHECKING:
    from ..evaluation.training import Source

log = logging.getLogger(__name__)

VERSION = 2  # of how models are trained
HELD = 2**29  # bytes of images and masks in memory: a small network is done with them before they are read
AT_ONCE = 1024  # test images whose records are in memory: some 15 KB each for a street scene
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


def mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields which models under test cannot be trained."""
    for model in map(build, cfg.model.values()):
        if not getattr(model, "trainable", False):
            yield f"model.{model.name}: {type(model).__name__} cannot be trained as it is set; {NEEDED}"


def retrain(
    cfg: DictConfig,
    test_fraction: Annotated[float, Must("between 0 and 1", lambda value: 0 < value < 1)],
    seeds: Annotated[Sequence[int], Must("from 0 on, one or more and none twice", lambda value: value and min(value) >= 0 and len({*value}) == len(value))],
    steps: Positive,
    batch_size: Positive,
    learning_rate: Annotated[float, Must("above 0", lambda value: value > 0)],
    share: Annotated[float, Must("above 0 and 1 at most", lambda value: 0 < value <= 1)],
    conditions: Sequence[str],
) -> None:
    """Trains the models under test further in three arms; leaves figures, weights and a page in Hydra's output folder, and the figures in MLflow.

    All arms start from the same weights and take the same steps; they draw originals alone, or augmented images or counterfactuals for a
    `share` of them. Groups of sources are split before anything is generated: `test_fraction` of them are tested on and never trained on.
    Every arm is trained once with each of the `seeds`. Where the data set renders, the truth is all combinations of the values of the `conditions`.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    with tracked(cfg, folder) as tracking:
        pipeline = assembled(cfg)
        samples = pipeline.dataset.samples()
        if isinstance(pipeline.dataset, Renders):
            known = frozenset.intersection(*(frozenset(s.attributes) for s in samples))
            refuse([f"job.conditions: the sources have no attribute {c!r}, but {', '.join(sorted(known))}" for c in conditions if c not in known])
        train, test = split(_alike(samples), test_fraction, pipeline.seed)
        (folder / "split.json").write_text(json.dumps({"train": [s.id for s in train], "test": [s.id for s in test]}, indent=2))
        log.info("split by group: %d sources to train on, %d to test on", len(train), len(test))
        if not any(s.group for s in samples) and not isinstance(pipeline.dataset, Renders):
            log.warning("the data set names no groups (dataset.group, where it has one): frames of one video, if any, may be trained on and tested on")
        if unseen := _unseen(pipeline, train, test):
            log.warning(retraining.unlearnt(unseen))
        out = replace(pipeline, models=()).run(folder)
        damaged = {failure["id"] for failure in out.failures if failure["stage"] == "source"}
        parts = [[s for s in part if s.id not in damaged] for part in (train, test)]
        if not parts[1]:
            raise UserError("no source to test on can be read: see failures.jsonl")
        course = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "share": share}
        arms = Arms(pipeline, parts[0], parts[1], out.pairs, course, seeds, conditions, folder)
        if not any(painted for _, painted in arms.painted.values()):
            raise UserError("no counterfactual of a source to train on is valid: see failures.jsonl, or raise dataset.limit or counterfactuals")
        try:
            predictions.write(folder / "predictions.parquet", arms.rows())
        finally:
            with (folder / "failures.jsonl").open("a") as file:
                file.writelines(json.dumps(failure) + "\n" for failure in arms.stages.failures)
        out.results["counts"]["failed"] += len(arms.stages.failures)
        out.results["models"] = {model.name: arms.results(model) for model in pipeline.models}
        out.results["seconds"] |= {stage: round(seconds, 3) for stage, seconds in arms.stages.seconds.items()}
        temporary = folder / "results.json.tmp"
        temporary.write_text(json.dumps(out.results, indent=2))
        temporary.replace(folder / "results.json")
        retraining.write(out.results, arms.examples(), folder)
        tracking.log(out)
    for name, figures in out.results["models"].items():
        _show(name, figures["retraining"])
    farewell(folder, cfg.tracking.uri)


@dataclass
class Arms:
    """The models under test, trained in all arms with all seeds, and what each of these answers on the test sources.

    `exams` are their originals and renders, `painted` the sources to train on, each with its valid counterfactuals, `lost` the images
    that a model, or what became of it, could not be asked about.
    """

    pipeline: Pipeline
    train: list[Sample]
    test: list[Sample]
    pairs: Iterable[Pair]
    course: dict[str, Any]
    seeds: Sequence[int]
    conditions: Sequence[str]
    folder: Path

    stages: Stages = field(init=False)
    facts: list[Any] = field(init=False)
    exams: list[Exam] = field(init=False)
    painted: dict[str, tuple[Sample, list[Path]]] = field(init=False)
    trained: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, set[str]] = field(default_factory=dict)
    begun: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Settles on what the arms are trained on and held against each other."""
        data, painter = self.pipeline.dataset, self.pipeline.generator
        self.stages = Stages(self.pipeline.store, self.pipeline.execution)
        self.facts = [data.task, data.classes, data.colours, sorted(data.ignored), painter.width, painter.height]
        self._held = lru_cache(maxsize=HELD // (4 * painter.width * painter.height))(call)
        self.exams = list(self._exams())
        self.painted = {sample.id: (sample, []) for sample in self.train}
        for pair in self.pairs:
            if pair.verdict.valid and pair.sample.id in self.painted:
                self.painted[pair.sample.id][1].append(pair.image)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of predictions.parquet, for AT_ONCE images at a time; trains whatever is not trained yet."""
        for model in self.pipeline.models:
            lost = self.lost[model.name] = set()
            for name, answering in self._models(model):
                left = chain(self.exams, self._painted())
                while some := list(islice(left, AT_ONCE)):
                    items = [Item(e.id, [SAID, self.facts, e.sample.digest, e.kind, e.content], (e.sample, e.read)) for e in some if e.id not in lost]
                    said = self.pipeline.predict(self.stages, answering, items)
                    lost.update(item.id for item in items if item.id not in said)
                    known = [(e, said[e.id].value | {"mistakes": None}) for e in some if e.id in said]  # which the page does not show
                    yield from (predictions.row(name, e.image, e.sample.id, e.kind, record, e.edits) for e, record in known)

    def results(self, model: Any) -> dict[str, Any]:
        """Returns the figures of a model as it was on the test sources, and those of all arms (`retraining`)."""
        path, data, lost = self.folder / "predictions.parquet", self.pipeline.dataset, self.lost[model.name]

        def asked(said: Predictions, kind: str) -> np.ndarray:
            """Returns which rows hold an image of a kind that all were asked about: what failed for one of them counts for none."""
            return (said.kind == kind) & np.array([f"{image} ({kind})" not in lost for image in said.image], bool)

        untouched = predictions.read(path, model.name, data)
        figures = {UNTOUCHED: [self._figures(untouched, asked)] * len(self.seeds)}
        sums: dict[tuple[str, str], list[np.ndarray]] = {}
        for arm, seed in product(ARMS, self.seeds):
            said = predictions.read(path, _name(model, arm, seed), data)
            figures.setdefault(arm, []).append(self._figures(said, asked))
            for kind in KINDS:
                sums.setdefault((arm, kind), []).append(self._by_group(said, asked(said, kind)))
        arms: dict[str, dict[str, Any]] = {}
        for arm, runs in figures.items():
            arms[arm] = _summed(runs[:1] if arm == UNTOUCHED else runs)
            arms[arm]["over"] = {other: _summed([_less(one, two) for one, two in zip(runs, figures[other], strict=True)]) for other in arms if other != arm}
            if arm != UNTOUCHED:
                took = [self.trained[model.name, arm, seed] for seed in self.seeds]
                arms[arm] |= {key: [each[key] for each in took] for key in ("steps", "seconds", "drawn", "loss", "weights")}
        return statistics.summary(untouched, data, self.pipeline.seed, valid=True) | {
            "retraining": {
                "metric": statistics.MAIN[data.task],
                "level": statistics.LEVEL,
                "seeds": list(self.seeds),
                "rough": len(self.seeds) < statistics.SEEDS,
                "sources": {"train": len(self.train), "test": len(self.test)},
                "counterfactuals": sum(len(painted) for _, painted in self.painted.values()),
                "images": {kind: int(asked(untouched, kind).sum()) for kind in KINDS},
                "home": sorted({exam.condition for exam in self.exams if exam.kind == ORIGINAL}),
                "unseen": _unseen(self.pipeline, self.train, self.test),
                "course": self.course,
                "arms": arms,
                "over_sources": {
                    other: {kind: self._over_sources(sums[COUNTERFACTUALS, kind], sums[other, kind]) for kind in KINDS}
                    for other in ARMS
                    if other != COUNTERFACTUALS
                },
            }
        }

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yields an original, an augmented image and a counterfactual of some of the sources that were trained on."""
        from ..evaluation.augmentation import augmented

        first = {painted[0] for _, painted in self.painted.values() if painted}
        for number, pair in enumerate(islice((pair for pair in self.pairs if pair.image in first), EXAMPLES)):
            read, truth = self.pipeline.reading(pair.sample)
            images = {"original": read(), "augmented": augmented(read(), truth(), number)[0], "counterfactual": pair.painted()}
            yield {"text": pair.counterfactual.text, "images": images}

    def _models(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Yields a model as it is, and what became of it in each arm with each seed, under their names; trains what is not trained yet."""
        yield model.name, model
        for seed, arm in product(self.seeds, ARMS):
            kept = self._trained(model, arm, seed)
            weights = self.folder / "weights" / model.name / f"{arm}-{seed}"
            shutil.copytree(kept, weights, copy_function=lambda source, target: link(Path(source), Path(target)))
            self.trained[model.name, arm, seed] = json.loads((kept / "training.json").read_text()) | {"weights": _settings(model, weights)}
            yield _name(model, arm, seed), model.saved(kept)

    def _exams(self) -> Iterator[Exam]:
        data = self.pipeline.dataset
        names = self.conditions if isinstance(data, Renders) else ()
        values = {name: list(dict.fromkeys([*(s.attributes[name] for s in self.test), *data.vary.get(name, ())])) for name in names}
        for sample in self.test:
            own = {name: sample.attributes[name] for name in values}
            yield Exam(sample.id, ORIGINAL, sample, None, (), None, " ".join(own.values()))
            for combination in product(*values.values()):
                edits = tuple(Edit(name, own[name], value) for name, value in zip(values, combination, strict=True) if value != own[name])
                if edits and isinstance(data, Renders) and (render := data.render(sample, edits)):
                    condition = " ".join(combination)
                    content = [asdict(edit) for edit in edits]
                    yield Exam(f"{sample.id} {condition}", TRUTH, sample, partial(self._held, render), edits, content, condition)

    def _painted(self) -> Iterator[Exam]:
        """Yields the valid counterfactuals of the test sources, from the disk: there may be many."""
        tested = {sample.id: sample for sample in self.test}
        for pair in self.pairs:
            if pair.verdict.valid and (sample := tested.get(pair.sample.id)):
                yield Exam(pair.id, COUNTERFACTUAL, sample, pair.painted, pair.counterfactual.edits, pair.image.name, "")

    def _trained(self, model: Any, arm: str, seed: int) -> Path:
        """Returns the folder in the store with the weights of one arm and seed, trained now if they were not before."""
        from ..evaluation import augmentation
        from ..evaluation.training import Course, train

        course = self.course | ({"share": 0.0} if arm == ORIGINALS else {})
        drawn = [(s.digest, [image.name for image in painted] if arm == COUNTERFACTUALS else []) for s, painted in self.painted.values()]
        version = [VERSION, augmentation.VERSION] if arm == AUGMENTATION else [VERSION]
        # what an arm does not draw is not in it, for it must not have the arm trained anew
        key = digest("training", version, identity(model), arm, seed, course, self.facts, drawn)
        kept = self.pipeline.store.folder / "retrained" / key
        count = len(self.pipeline.models) * len(self.seeds) * len(ARMS)
        name = f"{len(self.trained) + 1} of {count}, {_name(model, arm, seed)}"
        if kept.exists():
            log.info("training %s: there already", name)
            return kept
        start = time.perf_counter()
        self.begun.append(start)
        log.info("training %s", name)
        fresh = copy.deepcopy(model)
        fresh.load()
        took = train(fresh, self._sources, self.pipeline.dataset, arm, Course(**course), seed)
        temporary = kept.with_name(f"{key}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True, exist_ok=True)
        fresh.save(temporary)
        (temporary / "training.json").write_text(json.dumps({"model": model.name, "arm": arm, "seed": seed} | course | asdict(took), indent=2))
        for file in temporary.iterdir():
            file.chmod(0o444)  # run folders link to it, as to images
        try:
            temporary.rename(kept)
        except OSError:  # another run has trained the same meanwhile
            shutil.rmtree(temporary)
        now = time.perf_counter()
        self.stages.seconds["training"] = self.stages.seconds.get("training", 0) + now - start
        # between two trainings the test images are predicted
        left = (now - self.begun[0]) / len(self.begun) * (count - len(self.trained) - 1) / 60
        log.info("training %s: %d steps in %.1f s; with what follows about %.0f min left", name, took.steps, now - start, left)
        return kept

    @cached_property
    def _sources(self) -> list["Source"]:
        from ..evaluation.training import Source

        sources = []
        for sample, painted in self.painted.values():
            image, truth = self.pipeline.reading(sample)
            others = [self.pipeline.reading(sample, partial(opened, path))[0] for path in painted]
            sources.append(Source(partial(self._held, image), partial(self._held, truth), [partial(self._held, other) for other in others]))
        return sources

    def _figures(self, said: Predictions, asked: Callable[[Predictions, str], np.ndarray]) -> dict[str, Any]:
        """Returns the main metric of what one model answered, by kind of image and by condition."""
        conditions = {exam.image: exam.condition for exam in self.exams}
        shown = np.array([conditions.get(image, "") for image in said.image])

        def metric(rows: np.ndarray) -> float:
            return float(statistics.metric(said.tallies[rows].sum(0), self.pipeline.dataset))

        known = [name for name in dict.fromkeys(conditions.values()) if name]
        real = asked(said, ORIGINAL) | asked(said, TRUTH)
        return {kind: metric(asked(said, kind)) for kind in KINDS} | {"per_condition": {name: metric(real & (shown == name)) for name in known}}

    def _by_group(self, said: Predictions, rows: np.ndarray) -> np.ndarray:
        """Returns the tallies of some rows added up for each group of sources that has any (groups, k)."""
        groups = {sample.id: sample.group or sample.id for sample in self.test}
        names, group = np.unique([groups[source] for source in said.sources], return_inverse=True)
        sums = np.zeros((len(names), said.tallies.shape[1]), np.int64)
        np.add.at(sums, group[said.source[rows]], said.tallies[rows])
        return sums[np.bincount(group[said.source[rows]], minlength=len(sums)) > 0]

    def _over_sources(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> dict[str, Any]:
        """Returns the interval of the mean difference of two arms, were other sources drawn, group by group, and whether it is rough."""
        if len(ours[0]) < 2:
            return {"low": None, "high": None, "rough": True, "groups": len(ours[0])}

        def gained(*drawn: np.ndarray) -> np.ndarray:
            each = np.stack([statistics.metric(part, self.pipeline.dataset) for part in drawn], -1)
            return each[..., : len(ours)].mean(-1, keepdims=True) - each[..., len(ours) :].mean(-1, keepdims=True)

        low, high = statistics.interval([*ours, *theirs], gained, self.pipeline.seed)
        return {"low": statistics.number(low[0]), "high": statistics.number(high[0]), "rough": len(ours[0]) < statistics.ENOUGH, "groups": len(ours[0])}


def _alike(samples: Sequence[Sample]) -> list[Sample]:
    """Returns samples with those in one group whose pixels are the same: under another name, too, what is tested on must not be trained on."""
    groups: dict[str, str] = {}
    holding: dict[bytes, str] = {}

    def head(group: str) -> str:
        while groups.setdefault(group, group) != group:
            group = groups[group]
        return group

    for sample in samples:
        group = head(sample.group or sample.id)
        try:
            content = hashlib.sha256(sample.image.tobytes()).digest()
        except Exception:  # what is wrong with it is found, and recorded, by the pipeline
            continue
        groups[group] = head(holding.setdefault(content, group))
    return [replace(sample, group=head(sample.group or sample.id)) for sample in samples]


def _unseen(pipeline: Pipeline, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Returns the classes of sources to test on that no source to train on has; nothing is known about masks."""
    labels = {s.label for s in test if s.label is not None} - {s.label for s in train}
    return [pipeline.dataset.classes[label] for label in sorted(labels)]


def _name(model: Any, arm: str, seed: int) -> str:
    return f"{model.name}, {arm}, seed {seed}"


def _settings(model: Any, weights: Path) -> str:
    """Returns the settings by which the class of a model loads weights."""
    before, after = vars(model), vars(model.saved(weights))
    return " ".join(f"model.{model.name}.{name}={value}" for name, value in after.items() if value != before[name])


def _less(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how much larger the figures of one are than those of another."""
    return {name: _less(value, other[name]) if isinstance(value, Mapping) else value - other[name] for name, value in one.items()}


def _summed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mean of each figure over seeds with its interval."""
    return {
        name: _summed([run[name] for run in runs]) if isinstance(value, Mapping) else statistics.over_seeds([run[name] for run in runs])
        for name, value in runs[0].items()
    }


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
