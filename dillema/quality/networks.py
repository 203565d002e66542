"""Image quality by networks.

Generated images are measured beside their originals and captions and, as a set, beside the set of originals.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from .. import hub
from ..errors import ItemError, NoWeights, UserError
from ..execution import each_alone
from ..fields import BatchSize, Transient, Weights
from ..model.weights import read_weights

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

WITHOUT_DOWNLOAD = "quality=null"
IMAGES_PER_UPDATE = 1024  # images whose features are added to the covariance at once
KID_IMAGES = 20_000  # images a side, about, whose features KID holds in memory: of more it draws so many
KID_SUBSET = 1000  # images a side in each of its subsets, as in the paper

OpenImage = Callable[[], Image.Image]


@dataclass
class Networks:
    """Measures LPIPS and CLIP scores of images, and FID and KID of sets; settings of null are left out.

    `features` names the network whose features FID and KID compare: a file or URL of the Inception weights of
    torch-fidelity, as for published figures, with its network and its resizing (torchmetrics smooths when it
    shrinks, and gives other figures); or an image encoder of transformers with a pooled output
    (DINOv2, ResNet, ...), by folder or hub id. Figures on different features cannot be compared. `clip` is a
    CLIP model, by folder or hub id; a text that is too long is cut. `lpips` is a file or URL of
    torchvision's AlexNet, whose linear heads torchmetrics brings.

    FID: Heusel et al., NeurIPS 2017; KID: Bińkowski et al., ICLR 2018, over 100 subsets; LPIPS: Zhang et
    al., CVPR 2018; CLIP score: Hessel et al., EMNLP 2021, as 100 times the cosine, and 0 for a negative one.
    All but the CLIP score are torchmetrics' own.
    """

    features: Weights[str | None]
    clip: Weights[str | None]
    lpips: Weights[str | None]
    batch_size: BatchSize = 16
    device: Transient[str] = "auto"

    version: ClassVar[int] = 3

    @property
    def figures(self) -> tuple[str, ...]:
        """Returns the names of the figures that each image has."""
        networks = {"lpips": self.lpips, "clip_score": self.clip}
        return tuple(name for name, network in networks.items() if network)

    def load(self) -> None:
        """Loads the networks; raises a UserError (NoWeights) for missing ones."""
        import transformers

        self._device, _ = hub.placement(self.device, "float32")
        self._encode = self._encoder(self.features) if self.features else None
        if self.clip:
            self._processor = hub.load(transformers.CLIPProcessor, self.clip, WITHOUT_DOWNLOAD)
            self._clip = hub.network(
                transformers.CLIPModel, self.clip, WITHOUT_DOWNLOAD, self.device, "float32"
            )
        if self.lpips:
            self._lpips = _load_lpips(self.lpips).to(self._device)

    def score(
        self, originals: Sequence[Image.Image], images: Sequence[Image.Image], texts: Sequence[str]
    ) -> list[dict[str, float]]:
        """Returns each image's LPIPS to its original (0: equal) and CLIP score (0 to 100) with its text."""
        # the tokenizer keeps the padding of the last call, so that threads must not share it
        triples = list(zip(originals, images, texts, strict=True))
        return each_alone(self._score, triples, hub.is_on_cpu(self.device), thread_safe=False)

    def _score(self, triples: Sequence[tuple[Image.Image, Image.Image, str]]) -> list[dict[str, float]]:
        """Returns the figures of a batch."""
        import torch

        originals, images, texts = zip(*triples, strict=True)
        scores: dict[str, list[float]] = {}
        with torch.inference_mode():
            if self.lpips:
                pixels = _pixels([*originals, *images]).to(self._device) / 127.5 - 1
                scores["lpips"] = self._lpips(*pixels.chunk(2)).flatten().tolist()
            if self.clip:
                options = {"return_tensors": "pt", "padding": True, "truncation": True}
                inputs = self._processor(text=list(texts), images=list(images), **options)
                output = self._clip(**inputs.to(self._device))
                cosine = (output.image_embeds * output.text_embeds).sum(-1)
                scores["clip_score"] = (100 * cosine.clamp_min(0)).tolist()
        return [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]

    def distance(self, originals: Sequence[OpenImage], images: Sequence[OpenImage]) -> dict[str, Any]:
        """Returns FID and KID between images and originals, two or more of each, and the network's name.

        Images are opened one batch at a time. FID is biased: it is larger for smaller sets, and fewer images
        than features (Inception has 2048) give singular covariances, so compare it only between sets of equal
        size. KID has no such bias, but varies more for smaller sets. Raises an ItemError for fewer than two
        images, for images that differ in size where the features are Inception's, and for features that are
        not finite.
        """
        import torch
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        assert self.features
        fewest = min(len(originals), len(images))
        if fewest < 2:
            raise ItemError(
                f"FID and KID compare two images or more with two originals or more, "
                f"not {len(images)} with {len(originals)}"
            )
        identity = torch.nn.Identity()  # both metrics take the features, which are computed once
        identity.num_features = self._features([originals[0]]).shape[1]  # type: ignore[assignment]
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # about the memory of KID, which KID_IMAGES bounds
            torch.manual_seed(0)  # for the images that KID draws, and its subsets
            fid = FrechetInceptionDistance(identity)
            kid = KernelInceptionDistance(identity, subset_size=min(KID_SUBSET, fewest))
            for side, real in ((originals, True), (images, False)):
                for features in self._blocks_of_features(side, "originals" if real else "images"):
                    fid.update(features, real)
                    kid.update(features[torch.rand(len(features)) < KID_IMAGES / len(side)], real)
            kid_mean, _ = kid.compute()
        return {
            "features": _features_name(self.features),
            "originals": len(originals),
            "images": len(images),
            "fid": max(0.0, fid.compute().item()),  # rounding may give a negative value for equal sets
            "kid": kid_mean.item(),
        }

    def _blocks_of_features(self, side: Sequence[OpenImage], kind: str) -> Any:
        """Yields the features of images (images, k), IMAGES_PER_UPDATE at a time."""
        for start in range(0, len(side), IMAGES_PER_UPDATE):
            if start and not start % (64 * IMAGES_PER_UPDATE):
                log.info("distance: features of %d of %d %s", start, len(side), kind)
            yield self._features([side[i] for i in range(start, min(start + IMAGES_PER_UPDATE, len(side)))])

    def _features(self, images: Sequence[OpenImage]) -> "Tensor":
        """Returns the features of images (images, k), on the CPU."""
        import torch

        assert self._encode
        batches = [
            images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)
        ]
        is_on_cpu = hub.is_on_cpu(self.device)
        features: list[Tensor] = []
        with ThreadPoolExecutor(self.batch_size) as threads:
            for batch in batches:
                opened = list(threads.map(_open, batch))
                if _is_file(self.features or ""):
                    _check_sizes(opened)
                features += each_alone(self._encode, opened, is_on_cpu)
        table = torch.stack(features)
        if not table.isfinite().all():
            raise ItemError(
                f"quality.features={self.features} gives features of an image that are not finite: its "
                "weights are damaged, or not meant for this network"
            )
        return table

    def _encoder(self, name: str) -> Callable[[Sequence[Image.Image]], "list[Tensor]"]:
        """Returns a function that computes the features of each image (k)."""
        import torch
        import transformers

        if _is_file(name):
            inception = _load_inception(name).to(self._device)

            @torch.no_grad()
            def encode_inception(images: Sequence[Image.Image]) -> "list[Tensor]":
                return list(inception(_pixels(images).to(self._device))[0].cpu())

            return encode_inception
        processor = hub.load(transformers.AutoImageProcessor, name, WITHOUT_DOWNLOAD)
        network = hub.network(transformers.AutoModel, name, WITHOUT_DOWNLOAD, self.device, "float32")

        @torch.no_grad()
        def encode(images: Sequence[Image.Image]) -> "list[Tensor]":
            pixels = processor(list(images), return_tensors="pt")["pixel_values"].to(self._device)
            output = network(pixel_values=pixels).get("pooler_output")
            if output is None:
                raise UserError(
                    f"quality.features={name} gives no pooled output: choose an encoder that does, such as "
                    "facebook/dinov2-base"
                )
            return list(output.flatten(1).float().cpu())

        return encode


