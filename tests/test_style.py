"""Checks limits of style that ruff does not check: lengths of functions, files and lines of text files."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = 110
FUNCTION_LINES = 60
FILE_LINES = 400
LONG_FILES = {
    "dillema/dataset/imagenet_classes.txt": "a list of 1000 classes",
    "tests/tiny.py": "a small checkpoint of each format, which the tests of several groups share",
}
LONG_FUNCTIONS = {("tests/tiny.py", "gguf"): "the fields of a file, one after the other"}
TEXT = {".py", ".yaml", ".toml", ".md", ".j2", ".js", ".css", ".txt", ".csv", ""}
FOLDERS = ("dillema", "conf", "tests", ".github", ".ci")
DATA = ("weights", "__pycache__", "golden", "prompts")  # line feeds are content, or programs write them


def text_files():
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = [(path, path.relative_to(ROOT)) for path in files]
    return sorted(
        str(name)
        for path, name in names
        if path.suffix in TEXT and not set(DATA) & set(name.parts) and not name.name.startswith(".git")
    )


FILES = text_files()


def read_lines(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", FILES)
def test_lines_fit_the_columns(name):
    # rows of tables and addresses cannot be broken
    long = [
        line_number
        for line_number, line in enumerate(read_lines(name), 1)
        if len(line) > COLUMNS and not line.startswith("|") and not re.search(r"https?://\S{60}", line)
    ]
    assert not long, f"{name} has lines of more than {COLUMNS} columns: {long[:10]}"


@pytest.mark.parametrize("name", [name for name in FILES if name not in LONG_FILES])
def test_files_are_short(name):
    assert len(read_lines(name)) <= FILE_LINES


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py")])
def test_functions_are_short(name):
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not [
        function
        for function, lines in lengths.items()
        if lines > FUNCTION_LINES and (name, function) not in LONG_FUNCTIONS
    ]


def test_exceptions_are_needed():
    assert all(len(read_lines(name)) > FILE_LINES for name in LONG_FILES)
