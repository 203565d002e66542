"""Questions to a language model, and whether its replies fit."""

import re
from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from ..backend import LanguageModel, Message
from ..errors import ItemError
from ..llm.replies import find_json

ATTEMPTS = 3  # a grammar makes one enough; servers may ignore theirs
FREE_VALUE = "^[%s][a-z]{1,14}( [a-z]{2,15}){0,2}$"
"""One to three words, for free values; another first letter keeps out the original and its forms."""

Field = dict[str, Any]


def free_value(original: str) -> Field:
    """Returns the schema of a value that the language model is free to choose, other than the original."""
    letters = ascii_lowercase.replace(original[0].lower(), "") if original else ascii_lowercase
    return {"type": "string", "pattern": FREE_VALUE % letters}


def choice(values: Sequence[str]) -> Field:
    """Returns the schema of one of several values."""
    return {"type": "string", "enum": list(values)}


def several(value: Field, most: int) -> Field:
    """Returns the schema of a list of one or more values."""
    return {"type": "array", "items": value, "minItems": 1, "maxItems": most}


def object_schema(fields: Mapping[str, Field], *, required: bool) -> dict[str, Any]:
    """Returns the schema of an object with these fields and no others."""
    names = list(fields) if required else []
    return {"type": "object", "properties": dict(fields), "required": names, "additionalProperties": False}


def ask_model(
    llm: LanguageModel,
    stage: str,
    messages: list[Message],
    schema: dict[str, Any],
    seed: int,
    accept: Callable[[Any], bool] = lambda reply: True,
    attempts: int = ATTEMPTS,
) -> Any:
    """Returns a reply that fits the schema and is accepted; raises an ItemError when none of several does."""
    raw = ""
    for attempt in range(attempts):
        raw = llm.ask(messages, schema, seed + attempt)
        reply = find_json(raw)
        if fits(reply, schema) and accept(reply):
            return reply
    raise ItemError(f"{stage}: none of {attempts} replies fits what was asked for", raw)


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Returns whether a value fits a schema of this module; servers do not enforce all of it."""
    if schema["type"] == "object":
        fields = schema["properties"]
        return (
            isinstance(value, dict)
            and set(schema["required"]) <= set(value) <= set(fields)
            and all(fits(part, fields[name]) for name, part in value.items())
        )
    if schema["type"] == "array":
        is_size_right = isinstance(value, list) and schema["minItems"] <= len(value) <= schema["maxItems"]
        return is_size_right and all(fits(part, schema["items"]) for part in value)
    if not isinstance(value, str):
        return False
    if "enum" in schema:
        return value in schema["enum"]
    return bool(re.fullmatch(schema["pattern"], value))
