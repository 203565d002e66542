import pytest

from dillema.job import summary
from dillema.run_folder import RunFolder
from tests.backends import Gate, Model, run_pipeline

COLUMNS = 80


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("summary")
    models = tuple(Model(name=f"a_segmenter_with_a_long_name_{size}") for size in ("small", "large"))
    run, _ = run_pipeline(base / "run", base / "store", models=models, gates=[Gate(least=0.497)], placebos=1)
    return run


def test_the_tables_fit_80_columns(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    summary.show(RunFolder.open(folder.path))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    text = "".join(line for line in lines)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text  # nothing is cut off
    words = " ".join(text.replace("│", " ").split())
    assert "minus" in words and " less " not in words


def test_what_the_generator_alone_does_has_a_row(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    summary.show(RunFolder.open(folder.path))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if "nothing changed: the generator alone" in line]
    figures = folder.results["models"].values()
    parts = [part for model in figures for part in ((model, model["all"]))]
    assert len(rows) == len([part for part in parts if part["placebo"]]) == 4
    placebo = parts[0]["placebo"]
    assert f"{100 * placebo['original']:.1f} %" in rows[0] and f"{100 * placebo['placebo']:.1f} %" in rows[0]
