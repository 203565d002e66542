"""Matches the classes of a model and of a data set by their names, never by their order alone."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..backend import Dataset
from ..dataset.files import normalise
from ..errors import UserError
from .logits import ClassMap, find_model_ids

log = logging.getLogger(__name__)

MANY_CLASSES = 100
ENOUGH_EQUAL = 0.9
"""Of many classes, this share of equal names means the same list: lists of ImageNet differ in synonyms."""

NAMES_TO_SHOW = 12


WRONG_MODELS = {
    "segmentation": "a classifier cannot be tested on masks (segmentation)",
    "classification": "a segmenter cannot be tested on labels of whole images (classification)",
}
"""What is wrong with a model of the other task, by the task of the data set."""


def check_task(model: Any, dataset: Dataset) -> None:
    """Raises a UserError for a classifier on masks, and for a segmenter on labels of whole images.

    A model may have an attribute `task`, the name of its task; one without is tried.
    """
    tasks = {getattr(model, "task", dataset.task), dataset.task}
    if tasks == WRONG_MODELS.keys():
        raise UserError(
            f"model={model.name}: {WRONG_MODELS[dataset.task]}, which {dataset.name} has. Choose a model for "
            f"{dataset.task}, or no model: model=[]"
        )


def check_classes(model: Any, dataset: Dataset, group: str = "model") -> dict[int, int] | None:
    """Returns the class_map of a loaded model for a data set; None if the ids are the same.

    `model.class_map` is used if it is set. Otherwise classes are matched by their names: those of the
    checkpoint (`class_names`) with those of the data set, in any order, and then by `default_class_map`, if
    the model has one. Raises a UserError, with both lists, for names that do not match, and for a class_map
    that contradicts the names. A model without names is used as it is; only `check_class_count` can then
    find a mistake. Names and bare numbers, of the same count, go by their order, with a warning.
    """
    names = list(getattr(model, "class_names", ()))
    setting = f"{group}.{model.name}.class_map"
    class_map = getattr(model, "class_map", None)
    if class_map is not None:
        return _check_class_map(class_map, names, dataset, setting)
    if not names:
        return None
    ids = _match_names(names, dataset.classes)
    scored = [i for i in range(len(dataset.classes)) if i not in dataset.ignored]
    if set(scored) <= set(ids.values()):
        if ids == {i: i for i in range(len(dataset.classes))} and len(names) == len(dataset.classes):
            return None
        log.info(
            "model=%s: its %d classes go to those of %s by their names", model.name, len(names), dataset.name
        )
        return ids
    if _are_same_list(names, dataset.classes):
        return None
    default = _resolve_default(getattr(model, "default_class_map", None) or {}, names, dataset)
    if default is not None:
        _warn_of_absent(default, dataset, f"model={model.name}")
        return default
    if _are_numbers(names) != _are_numbers(dataset.classes):
        check_class_count(model, dataset, len(names))
        pairs = [f"{name} is {target}" for name, target in zip(names, dataset.classes, strict=True)]
        _warn_once(
            f"model={model.name} and {dataset.name}: only one of them names its classes, the other numbers "
            f"them. They are assumed to be in the same order: {_list(pairs)}. If they are not, give {setting}"
        )
        return None
    raise UserError(_describe_mismatch(model.name, names, ids, dataset, setting))


def check_class_count(model: Any, dataset: Dataset, count: int) -> None:
    """Raises a UserError if the number of logits of an image does not fit the classes of a data set."""
    classes = len(dataset.classes)
    if count > classes or (count < classes and getattr(model, "class_map", None) is None):
        raise UserError(
            f"model={model.name} has {count} classes, {dataset.name} has {classes}: "
            f"{_list(dataset.classes)}. "
            f"Give model.{model.name}.class_map, which maps the model's class ids to the data set's"
        )


def _check_class_map(
    class_map: ClassMap, names: Sequence[str], dataset: Dataset, setting: str
) -> dict[int, int]:
    """Returns a class_map by ids; raises a UserError if it is wrong."""
    count = len(names) or max((key for key in class_map if isinstance(key, int)), default=0) + 1
    if not class_map:
        raise UserError(f"{setting} is empty: give the data set's class id for each of the model's, or null")
    outside = [(key, value) for key, value in class_map.items() if not 0 <= value < len(dataset.classes)]
    if outside:
        key, value = outside[0]
        raise UserError(
            f"{setting}: {key} goes to class {value}, but {dataset.name} has the classes 0 to "
            f"{len(dataset.classes) - 1}: "
            f"{_list(dataset.classes)}"
        )
    if not names and any(isinstance(key, str) for key in class_map):
        return dict(class_map)  # type: ignore[arg-type]  # of 1000 classes, by WordNet ids
    ids = dict(zip(find_model_ids(class_map, count, names), class_map.values(), strict=True))
    matching_ids = _match_names(names, dataset.classes)
    if mismatches := [(i, target) for i, target in ids.items() if matching_ids.get(i, target) != target]:
        i, target = mismatches[0]
        matching = matching_ids[i]
        raise UserError(
            f"{setting} sends the model's class {names[i]!r} to {target}, which {dataset.name} calls "
            f"{dataset.classes[target]!r}; its class {dataset.classes[matching]!r} is {matching}. The ids "
            f"of the data set are: {_list(dataset.classes)}"
        )
    _warn_of_absent(ids, dataset, setting)
    return ids


def names_match(names: Sequence[str], others: Sequence[str]) -> bool:
    """Returns whether each name, or a synonym of it, is among the others."""
    known = {_simplify(name) for other in others for name in (other, *other.split(","))}
    return all(_simplify(name) in known for name in names)


def _match_names(names: Sequence[str], classes: Sequence[str]) -> dict[int, int]:
    """Returns the data set's class id for each class of the model with the same name.

    A name that two classes have matches nothing.
    """
    targets = _index_unique(classes)
    sources = _index_unique(names)
    if len(names) == 1000:
        from ..dataset import imagenet

        sources = {wnid: i for i, wnid in enumerate(imagenet.classes())} | sources
    matches = {sources[name]: target for name, target in targets.items() if name in sources}
    return dict(sorted(matches.items()))


def _index_unique(names: Sequence[str]) -> dict[str, int]:
    """Returns the index of each name in the form in which it is compared, without repeated names."""
    full_names = [_simplify(name, synonyms=True) for name in names]
    first = [_simplify(name) for name in names]
    count = Counter(first)
    return {
        short if count[short] == 1 else name: i
        for i, (short, name) in enumerate(zip(first, full_names, strict=True))
        if count[short] == 1 or full_names.count(name) == 1
    }


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _are_same_list(names: Sequence[str], classes: Sequence[str]) -> bool:
    if len(names) != len(classes) or len(names) < MANY_CLASSES:
        return False
    equal = [
        _simplify(name) in map(_simplify, [target, *target.split(",")])
        for name, target in zip(names, classes, strict=True)
    ]
    return sum(equal) >= ENOUGH_EQUAL * len(names)


def _resolve_default(
    default: Mapping[str, str], names: Sequence[str], dataset: Dataset
) -> dict[int, int] | None:
    """Returns a default_class_map by ids; None if the checkpoint or the data set has other names."""
    sources, targets = _index_unique(names), _index_unique(dataset.classes)
    pairs = [(_simplify(name), _simplify(target)) for name, target in default.items()]
    if not pairs or any(name not in sources or target not in targets for name, target in pairs):
        return None
    return {sources[name]: targets[target] for name, target in pairs}


def _warn_of_absent(ids: Mapping[int, int], dataset: Dataset, where: str) -> None:
    if absent := _list_absent(ids, dataset):
        _warn_once(f"{where}: the model never answers {_list(absent)}, which {dataset.name} scores")


@lru_cache
def _warn_once(sentence: str) -> None:  # classes are checked before each batch of predictions
    log.warning(sentence)


def _list_absent(ids: Mapping[int, int], dataset: Dataset) -> list[str]:
    """Returns the names of the scored classes to which no class of the model is mapped."""
    targets = set(ids.values()) | set(dataset.ignored)
    return [name for i, name in enumerate(dataset.classes) if i not in targets]


def _describe_mismatch(
    name: str, names: Sequence[str], ids: Mapping[int, int], dataset: Dataset, setting: str
) -> str:
    return (
        f"model={name} has no class called {_list(_list_absent(ids, dataset))}, of {dataset.name}.\n"
        f"  The classes of {dataset.name}: {_list(dataset.classes, ids=True)}\n"
        f"  The classes of the model: {_list(names, ids=True)}\n"
        f"Say which is which with {setting}, for example "
        f"'{setting}={{0: {min(1, len(dataset.classes) - 1)}}}' (the "
        "model's class 0 is the data set's class "
        f"{min(1, len(dataset.classes) - 1)}), choose another model, or take folders away that are no classes"
    )


def _simplify(name: str, synonyms: bool = False) -> str:
    """Returns a name in the form in which it is compared: lower case, spaces for - and _."""
    text = name if synonyms else name.partition(",")[0]
    return " ".join(normalise(text).casefold().replace("_", " ").replace("-", " ").split())


def _list(names: Sequence[str], ids: bool = False) -> str:
    listed = [f"{i} {name}" if ids else name for i, name in enumerate(names[:NAMES_TO_SHOW])]
    more = len(names) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")