def _open(open_image: OpenImage) -> Image.Image:
    return open_image()


def _features_name(features: str) -> str:
    """Returns the name of a network of features in results.json."""
    if _is_file(features):
        return "Inception"
    return Path(features).name if Path(features).exists() else features


def _is_file(name: str) -> bool:
    """Returns whether a name is that of a file of weights, not of a folder or a hub id."""
    return Path(name).suffix in (".pth", ".pt", ".safetensors")


def _pixels(images: Sequence[Image.Image]) -> "Tensor":
    """Returns images as bytes (images, 3, height, width); raises an ItemError for images of several sizes."""
    import torch

    _check_sizes(images)
    return (
        torch.from_numpy(np.stack([np.asarray(i.convert("RGB")) for i in images]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _check_sizes(images: Sequence[Image.Image]) -> None:
    if len(sizes := {f"{image.width} x {image.height}" for image in images}) > 1:
        raise ItemError(
            f"LPIPS and Inception take images of one size, not of {' and '.join(sorted(sizes))} pixels"
        )


def _fetch(address: str, setting: str) -> str:
    """Returns the path of a file of weights; one behind a URL is fetched once, into the cache of torch."""
    import torch

    if "://" not in address:
        return address
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
    if not path.exists():
        download = torch.hub.load_state_dict_from_url
        try:
            download(address, map_location="cpu", check_hash=True, progress=False, weights_only=True)
        except OSError as error:
            raise NoWeights(
                f"The weights {address} are not on this machine ({path}) and could not be downloaded "
                f"({error}).\nFetch them while there is a network (job=prefetch), or give the path of the "
                f"file as {setting}, or do without: {setting}=null."
            ) from error
    return str(path)


def _load_inception(address: str) -> Any:
    """Returns the Inception network of Heusel et al.

    It takes bytes (images, 3, height, width) and returns a tuple of 2048 features.
    """
    path = _fetch(address, "quality.features")
    read_weights(path, "quality.features")  # torch-fidelity would run code that is pickled in the file
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
            FeatureExtractorInceptionV3,
        )

        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"quality.features={address}: the network of these weights is that of torch-fidelity, which is "
            "not installed: pip install torch-fidelity. Or choose an encoder of transformers, such as "
            "quality.features=facebook/dinov2-base"
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0]
        message = f"quality.features={path} does not hold the Inception weights of torch-fidelity: {reason}"
        raise UserError(message) from error


def _load_lpips(address: str) -> Any:
    """Returns the network of LPIPS on AlexNet, which takes two batches of images, from -1 to 1."""
    # the public class can load the backbone only from the server of torchvision
    from torchmetrics.functional.image.lpips import _LPIPS

    path = _fetch(address, "quality.lpips")
    state = read_weights(path, "quality.lpips")
    network = _LPIPS(net="alex", pnet_rand=True)
    names = network.net.state_dict()
    try:
        # slice1.0.weight is torchvision's features.0.weight
        network.net.load_state_dict({name: state[f"features.{name.partition('.')[2]}"] for name in names})
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        message = f"quality.lpips={path} does not hold the weights of torchvision's AlexNet: {reason}"
        raise UserError(message) from error
    return network.eval()
