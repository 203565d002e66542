"""Every number of a configuration has bounds, which are checked with all other mistakes."""

from importlib import import_module
from typing import Annotated, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

from dillema.config import conf_dir
from dillema.fields import Constraint
from tests.test_config import OPTIONS, find_mistakes


def test_bounds_of_all_numbers_are_checked_together():
    overrides = (
        "seed=-1", "tracking.price_per_hour=-3", "dataset.limit=0", "validity.segmenter.min_agreement=3",
        "captioner.batch_size=0", "conditioning.weight=-1", "generator.guidance_share=2",
    )  # fmt: skip
    mistakes = find_mistakes(*overrides)
    for override in overrides:
        assert any(mistake.startswith(f"{override.partition('=')[0]}: must be") for mistake in mistakes)


FREE_NUMBERS = ("mean", "class_map", "minimum")  # of a normalisation; ids; scores of several kinds


def test_every_number_of_an_option_has_bounds():
    unbounded = set()
    for group, option in OPTIONS:
        target = OmegaConf.load(conf_dir() / group / f"{option}.yaml").get("_target_", "???")
        if target != "???":  # an experiment, or what only the user knows
            hints = get_type_hints(_callable(target), include_extras=True)
            free = {name for name, hint in hints.items() if _is_unbounded(hint)}
            unbounded |= {f"{group}.{name}" for name in free.difference(FREE_NUMBERS)}
    assert not unbounded


def _callable(target):
    module, _, name = target.rpartition(".")
    found = getattr(import_module(module), name)
    return found.__init__ if isinstance(found, type) else found


def _is_unbounded(hint):
    """Returns whether a hint holds a number without a constraint."""
    if get_origin(hint) is Annotated:
        is_bounded = any(isinstance(extra, Constraint) for extra in hint.__metadata__)
        return not is_bounded and _is_unbounded(get_args(hint)[0])
    return hint in (int, float) or any(map(_is_unbounded, get_args(hint)))
