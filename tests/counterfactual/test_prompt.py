import pytest

from dillema.config import package_file
from dillema.counterfactual.prompt import PLACEHOLDERS, read_prompt
from dillema.errors import UserError

STAGES = ("keywords", "alternatives")
GOOD = (
    "a comment\n\n[keywords system]\nBe short.\n\n[keywords user]\n{caption}\n{attributes}\n"
    "[alternatives user]\n{caption}: {changes}\n"
)


@pytest.mark.parametrize("name", ["mini", "general", "paper_classification", "paper_segmentation"])
def test_shipped_prompts_can_be_read(name):
    stages = [stage for stage in PLACEHOLDERS if stage != "single" or name != "mini"]
    prompt = read_prompt(package_file("dillema", f"counterfactual/prompts/{name}.txt"), stages)
    assert list(prompt) == stages
    for turns in prompt.values():
        assert [t["role"] for t in turns] == [
            "system",
            *["user", "assistant"] * (len(turns) // 2 - 1),
            "user",
        ]


def test_turns_are_what_stands_under_their_headings(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text(GOOD)
    assert read_prompt(file, STAGES) == {
        "keywords": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "{caption}\n{attributes}"},
        ],
        "alternatives": [{"role": "user", "content": "{caption}: {changes}"}],
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[alternatives user]",
            "[alternative user]",
            r"turn \[alternative user\], but the stages are keywords, proposals, alternatives, ",
        ),
        (
            "[alternatives user]\n{caption}: {changes}\n",
            "",
            r"last turn of alternatives .* must be \[alternatives user\]",
        ),
        ("[keywords user]\n{caption}", "[keywords user]\nthe caption", r"contain \{caption\}"),
        ("{changes}", "{change}", r"may hold \{caption\}, \{label\}, \{changes\}, and no other braces"),
        ("{attributes}", "{attributes", "no other braces"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    file = tmp_path / "p.txt"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_prompt(file, STAGES)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no file .*p\.txt"):
        read_prompt(tmp_path / "p.txt", STAGES)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_prompt_of_windows_keeps_its_first_turn(tmp_path, encoding):
    file = tmp_path / "p.txt"
    text = GOOD[GOOD.index("[") :]  # without a comment, so that the mark stands before the first turn
    file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read_prompt(file, STAGES)["keywords"][0] == {"role": "system", "content": "Be short."}


def test_a_prompt_that_is_no_text_is_named(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UserError, match=r"prompt\.prompt=.*p\.txt cannot be read"):
        read_prompt(tmp_path / "p.txt", STAGES)
