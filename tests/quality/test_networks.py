from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from dillema.errors import ItemError, NoWeights, UserError
from dillema.quality import networks as module
from dillema.quality.networks import Networks
from tests import tiny
from tests.backends import Generator, Noise, run_pipeline

SIZE = (64, 64)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    with torch.device("meta"):  # its classifier, which LPIPS leaves out, is large
        state = alexnet().state_dict()
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(
        {
            key: torch.randn(value.shape) / value[0].numel() ** 0.5
            for key, value in state.items()
            if key.startswith("features.")
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "patch_size": 8} | {
        name: tiny.CLIP[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    }
    model = CLIPModel(
        CLIPConfig(
            text_config=tiny.CLIP, vision_config=vision | {"num_attention_heads": 4}, projection_dim=16
        )
    )
    model.visual_projection.weight.data.neg_()  # or the scores of all images would be 0
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tiny.clip_tokenizer(folder)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.classifier(tmp_path_factory.mktemp("encoder"))


def loaded(features=None, clip=None, lpips=None, **more):
    networks = Networks(features, clip, lpips and str(lpips), **more)
    networks.load()
    return networks


def noisy(image, much):
    noise = np.random.default_rng(0).normal(0, much, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


class Openers(Sequence):
    """Functions that open images, made when they are asked for; `asked` lists their indices."""

    def __init__(self, count, make):
        self.count, self.make, self.opened = count, make, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert 0 <= index < self.count
        self.opened.append(index)
        return lambda: self.make(index)


def listed(images):
    return [lambda image=image: image for image in images]


def pixels(images):
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def test_lpips_is_nothing_for_the_same_image_and_grows_with_noise(alexnet):
    networks, image = loaded(lpips=alexnet), tiny.image(0, SIZE)
    others = [image, noisy(image, 10), noisy(image, 60)]
    same, near, far = (row["lpips"] for row in networks.score([image] * 3, others, [""] * 3))
    assert same == pytest.approx(0, abs=1e-6) and same < near < far
    (single,) = networks.score([image], others[2:], [""])
    assert single == {"lpips": pytest.approx(far, abs=1e-5)} and networks.figures == ("lpips",)
    assert networks.score([image.convert("L")], [image.convert("L").convert("RGB")], [""]) == [
        {"lpips": pytest.approx(0, abs=1e-6)}
    ]
    with pytest.raises(ItemError, match="images of one size, not of 32 x 32 and 64 x 64 pixels"):
        networks.score([image], [image.resize((32, 32))], [""])


def test_lpips_agrees_with_torchmetrics(tmp_path, monkeypatch, alexnet):
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import alexnet as full

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in full().state_dict().items() if key.startswith("classifier.")
        }
    (tmp_path / "checkpoints").mkdir()
    unused = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    torch.save(
        torch.load(alexnet) | unused, tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    )  # where torchvision looks first
    theirs = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    originals, images = (
        [tiny.image(i, SIZE) for i in range(3)],
        [noisy(tiny.image(i, SIZE), 40) for i in range(3, 6)],
    )
    ours = [row["lpips"] for row in loaded(lpips=alexnet).score(originals, images, [""] * 3)]
    each = [
        theirs(pixels([a]).float() / 255, pixels([b]).float() / 255).item()
        for a, b in zip(originals, images, strict=True)
    ]
    assert ours == pytest.approx(each, rel=1e-5) and min(ours) > 0.01


def test_the_clip_score_agrees_with_torchmetrics_and_cuts_long_texts(clip):
    from torchmetrics.multimodal import CLIPScore
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)

    class Features(torch.nn.Module):
        config = model.config

        def get_image_features(self, pixel_values):
            return model.get_image_features(pixel_values).pooler_output

        def get_text_features(self, input_ids, attention_mask):
            return model.get_text_features(input_ids, attention_mask).pooler_output

    networks, images, texts = (
        loaded(clip=clip),
        [tiny.image(i, SIZE) for i in range(3)],
        ["a foggy street", "night", "snow"],
    )
    scores = [row["clip_score"] for row in networks.score(images, images, texts)]
    with torch.no_grad():
        theirs = [
            CLIPScore(lambda: (Features(), processor))(pixels([image])[0], text).item()
            for image, text in zip(images, texts, strict=True)
        ]
    assert scores == pytest.approx(theirs, rel=1e-4) and min(scores) > 1
    long, cut = (
        networks.score(images[:1], images[:1], [text])[0]["clip_score"]
        for text in ("snow " * 200, "snow " * 100)
    )
    assert long == cut > 1
    model.visual_projection.weight.data.neg_()
    networks._clip = model  # whose images mean the opposite
    assert networks.score(images, images, texts) == [{"clip_score": 0}] * 3


def test_distances_of_sets_agree_with_torchmetrics_on_the_same_features(encoder):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance
    from transformers import AutoImageProcessor, AutoModel

    processor, network = AutoImageProcessor.from_pretrained(encoder), AutoModel.from_pretrained(encoder)

    class Features(torch.nn.Module):
        num_features = 16

        def forward(self, pixels):
            return network(
                pixel_values=processor(list(pixels), return_tensors="pt")["pixel_values"]
            ).pooler_output.flatten(1)

    originals, images = (
        [tiny.image(i, SIZE) for i in range(9)],
        [noisy(tiny.image(20 + i, SIZE), 80) for i in range(7)],
    )
    fid, kid = FrechetInceptionDistance(Features()), KernelInceptionDistance(Features(), subset_size=7)
    with torch.no_grad():
        for side, real in ((originals, True), (images, False)):
            fid.update(pixels(side), real)
            kid.update(pixels(side), real)
    networks = loaded(encoder, batch_size=4)
    openers = listed(originals), listed(images)
    distances = networks.distance(*openers)
    assert (distances["originals"], distances["images"], distances["features"]) == (
        9,
        7,
        encoder.rpartition("/")[2],
    )
    assert distances["fid"] == pytest.approx(fid.compute().item(), rel=1e-5) and distances["fid"] > 0
    assert distances["kid"] == pytest.approx(kid.compute()[0].item(), rel=0.2)  # over random subsets
    assert distances == networks.distance(*openers)
    assert networks.distance(openers[0], openers[0])["fid"] == pytest.approx(0, abs=1e-3)
    # sets as large as a subset have one subset: the estimate of the paper, without the bias of x = y
    with torch.no_grad():
        x, y = (Features()(pixels(side)).double() for side in (originals[:7], images))
    xx, yy, xy = ((a @ b.T / 16 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    by_hand = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (7 * 6) - 2 * xy.mean()
    assert networks.distance(openers[0][:7], openers[1])["kid"] == pytest.approx(by_hand.item(), rel=1e-4)


def test_distances_of_many_images_ask_for_each_when_its_turn_comes(monkeypatch, encoder):
    networks = loaded(encoder, batch_size=64)
    originals, images = (
        Openers(400, lambda i: tiny.image(i, (32, 32))),
        Openers(300, lambda i: noisy(tiny.image(1000 + i, (32, 32)), 80)),
    )
    monkeypatch.setattr(module, "KID_SUBSET", 50)
    full = networks.distance(originals, images)
    assert originals.opened == [0, *range(400)] and images.opened == list(range(300))
    monkeypatch.setattr(module, "IMAGES_PER_UPDATE", 128)
    monkeypatch.setattr(module, "KID_IMAGES", 150)
    in_blocks = networks.distance(originals, images)
    assert in_blocks["fid"] == pytest.approx(
        full["fid"], rel=1e-5
    )  # of all images, however many come at once
    assert in_blocks["kid"] != full["kid"] and in_blocks["kid"] == pytest.approx(
        full["kid"], rel=0.3
    )  # of a part of them


def test_sets_and_features_that_cannot_be_compared_are_named(tmp_path, encoder):
    from transformers import AutoImageProcessor, AutoModel

    openers = listed(tiny.image(i, SIZE) for i in range(3))
    with pytest.raises(ItemError, match="two images or more with two originals or more, not 1 with 3"):
        loaded(encoder).distance(openers, openers[:1])
    broken = AutoModel.from_pretrained(encoder)
    next(broken.parameters()).data.fill_(float("nan"))
    broken.save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(encoder).save_pretrained(tmp_path)
    with pytest.raises(ItemError, match="not finite"):
        loaded(str(tmp_path)).distance(openers, openers)


def test_a_run_has_the_figures_of_its_images_and_of_the_set(tmp_path, monkeypatch, alexnet, clip, encoder):
    parts = {
        "dataset": Noise(count=3),
        "generator": Generator(width=64, height=64),
        "quality": Networks(encoder, clip, str(alexnet)),
    }
    results = {}
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        folder, _ = run_pipeline(tmp_path / name, tmp_path / "store", **parts)
        results[name] = folder.results
        monkeypatch.setattr(Networks, "load", lambda self: pytest.fail("all of it is in the store"))
    for name in ("ssim", "psnr", "lpips", "clip_score"):
        row = results["first"]["quality"][name]
        assert row["images"] == 6 and row["low"] <= row["mean"] <= row["high"]
    assert results["first"]["distance"]["images"] == 6 and results["first"]["distance"]["fid"] > 0
    assert results["again"]["distance"] == results["first"]["distance"]


def test_what_is_missing_is_named(tmp_path, monkeypatch, alexnet):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    away = "http://127.0.0.1:9/alexnet-owt-7be5be79.pth"
    with pytest.raises(
        NoWeights,
        match=r"(?s)alexnet-owt-7be5be79.pth are not on this machine .*\(job=prefetch\).* quality.lpips=null",
    ):
        loaded(lpips=away)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(alexnet.read_bytes())
    assert loaded(lpips=away).figures == ("lpips",)  # as prefetch leaves it
    with pytest.raises(UserError, match=r"quality.lpips=nowhere\.pth: there is no such file"):
        loaded(lpips="nowhere.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights of torchvision's AlexNet"):
        loaded(lpips=tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"quality.features=nowhere\.pth: there is no such file"):
        loaded("nowhere.pth")
    with pytest.raises(UserError, match="torch-fidelity"):  # does not take these
        loaded(str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="gives no pooled output"):
        loaded(tiny.segmenter(tmp_path / "segmenter")).distance(
            [lambda: tiny.image(0)] * 2, [lambda: tiny.image(1)] * 2
        )


@pytest.mark.slow
def test_distances_on_inception_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as inception
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    path = tmp_path / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with monkeypatch.context() as without:
        without.setattr(inception, "load_state_dict", lambda self, state: None)
        network = inception("inception-v3-compat", ["2048"], str(path))
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)  # else the features of all images are nearly the same
    torch.save(network.state_dict(), path)  # random, and as large as the real ones
    originals, images = (
        [tiny.image(i, SIZE) for i in range(6)],
        [noisy(tiny.image(20 + i, SIZE), 60) for i in range(6)],
    )
    distances = loaded(str(path)).distance(listed(originals), listed(images))
    features = [network(pixels(side))[0] for side in (originals, images)]
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, features), False)[
        "frechet_inception_distance"
    ]
    assert (
        distances["features"] == "Inception"
        and distances["fid"] == pytest.approx(theirs, rel=1e-5)
        and theirs > 1
    )
    kernel = {
        "kid_subsets": 2,
        "kid_subset_size": 6,
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
    }
    theirs = kid_features_to_metric(*features, **kernel, kid_kernel_poly_coef0=1, rng_seed=0, verbose=False)[
        "kernel_inception_distance_mean"
    ]
    assert distances["kid"] == pytest.approx(theirs, rel=1e-4)
