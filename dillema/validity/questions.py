"""Asks a vision language model multiple-choice questions about the generated image."""

import base64
import io
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from string import ascii_uppercase
from typing import Any, ClassVar

from PIL import Image

from .. import hub
from ..backend import Dataset, Threshold, Vary
from ..errors import ItemError, UserError
from ..execution import each_alone, in_threads
from ..fields import BatchSize, Positive, Share, Transient, Weights
from ..keys import seed_for
from ..server import Server
from ..types import Counterfactual, Edit, Sample
from . import below, label_name, read_original

CANNOT_TELL = "cannot tell"
INSTRUCTION = "Answer with the letter of the right choice and nothing else."
MAX_EDITS = 6  # whose scores are kept; those with the lowest probabilities, where an image has more
SUFFIXES = ("", *(f"_{number}" for number in range(2, MAX_EDITS + 1)))
TOP_LOGPROBS = 20  # the most that OpenAI's protocol allows


@dataclass(frozen=True)
class Question:
    """A question about an image, with the choices of its answer."""

    image: Image.Image
    text: str
    choices: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """Returns the question with its choices, a letter each."""
        lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, self.choices, strict=False)]
        return "\n".join([self.text, *lines, INSTRUCTION])


@dataclass(kw_only=True)
class QuestionsGate(ABC):
    """Asks a question for each edit and one about the label; scores are probabilities of correct answers.

    The choices for an edit are the values that its attribute may have; those for the label are `distractors`
    other classes; both include "cannot tell". `edited` is the probability of the new value, `label` that of
    the label. The same questions are asked about the original: `original` is the probability of the old
    value, `original_label` that of the label. What the model does not recognise there is not used against
    the image. A placebo is asked about the attributes that the counterfactuals of its source change:
    `unchanged` is the probability of the old value.

    Each edit has its own pair of scores, so that thresholds can change later: `edited` and `original` are of
    the edit with the lowest probability, `edited_2` and `original_2` of the next one, and so on, for up to
    MAX_EDITS edits.

    A probability is that of the first token of the reply, so a question needs one pass of the model and no
    parsing.
    """

    name: Transient[str] = "questions"
    min_edited: Transient[Share] = 0.5
    min_label: Transient[Share] = 0.5
    min_original: Transient[Share] = 0.5
    attribute_question: str = "What is the {attribute} in this image?"
    label_question: str = "What is the main object in this image?"
    distractors: Positive = 4
    longest_side: Positive = 768

    version: ClassVar[int] = 1
    scores: ClassVar[tuple[str, ...]] = (
        "label",
        "original_label",
        *(f"{score}{suffix}" for suffix in SUFFIXES for score in ("edited", "unchanged", "original")),
    )
    asks_placebos: ClassVar[bool] = True
    thresholds: ClassVar[Mapping[str, Threshold]] = {
        "edited": Threshold("min_edited", "edit"),
        "label": Threshold("min_label", "label"),
    }

    @abstractmethod
    def answer(self, questions: Sequence[Question]) -> Sequence[Sequence[float] | Exception]:
        """Returns the probability of each choice of each question."""

    def score(
        self,
        samples: Sequence[Sample],
        counterfactuals: Sequence[Counterfactual],
        images: Sequence[Image.Image],
        dataset: Dataset,
    ) -> list[dict[str, float] | Exception]:
        """Returns the probabilities of the correct answers about each image and its original."""
        questions: dict[Any, Question] = {}
        plans = []
        for position, (sample, counterfactual, image) in enumerate(
            zip(samples, counterfactuals, images, strict=True)
        ):
            original = read_original(sample, image)
            plan = []
            for number, score, text, choices, right_choice in self._ask_about(
                sample, counterfactual, dataset
            ):
                is_original = score.startswith("original")
                key = (sample.id if is_original else position, is_original, text, choices)
                questions[key] = Question(original if is_original else image, text, choices)
                plan.append((number, score, key, choices.index(right_choice)))
            plans.append(plan)
        answer_by_question = dict(zip(questions, self.answer(list(questions.values())), strict=True))
        return [_join_probabilities(plan, answer_by_question) for plan in plans]

    def reasons(self, scores: Mapping[str, float]) -> list[str]:
        """Returns what the model recognises in the original but not in the generated image."""
        reasons = []
        for suffix in SUFFIXES:
            if scores.get(f"original{suffix}", 1.0) >= self.min_original:
                for score, words in (("edited", "what was edited"), ("unchanged", "what was not edited")):
                    reasons += below(scores, score + suffix, self.min_edited, f"probability of {words}")
        if scores.get("original_label", 1.0) >= self.min_original:
            reasons += below(scores, "label", self.min_label, "probability of the label")
        return reasons

    def _ask_about(
        self, sample: Sample, counterfactual: Counterfactual, dataset: Dataset
    ) -> list[tuple[int, str, str, tuple[str, ...], str]]:
        """Returns the questions about an image and its original.

        Each has the number of its edit (-1: the label), its score, text, choices and correct choice.
        """
        questions = []
        for number, edit in enumerate(counterfactual.edits or counterfactual.unchanged):
            text = self.attribute_question.format(attribute=edit.attribute)
            before = _original_value(edit, sample, dataset.vary)
            choices = _values(edit, before, dataset.vary)
            if counterfactual.edits:
                questions.append((number, "edited", text, choices, edit.replacement))
            elif before:
                questions.append((number, "unchanged", text, choices, before))
            if before:
                questions.append((number, "original", text, choices, before))
        label = label_name(sample, dataset)
        if label:
            choices = _labels(label, sample.id, dataset.classes, self.distractors)
            for score in ("label", "original_label"):
                questions.append((-1, score, self.label_question, choices, label))
        return questions

    def _resize(self, image: Image.Image) -> Image.Image:
        small = image.copy()
        small.thumbnail((self.longest_side, self.longest_side))
        return small


