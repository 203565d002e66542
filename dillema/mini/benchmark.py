"""What the default run and the small models achieve: `python -m dillema.mini.benchmark [--only PART ...]`.

Writes outputs/benchmark/benchmark.json and benchmark.md: one row for each promise, with its bar and what was measured.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from ..config import build, conf_dir
from ..dataset.mini import MiniShift, render_as
from ..dataset.shift import IGNORED
from ..evaluation.confusion import confusion
from ..evaluation.statistics import mean_iou
from ..model.transformers import TransformersSegmentation
from ..types import Caption, Counterfactual, Sample
from .caption import describe
from .scene import COLOURS, TIMES, WEATHERS, Appearance, Task, sample_scene, seed_of
from .train.world import draw

COMMAND = [sys.executable, "-m", "dillema"]
VALUES = {"weather": WEATHERS, "time of day": TIMES, "colour": COLOURS}
FIELDS = {"weather": "weather", "time of day": "time_of_day", "colour": "colour"}


@dataclass(frozen=True)
class Row:
    """One line of the table; `met` is None for what is reported without a bar."""

    what: str
    how: str
    measured: str
    bar: str
    met: bool | None
    figures: dict[str, Any]


def runs(cfg: DictConfig) -> Iterator[Row]:
    """Yields the first run, the same again, start-up, and ten kills, each in a folder of its own."""
    with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as stormy:
        first, second = _seconds(COMMAND, calm), None
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        results, images = _outcome(Path(calm))
        second = _seconds(COMMAND, calm)
        counts = results["counts"]
        enough = counts["sources"] >= 24 and counts["generated"] >= 72
        yield Row(
            "a newcomer's first run", f"`python -m dillema`, {counts['sources']} sources, {counts['generated']} images", f"{first:.0f} s, {memory:.1f} GB",
            "180 s, 24 sources, 3 each, 4 GB", first < 180 and memory < 4 and enough, {"seconds": first, "gigabytes": memory, "counts": counts},
        )  # fmt: skip
        yield Row(
            "the same command again",
            "nothing is computed twice",
            f"{second:.0f} s",
            "25 s",
            second < 25,
            {"seconds": second},
        )
        chance, hit = random.Random(0), 0
        for _ in range(10):
            child = subprocess.Popen(
                COMMAND, cwd=stormy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                child.wait(chance.uniform(3, max(first / 6, 5)))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                hit += 1  # a run that was over before does not count
        _seconds(COMMAND, stormy)
        again, copies = _outcome(Path(stormy))
        same = sum(images.get(k) == v for k, v in copies.items())
        equal = results == again and images == copies
        yield Row(
            "crash", f"`kill -9` at random moments ({hit} of 10 met a run at work), then the same command",
            f"{same} of {len(images)} images equal, results {'equal' if results == again else 'differ'}",
            "ten kills, all equal", equal and hit == 10, {"kills": hit, "images": len(images), "equal": same, "results_equal": results == again},
        )  # fmt: skip
        start = min(_seconds([*COMMAND, "--help"], calm) for _ in range(3))
        wrong = [*COMMAND, "+llm.temprature=1", "+generator.stepz=2"]
        mistakes = min(_seconds(wrong, calm, 1) for _ in range(3))
        said = subprocess.run(wrong, cwd=calm, capture_output=True, text=True)
        named = all(word in said.stdout + said.stderr for word in ("temprature", "stepz"))
        yield Row(
            "start-up", "`--help`; a configuration with two mistakes (best of 3)", f"{start:.2f} s; {mistakes:.2f} s, {'both' if named else 'not both'} named",
            "1.5 s; 2 s, both named", start < 1.5 and mistakes < 2 and named, {"help": start, "mistakes": mistakes},
        )  # fmt: skip


def captioner(cfg: DictConfig) -> Iterator[Row]:
    """Yields how often the captioner names weather, time of day and colour rightly, on 500 scenes of the test split."""
    backend, dataset = build(cfg.captioner), build(cfg.dataset)
    backend.load()
    right = dict.fromkeys(VALUES, 0)
    for start in range(0, 500, 25):
        drawn = [draw("test", "street" if i % 2 else "vehicle", i) for i in range(start, start + 25)]
        samples = [Sample(str(i), _bytes(image)) for i, (image, _, _) in enumerate(drawn)]
        for caption, (_, _, facts) in zip(backend.caption(samples, dataset, [0] * 25), drawn, strict=True):
            words = caption.text.replace(",", " ").split()
            for attribute in VALUES:
                right[attribute] += facts[FIELDS[attribute]] in words
    rates = {attribute: n / 500 for attribute, n in right.items()}
    met = rates["weather"] >= 0.95 and rates["time of day"] >= 0.95 and rates["colour"] >= 0.9
    yield Row(
        "captioner",
        "500 scenes never trained on, half of each task",
        _percentages(rates),
        "95 %, 95 %, 90 %",
        met,
        rates,
    )


def language_model(cfg: DictConfig) -> Iterator[Row]:
    """Yields how often the language model finds the span of each attribute, on 200 captions, and which values it uses."""
    editor = build(cfg.prompt)
    editor.load()
    asked: list[float] = []
    ask = editor.llm.ask

    def timed(*args: Any) -> str:
        start = time.perf_counter()
        reply = ask(*args)
        asked.append(time.perf_counter() - start)
        json.loads(reply)
        return str(reply)

    editor.llm.ask = timed
    spans, right, captions = {}, dict.fromkeys(VALUES, 0), {}
    for i in range(200):
        task: Task = "vehicle" if i % 4 == 0 else "street"
        _, _, facts = draw("test", task, i)
        captions[str(i)] = facts["caption"]
        spans[str(i)] = editor.keywords(
            Caption(facts["caption"]), VALUES, facts["kind"] if task == "vehicle" else "", i
        )
        for attribute in VALUES:
            right[attribute] += spans[str(i)].get(attribute) == facts[FIELDS[attribute]]
    keywords = len(asked)
    used = set()
    for i, variants in build(cfg.edits).plan(spans, VALUES, 1, 0).items():
        for narrowed in variants:
            used |= {
                (e.attribute, e.replacement)
                for e in editor.alternatives(Caption(captions[i]), spans[i], narrowed, int(i))
            }
    rates = {attribute: n / 200 for attribute, n in right.items()}
    missing = sum(map(len, VALUES.values())) - len(used)
    slowest, mean = max(asked), sum(asked) / len(asked)
    yield Row(
        "language model", f"200 captions, {len(asked)} replies, {len(asked) - keywords} of them choices of values; {keywords - 200} captions asked about again",
        f"spans {_percentages(rates)}; {missing} values unused; {mean:.2f} s a question (slowest {slowest:.2f})",
        "no retry; 95 % each; every value used; 1 s", min(rates.values()) >= 0.95 and not missing and max(asked) < 1 and keywords == 200,
        {**rates, "unused": missing, "seconds": mean, "slowest": slowest, "questions": len(asked)},
    )  # fmt: skip


def generator(cfg: DictConfig) -> Iterator[Row]:
    """Yields what 300 generated images show, held against renders of the same scenes: attributes, structure, speed, truth."""
    dataset = MiniShift(split="test", limit=20)
    painter, conditioning = build(cfg.generator), build(cfg.conditioning)
    painter.load()
    plan = []
    for s, sample in enumerate(dataset.samples()):
        scene = sample_scene(seed_of("test", "street", int(sample.id.rsplit("-", 1)[1])))
        for k, (weather, when) in enumerate((w, t) for w in WEATHERS for t in TIMES):
            look = Appearance(weather, when, COLOURS[(s + k) % len(COLOURS)])
            plan.append((sample, look, describe(scene, look, "street", np.random.default_rng((s, k)))))
    images, seconds = [], 0.0
    for start in range(0, len(plan), painter.batch_size):
        batch = plan[start : start + painter.batch_size]
        controls = [
            {conditioning.name: conditioning.control(s, dataset, (painter.width, painter.height))}
            for s, _, _ in batch
        ]
        began = time.perf_counter()
        images += painter.generate(
            [s for s, *_ in batch],
            [Counterfactual(text, ()) for *_, text in batch],
            controls,
            list(range(start, start + len(batch))),
        )
        seconds += time.perf_counter() - began
    renders = [render_as(s.id, {a: getattr(look, f) for a, f in FIELDS.items()}) for s, look, _ in plan]
    masks = [np.asarray(s.mask) for s, *_ in plan]

    rates, control_rates = _read(images, plan), _read(renders, plan)
    met = rates["weather"] >= 0.9 and rates["time of day"] >= 0.95 and rates["colour"] >= 0.75
    yield Row(
        "generator, attributes", "300 images, read by a classifier trained on renders", f"{_percentages(rates)} (renders: {_percentages(control_rates)})",
        "90 %, 95 %, 75 %", met, {"generated": rates, "renders": control_rates},
    )  # fmt: skip

    judge = TransformersSegmentation("judge", cfg.validity.model)
    judge.load()
    painted, rendered = (_iou(_confusions(judge, some, masks)) for some in (images, renders))
    yield Row(
        "generator, structure", "mean IoU of the independent segmenter with the control mask, generated / renders",
        f"{painted:.3f} / {rendered:.3f} = {painted / rendered:.2f}",
        "0.85", painted / rendered >= 0.85, {"generated": painted, "renders": rendered},
    )  # fmt: skip
    each = seconds / len(plan)
    yield Row(
        "generator, speed",
        f"batches of {painter.batch_size}, {painter.steps} steps",
        f"{each:.2f} s an image",
        "0.5 s",
        each < 0.5,
        {"seconds": each},
    )

    (model,) = (build(block) for block in cfg.model.values())
    model.load()
    fresh = [(draw("test", "street", i, Appearance("clear", "daytime", ""))) for i in range(100, 400)]
    clear = _iou(_confusions(model, [Image.fromarray(i) for i, _, _ in fresh], [m for _, m, _ in fresh]))
    yield Row(
        "model under test",
        "300 clear days never trained on",
        f"mean IoU {clear:.3f}",
        "0.75",
        clear >= 0.75,
        {"mean_iou": clear},
    )

    estimated, true = _confusions(model, images, masks), _confusions(model, renders, masks)
    table, at_home = (
        [],
        _iou(
            [
                c
                for c, (_, look, _) in zip(true, plan, strict=True)
                if (look.weather, look.time_of_day) == ("clear", "daytime")
            ]
        ),
    )
    for weather in WEATHERS:
        for when in TIMES:
            here = [
                n
                for n, (_, look, _) in enumerate(plan)
                if (look.weather, look.time_of_day) == (weather, when)
            ]
            drops = [at_home - _iou([some[n] for n in here]) for some in (estimated, true)]
            table.append({"weather": weather, "time of day": when, "estimated": drops[0], "true": drops[1]})
    guess, truth = (np.array([row[k] for row in table]) for k in ("estimated", "true"))
    error, rank = (
        float(np.abs(guess - truth).mean()),
        float(np.corrcoef(guess.argsort().argsort(), truth.argsort().argsort())[0, 1]),
    )
    yield Row(
        "truth", "drop per weather and time, estimated on generated images and true on renders of the same scenes (15 conditions)",
        f"mean absolute error {100 * error:.1f} points, rank correlation {rank:.2f}",
        "5 points, 0.9 (an aim)", None, {"error": error, "rank": rank, "table": table},
    )  # fmt: skip


def _bytes(image: np.ndarray) -> Callable[[], bytes]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue


def _read(images: list[Image.Image], plan: list[tuple[Sample, Appearance, str]]) -> dict[str, float]:
    """Returns how often the reader finds the attribute that was asked for."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = Path(__file__).parent / "weights" / "reader"
    processor, reader = (
        AutoImageProcessor.from_pretrained(folder),
        AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32),
    )
    with torch.inference_mode():
        logits = torch.cat(
            [
                reader(**processor(images[i : i + 20], return_tensors="pt")).logits
                for i in range(0, len(images), 20)
            ]
        )
    rates = {}
    for (attribute, values), part in zip(
        VALUES.items(), logits.split([len(v) for v in VALUES.values()], 1), strict=True
    ):
        rates[attribute] = float(
            np.mean(
                [
                    values[int(p)] == getattr(look, FIELDS[attribute])
                    for p, (_, look, _) in zip(part.argmax(1), plan, strict=True)
                ]
            )
        )
    return rates


