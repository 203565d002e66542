"""The steps of a run, and the only place that knows their order."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from .conditioning.several import parts
from .dataset import check_sample
from .errors import UserError
from .evaluation import predictions, statistics
from .evaluation.quality import SIMILARITIES, similarity
from .execution import together
from .execution.local import Local
from .pairs import Pair, Pairs, opened, scaled
from .stage import Item, Stages
from .store import Record, Store, seed_for
from .types import Caption, Control, Counterfactual, Dataset, Edit, Renders, Sample, Verdict

log = logging.getLogger(__name__)

SAFE = re.compile(r"\w[\w.-]*")  # ids become file names
BLOCK = 2_000  # sources that take all the steps together: what they hold in memory, some 200 MB, is that of the largest run; models are loaded once a block
SAID = 3  # version of what a model's record holds
CHUNK = 8  # batches of a model under test between two records: starting Lightning takes longer than a batch
SHARE = 512  # such batches on each of several devices, where a process has to be started for each


@dataclass
class Run:
    """What came out: the figures (results.json), the pairs they come from, what failed, and by model what was said about the pairs."""

    results: dict[str, Any]
    pairs: Pairs
    failures: list[dict[str, str]]
    answers: Mapping[str, predictions.Predictions] = field(default_factory=dict)


@dataclass
class Pipeline:
    """The parts of a run, one of each group of the configuration; `size` is that of the exported images and masks.

    Models under test run on so many `devices` side by side.
    """

    dataset: Dataset
    captioner: Any
    editor: Any
    edits: Any
    conditioning: Any
    generator: Any
    validity: Any
    models: Sequence[Any]
    execution: Local
    store: Store
    quality: Any = None
    devices: int = 1
    counterfactuals: int = 3
    save_controls: bool = False
    seed: int = 0
    size: Literal["generated", "source"] | tuple[int, int] = "generated"

    def run(self, folder: Path) -> Run:
        """Runs all the steps and leaves results.json, predictions.parquet, failures.jsonl and generated/ in a folder."""
        stages = Stages(self.store, self.execution)
        samples = _by_id(self.dataset.samples())
        log.info("%s: %d sources", self.dataset.name, len(samples))
        pairs = Pairs(folder / "generated", samples, self.store)
        counts = dict.fromkeys(("sources", "captions", "counterfactuals", "generated", "valid"), 0)
        try:
            predictions.write(folder / "predictions.parquet", self._rows(stages, samples, pairs, counts))
            distance = self._distance(stages, pairs)
        finally:
            _lines(folder / "failures.jsonl", stages.failures)
        results: dict[str, Any] = {"dataset": self.dataset.name, "task": self.dataset.task, "classes": list(self.dataset.classes), "seed": self.seed}
        results |= {"counts": counts | {"failed": len(stages.failures)}, "seconds": stages.seconds, "models": {}}
        results["quality"] = {
            name: statistics.means(((p.sample.id, p.quality[name]) for p in pairs if p.verdict.valid and name in p.quality), self.seed)
            for name in (*SIMILARITIES, *(self.quality.figures if self.quality else ()))
        }
        results["distance"] = distance
        answers = {model.name: predictions.read(folder / "predictions.parquet", model.name, self.dataset) for model in self.models}
        for name, said in answers.items():
            valid, every = (statistics.summary(said, self.dataset, self.seed, valid=strict) for strict in (True, False))
            results["models"][name] = valid | {"all": every, "truth": statistics.truth(said, self.dataset, self.seed)}
        results["comparisons"] = statistics.comparisons(
            ({"a": a, "b": b} | statistics.compare(answers[a], answers[b], self.dataset, self.seed) for a, b in combinations(answers, 2))
        )
        temporary = folder / "results.json.tmp"
        temporary.write_text(json.dumps(results, indent=2))
        temporary.replace(folder / "results.json")
        return Run(results, pairs, stages.failures, answers)

    def predict(self, stages: Stages, model: Any, items: Sequence[Item]) -> dict[str, Record]:
        """Returns what a model says of samples, or of other images of them: the payload of an item is a sample, and None or what reads the other image."""
        chunk = (CHUNK if self.devices == 1 else SHARE * self.devices) * model.batch_size
        return stages.run("prediction", model, items, self._predict, batch_size=chunk)

    def reading(self, sample: Sample, other: Callable[[], Image.Image] | None = None) -> tuple[Callable[[], Image.Image], Callable[[], int | np.ndarray]]:
        """Returns what reads a sample's image, or another image of it, and its label or mask, as large as models see them."""
        size = (self.generator.width, self.generator.height)
        return partial(_picture, sample, other, size), partial(scaled, sample, size) if self.dataset.task == "segmentation" else partial(
            getattr, sample, "label"
        )

    def _rows(self, stages: Stages, samples: Mapping[str, Sample], pairs: Pairs, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
        """Yields the rows of predictions.parquet; all sources take all the steps, BLOCK at a time, and are let go of."""
        blocks: list[dict[str, Sample]] = [{} for _ in range(0, len(samples), BLOCK)]
        place = {i: n // BLOCK for n, i in enumerate(sorted(samples))}  # the order of a data set must not change what is made of it
        for i, sample in samples.items():
            blocks[place[i]][i] = sample
        for number, block in enumerate(blocks):
            begun = time.perf_counter()
            yield from self._block(stages, block, number, pairs, counts)
            if len(blocks) > 1:
                took = timedelta(seconds=round(time.perf_counter() - begun))
                log.info("%d of %d sources are done; the last %d took %s", counts["sources"], len(samples), len(block), took)

    def _block(self, stages: Stages, samples: Mapping[str, Sample], number: int, pairs: Pairs, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
        """Yields the rows of predictions.parquet for some of the sources; adds their pairs, and what there is of each, to those of the run."""
        data = self.dataset
        facts = [data.task, data.classes, data.colours, sorted(data.ignored)]
        size = (self.generator.width, self.generator.height)

        # every source is read once, so that damaged ones are out before anything is made of them
        sources = stages.run(
            "source", None,
            [Item(i, [facts, _content(s)], s) for i, s in samples.items()],
            lambda _, batch: [check_sample(s, data) for s in batch],  # type: ignore[func-returns-value]  # no value is the good news
        )  # fmt: skip

        captions = stages.run(
            "caption", self.captioner,
            [Item(i, [facts, r.key, samples[i].attributes, self._seed(i, "caption")], (samples[i], self._seed(i, "caption"))) for i, r in sources.items()],
            lambda captioner, batch: [
                c if isinstance(c, Exception) else c.text for c in captioner.caption([s for s, _ in batch], data, [seed for _, seed in batch])
            ],
            batch_size=self.captioner.batch_size,
        )  # fmt: skip
        spoken = {i: Caption(r.value) for i, r in captions.items()}

        keywords = stages.run(
            "keywords", self.editor,
            [_item(i, caption.text, data.vary, self._label(samples[i]), self._seed(i, "keywords")) for i, caption in spoken.items()],
            lambda editor, batch: together(lambda one: editor.keywords(Caption(one[0]), *one[1:]), batch),
            batch_size=self.editor.batch_size,
        )  # fmt: skip

        # sorted, for a plan looks at all sources of a block, and their order must not change it
        plans = self.edits.plan({i: keywords[i].value for i in sorted(keywords)}, data.vary, self.counterfactuals, self.seed + number)
        planned = [(f"{i}_{n}", i, n, narrowed) for i in keywords for n, narrowed in enumerate(plans[i])]
        source_of = {v: i for v, i, _, _ in planned}

        alternatives = stages.run(
            "alternatives", self.editor,
            [_item(v, spoken[i].text, keywords[i].value, narrowed, self._seed(i, "alternatives", n)) for v, i, n, narrowed in planned],
            lambda editor, batch: together(lambda one: asdict(editor.rewrite(Caption(one[0]), editor.alternatives(Caption(one[0]), *one[1:]))), batch),
            batch_size=self.editor.batch_size,
        )  # fmt: skip
        rewritten = {v: Counterfactual(r.value["text"], tuple(Edit(**e) for e in r.value["edits"])) for v, r in alternatives.items()}

        structures = {
            name: stages.run(
                "control", part,
                [
                    Item(i, [facts, sources[i].key, size, *([_content(samples[i], part.content)] if hasattr(part, "content") else [])], samples[i])
                    for i in dict.fromkeys(source_of[v] for v in rewritten)
                ],
                lambda conditioning, batch: [(c.weight, c.image) for c in (conditioning.control(s, data, size) for s in batch)],
                images=True,
            )
            for name, part in parts(self.conditioning).items()
        }  # fmt: skip
        controls = {v: {name: made[source_of[v]] for name, made in structures.items() if source_of[v] in made} for v in rewritten}

        seeds = {v: self._seed(i, "generated", n) for v, i, n, _ in planned}
        generated = stages.run(
            "generated", self.generator,
            [
                Item(
                    v,
                    [sources[source_of[v]].key, asdict(c), {name: r.key for name, r in controls[v].items()}, seeds[v]],
                    (samples[source_of[v]], c, {name: (self.store.image(r.key), r.value) for name, r in controls[v].items()}, seeds[v]),
                )
                for v, c in rewritten.items() if controls[v].keys() == structures.keys()
            ],
            _generate, batch_size=self.generator.batch_size, images=True,
        )  # fmt: skip

        validity = stages.run(
            "validity", self.validity,
            [Item(v, [facts, sources[source_of[v]].key, r.key], (samples[source_of[v]], self.store.image(r.key))) for v, r in generated.items()],
            lambda gate, batch: gate.score([s for s, _ in batch], [opened(path) for _, path in batch], data),
            batch_size=self.validity.batch_size,
        )  # fmt: skip
        verdicts = {v: Verdict(r.value, self.validity.verdict(r.value)) for v, r in validity.items()}

        quality = stages.run(
            "quality", None,
            [Item(v, [sources[source_of[v]].key, r.key], (samples[source_of[v]], self.store.image(r.key))) for v, r in generated.items()],
            lambda _, batch: [similarity(_picture(s, None, size), opened(path)) for s, path in batch],
            batch_size=16,
        )  # fmt: skip

        measured = stages.run(
            "networks", self.quality,
            [Item(v, [sources[source_of[v]].key, r.key, rewritten[v].text], (samples[source_of[v]], self.store.image(r.key), rewritten[v].text))
             for v, r in generated.items()],
            lambda networks, batch: networks.score([_picture(s, None, size) for s, *_ in batch], [opened(p) for _, p, _ in batch], [t for *_, t in batch]),
            batch_size=self.quality.batch_size,
        ) if self.quality and self.quality.figures else {}  # fmt: skip

        made: dict[str, Pair] = {}
        for v, record in generated.items():
            i, structure = source_of[v], {name: self.store.image(r.key) for name, r in controls[v].items()}
            likeness = {name: value for known in (quality, measured) if v in known for name, value in known[v].value.items()}
            verdict = verdicts.get(v, Verdict({}, False))
            made[v] = Pair(v, samples[i], spoken[i], rewritten[v], seeds[v], structure, self.store.image(record.key), verdict, likeness)
        pairs.add(made.values(), data, self.size, self.save_controls)
        found = {"sources": samples, "captions": captions, "counterfactuals": rewritten, "generated": generated}
        for name, count in ({name: len(items) for name, items in found.items()} | {"valid": sum(p.verdict.valid for p in made.values())}).items():
            counts[name] += count

        # a model sees originals as large as counterfactuals, or the drop would hold what the size does
        items = [Item(f"{i} (original)", [SAID, facts, sources[i].key, size], (samples[i], None)) for i in dict.fromkeys(source_of[v] for v in made)]
        items += [Item(v, [SAID, facts, sources[source_of[v]].key, generated[v].key], (p.sample, p.painted)) for v, p in made.items()]
        if isinstance(data, Renders):
            for v, p in made.items():
                if image := data.render(p.sample, p.counterfactual.edits):
                    change = [asdict(e) for e in p.counterfactual.edits]
                    items.append(Item(f"{v} (truth)", [SAID, facts, sources[source_of[v]].key, size, change], (p.sample, image)))
        for model in self.models:
            said = self.predict(stages, model, items)
            answered = [p for v, p in made.items() if v in said and f"{p.sample.id} (original)" in said]
            for i, p in {p.sample.id: p for p in answered}.items():
                yield predictions.row(model.name, i, i, predictions.ORIGINAL, said[f"{i} (original)"].value, digest=p.sample.digest)
            for p in answered:
                edits, valid = p.counterfactual.edits, p.verdict.valid
                yield predictions.row(model.name, p.id, p.sample.id, predictions.COUNTERFACTUAL, said[p.id].value, edits, valid, p.image.stem)
                if actual := said.get(f"{p.id} (truth)"):
                    yield predictions.row(model.name, p.id, p.sample.id, predictions.TRUTH, actual.value, edits, valid)

    def _seed(self, item: str, stage: str, variant: int = 0) -> int:
        return seed_for(self.seed, item, stage, variant)

    def _label(self, sample: Sample) -> str:
        return "" if self.dataset.task == "segmentation" or sample.label is None else self.dataset.classes[sample.label]

    def _predict(self, model: Any, batch: list[tuple[Sample, Callable[[], Image.Image] | None]]) -> list[dict[str, Any] | Exception]:
        from .evaluation.module import evaluate

        size = (self.generator.width, self.generator.height)
        items = [(str(n), partial(_picture, s, other, size), partial(_truth, self.dataset.task, s, size)) for n, (s, other) in enumerate(batch)]
        said = evaluate(model, items, self.dataset, model.batch_size, self.devices)
        return [said[str(n)] for n in range(len(batch))]

    def _distance(self, stages: Stages, pairs: Pairs) -> dict[str, Any] | None:
        """Returns how far the valid images, as a set, are from their originals; None where nothing measures it, or for fewer than two of either."""
        if not (self.quality and self.quality.features):
            return None
        valid = sorted((p.id, p.image.stem, p.sample.id) for p in pairs if p.verdict.valid)
        images, sources = [key for _, key, _ in valid], list(dict.fromkeys(source for *_, source in valid))
        if len(sources) < 2:
            return None
        size, samples = (self.generator.width, self.generator.height), {p.sample.id: p.sample for p in pairs}
        sets = Lazy(sources, lambda i: _picture(samples[i], None, size)), Lazy(images, lambda key: opened(self.store.image(key)))
        whole = Item("valid images", [size, [samples[i].digest for i in sources], images], sets)
        done = stages.run("distance", self.quality, [whole], lambda networks, batch: [networks.distance(*sets) for sets in batch])
        return done[whole.id].value if whole.id in done else None


@dataclass(frozen=True)
class Lazy(Sequence[Callable[[], Image.Image]]):
    """What opens images, by their names, made when it is asked for."""

    names: Sequence[str]
    read: Callable[[str], Image.Image]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: Any) -> Any:
        return partial(self.read, self.names[place])


def _by_id(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Returns samples by id; raises a UserError for ids that cannot name a file or a record."""
    found: dict[str, Sample] = {}
    for sample in samples:
        if not SAFE.fullmatch(sample.id):
            raise UserError(f"the data set has a sample called {sample.id!r}: ids name files, so they may only hold letters, digits, '_', '-' and '.'")
        if sample.id in found:
            raise UserError(f"the data set has two samples called {sample.id}: ids must be unique")
        found[sample.id] = sample
    return found


def _content(sample: Sample, read: Callable[[Sample], str] = lambda sample: sample.digest) -> str:
    try:
        return read(sample)
    except Exception:  # what is wrong with it is found, and recorded, when the item is worked on
        return f"{sample.id} cannot be read"


def _item(item: str, *inputs: Any) -> Item:
    return Item(item, inputs, inputs)


def _generate(generator: Any, batch: list[tuple[Sample, Counterfactual, dict[str, tuple[Path, float]], int]]) -> list[Any]:
    samples, counterfactuals, made, seeds = zip(*batch, strict=True)
    controls = [{name: Control(opened(path), weight) for name, (path, weight) in each.items()} for each in made]
    images = generator.generate(samples, counterfactuals, controls, seeds)
    return [image if isinstance(image, Exception) else (None, image) for image in images]


def _truth(task: str, sample: Sample, size: tuple[int, int]) -> int | np.ndarray:
    return cast(int, sample.label) if task == "classification" else scaled(sample, size)


def _picture(sample: Sample, other: Callable[[], Image.Image] | None, size: tuple[int, int]) -> Image.Image:
    image = other() if other else sample.image
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
