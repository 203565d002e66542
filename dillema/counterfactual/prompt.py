"""Prompts as text files."""

import re
from pathlib import Path

from ..errors import UserError
from ..backend import Message

TURN = re.compile(r"^\[(\w+) (system|user|assistant)\]\n", re.MULTILINE)
STAGES = {
    "keywords": {"caption": "", "label": "", "attributes": ""},
    "alternatives": {"caption": "", "changes": ""},
}
"""The stages that a prompt has turns for, with the placeholders of their questions."""


def read_prompt(file: str | Path) -> dict[str, list[Message]]:
    """Returns the turns of each stage.

    A turn starts with a line such as `[keywords user]`; what stands before the first is a comment. The last turn of a
    stage is the question, where {caption}, {attributes} and {label} (keywords) and {changes} (alternatives) are filled in;
    the turns before it are sent as they are. Raises a UserError when the file is missing or has no question for a stage.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"prompt.prompt: there is no file {path.absolute()}")
    _, *parts = TURN.split(path.read_text(encoding="utf-8"))
    prompt: dict[str, list[Message]] = {stage: [] for stage in STAGES}
    for stage, role, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if stage not in STAGES:
            raise UserError(
                f"prompt.prompt: {path.absolute()} has a turn [{stage} {role}], but the stages are {' and '.join(STAGES)}"
            )
        prompt[stage].append(Message(role=role, content=content.strip()))
    for stage, turns in prompt.items():
        if not turns or turns[-1]["role"] != "user" or "{caption}" not in turns[-1]["content"]:
            raise UserError(
                f"prompt.prompt: the last turn of {stage} in {path.absolute()} must be [{stage} user] and contain {{caption}}"
            )
        try:
            turns[-1]["content"].format(**STAGES[stage])
        except (LookupError, ValueError) as error:
            names = " and ".join(f"{{{name}}}" for name in STAGES[stage])
            raise UserError(
                f"prompt.prompt: the question of {stage} in {path.absolute()} may hold {names}, and no other braces ({error!r})"
            ) from error
    return prompt
