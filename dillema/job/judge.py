"""The job that applies other thresholds to a finished run."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import predictions
from ..backend import CLASS_SCORE
from ..config import build, refuse
from ..config_check import check_block
from ..context import JobContext
from ..errors import UserError
from ..fields import TRANSIENT, marked_fields
from ..overrides import gate_options, split_options
from ..run_folder import RunFolder
from .rejudge import judge_again
from .report import check_inputs, open_run

__all__ = ["check_inputs", "choose_gates", "judge"]

log = logging.getLogger(__name__)

USED_SETTINGS = ("job", "run", "validity", "name", "tracking", "hydra")


def judge(context: JobContext) -> RunFolder:
    """Copies a finished run with the verdicts of other thresholds or fewer gates; returns the new folder.

    Needs no data, models or store. The gates and thresholds are those of the run, except where the
    configuration gives others. Raises a UserError for a gate whose scores the run does not have, and
    for a setting of a gate that is no threshold.
    """
    source = open_run(context)
    names = [override.lstrip("+~").partition("=")[0] for override in context.overrides]
    if ignored := [name for name in names if name.partition(".")[0].partition("@")[0] not in USED_SETTINGS]:
        log.warning("job=judge takes all but gates from the run: %s has no effect", ", ".join(ignored))
    blocks = choose_gates(source, context)
    refuse([*_find_new_scores(source.settings.select("validity") or {}, blocks)])
    stored = predictions.score_names(source.predictions_file)
    gates_with_scores = {name.partition(".")[0] for name in stored}
    for block in blocks.values():
        gate = build(block)
        if lacking := set(getattr(gate, "combines", (gate.name,))) - gates_with_scores:
            raise UserError(
                f"validity={gate.name}: {source.path} has no scores of the gate {min(lacking)}; it has those "
                f"of {', '.join(sorted(gates_with_scores)) or 'none'}. job=score adds them"
            )
        scores_of_classes = any(f".{CLASS_SCORE}" in name for name in stored)
        if getattr(gate, "min_class_agreements", ()) and not scores_of_classes:
            raise UserError(
                f"validity.{gate.name}.min_class_agreements: {source.path} has no scores of single classes, "
                "because an earlier version made it; job=score makes them"
            )
    return judge_again(source, context, blocks)


def choose_gates(source: RunFolder, context: JobContext) -> Mapping[str, DictConfig]:
    """Returns the settings of the gates by name.

    They are the gates of the run (with `validity=`, those of them that it names) with its settings, except
    for the settings that the command line gives. With an option in `validity=` that the run did not use, the
    gates and their settings are those of the options.
    """
    earlier = source.settings.select("validity") or {}
    configured: Mapping[str, DictConfig] = context.cfg.validity or {}
    overrides = [override.lstrip("+~") for override in context.overrides]
    named = [override.partition("=")[2] for override in overrides if override.startswith("validity=")]
    options = split_options(named[-1]) if named else []
    if not earlier or not {*options, "none"} <= {*gate_options(source.path), "none"}:
        return configured
    gates = {}
    for name in configured if named else earlier:
        block = OmegaConf.create(earlier[name] if name in earlier else configured[name])
        for override in overrides:
            path = override.partition("=")[0].split(".")
            if path[:2] == ["validity", name] and len(path) > 2 and name in configured:
                setting = ".".join(path[2:])
                OmegaConf.update(block, setting, OmegaConf.select(configured[name], setting))
        gates[name] = block
    refuse([mistake for name in gates for mistake in check_block(gates[name], f"validity.{name}")])
    return gates


def _find_new_scores(earlier: Mapping[str, Any], blocks: Mapping[str, DictConfig]) -> Iterator[str]:
    """Yields a message for each gate with a setting by which the scores of the run were not made."""
    for name, block in blocks.items():
        if name not in earlier:
            continue
        gate, made_with = build(block), build(OmegaConf.create(earlier[name]))
        if type(gate) is not type(made_with):
            yield f"validity.{name}: the scores of the run are those of {type(made_with).__name__}"
            continue
        transient = marked_fields(type(gate), TRANSIENT)
        for field in fields(gate) if is_dataclass(gate) else ():
            value = getattr(gate, field.name)
            if field.init and field.name not in transient and value != getattr(made_with, field.name):
                yield (
                    f"validity.{name}.{field.name}: is no threshold, and the run's scores were made with "
                    f"{getattr(made_with, field.name)!r:.200}; job=score makes new ones"
                )
