"""Captions by a vision model behind an OpenAI-compatible server."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..execution import together
from ..server import Server
from ..types import Caption, Dataset, Sample
from .chat import PROMPT


@dataclass
class OpenAICaptioner(Server):
    """Shows a server an image, no side of it longer than `longest_side` pixels, and asks for a caption with `prompt`."""

    prompt: str = PROMPT
    longest_side: int = 768

    group: ClassVar[str] = "captioner"

    def load(self) -> None:
        """Opens connections; see `Server.connect`."""
        self.connect()

    def caption(self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]) -> list[Caption | Exception]:
        """Returns one caption a sample, or what went wrong with it; all requests are under way at the same time."""
        return together(self._caption, list(zip(samples, seeds, strict=True)))

    def _caption(self, one: tuple[Sample, int]) -> Caption:
        sample, seed = one
        image, file = sample.image, io.BytesIO()
        image.thumbnail((self.longest_side, self.longest_side))
        image.save(file, "JPEG", quality=95)
        url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": self.prompt}]
        return Caption(" ".join(self.complete([{"role": "user", "content": content}], seed).split()))
