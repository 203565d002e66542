"""Prompts as text files."""

import re
from collections.abc import Collection
from pathlib import Path

from ..backend import Message
from ..decoding import read_text
from ..errors import UserError

TURN = re.compile(r"^\[(\w+) (system|user|assistant)\]\n", re.MULTILINE)
PLACEHOLDERS = {
    "keywords": ("caption", "label", "attributes"),
    "proposals": ("caption", "label", "changes"),
    "alternatives": ("caption", "label", "changes"),
    "rewrite": ("caption", "label", "changes"),
    "single": ("caption", "label", "changes"),
}
"""The stages that a prompt may have turns for, with the placeholders of their questions."""


def read_prompt(file: str | Path, stages: Collection[str]) -> dict[str, list[Message]]:
    """Returns the turns of the stages that are asked for.

    A turn starts with a line such as `[keywords user]`; what stands before the first is a comment. The last
    turn of a stage is the question, where {caption}, {label}, {attributes} (keywords) and {changes} (the
    other stages) are filled in; the turns before it are sent as they are. Raises a UserError when the file is
    missing or has no question for a stage.
    """
    path = Path(file)
    if not path.exists():
        raise UserError(f"prompt.prompt: there is no file {path.absolute()}")
    text = read_text(path, "prompt.prompt").replace("\r\n", "\n").replace("\r", "\n")
    _, *parts = TURN.split(text)
    prompt: dict[str, list[Message]] = {}
    for stage, role, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if stage not in PLACEHOLDERS:
            names = ", ".join(PLACEHOLDERS)
            raise UserError(
                f"prompt.prompt: {path.absolute()} has a turn [{stage} {role}], but the stages are {names}"
            )
        prompt.setdefault(stage, []).append(Message(role=role, content=content.strip()))
    needed = [stage for stage in PLACEHOLDERS if stage in stages]
    for stage in needed:
        _check_question(path, stage, prompt.get(stage, []))
    return {stage: prompt[stage] for stage in needed}


def _check_question(path: Path, stage: str, turns: list[Message]) -> None:
    """Raises a UserError where the last turn of a stage is no question that can be filled in."""
    if not turns or turns[-1]["role"] != "user" or "{caption}" not in turns[-1]["content"]:
        raise UserError(
            f"prompt.prompt: the last turn of {stage} in {path.absolute()} must be [{stage} user] "
            "and contain {caption}"
        )
    try:
        turns[-1]["content"].format(**dict.fromkeys(PLACEHOLDERS[stage], ""))
    except (LookupError, ValueError) as error:
        names = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS[stage])
        raise UserError(
            f"prompt.prompt: the question of {stage} in {path.absolute()} may hold {names}, "
            f"and no other braces ({error!r})"
        ) from error
