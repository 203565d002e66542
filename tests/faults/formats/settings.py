"""Configurations: overrides of the command line, an option of one's own, a file of prompts, a vocabulary."""

import random
import string
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf

from dillema.config import compose, conf_dir
from dillema.config_check import check
from dillema.counterfactual.prompt import read_prompt
from dillema.counterfactual.vocabulary import FOLDER, load_vocabulary
from dillema.errors import UserError
from dillema.overrides import prepare

from ..damage import BYTES, PATHS, TEXT, Damage
from ..format import Accepted, Format
from .tables import decode

KEYS = (
    "seed",
    "dataset.limit",
    "dataset.vary",
    "llm.temperature",
    "generator.steps",
    "captioner",
    "model",
    "store",
    "validity",
    "counterfactuals",
    "tracking.uri",
    "size",
    "model.mini_segformer.class_map",
    "job",
    "name",
    "hydra.run.dir",
    "dataset.where",
    "conditioning.weight",
    "no.such.key",
    "",
)
WORDS = (
    "1",
    "-1",
    "0.5",
    "null",
    "true",
    "nan",
    "inf",
    "1e999",
    "9" * 5000,
    "[1,2]",
    "{a: 1}",
    "{a: {b: [}}",
    "${seed}",
    "${nothing}",
    "${store}/${store}",
    "${oc.env:HOME}",
    "${oc.env:NOTHING}",
    "${package:os,x}",
    "a=b",
    "a,b",
    "'",
    '"',
    "\\",
    "\n",
    "\x1b[2J",
    "\udc80",
    "\u202e",
    "x" * 100_000,
    "[" * 500,
    "{a:" * 500,
    "???",
    "~",
    "",
    " ",
    "<script>",
    "../../..",
    "/dev/zero",
    "!!python/object/apply:os.system [ls]",
    "*a",
    "&a",
    "choice(1,2)",
    "range(1,3)",
    "glob(*)",
    "sort(1,2)",
    "int(a)",
    "cast",
    "mini",
    "[segmenter,nothing]",
)
PROMPT_STAGES = ("keywords", "alternatives")  # those of mini.txt
PREFIXES = ("", "", "", "+", "++", "~", "+++", "@", "-", "--")


def _write_arguments(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "arguments").write_text("seed=1\0counterfactuals=2\0dataset.limit=4")


def _odd_value(path: Path, rng: random.Random) -> None:
    argument = f"{rng.choice(PREFIXES)}{rng.choice(KEYS)}={rng.choice(WORDS)}"
    path.write_text(f"seed=1\0{argument}", errors="surrogateescape")


def _two_odd_values(path: Path, rng: random.Random) -> None:
    arguments = [
        f"{rng.choice(PREFIXES)}{rng.choice(KEYS)}={rng.choice(WORDS)}{rng.choice(WORDS)}" for _ in "ab"
    ]
    path.write_text("\0".join(arguments), errors="surrogateescape")


def _noise(path: Path, rng: random.Random) -> None:
    path.write_text("".join(rng.choices(string.printable, k=rng.randint(1, 60))))


def _read_arguments(folder: Path) -> Any:
    """Composes and checks a configuration as the command does; Hydra shows its own errors in one message."""
    arguments = (folder / "arguments").read_bytes().decode(errors="surrogateescape").split("\0")
    try:
        cfg = compose([argument for argument in prepare(arguments) if not argument.startswith("-")])
    except HydraException as error:
        raise UserError(str(error)) from error
    check(cfg)
    return Accepted("a configuration")


def _write_option(folder: Path) -> None:
    (folder / "dataset").mkdir(parents=True)
    text = (conf_dir() / "dataset" / "mini_shift.yaml").read_text()
    (folder / "dataset" / "mine.yaml").write_text(text)


def _read_option(folder: Path) -> Any:
    try:
        cfg = compose(prepare([f"hydra.searchpath=[file://{folder}]", "dataset=mine"]))
    except HydraException as error:
        raise UserError(str(error)) from error
    check(cfg)
    return OmegaConf.to_container(cfg.dataset)


def _write_prompt(folder: Path) -> None:
    folder.mkdir(parents=True)
    text = (FOLDER.parent / "prompts" / "mini.txt").read_text()
    (folder / "mine.txt").write_text(text[text.index("[") :])


def _read_prompt(folder: Path) -> Any:
    return read_prompt(folder / "mine.txt", PROMPT_STAGES)


def _parse_prompt(folder: Path) -> Any:
    """Returns the turns line by line."""
    prompt: dict[str, list[dict[str, str]]] = {}
    content: list[str] | None = None
    for line in (
        decode((folder / "mine.txt").read_bytes()).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ):
        words = line.strip("[]").split(" ")
        is_turn = line.startswith("[") and line.endswith("]") and len(words) == 2
        if is_turn and words[0].isidentifier() and words[1] in ("system", "user", "assistant"):
            content = []
            turns = prompt.setdefault(words[0], [])
            turns.append({"role": words[1], "content": content})
        elif content is not None:
            content.append(line)
    return {
        stage: [turn | {"content": "\n".join(turn["content"]).strip()} for turn in turns]
        for stage, turns in prompt.items()
        if stage in PROMPT_STAGES
    }


def _write_vocabulary(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text((FOLDER / "season.yaml").read_text())


def _read_vocabulary(folder: Path) -> Any:
    return repr(load_vocabulary([folder / "mine.yaml"]).find("season"))


ARGUMENTS: dict[str, Damage] = {
    "an odd value": _odd_value,
    "another odd value": _odd_value,
    "two odd values": _two_odd_values,
    "noise": _noise,
}
FORMATS = [
    Format("overrides", "arguments", _write_arguments, _read_arguments, ARGUMENTS),
    Format("overrides once more", "arguments", _write_arguments, _read_arguments, ARGUMENTS),
    Format("option", "dataset/mine.yaml", _write_option, _read_option, BYTES | TEXT | PATHS, _read_option),
    Format("prompt", "mine.txt", _write_prompt, _read_prompt, BYTES | TEXT | PATHS, _parse_prompt),
    Format(
        "vocabulary", "mine.yaml", _write_vocabulary, _read_vocabulary, BYTES | TEXT | PATHS, _read_vocabulary
    ),
]
