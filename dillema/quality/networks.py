"""Image quality by networks: generated images beside their originals and captions, and, as a set, beside the set of originals."""

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
from ..model import read_weights

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

INSTEAD = "quality=null"
BLOCK = 1024  # images whose features are added to the covariance at once: their number hardly matters to what that takes
KERNEL = 20_000  # images a side, about, whose features KID holds in memory: of more it takes so many by chance
SUBSET = 1000  # images a side in each of its subsets, as in the paper

Opened = Callable[[], Image.Image]


@dataclass
class Networks:
    """Scores `lpips` and `clip_score` of images, and FID and KID of sets of images; what is null is left out.

    `features` names the network whose features FID and KID compare: a file or URL of the Inception weights of torch-fidelity,
    on which published figures rest, in its own network with its own resizing (torchmetrics smooths as it shrinks, and says
    something else); or an image encoder of transformers with a pooled output (DINOv2, ResNet, ...), by folder or hub id. Figures
    on different features have nothing to do with each other. `clip` is a CLIP model, by folder or hub id; a text longer than it
    takes is cut. `lpips` is a file or URL of torchvision's AlexNet, whose linear heads torchmetrics brings.

    FID: Heusel et al., NeurIPS 2017; KID: Bińkowski et al., ICLR 2018, over 100 subsets; LPIPS: Zhang et al., CVPR 2018; CLIP score:
    Hessel et al., EMNLP 2021, as 100 times the cosine, and 0 for a negative one. All but the CLIP score are torchmetrics' own.
    """

    features: str | None
    clip: str | None
    lpips: str | None
    batch_size: int = 16
    device: str = "auto"

    transient: ClassVar[tuple[str, ...]] = ("batch_size", "device")
    version: ClassVar[int] = 2
    weights: ClassVar[tuple[str, ...]] = ("features", "clip", "lpips")

    @property
    def figures(self) -> tuple[str, ...]:
        """Returns the names of the figures that each image has."""
        return tuple(name for name, wanted in (("lpips", self.lpips), ("clip_score", self.clip)) if wanted)

    def load(self) -> None:
        """Loads the networks; raises a UserError (NoWeights) for those that are neither here nor to be had."""
        import transformers

        self._device, _ = hub.placement(self.device, "float32")
        self._encode = self._encoder(self.features) if self.features else None
        if self.clip:
            self._processor = hub.load(transformers.CLIPProcessor, self.clip, INSTEAD)
            self._clip = hub.network(transformers.CLIPModel, self.clip, INSTEAD, self.device, "float32")
        if self.lpips:
            self._lpips = _perceptual(self.lpips).to(self._device)

    def score(self, originals: Sequence[Image.Image], images: Sequence[Image.Image], texts: Sequence[str]) -> list[dict[str, float]]:
        """Returns, for each image, its LPIPS to its original (0: the same) and its CLIP score (0 to 100) with its text; all images are of one size."""
        import torch

        scores: dict[str, list[float]] = {}
        with torch.inference_mode():
            if self.lpips:
                scores["lpips"] = self._lpips(*(_pixels([*originals, *images]).to(self._device) / 127.5 - 1).chunk(2)).flatten().tolist()
            if self.clip:
                inputs = self._processor(text=list(texts), images=list(images), return_tensors="pt", padding=True, truncation=True)
                output = self._clip(**inputs.to(self._device))
                scores["clip_score"] = (100 * (output.image_embeds * output.text_embeds).sum(-1).clamp_min(0)).tolist()
        return [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]

    def distance(self, originals: Sequence[Opened], images: Sequence[Opened]) -> dict[str, Any]:
        """Returns FID and KID of images (two or more) from originals (two or more), and on which features.

        What opens an image is asked for when its turn comes, and one batch of images is in memory at a time. FID is biased: it grows
        as sets shrink, and with fewer images than features (Inception has 2048) it knows the covariances from too little, so it may be
        held only against the FID of sets as large. KID has no such bias, but scatters the more the smaller the sets. Raises an ItemError
        for fewer than two images, for images that differ in size where the features are Inception's, and for features that are not finite.
        """
        import torch
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        assert self.features
        if (fewest := min(len(originals), len(images))) < 2:
            raise ItemError(f"FID and KID compare two images or more with two originals or more, not {len(images)} with {len(originals)}")
        given = torch.nn.Identity()  # both metrics take the features, which are computed once
        given.num_features = self._features([originals[0]]).shape[1]  # type: ignore[assignment]
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)  # of KID's memory, which KERNEL bounds
            torch.manual_seed(0)  # of the images that KID takes, and of its subsets
            fid, kid = FrechetInceptionDistance(given), KernelInceptionDistance(given, subset_size=min(SUBSET, fewest))
            for some, real in ((originals, True), (images, False)):
                for start in range(0, len(some), BLOCK):
                    if start and not start % (64 * BLOCK):
                        log.info("distance: features of %d of %d %s", start, len(some), "originals" if real else "images")
                    features = self._features([some[place] for place in range(start, min(start + BLOCK, len(some)))])
                    fid.update(features, real)
                    kid.update(features[torch.rand(len(features)) < KERNEL / len(some)], real)
            kernel, _ = kid.compute()
        name = "Inception" if _is_file(self.features) else Path(self.features).name if Path(self.features).exists() else self.features
        # rounding takes the FID of equal sets below 0
        return {"features": name, "originals": len(originals), "images": len(images), "fid": max(0.0, fid.compute().item()), "kid": kernel.item()}

    def _features(self, some: Sequence[Opened]) -> "Tensor":
        """Returns the features of images (images, k), on the CPU."""
        import torch

        assert self._encode
        with torch.no_grad(), ThreadPoolExecutor(self.batch_size) as threads:
            batches = [some[start : start + self.batch_size] for start in range(0, len(some), self.batch_size)]
            features = torch.cat([self._encode(list(threads.map(lambda opened: opened(), batch))) for batch in batches])
        if not features.isfinite().all():
            raise ItemError(
                f"quality.features={self.features} gives features of an image that are not finite: its weights are damaged, or not meant for this network"
            )
        return features

    def _encoder(self, name: str) -> Callable[[Sequence[Image.Image]], "Tensor"]:
        """Returns what gives the features of images (images, k)."""
        import transformers

        if _is_file(name):
            inception = _inception(name).to(self._device)
            return lambda images: inception(_pixels(images).to(self._device))[0].cpu()
        processor = hub.load(transformers.AutoImageProcessor, name, INSTEAD)
        network = hub.network(transformers.AutoModel, name, INSTEAD, self.device, "float32")

        def pooled(images: Sequence[Image.Image]) -> "Tensor":
            output = network(pixel_values=processor(list(images), return_tensors="pt")["pixel_values"].to(self._device)).get("pooler_output")
            if output is None:
                raise UserError(f"quality.features={name} gives no pooled output: choose an encoder that does, such as facebook/dinov2-base")
            return output.flatten(1).float().cpu()

        return pooled


