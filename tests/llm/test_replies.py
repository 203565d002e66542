import pytest

from dillema.llm.replies import find_json

OBJECT = '{"weather": "foggy", "colour": {"span": "red"}}'
VALUE = {"weather": "foggy", "colour": {"span": "red"}}


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f"```json\n{OBJECT}\n```",
        f"Here is the JSON you asked for:\n{OBJECT}\nIt keeps {{all}} objects.",
        f'<think>\nThe weather may change: {{"weather": "clear"}}.\n</think>\n\n{OBJECT}',
        f"the set {{foggy, red}} becomes {OBJECT}",
    ],
)
def test_the_object_is_found_in_what_servers_wrap_it_in(text):
    assert find_json(text) == VALUE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foggy",
        '["foggy"]',
        '{"weather": "fog',
        "{" * 10_000,
        '{"a":' * 2000,
        '{"a": ' + "9" * 9_000 + "}",
    ],
)
def test_a_reply_without_an_object_has_none(text):
    assert find_json(text) is None
