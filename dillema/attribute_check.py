"""Finds attributes and values of the configuration that are misspelt or have no words of their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from .backend import Vary
from .counterfactual.vocabulary import Attribute, Vocabulary, load_vocabulary
from .errors import UserError
from .mini.scene import COLOURS, TIMES, WEATHERS
from .names import nearest

KEEP = "or, if it is meant, give its words in a file of prompt.vocabulary"

COMMON_VALUES = {"weather": WEATHERS, "time of day": TIMES, "colour": COLOURS, "background": ()}
"""Values that the vocabulary has, and that the options of the package list."""


def find_mistakes(cfg: DictConfig) -> Iterator[str]:
    """Yields a message for each attribute or value of `dataset.vary` and `dataset.where` near a known one.

    Also for an empty `vary`, with which there is nothing to test.

    The known ones of `vary` are those of the vocabulary, those of `where` are the `where_values` of the data
    set. A name that is near none passes: it may be the user's own.
    """
    if OmegaConf.select(cfg, "dataset.vary") == {}:
        yield "dataset.vary: name what may change, as in dataset.vary={weather: [foggy], time of day: []}"
    yield from _find_mistakes_of_vary(cfg)
    known_values = _where_values(cfg)
    for name, values in _read_lists(cfg, "where").items() if known_values else ():
        if name not in known_values:
            if near := nearest(name, known_values):
                yield f"dataset.where: {name}: did you mean {near}?"
            continue
        for value in values:
            near = None if value in known_values[name] else nearest(value, known_values[name])
            if near:
                yield f"dataset.where.{name}: {value}: did you mean {near}?"


def _find_mistakes_of_vary(cfg: DictConfig) -> Iterator[str]:
    uncommon = _read_uncommon(cfg)
    if not uncommon:
        return
    try:
        vocabulary = _load_vocabulary(cfg)
    except UserError as error:
        yield str(error)
        return
    for name, values in uncommon.items():
        attribute = vocabulary.find(name)
        if attribute is None:
            known = [known for a in vocabulary.attributes for known in (a.name, *a.names)]
            if near := nearest(name, known):
                yield f"dataset.vary: {name}: did you mean {near}? ({KEEP})"
            continue
        for value in values:
            near = None if _has_words(attribute, value) else nearest(value, _list_names(attribute))
            if near:
                yield f"dataset.vary.{name}: {value}: did you mean {near}? ({KEEP})"


def describe_unknown(cfg: DictConfig) -> Iterator[str]:
    """Yields a sentence for each attribute or value of `dataset.vary` that has no words of its own.

    Where the data set can render true images, also for each value that it cannot render.
    """
    uncommon, rendered = _read_uncommon(cfg), _rendered_values(cfg)
    if not uncommon:
        return
    vocabulary = _load_vocabulary(cfg)
    by_rule = OmegaConf.select(cfg, "prompt.method") == "phrases"
    for name, values in uncommon.items():
        attribute = vocabulary.find(name)
        unknown = [value for value in values if attribute is None or not _has_words(attribute, value)]
        if by_rule and unknown:
            phrases = [vocabulary.get(name).value(value).write("phrase") for value in unknown]
            yield (
                f"dataset.vary.{name}: the vocabulary has no words for {', '.join(unknown)}: captions say "
                f"{', '.join(repr(phrase) for phrase in phrases)}. A file of prompt.vocabulary gives others"
            )
        beyond = [value for value in values if value not in rendered.get(name, ())] if rendered else []
        if beyond:
            yield (
                f"dataset.vary.{name}: the small world has no {', '.join(beyond)}, only "
                f"{', '.join(rendered.get(name, ())) or 'other attributes'}: its own models have never seen "
                "it, and no true image of it can be rendered"
            )


def _load_vocabulary(cfg: DictConfig) -> Vocabulary:
    files = OmegaConf.select(cfg, "prompt.vocabulary") or []
    return load_vocabulary([str(file) for file in files])


def _read_lists(cfg: DictConfig, setting: str) -> Vary:
    """Returns the lists of values in a setting of the data set; nothing where it has another form."""
    node = OmegaConf.select(cfg, f"dataset.{setting}")
    content: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else None
    if not isinstance(content, dict):
        return {}
    return {str(name): list(map(str, values)) for name, values in content.items() if isinstance(values, list)}


def _read_uncommon(cfg: DictConfig) -> Vary:
    """Returns the entries of `vary` that are not all common, so that few runs have to read the vocabulary."""
    return {
        name: values
        for name, values in _read_lists(cfg, "vary").items()
        if not set(values) <= set(COMMON_VALUES.get(name, ())) or name not in COMMON_VALUES
    }


def _where_values(cfg: DictConfig) -> Mapping[str, Sequence[str]]:
    """Returns the `where_values` of the class of the data set; empty where it has none."""
    values: Mapping[str, Sequence[str]] = getattr(_dataset_class(cfg), "where_values", {})
    return values


def _dataset_class(cfg: DictConfig) -> Any:
    target = OmegaConf.select(cfg, "dataset._target_")
    return get_class(target) if target else None


def _rendered_values(cfg: DictConfig) -> Mapping[str, Sequence[str]]:
    """Returns the values that the data set can render; empty for one that renders nothing."""
    return _where_values(cfg) if hasattr(_dataset_class(cfg), "render") else {}


def _has_words(attribute: Attribute, name: str) -> bool:
    return any(name.casefold() == v.name or v.is_expressed_by(name) for v in attribute.values)


def _list_names(attribute: Attribute) -> list[str]:
    """Returns the names of the values of an attribute, with the plain words that stand for them."""
    words = [form for value in attribute.values for form in map(value.write, ("modifier", "bare")) if form]
    return [*(name for value in attribute.values for name in (value.name, *value.names)), *words]
