"""Reads the JSON in the reply of a language model."""

import json
from typing import Any

MAX_BRACES = 100
"""Where an object may begin; each that begins none takes the time of the whole reply."""

END_OF_REASONING = "</think>"


def find_json(text: str) -> dict[str, Any] | None:
    """Returns the first JSON object in a reply, or None if there is none.

    Servers that do not follow a schema put the object into a Markdown code block or into prose. Reasoning
    models write their reasoning before it, which may contain drafts of the object.
    """
    reply = text.rpartition(END_OF_REASONING)[2]
    decoder = json.JSONDecoder(strict=False)  # grammars of llama.cpp let control characters into strings
    start = reply.find("{")
    for _ in range(MAX_BRACES):
        if start < 0:
            break
        try:
            value, _ = decoder.raw_decode(reply, start)
        except (
            ValueError,
            RecursionError,
        ):  # a brace of the prose, a number of more than 4300 digits, too many levels
            start = reply.find("{", start + 1)
        else:
            return dict(value)
    return None
