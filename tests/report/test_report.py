import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from dillema.report import marked, verdict, write
from tests.backends import Captioner, Gate, Generator, Noise, pipeline

FIGURES = {"metric": "mean_iou", "sources": 24, "images": 61, "drop": 0.123, "low": 0.081, "high": 0.16, "level": 0.95}
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Reads a page; fails when a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""


def page(tmp_path, **parts):
    folder = tmp_path / "run"
    folder.mkdir()
    whole = pipeline(tmp_path / "store", **parts)
    out = whole.run(folder)
    for pair in out.pairs:
        said = {"label": 0, "predicted": 0, "confidence": 0.9}
        pair.said["net"] = (said, said | {"confidence": 0.1 if pair.id == "scene-4_1" else 0.8})
    write(out, whole.dataset, folder)
    return Page((folder / "report.html").read_text())


def test_the_page_needs_no_other_file(tmp_path):
    shown = page(tmp_path, dataset=Noise(task="classification"))
    addresses = [value for _, attributes in shown.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(addresses) == 6 * 4 and all(a.startswith("data:image/") for a in addresses)
    assert {tag for tag, _ in shown.tags}.isdisjoint({"script", "link"})
    assert all(attributes.get("alt") for tag, attributes in shown.tags if tag == "img")


def test_the_most_harmful_come_first(tmp_path):
    assert re.findall(r"scene-\d", page(tmp_path, dataset=Noise(task="classification")).text)[0] == "scene-4"


def test_edits_are_marked(tmp_path):
    shown = page(tmp_path)
    marks = [tag for tag, _ in shown.tags].count("mark")
    assert marks == 6 * (1 + 2)
    assert "weather: clear → foggy" in shown.text


def test_what_models_and_errors_say_is_escaped(tmp_path):
    shown = page(tmp_path, captioner=Captioner(sentence="a clear day <script>alert(1)</script>"), generator=Generator(fails="night"))
    assert "script" not in {tag for tag, _ in shown.tags}
    assert "<script>alert(1)</script>" in shown.text
    assert "<b>what?</b>" in shown.text and "no night here" in shown.text


def test_a_page_of_a_run_in_which_nothing_is_valid(tmp_path):
    assert "not valid" in page(tmp_path, validity=Gate(least=2.0)).text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "net loses 12.3 points of mean IoU on 61 valid counterfactuals of 24 sources (95 % interval: 8.1 to 16.0 points lost)."),
        ({"drop": -0.02, "low": -0.03, "high": -0.01}, "gains 2.0 points"),
        ({"low": -0.01}, "no change of mean IoU that can be told from chance"),
        ({"low": None, "high": None}, "too few sources for an interval"),
        ({"drop": None}, "nothing can be said about net"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(changes, words):
    assert words in verdict("net", FIGURES | changes)


def test_marks_keep_to_words_and_lose_nothing():
    text = "a red car (red) hired by a red-haired man"
    pieces = marked(text, ["red", "red car"])
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, edited in pieces if edited] == ["red car", "red", "red"]
    assert all(one[1] != other[1] for one, other in pairwise(pieces))
    assert marked(text, []) == [(text, False)]
