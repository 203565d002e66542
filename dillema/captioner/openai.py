"""Captions by a vision model behind an OpenAI-compatible server."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backend import Dataset
from ..execution import in_threads
from ..fields import Positive
from ..server import Server
from ..types import Caption, Sample
from .chat import PROMPT


@dataclass
class OpenAICaptioner(Server):
    """Sends an image to a server and asks for a caption.

    Attributes:
        prompt: The question.
        longest_side: Larger images are sent with this many pixels along their longer side.
    """

    prompt: str = PROMPT
    longest_side: Positive = 768

    group: ClassVar[str] = "captioner"

    def load(self) -> None:
        """Opens connections; see `Server.connect`."""
        self.connect()

    def caption(
        self, samples: Sequence[Sample], dataset: Dataset, seeds: Sequence[int]
    ) -> list[Caption | Exception]:
        """Returns one caption a sample; all requests are sent at the same time."""
        return in_threads(self._caption, list(zip(samples, seeds, strict=True)))

    def _caption(self, item: tuple[Sample, int]) -> Caption:
        sample, seed = item
        image = sample.image
        image.thumbnail((self.longest_side, self.longest_side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
        url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": self.prompt},
        ]
        reply = self.complete([{"role": "user", "content": content}], seed)
        return Caption(" ".join(reply.split()))
