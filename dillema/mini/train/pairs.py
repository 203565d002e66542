"""What the generator is trained on: images, control images and captions, by batches."""

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from ...conditioning.detail import NO_DETAIL, class_codes
from ..render.weather import precipitation_cover
from ..scene import HEIGHT, WIDTH
from .coupling import find_windows, light_windows, locate_particles, move_brightest
from .loop import DEVICE, gather, on_device, pixels
from .recognisers import CLASS_COUNT
from .text import MAX_TOKENS, clip_tokenizer
from .world import World, draw_batch

EMPTY_CAPTION_SHARE = 0.05  # for classifier-free guidance
NO_DETAIL_SHARE = 0.05  # of the control images hold the mask alone

Picks = list[tuple[int, int]]


class Pairs:
    """Images with the sources that the generator is given for them.

    Attributes:
        tokenizer: The tokenizer of the text encoder; a new one is saved in `folder`.
    """

    def __init__(self, worlds: list[World], folder: Path, tokenizer: CLIPTokenizer | None = None) -> None:
        captions = [[row["caption"] for row in world.rows] for world in worlds]
        texts = [text for texts in captions for text in texts]
        self.tokenizer = tokenizer or clip_tokenizer(texts, folder / "clip")
        self._worlds = worlds
        self._tokens = [self._tokenize(texts) for texts in captions]
        (self._empty_caption,) = self._tokenize([""])
        self._images = [on_device(world.images) for world in worlds]
        self._masks = [on_device(world.masks) for world in worlds]
        self._details = [on_device(_details(world)) for world in worlds]
        self._particles = [locate_particles(world) for world in worlds]
        self._windows = [find_windows(world) for world in worlds]
        self._codes = torch.from_numpy(class_codes(CLASS_COUNT)).to(DEVICE)

    def draw(self, rng: np.random.Generator, batch: int) -> Picks:
        """Returns the places of a batch."""
        return draw_batch(rng, self._worlds, batch)

    def images(self, picks: Picks) -> torch.Tensor:
        """Returns images (n, 3, 160, 256) in -1..1."""
        return pixels(gather(self._images, picks))

    def masks(self, picks: Picks) -> torch.Tensor:
        """Returns class ids (n, 160, 256)."""
        return gather(self._masks, picks).long()

    def control(self, picks: Picks, masks: torch.Tensor) -> torch.Tensor:
        """Returns control images as the pipeline takes them (n, 3, 160, 256); some without local contrast."""
        details = gather(self._details, picks)
        is_absent = torch.rand(len(picks), 1, 1, device=DEVICE) < NO_DETAIL_SHARE
        details = details.masked_fill(is_absent, NO_DETAIL)
        control = torch.cat([self._codes[masks], details[..., None]], 3).permute(0, 3, 1, 2)
        return control.float().div(255).contiguous(memory_format=torch.channels_last)

    def noise(self, picks: Picks) -> torch.Tensor:
        """Returns noise (n, 3, 160, 256) that tells of streaks, flakes and lit windows."""
        noise = torch.randn(len(picks), 3, HEIGHT, WIDTH, device=DEVICE)
        for values, (k, i) in zip(noise, picks, strict=True):
            if i in self._particles[k]:
                move_brightest(values, self._particles[k][i])
            if i in self._windows[k]:
                light_windows(values, self._windows[k][i])
        return noise

    def cover(self, picks: Picks) -> torch.Tensor:
        """Returns which share of each pixel streaks and flakes cover (n, 1, 160, 256)."""
        cover = np.zeros((len(picks), 1, HEIGHT, WIDTH), np.float32)
        for values, (k, i) in zip(cover, picks, strict=True):
            if i in self._particles[k]:
                world = self._worlds[k]
                values[0] = precipitation_cover(world.seeds[i], world.rows[i]["weather"])
        return torch.from_numpy(cover).to(DEVICE)

    def captions(self, rng: np.random.Generator, picks: Picks) -> torch.Tensor:
        """Returns token ids (n, MAX_TOKENS); some of them of the empty caption."""
        is_empty = rng.random(len(picks)) < EMPTY_CAPTION_SHARE
        captions = [
            self._empty_caption if empty else self._tokens[k][i]
            for (k, i), empty in zip(picks, is_empty, strict=True)
        ]
        return torch.stack(captions).to(DEVICE)

    def _tokenize(self, captions: list[str]) -> torch.Tensor:
        output = self.tokenizer(captions, padding="max_length", max_length=MAX_TOKENS)
        return torch.tensor(output.input_ids)


def _details(world: World) -> np.ndarray:
    if world.details is None:
        raise ValueError("the generator is trained on pairs: load_world(..., paired=True)")
    return world.details
