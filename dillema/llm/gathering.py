"""Answers the questions of several threads together."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")

PATIENCE = 0.02
"""Seconds that a batch waits for the questions of other threads; a reply takes longer."""


class Gatherer(Generic[Question, Reply]):
    """Collects questions that threads ask at the same time, and has up to `most` answered together."""

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Reply | Exception]], most: int):
        self._answer = answer
        self._most = most
        self._questions: list[tuple[Question, Future[Reply]]] = []
        self._arrival = threading.Condition()
        self._one_batch = threading.Lock()

    def ask(self, question: Question) -> Reply:
        """Returns the reply to a question, or raises its exception."""
        future: Future[Reply] = Future()
        with self._arrival:
            self._questions.append((question, future))
            self._arrival.notify_all()
        with self._one_batch:
            if not future.done():
                self._answer_batch(future)
        return future.result()

    def _answer_batch(self, own: Future[Reply]) -> None:
        """Answers the oldest questions, of which the caller's own is always one."""
        with self._arrival:
            if self._most > 1:
                self._arrival.wait_for(lambda: len(self._questions) >= self._most, PATIENCE)
            mine = [pair for pair in self._questions if pair[1] is own]
            others = [pair for pair in self._questions if pair[1] is not own]
            batch = [*mine, *others][: self._most]
            self._questions = [pair for pair in self._questions if pair not in batch]
        try:
            replies = self._answer([question for question, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
