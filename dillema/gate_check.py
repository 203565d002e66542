"""Finds gates that are not independent of the models under test: such a gate would judge its own test."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import UserError
from .families import find_family, find_family_in_name
from .fields import WEIGHTS, marked_fields
from .names import nearest

RETRAINED = "retrained"  # the folder in the store in which job=retrain keeps weights


def find_dependent_gates(
    models: Mapping[str, Any], gates: Mapping[str, Any], store: str | None = None
) -> Iterator[str]:
    """Yields a message for each gate that depends on a model under test.

    Such a gate has the weights of a model under test, or weights of its architecture, or weights that
    job=retrain trained: these have seen what a model under test gets wrong.

    Args:
        models: The settings of the models under test by name.
        gates: The settings of the gates by name.
        store: The folder of the store, in which job=retrain keeps the weights that it trains.
    """
    tested = {value: where for where, value in find_weights(models, "model")}
    families = {find_family(value): value for value in tested}
    for where, value in _find_architectures(models):
        families.setdefault(find_family_in_name(value), value)
        tested.setdefault(value, where)
    families.pop("", None)
    for where, value in find_weights(gates, "validity"):
        family = find_family(value)
        if value in tested:
            reason = f"{value} is a model under test ({tested[value]})"
        elif store is not None and _is_inside(value, Path(store).expanduser() / RETRAINED):
            reason = f"{value} was trained by job=retrain, from the weights of a model under test"
        elif family in families:
            other = families[family]
            reason = f"{value} is of the same family ({family}) as a model under test, {other}"
            reason += f" ({tested[other]}), and would make the same mistakes"
        else:
            continue
        yield (
            f"{where}: {reason}; a gate must be independent of the models under test: choose another, or "
            "validity=none"
        )


def describe_unseen_masks(blocks: Mapping[str, Any]) -> str:
    """Returns a warning if there are gates and none compares images with masks; "" otherwise.

    `blocks` has the settings of the gates by name. Of a gate that cannot be imported nothing is said.
    """
    try:
        gates = [import_target(block["_target_"]) for block in blocks.values()]
    except (ImportError, AttributeError, KeyError, ValueError):
        return ""
    if not gates or any(getattr(gate, "compares_masks", False) for gate in gates):
        return ""
    return (
        f"no gate compares the images with their masks: validity=[{','.join(blocks)},segmenter_trainids] for "
        "the classes of Cityscapes, segmenter_cityscapes for those of SHIFT, or segmenter with "
        "validity.segmenter.model=my/segmenter, which must not be of the family of a model under test"
    )


def refuse_unknown_classes(gates: Iterable[Any], labels: Any) -> None:
    """Raises a UserError for a gate with a threshold for a class that no mask can have.

    `labels` has the `classes` and `colours` of the data set; masks hold classes only with a colour for each.
    """
    classes = labels.classes if len(labels.colours) == len(labels.classes) else ()
    for gate in gates:
        for name in set(getattr(gate, "min_class_agreements", ())) - set(classes):
            near = nearest(name, classes)
            raise UserError(
                f"validity.{gate.name}.min_class_agreements: no mask of the data set has a class {name}; "
                + (f"did you mean {near}?" if near else f"they have {', '.join(classes) or 'no named ones'}")
            )


def find_weights(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yields the settings of a block, and of blocks in it, that name weights.

    Each is a pair: the path of the setting, and the file, folder or hub id that it names.
    """
    is_block = isinstance(node, Mapping) and "_target_" in node
    target = import_target(node["_target_"]) if is_block else None
    fields = marked_fields(target, WEIGHTS) if inspect.isclass(target) else ()
    entries = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        if key in fields and "/" in str(value):
            yield f"{path}.{key}", str(Path(value).resolve()) if Path(value).exists() else value
        yield from find_weights(value, f"{path}.{key}")


def _find_architectures(models: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the settings of models that name an architecture: resnet18 of torchvision, a class."""
    for name, block in models.items():
        network = block.get("network")
        parts = {"model": block, "network._target_": network if isinstance(network, Mapping) else {}}
        for key, part in parts.items():
            value = part.get(key.rpartition(".")[2])
            if isinstance(value, str) and "/" not in value:
                yield f"model.{name}.{key}", value


def find_shared_weights(captioner: Any, gates: Any) -> set[str]:
    """Returns the weights that a captioner and a gate, or two gates, name in their settings."""
    named = [value for node in (captioner, gates) for _, value in find_weights(node, "")]
    return {value for value in named if named.count(value) > 1}


def _is_inside(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder.resolve())


def import_target(name: str) -> Any:
    """Returns the class or function that the `_target_` of a block names; raises what its import raises."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
