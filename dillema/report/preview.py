"""A small page of the first generated images, while a run goes on."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..run_folder import PREVIEW
from ..steps.base import Step
from ..steps.generate import GenerateItem, GenerateStep
from .page import environment
from .thumbnails import embed, shrink, shrink_file

log = logging.getLogger(__name__)

SHOWN_IMAGES = 48


class Preview:
    """Writes preview.html into a run folder; the report removes it.

    `checked` says whether a gate will look at the images.
    """

    def __init__(self, folder: Path, checked: bool = True) -> None:
        self.path = folder / PREVIEW
        self.checked = checked
        self.cards: list[tuple[str, str, str]] = []

    def add(self, step: Step[Any], finished: Sequence[tuple[GenerateItem, Path]]) -> None:
        """Adds generated images to the page, as long as it has room; ignores what other steps made."""
        if step.name != GenerateStep.name or len(self.cards) >= SHOWN_IMAGES:
            return
        for item, image in finished[: SHOWN_IMAGES - len(self.cards)]:
            original = embed(shrink(item.sample.image))
            self.cards.append((item.counterfactual.text, original, embed(shrink_file(image))))
        template = environment().get_template("preview.html.j2")
        page = template.render(cards=self.cards, most=SHOWN_IMAGES, checked=self.checked)
        is_first = not self.path.exists()
        write_atomically(self.path, page)
        if is_first and self.cards:
            running = self.path.absolute().parents[2] / "running" / PREVIEW
            shown = running if running.exists() and running.samefile(self.path) else self.path
            log.info("First images: %s (renewed until it shows %d, which is its size)", shown, SHOWN_IMAGES)
