"""The naive way: one item at a time, everything loaded again for it; three requests in free text a caption.

The requests are those of the original (DILLEMA, arXiv 2502.04378): the words that may change, alternatives
for them, and the sentence. Here each is sent once; the original repeats one whose reply it cannot read.
"""

import copy
from collections.abc import Callable
from typing import Any

from .. import hub
from ..counterfactual.editor import Editor
from ..execution import run_batch
from ..llm.llama_cpp import LlamaCpp
from ..steps.base import Step

INSTEAD = "other stages"
LONGEST = 160  # tokens of a reply
SYSTEM = "You are a helpful, respectful and honest assistant."
REQUESTS = {
    "keywords": (
        'Caption: "{caption}". Which words can be changed without changing the class {label}? '
        "Answer with a Python list of words.",
        'Caption: "{caption}". Give alternatives for the words that can be changed. '
        'Answer with JSON in the form {{"word": ["alternative", "alternative"]}}.',
    ),
    "rewrite": (
        'Caption: "{caption}". Change the caption with these replacements: {changes}. '
        "Keep everything else. Answer with the new caption in double quotes.",
    ),
}


def find_way(step: Step[Any]) -> Callable[[Any], Any]:
    """Returns a function that does the work of one item in the naive way."""
    backend = step.backend
    if isinstance(backend, Editor) and isinstance(backend.llm, LlamaCpp) and step.name in REQUESTS:
        llm, requests = backend.llm, REQUESTS[step.name]
        return lambda item: _ask(llm, requests, item)
    return lambda item: _reload(step, item)


def _reload(step: Step[Any], item: Any) -> Any:
    loaded = copy.deepcopy(step.backend)
    if loaded is not None:
        loaded.load()
    return run_batch(lambda batch: step.work(loaded, batch), [item])


def _ask(llm: LlamaCpp, requests: tuple[str, ...], item: Any) -> None:
    llama = llm.open(hub.file(llm.model, INSTEAD))
    changes = getattr(getattr(item, "variant", None), "changes", "")
    for request in requests:
        question = request.format(caption=item.caption.text, label=item.label, changes=changes)
        llama.create_chat_completion(
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
            temperature=llm.temperature,
            top_p=llm.top_p,
            max_tokens=LONGEST,
            seed=item.seed + 1,
        )