def _is_file(name: str) -> bool:
    """Returns whether a name is that of a file of weights, and not of a folder or on the hub."""
    return Path(name).suffix in (".pth", ".pt", ".safetensors")


def _pixels(images: Sequence[Image.Image]) -> "Tensor":
    """Returns images as bytes (images, 3, height, width); raises an ItemError for images of several sizes."""
    import torch

    if len(sizes := {f"{image.width} x {image.height}" for image in images}) > 1:
        raise ItemError(f"LPIPS and Inception take images of one size, not of {' and '.join(sorted(sizes))} pixels")
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2).contiguous()


def _file(address: str, setting: str) -> str:
    """Returns the path of a file of weights; one behind a URL is fetched once, into the cache of torch."""
    import torch

    if "://" not in address:
        return address
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
    if not path.exists():
        try:
            torch.hub.load_state_dict_from_url(address, map_location="cpu", check_hash=True, progress=False, weights_only=True)
        except OSError as error:
            raise NoWeights(
                f"The weights {address} are not on this machine ({path}) and could not be downloaded ({error}).\n"
                f"Fetch them while there is a network (job=prefetch), or give the path of the file as {setting}, or do without: {setting}=null."
            ) from error
    return str(path)


def _inception(address: str) -> Any:
    """Returns the Inception network of Heusel et al., which takes bytes (images, 3, height, width) and gives a tuple of 2048 features."""
    path = _file(address, "quality.features")
    read_weights(path, "quality.features")  # torch-fidelity would run code that is pickled in the file
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # type: ignore[import-untyped]

        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path)
    except ModuleNotFoundError as error:
        raise UserError(
            f"quality.features={address}: the network of these weights is that of torch-fidelity, which is not installed: pip install torch-fidelity. "
            "Or choose an encoder of transformers, such as quality.features=facebook/dinov2-base"
        ) from error
    except Exception as error:
        raise UserError(f"quality.features={path} does not hold the Inception weights of torch-fidelity: {str(error).splitlines()[0]}") from error


def _perceptual(address: str) -> Any:
    """Returns the network of LPIPS on AlexNet, which takes two batches of images, from -1 to 1."""
    from torchmetrics.functional.image.lpips import _LPIPS  # the public class takes the backbone from nowhere but torchvision's server

    path = _file(address, "quality.lpips")
    state = read_weights(path, "quality.lpips")
    network = _LPIPS(net="alex", pnet_rand=True)
    try:
        # slice1.0.weight is torchvision's features.0.weight
        network.net.load_state_dict({key: state[f"features.{key.partition('.')[2]}"] for key in network.net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(f"quality.lpips={path} does not hold the weights of torchvision's AlexNet: {str(error).splitlines()[0]}") from error
    return network.eval()
