"""The command `dillema init FOLDER`: looks at a folder of data, and writes a configuration file for it."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .backend import Dataset
from .config import build, compose, conf_dir, package_file
from .dataset import describe
from .dataset import shift as shift_classes
from .dataset.classes import count_values, draft_classes, read_classes
from .dataset.files import list_files, read_later
from .dataset.folder import CLASSES_FILE
from .dataset.layout import Layout, find_classes_file, recognise
from .dataset.survey import describe_content, describe_lists, list_problems
from .decoding import read_text_file
from .errors import UserError
from .files import write_atomically
from .model.classes import names_match
from .overrides import OWN_OPTIONS, prepare
from .task import get_task

CHECKPOINTS = {"classification": "vit_base", "segmentation": "segformer_cityscapes"}
"""Options that open any checkpoint of transformers for a task."""
FIRST_LOOK = 24  # images
TRAIN_IDS = 19  # classes of Cityscapes that are scored
NO_SEGMENTER = (
    "No gate will look at the masks, for no segmenter of DILLEMA has these classes: add one that has, as in "
    "validity=[segmenter,questions,image] validity.segmenter.model=my/segmenter."
)
NO_GPU = (
    "PyTorch finds no GPU here. The captioner, language model and generator of this configuration are made "
    "for one and take long without it: the first lines of their files in conf/ say how long."
)


def init(arguments: Sequence[str]) -> None:
    """Runs the command with its arguments, without the word init.

    Raises a UserError for a folder whose layout no option reads, and where the file exists already.
    """
    parser = argparse.ArgumentParser("dillema init", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the data is")
    parser.add_argument("--name", help="of the configuration file; the default is the name of the folder")
    parser.add_argument("--force", action="store_true", help="writes the configuration file again")
    options = parser.parse_args(arguments)
    root = options.folder.expanduser()
    if not root.is_dir():
        raise UserError(f"{root.absolute()}: there is no such folder")
    layout = recognise(root)
    if layout is None:
        raise UserError(
            "\n".join([f"{root}: this is no layout that DILLEMA reads.", *describe_content(root)])
        )
    name = _choose_name(options.name or root.resolve().name)
    path = Path(OWN_OPTIONS, "experiment", f"{name}.yaml")
    if path.exists() and not options.force:
        raise UserError(f"{path} exists already: write it again with --force, or choose another with --name")
    earlier = read_text_file(path) if path.exists() else None
    _say(f"{root}: {layout.kind}, read by {layout.option}", layout.notes)
    settings, notes = _add_classes_file(layout, name)
    _say("", [*notes, *describe_lists(root, settings)])
    write_atomically(path, _write_experiment(layout, settings, name, None))
    try:
        dataset = build(_compose(name).dataset)
        samples = dataset.samples()
    except UserError as error:
        path.unlink()
        if earlier is not None:
            write_atomically(path, earlier)
        raise UserError(f"{root} cannot be read yet: {error}") from error
    _say(describe(dataset, samples), list_problems(dataset, samples))
    model = _choose_model(layout, dataset)
    gate = _choose_segmenter(layout, dataset, model)
    write_atomically(path, _write_experiment(layout, settings, name, model, gate))
    if gate == "":
        print(NO_SEGMENTER)
    _show_command(path, name, model, dataset.task, len(samples))


def _add_classes_file(layout: Layout, name: str) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings with a classes file, where the layout takes one; and what was found or drafted."""
    settings = dict(layout.settings)
    if layout.option != "dataset=folder":
        return settings, []
    root = Path(settings["root"])
    found = find_classes_file(root) or find_classes_file(root.parent)
    if found is not None:
        count = len(read_classes(str(found)).names)
        if found != root / CLASSES_FILE:
            settings["classes_file"] = str(found)
        draft_file = Path(OWN_OPTIONS, f"{name}_classes.csv")
        unused = [f"{draft_file} of an earlier time is not used any more"] if draft_file.exists() else []
        return settings, [f"{found} names {count} classes", *unused]
    if "masks" not in settings:
        return settings, []
    folder = root / settings["masks"] / settings.get("split", "")
    suffix = settings.get("mask_suffix", ".png")
    names = [name for name in list_files(folder) if name.endswith(suffix)]
    masks = [read_later(folder, name) for name in names]
    draft = draft_classes(masks)
    if not draft:
        return settings, []
    file = Path(OWN_OPTIONS, f"{name}_classes.csv")
    settings["classes_file"] = str(file)
    if file.exists():
        return settings, [f"{file} of an earlier time names {len(read_classes(str(file)).names)} classes"]
    write_atomically(file, draft + "\n")
    return settings, [
        f"no classes file: wrote {file} from the masks, with {len(draft.splitlines()) - 1} classes, of which "
        f"{count_values(masks)} occur in the masks looked at. Give them their names there"
    ]