def _confusions(
    model: TransformersSegmentation, images: list[Image.Image], masks: list[np.ndarray]
) -> list[np.ndarray]:
    """Returns one confusion matrix (23, 23) for each image."""
    matrices = []
    for start in range(0, len(images), 20):
        for predicted, mask in zip(
            model.predict(images[start : start + 20]), masks[start : start + 20], strict=True
        ):
            matrix, part = np.zeros((23, 23), np.int64), confusion(mask, predicted.argmax(0).numpy(), IGNORED)
            matrix[: len(part), : len(part)] = part
            matrices.append(matrix)
    return matrices


def _iou(matrices: list[np.ndarray]) -> float:
    return float(mean_iou(np.sum(matrices, 0)))


def _seconds(command: list[str], folder: str, code: int = 0) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def _outcome(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the figures of the newest run in a folder, and a hash of each of its images."""
    newest = max(folder.glob("outputs/*/*/results.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text())
    del results["seconds"]
    return results, {
        str(p.relative_to(newest.parent)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (newest.parent / "generated").rglob("*.png")
    }


def _percentages(rates: dict[str, float]) -> str:
    return ", ".join(f"{attribute} {100 * rate:.0f} %" for attribute, rate in rates.items())


PARTS = {f.__name__: f for f in (runs, captioner, language_model, generator)}


def main() -> None:
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(
        prog="python -m dillema.mini.benchmark", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="which parts to measure (all of them take about 20 minutes)",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"))
    args = parser.parse_args()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB, Python {platform.python_version()}"
    )
    rows = []
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.only:
        for row in PARTS[part](cfg):
            rows.append(row)
            print(f"{row.what}: {row.measured} (bar: {row.bar})", flush=True)
            (args.out / "benchmark.json").write_text(
                json.dumps({"machine": machine, "rows": [asdict(r) for r in rows]}, indent=2)
            )
            lines = [
                f"| {r.what} | {r.how} | {r.measured} | {r.bar} | {'' if r.met is None else 'yes' if r.met else '**no**'} |"
                for r in rows
            ]
            table = ["| what | how measured | measured | bar | met |", "|---|---|---|---|---|", *lines]
            (args.out / "benchmark.md").write_text("\n".join([*table, "", f"Measured on {machine}.", ""]))


if __name__ == "__main__":
    main()