@dataclass(kw_only=True)
class TransformersQuestions(QuestionsGate):
    """Asks a vision model of transformers with a chat template: Qwen-VL, SmolVLM, LLaVA and others."""

    model: Weights[str]
    batch_size: BatchSize = 8
    dtype: hub.DType = "auto"
    quantization: Mapping[str, Any] | None = None
    device: Transient[str] = "auto"

    version: ClassVar[int] = 3

    def load(self) -> None:
        """Loads the model and its processor; raises a UserError when it has no chat template."""
        import transformers

        alternative = "validity=image"
        self._processor = hub.load(transformers.AutoProcessor, self.model, alternative)
        if not getattr(self._processor, "chat_template", None):
            raise UserError(f"validity.{self.name}.model: {self.model} has no chat template")
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"  # the reply follows the question directly
        self._tokens = [_letter_tokens(tokenizer, letter) for letter in ascii_uppercase]
        self._network = hub.network(
            transformers.AutoModelForImageTextToText,
            self.model,
            alternative,
            self.device,
            self.dtype,
            dict(self.quantization) if self.quantization else None,
        )

    def answer(self, questions: Sequence[Question]) -> list[list[float]]:
        """Returns the probability of each choice, a batch of questions at a time."""
        answers: list[list[float]] = []
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            answers += each_alone(self._answer_batch, batch, hub.is_on_cpu(self.device), thread_safe=False)
        return answers

    def _answer_batch(self, questions: Sequence[Question]) -> list[list[float]]:
        import torch

        texts = []
        for question in questions:
            content = [{"type": "image"}, {"type": "text", "text": question.prompt}]
            chat = [{"role": "user", "content": content}]
            texts.append(
                self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            )
        images = [[self._resize(question.image)] for question in questions]
        inputs = self._processor(images=images, text=texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = self._network(**inputs.to(self._network.device, self._network.dtype), logits_to_keep=1)
        probabilities = output.logits[:, -1].float().softmax(-1).cpu()
        return [
            _normalise([float(row[tokens].sum()) for tokens in self._tokens[: len(question.choices)]])
            for question, row in zip(questions, probabilities, strict=True)
        ]


@dataclass(kw_only=True)
class ServerQuestions(QuestionsGate, Server):
    """Asks a vision model on an OpenAI-compatible server that returns the probabilities of tokens."""

    temperature: float = field(
        default=1.0, init=False
    )  # some servers apply it before they return probabilities
    top_p: float = field(default=1.0, init=False)
    max_tokens: int = field(default=1, init=False)

    version: ClassVar[int] = 2
    group: ClassVar[str] = "validity.questions"

    def load(self) -> None:
        """Opens connections; see `Server.connect`."""
        self.connect()

    def answer(self, questions: Sequence[Question]) -> Sequence[list[float] | Exception]:
        """Returns the probability of each choice; all requests are sent at the same time."""
        return in_threads(self._answer, questions)

    def _answer(self, question: Question) -> list[float]:
        file = io.BytesIO()
        self._resize(question.image).save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question.prompt},
        ]
        options = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        response = self._send([{"role": "user", "content": content}], 0, options)
        try:
            entries = response.choices[0].logprobs.content[0].top_logprobs
            probabilities = dict.fromkeys(ascii_uppercase[: len(question.choices)], 0.0)
            for entry in entries:
                letter = entry.token.strip()
                if letter in probabilities:
                    probabilities[letter] += exp(entry.logprob)
        except (AttributeError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.group}.base_url: {self.base_url} does not tell the probabilities of tokens (logprobs)"
            ) from error
        return _normalise(list(probabilities.values()))