def _write_experiment(
    layout: Layout, settings: dict[str, Any], name: str, model: str | None, gate: str | None = None
) -> str:
    """Returns the content of the configuration file; without a model yet, that of the option stays.

    `gate` is the option of a segmenter; without one, the gates of the option stay.
    """
    group, _, option = layout.option.partition("=")
    defaults: list[Any] = [option] if group == "experiment" else [{f"override /{group}": option}]
    if model is not None:
        defaults.append({"override /model": [model] if model else []})
    if gate:
        defaults.append({"override /validity": [gate, "questions", "image"]})
    content = {
        "defaults": defaults,
        "dataset": {"name": name} | settings if _has_name(layout) else settings,
    }
    first_lines = f"# @package _global_\n# {layout.kind}; written by `dillema init`.\n"
    return first_lines + OmegaConf.to_yaml(OmegaConf.create(content))


def _has_name(layout: Layout) -> bool:
    """Returns whether the name of the data set can be chosen."""
    return layout.option not in ("dataset=shift", "dataset=imagenet")


def _choose_model(layout: Layout, dataset: Dataset) -> str:
    """Returns the option of a model that knows the classes of a data set; "" where none does."""
    if layout.option != "dataset=folder":
        return {"dataset=shift": "segformer_cityscapes", "dataset=imagenet": "resnet18"}.get(
            layout.option, "" if layout.option == "dataset=huggingface" else "segformer_trainids"
        )
    from .dataset import imagenet

    scored = [name for i, name in enumerate(dataset.classes) if i not in dataset.ignored]
    if dataset.task == "classification":
        names = [*imagenet.classes(), *imagenet.classes().values()]
        return "resnet18" if names_match(scored, names) else ""
    cityscapes = read_classes(package_file("dillema", "dataset/cityscapes.csv")).names
    shift = [name for i, name in enumerate(shift_classes.CLASSES) if i not in shift_classes.IGNORED]
    # the option has a mapping to the names of SHIFT, which needs all of them
    has_shift = names_match(shift, dataset.classes) and names_match(scored, shift)
    return "segformer_cityscapes" if has_shift or names_match(scored, cityscapes) else ""


def _choose_segmenter(layout: Layout, dataset: Dataset, model: str) -> str | None:
    """Returns the option of a gate that knows the classes of masks; "" where none does, None without need."""
    if layout.option != "dataset=folder" or not get_task(dataset.task).has_masks:
        return None
    if not model:
        return ""
    cityscapes = read_classes(package_file("dillema", "dataset/cityscapes.csv")).names[:TRAIN_IDS]
    pairs = zip(dataset.classes, cityscapes, strict=False)
    has_train_ids = all(names_match([name], [other]) for name, other in pairs)
    return "segmenter_trainids" if has_train_ids else "segmenter_cityscapes"


def _show_command(path: Path, name: str, model: str, task: str, samples: int) -> None:
    import torch

    command = shlex.join(["python", "-m", "dillema", f"experiment={name}"])
    lines = [
        f"Wrote {path}: change it as you like.",
        *([] if model else _explain_models(task)),
        *([] if torch.cuda.is_available() else [NO_GPU]),
        "",
        *([f"A first look, on 24 images:\n  {command} dataset.limit=24"] if samples > FIRST_LOOK else []),
        f"All weights beforehand (their sizes: job.dry_run=true):\n  {command} job=prefetch",
        f"The whole run:\n  {command}",
    ]
    print("\n".join(lines))


def _explain_models(task: str) -> list[str]:
    option = CHECKPOINTS[task]
    return [
        "No model of DILLEMA has these classes. The run makes the images and tests no model, until you add "
        "yours to the command:",
        f"  model={option} model.{option}.model=my/checkpoint    a checkpoint of transformers",
        "  model=module model.module.network._target_=my_package.MyNet model.module.checkpoint=my.ckpt",
    ]


def _choose_name(name: str) -> str:
    """Returns a name for an experiment that the package does not have."""
    safe = re.sub(r"[^\w-]+", "_", name).strip("_") or "data"
    is_taken = (conf_dir() / "experiment" / f"{safe}.yaml").exists()
    return f"{safe}_data" if is_taken and Path(OWN_OPTIONS).resolve() != conf_dir() else safe


def _compose(name: str) -> Any:
    return compose(prepare([f"experiment={name}"]))


def _say(line: str, notes: Any) -> None:
    if line:
        print(line)
    for note in notes:
        print("  - " + str(note).replace("\n", f"{os.linesep}    "))
