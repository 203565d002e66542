"""Writes the counterfactual of every variant."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..backend import Editor
from ..execution import in_threads
from ..types import Caption, Counterfactual, Edit, Expression, Variant
from .base import Step, StepResult, wrap_results


@dataclass(frozen=True)
class RewriteItem:
    """A variant of a source, its caption, and the expressions of the caption."""

    variant_id: str
    caption: Caption
    expressions: Mapping[str, Expression]
    variant: Variant
    label: str
    seed: int


@dataclass(frozen=True)
class RewriteStep(Step[RewriteItem]):
    """Lets the editor write each variant; a placebo is no item here, because its text is the caption."""

    editor: Editor

    name: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 1

    @property
    def backend(self) -> Editor:
        """Returns the editor."""
        return self.editor

    def item_id(self, item: RewriteItem) -> str:
        """Returns the id of the variant."""
        return item.variant_id

    def key(self, item: RewriteItem) -> Any:
        """Returns what the counterfactual depends on; mappings as pairs, because their order matters."""
        expressions = [[name, asdict(expression)] for name, expression in item.expressions.items()]
        changes = [[name, list(values)] for name, values in item.variant.changes.items()]
        return [item.caption.text, expressions, changes, item.label, item.seed]

    def work(self, backend: Editor, batch: Sequence[RewriteItem]) -> Sequence[StepResult | Exception]:
        """Returns the counterfactuals."""

        def ask(item: RewriteItem) -> dict[str, Any]:
            return asdict(
                backend.rewrite(item.caption, item.expressions, item.variant, item.label, item.seed)
            )

        return wrap_results(in_threads(ask, batch))

    def decode(self, value: Mapping[str, Any]) -> Counterfactual:
        """Returns the counterfactual."""
        return decode_counterfactual(value)


def decode_counterfactual(value: Mapping[str, Any]) -> Counterfactual:
    """Returns a counterfactual from its JSON value."""
    alternatives = {name: tuple(values) for name, values in value["alternatives"].items()}
    edits = tuple(Edit(**edit) for edit in value["edits"])
    return Counterfactual(value["text"], edits, value["method"], alternatives)
