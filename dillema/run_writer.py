"""Writes the run folder during a run."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from PIL import Image

from .backend import Dataset, Size
from .decoding import read_saved_image
from .files import link, write_atomically
from .run_folder import (
    COUNTED_IMAGES,
    FAILURES,
    METADATA,
    PREDICTIONS,
    PREVIEW,
    REJECTED_IMAGES,
    RESULTS,
    SHARD,
    RunFolder,
    place_image,
)
from .steps.items import GeneratedImage, read_size
from .task import Labels, get_task

ExportSize = Literal["generated", "source"] | tuple[int, int]
"""The size of images and masks in `generated/`: as generated, as their source, or width and height."""

CARD_NAME = "README.md"
CARD = """\
---
{configs}---

# Counterfactual images of {dataset}

DILLEMA generated these images from labelled images; they have the labels of their sources.
{counts}

    import datasets
    images = datasets.load_dataset("<this folder>", split="train")

`images/` holds the images of the configuration `default`, `rejected/` the others. {note}
`metadata.jsonl` has a line for each image of both: its label, the caption of its source and the
counterfactual that it was generated from, the edits between them, and the scores and reasons of the gates.
{licences}

| class id | class |
|---|---|
{classes}
"""


LICENCES = """
The images are made from these, whose licences may restrict their use:

{}
"""


@dataclass(frozen=True)
class RunWriter:
    """Writes the files that `dillema.run_folder` reads.

    Attributes:
        save_controls: Whether the generated set also contains the control images.
        licences: Names and licences of what the images are made from.
    """

    path: Path
    dataset: Dataset
    size: ExportSize = "generated"
    save_controls: bool = False
    licences: Sequence[str] = ()

    def clear(self) -> None:
        """Removes the files of an earlier run, so that files of two runs are never mixed."""
        clear_run(self.path)

    def add(self, images: Iterable[GeneratedImage]) -> None:
        """Adds generated images, their originals and control images."""
        lines: dict[str, list[str]] = {"generated": [], "placebo": []}
        for image in images:
            part = "placebo" if image.is_placebo else "generated"
            lines[part].append(json.dumps(self._write_image(image, self.path / part)))
            self._write_source(image)
        for part, rows in lines.items():
            with (self.path / part / METADATA).open("a", encoding="utf-8") as file:
                file.writelines(f"{row}\n" for row in rows)

    def write_card(self) -> None:
        """Writes the README.md of the generated set, which holds all its images now."""
        write_card(RunFolder(self.path), self.dataset)

    def write_failures(self, failures: Sequence[Mapping[str, str]], steps: Sequence[str] = ()) -> None:
        """Writes failures.jsonl; see `write_failures`."""
        write_failures(self.path, failures, steps)

    def _write_source(self, image: GeneratedImage) -> None:
        original = self.path / "originals" / f"{image.sample.id}.png"
        if original.exists():
            return
        link(image.original, original)
        for name, control in image.controls.items():
            folder = self.path / "controls" / name
            folder.mkdir(parents=True, exist_ok=True)
            link(control, folder / f"{image.sample.id}.png")

    def _write_image(self, image: GeneratedImage, folder: Path) -> dict[str, Any]:
        """Writes an image and its label files; returns its line of metadata.jsonl."""
        task = get_task(self.dataset.task)
        name = Path(task.export_folder(image.sample, self.dataset), f"{image.id}.png").as_posix()
        file_name = place_image(name, image.verdict)
        (folder / file_name).parent.mkdir(parents=True, exist_ok=True)
        size = self._write_resized(image, folder / file_name)
        label = task.export(image.sample, self.dataset, size, folder, image.id)
        row: dict[str, Any] = {"file_name": file_name, **label}
        for name, control in image.controls.items() if self.save_controls else ():
            row[f"{name}_file_name"] = f"controls/{image.id}_{name}.png"
            (folder / "controls").mkdir(exist_ok=True)
            link(control, folder / f"controls/{image.id}_{name}.png")
        counterfactual = image.counterfactual
        row |= {"source": image.sample.id, "group": image.sample.group, "caption": image.caption.text}
        row |= {
            "uncorrected_caption": image.caption.uncorrected or None,
            "counterfactual": counterfactual.text,
            "edits": [asdict(edit) for edit in counterfactual.edits],
        }
        # Parquet cannot store an empty mapping, so empty values are null
        alternatives = {name: list(values) for name, values in counterfactual.alternatives.items()}
        row |= {
            "method": counterfactual.method or None,
            "alternatives": alternatives or None,
            "seed": image.seed,
        }
        row |= {"scores": dict(image.verdict.scores) or None, "valid": image.verdict.valid}
        row |= {"reasons": list(image.verdict.reasons), "checked": image.verdict.checked}
        row |= {"quality": dict(image.quality) or None, "controls": list(image.controls)}
        row |= {"licences": list(self.licences), "attributes": dict(image.sample.attributes) or None}
        return row | {"label_columns": list(label), "record": image.path.stem}

    def _write_resized(self, image: GeneratedImage, path: Path) -> Size:
        """Writes an image at the size of the export, and returns that size."""
        generated = read_size(image.path)
        size = self._export_size(image, generated)
        if size == generated:
            link(image.path, path)
        else:
            read_saved_image(image.path).resize(size, Image.Resampling.LANCZOS).save(path)
        return size

    def _export_size(self, image: GeneratedImage, generated: Size) -> Size:
        if isinstance(self.size, str):
            return generated if self.size == "generated" else image.sample.image.size
        width, height = self.size
        return width, height


def clear_run(path: Path) -> None:
    """Removes the files of a run from its folder, and makes the folders of a new one."""
    path.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, SHARD, PREDICTIONS, FAILURES, "report.html", PREVIEW):
        (path / name).unlink(missing_ok=True)
    for name in ("generated", "placebo", "originals", "controls", "report"):
        shutil.rmtree(path / name, ignore_errors=True)
    for part in ("generated", "placebo"):
        (path / part / COUNTED_IMAGES).mkdir(parents=True)
        (path / part / METADATA).touch()
    (path / "originals").mkdir()


def write_failures(path: Path, failures: Sequence[Mapping[str, str]], steps: Sequence[str]) -> None:
    """Writes failures.jsonl, sorted by step and id, so that the order of the work does not show.

    Args:
        path: The run folder.
        failures: The failed items: step, id, message and raw reply.
        steps: The names of the steps in their order; others come after them.
    """
    position = {name: index for index, name in enumerate(steps)}

    def order(failure: Mapping[str, str]) -> tuple[int, str, str]:
        return position.get(failure["step"], len(position)), failure["id"], failure["message"]

    lines = [json.dumps(failure) + "\n" for failure in sorted(failures, key=order)]
    write_atomically(path / FAILURES, "".join(lines))


def write_card(run: RunFolder, labels: Labels) -> None:
    """Writes the README.md of a run's generated set.

    It names the configurations that `datasets.load_dataset` reads: images that count, rejected ones, all. A
    configuration without images is left out, which `datasets` could not read.

    Args:
        run: Its folder.
        labels: Those of its data set.
    """
    images = list(run.generated())
    verdicts = [image.verdict for image in images]
    licences = dict.fromkeys(text for image in images for text in image.licences)
    counts = Counter(verdict.valid for verdict in verdicts)
    unjudged = sum(not verdict.checked for verdict in verdicts)
    configs = [
        _describe_config(name, [folder], valid)
        for name, folder, valid in (("default", COUNTED_IMAGES, True), ("rejected", REJECTED_IMAGES, False))
        if counts[valid]
    ]
    if configs:
        folders = [COUNTED_IMAGES] * (counts[True] > 0) + [REJECTED_IMAGES] * (counts[False] > 0)
        configs.append(_describe_config("all", folders, None))
    described = f"{counts[True]} images count, {counts[False]} were rejected."
    if unjudged:
        described += f" {unjudged} of those that count were not checked: no gate could judge them."
    if unjudged == len(verdicts):
        described = f"There are {len(verdicts)} images; no gate has checked them."
    card = CARD.format(
        configs=OmegaConf.to_yaml(OmegaConf.create({"configs": configs})),
        dataset=labels.name,
        counts=described,
        licences=LICENCES.format("\n".join(f"- {text}" for text in licences)) if licences else "",
        note=get_task(labels.task).export_note,
        classes="\n".join(
            f"| {i} | {name.replace('|', '&#124;')} |" for i, name in enumerate(labels.classes)
        ),
    )
    write_atomically(run.path / "generated" / CARD_NAME, card)


def _describe_config(name: str, folders: Sequence[str], valid: bool | None) -> dict[str, Any]:
    """Returns a configuration as `datasets` takes it: of the images with this verdict, or of all."""
    files = [METADATA, *(f"{folder}/**" for folder in folders)]
    config: dict[str, Any] = {"config_name": name, "data_files": [{"split": "train", "path": files}]}
    return config if valid is None else config | {"filters": [["valid", "==", valid]]}
