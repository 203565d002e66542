"""Finds the expressions of the attributes that may change in every caption."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..backend import Editor, Vary
from ..execution import in_threads
from ..types import Caption, Expression
from .base import Step, StepResult, wrap_results


@dataclass(frozen=True)
class KeywordsItem:
    """A source's caption, the name of its class ("" where it has none), and a seed."""

    source_id: str
    caption: Caption
    label: str
    seed: int


@dataclass(frozen=True)
class KeywordsStep(Step[KeywordsItem]):
    """Lets the editor find the expressions of each caption."""

    editor: Editor
    vary: Vary

    name: ClassVar[str] = "keywords"
    version: ClassVar[int] = 2

    @property
    def backend(self) -> Editor:
        """Returns the editor."""
        return self.editor

    def item_id(self, item: KeywordsItem) -> str:
        """Returns the id of the source."""
        return item.source_id

    def key(self, item: KeywordsItem) -> Any:
        """Returns what the expressions depend on; `vary` as pairs, because its order matters."""
        vary = [[name, list(values)] for name, values in self.vary.items()]
        return [item.caption.text, vary, item.label, item.seed]

    def work(self, backend: Editor, batch: Sequence[KeywordsItem]) -> Sequence[StepResult | Exception]:
        """Returns the expressions of each caption by attribute."""

        def ask(item: KeywordsItem) -> dict[str, dict[str, Any]]:
            expressions = backend.keywords(item.caption, self.vary, item.label, item.seed)
            return {attribute: asdict(expression) for attribute, expression in expressions.items()}

        return wrap_results(in_threads(ask, batch))

    def decode(self, value: Mapping[str, Mapping[str, Any]]) -> dict[str, Expression]:
        """Returns the expressions by attribute."""
        return {
            attribute: Expression(e["span"], e["value"], tuple(e["alternatives"]))
            for attribute, e in value.items()
        }