def _join_probabilities(
    plan: Sequence[tuple[int, str, Any, int]], answer_by_question: Mapping[Any, Any]
) -> dict[str, float] | Exception:
    """Returns the scores of an image, those of its least probable edit first; or a question's exception."""
    probabilities: dict[int, dict[str, float]] = {}
    for number, score, key, right_choice in plan:
        answer = answer_by_question[key]
        if isinstance(answer, Exception):
            return answer
        probabilities.setdefault(number, {})[score] = answer[right_choice]
    scores = probabilities.pop(-1, {})
    pairs = sorted(probabilities.values(), key=lambda pair: pair.get("edited", pair.get("unchanged", 1.0)))
    for suffix, pair in zip(SUFFIXES, pairs, strict=False):
        scores |= {f"{score}{suffix}": probability for score, probability in pair.items()}
    return scores


def _original_value(edit: Edit, sample: Sample, vary: Vary) -> str:
    """Returns the value that an attribute had; "" if it is unknown."""
    listed = vary.get(edit.attribute, ())
    if not listed:
        return edit.original
    candidates = (sample.attributes.get(edit.attribute, ""), edit.original)
    return next((value for value in candidates if value in listed), "")


def _values(edit: Edit, before: str, vary: Vary) -> tuple[str, ...]:
    """Returns the choices of a question about an edit, both values of the edit among them."""
    needed = [value for value in (before, edit.replacement) if value]
    listed = list(vary.get(edit.attribute, ()))
    other_values = [value for value in listed if value not in needed][
        : len(ascii_uppercase) - 1 - len(needed)
    ]
    in_order = [value for value in listed if value in needed or value in other_values]
    return tuple(dict.fromkeys([*in_order, *needed, CANNOT_TELL]))


def _labels(label: str, sample_id: str, classes: Sequence[str], distractors: int) -> tuple[str, ...]:
    """Returns the choices of a question about a label, in an order that depends only on the sample."""
    rng = random.Random(seed_for(0, sample_id, "distractors"))
    other_classes = [name for name in dict.fromkeys(classes) if name != label]
    count = min(distractors, len(other_classes), len(ascii_uppercase) - 2)
    choices = [label, *rng.sample(other_classes, count)]
    rng.shuffle(choices)
    return (*choices, CANNOT_TELL)


def _letter_tokens(tokenizer: Any, letter: str) -> list[int]:
    """Returns the tokens that are a letter, with or without a space before it."""
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in (letter, f" {letter}")]
    return [tokens[0] for tokens in encoded if len(tokens) == 1]


def _normalise(probabilities: list[float]) -> list[float]:
    """Returns probabilities that add up to 1; raises an ItemError if all are 0."""
    total = sum(probabilities)
    if total <= 0:
        raise ItemError("the model answered with no letter of a choice")
    return [probability / total for probability in probabilities]
