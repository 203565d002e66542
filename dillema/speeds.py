"""The time that items of each step took, kept beside the store for the estimates of later runs."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import write_atomically
from .keys import digest, identity
from .steps.base import Step

log = logging.getLogger(__name__)

FILE = "speeds.json"


def note_speed(folder: Path, step: Step[Any], seconds: float) -> None:
    """Keeps the seconds of an item of a step, with the settings of its back-end, in the folder of a store."""
    try:
        speeds = {**_read(folder), _key(step): round(seconds, 4)}
        write_atomically(folder / FILE, json.dumps(speeds, indent=1))
    except OSError as error:  # only an estimate depends on it
        log.debug("the speed of %s is not kept: %s", step.name, error)


def read_speed(folder: Path, step: Step[Any]) -> float | None:
    """Returns the seconds of an item of a step in the last run that did one; None if there was none."""
    return _read(folder).get(_key(step))


def _key(step: Step[Any]) -> str:
    return f"{step.name} {digest(step.version, identity(step.backend))[:16]}"


def _read(folder: Path) -> Mapping[str, float]:
    try:
        speeds: dict[str, float] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return speeds
