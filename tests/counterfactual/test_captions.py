import pytest

from .measure import make_editor, measure, read_captions


@pytest.fixture(scope="module", params=[5, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def figures(request):
    captions = [*read_captions("development"), *read_captions("test")]
    return measure(make_editor(), captions[:: request.param])


def test_the_right_spans_are_found(figures):
    assert figures.pairs in (180, 900)
    assert figures.right_spans / figures.pairs >= 0.95


@pytest.mark.parametrize(
    "problem", ["value missing", "original left", "second attribute changed", "label or kept words touched"]
)
def test_every_value_can_be_put_into_every_caption_and_nothing_else_changes(figures, problem):
    assert figures.edits > 9 * figures.pairs and figures.several > 400
    assert figures.problems.get(problem, []) == []
