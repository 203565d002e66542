"""Checks the class of every option; needs no weights."""

import dataclasses
import inspect

import pytest
from omegaconf import OmegaConf

from dillema.conditioning.several import Several
from dillema.config import build, compose
from dillema.fields import TRANSIENT, WEIGHTS, Constraint, field_hints, marked_fields
from tests.contracts.options import CONTRACTS, options

CLASSES = sorted({(option.group, option.target) for option in options()}, key=str)
IDS = [f"{group}-{target.__name__}" for group, target in CLASSES]
BACKENDS = [(group, target) for group, target in CLASSES if target is not Several]
CHANGES_NO_RESULT = {"batch_size", "device", "devices", "api_key_variable", "timeout", "retries", "threads"}


def methods(contract):
    """Returns the public methods and properties of a contract and of its base classes."""
    names = {}
    for base in reversed(contract.__mro__):
        if base.__module__ == "dillema.backend":
            names |= {
                n: m
                for n, m in vars(base).items()
                if not n.startswith("_") and callable(getattr(m, "fget", m))
            }
    return names


@pytest.mark.parametrize("group", CONTRACTS)
def test_every_group_has_options(group):
    assert options(group)


@pytest.mark.parametrize(("group", "target"), BACKENDS, ids=[f"{g}-{t.__name__}" for g, t in BACKENDS])
def test_a_class_has_the_methods_of_its_contract_with_the_same_parameters(group, target):
    for name, wanted in methods(CONTRACTS[group]).items():
        if isinstance(wanted, property):
            fields = {field.name for field in dataclasses.fields(target)}
            assert hasattr(target, name) or name in fields, f"{target.__name__} lacks {name}"
            continue
        actual = getattr(target, name, None)
        assert actual is not None, f"{target.__name__} lacks {name}"
        assert list(inspect.signature(actual).parameters) == list(inspect.signature(wanted).parameters), name


@pytest.mark.parametrize(("group", "target"), CLASSES, ids=IDS)
def test_the_fields_of_a_class_are_hinted(group, target):
    assert dataclasses.is_dataclass(target)
    hints = field_hints(target)
    transient = marked_fields(target, TRANSIENT)
    assert set(hints) & CHANGES_NO_RESULT <= set(transient)
    assert not set(transient) & set(marked_fields(target, WEIGHTS))
    for name in ("batch_size", "devices"):
        if name in hints:
            constraints = [mark for mark in hints[name].__metadata__ if isinstance(mark, Constraint)]
            assert constraints and not any(constraint.holds(0) for constraint in constraints), name


@pytest.mark.parametrize(("group", "target"), BACKENDS, ids=[f"{g}-{t.__name__}" for g, t in BACKENDS])
def test_a_class_has_a_version(group, target):
    if group not in ("dataset", "execution", "reference"):
        assert isinstance(target.version, int) and target.version >= 1


@pytest.mark.parametrize(
    "target", [option.target for option in options("validity")], ids=lambda t: t.__name__
)
def test_thresholds_of_a_gate_are_transient_and_its_scores_have_names(target):
    thresholds = {
        name for name in field_hints(target) if name.startswith("min_") and name != "min_class_share"
    }
    assert thresholds <= set(marked_fields(target, TRANSIENT))
    assert target.scores and all(isinstance(score, str) for score in target.scores)


@pytest.mark.parametrize("option", options("validity"), ids=lambda option: option.name)
def test_the_setting_of_a_threshold_rejects_lower_scores_alone(option):
    cfg = compose([f"validity={option.name}"])
    (block,) = cfg.validity.values()
    thresholds = option.target.thresholds
    assert thresholds and thresholds.keys() <= set(option.target.scores)
    others = {name: 1.0 for name in option.target.scores if name not in thresholds}
    for score, threshold in thresholds.items():
        for limit, rejects in ((0.4, False), (0.5, False), (0.6, True)):
            OmegaConf.update(block, threshold.setting, limit, force_add=True)
            assert bool(build(block).reasons({**others, score: 0.5})) == rejects, threshold
