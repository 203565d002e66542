import numpy as np
import pytest
import torch
from PIL import Image

from dillema.errors import NoWeights, UserError
from dillema.evaluation.networks import Networks
from dillema.job.prefetch import needs
from tests import tiny
from tests.backends import Generator, Noise, pipeline

SIZE = (64, 64)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    with torch.device("meta"):  # its classifier, which LPIPS leaves out, is large
        state = alexnet().state_dict()
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save({key: torch.randn(value.shape) / value[0].numel() ** 0.5 for key, value in state.items() if key.startswith("features.")}, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "patch_size": 8} | {name: tiny.CLIP[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    CLIPModel(CLIPConfig(text_config=tiny.CLIP, vision_config=vision | {"num_attention_heads": 4}, projection_dim=16)).save_pretrained(folder)
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
    noise = np.random.default_rng(0).normal(0, much, (*SIZE[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def test_lpips_is_nothing_for_the_same_image_and_grows_with_noise(alexnet):
    networks, image = loaded(lpips=alexnet), tiny.image(0, SIZE)
    others = [image, noisy(image, 10), noisy(image, 60)]
    same, near, far = (row["lpips"] for row in networks.score([image] * 3, others, [""] * 3))
    assert same == pytest.approx(0, abs=1e-6) and same < near < far
    (alone,) = networks.score([image], others[2:], [""])
    assert alone == {"lpips": pytest.approx(far, abs=1e-5)} and networks.figures == ("lpips",)


def test_the_clip_score_is_the_cosine_of_image_and_text(clip):
    from transformers import CLIPModel, CLIPProcessor

    networks, images, texts = loaded(clip=clip), [tiny.image(i, SIZE) for i in range(3)], ["a foggy street", "night", "snow " * 200]
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    for image, text, row in zip(images, texts, networks.score(images, images, texts), strict=True):
        a = model.get_image_features(**processor(images=image, return_tensors="pt")).pooler_output
        b = model.get_text_features(**processor(text=text, return_tensors="pt", truncation=True)).pooler_output
        assert row == {"clip_score": pytest.approx(max(0, 100 * torch.cosine_similarity(a, b).item()), abs=1e-3)}


def test_distances_of_sets_agree_with_torchmetrics_on_the_same_features(encoder):
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance
    from transformers import AutoImageProcessor, AutoModel

    processor, network = AutoImageProcessor.from_pretrained(encoder), AutoModel.from_pretrained(encoder)

    class Features(torch.nn.Module):
        num_features = 16

        def forward(self, pixels):
            return network(pixel_values=processor(list(pixels), return_tensors="pt")["pixel_values"]).pooler_output.flatten(1)

    originals, images = [tiny.image(i, SIZE) for i in range(9)], [noisy(tiny.image(20 + i, SIZE), 80) for i in range(7)]
    fid, kid = FrechetInceptionDistance(Features()), KernelInceptionDistance(Features(), subset_size=7)
    with torch.no_grad():
        for some, real in ((originals, True), (images, False)):
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in some])).permute(0, 3, 1, 2)
            fid.update(pixels, real)
            kid.update(pixels, real)
    networks = loaded(encoder, batch_size=4)
    opened = [[lambda image=image: image for image in some] for some in (originals, images)]
    found = networks.distance(*opened)
    assert (found["originals"], found["images"], found["features"]) == (9, 7, encoder.rpartition("/")[2])
    assert found["fid"] == pytest.approx(fid.compute().item(), rel=1e-3)
    assert found["kid"] == pytest.approx(kid.compute()[0].item(), rel=0.2)  # over random subsets
    assert found == networks.distance(*opened)
    assert networks.distance(opened[0], opened[0])["fid"] == pytest.approx(0, abs=1e-3)


def test_a_run_has_the_figures_of_its_images_and_of_the_set(tmp_path, alexnet, clip, encoder):
    parts = {"dataset": Noise(count=3), "generator": Generator(width=64, height=64), "quality": Networks(encoder, clip, str(alexnet))}
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
    results = pipeline(tmp_path / "store", **parts).run(tmp_path / "first").results
    for name in ("ssim", "psnr", "lpips", "clip_score"):
        row = results["quality"][name]
        assert row["images"] == 6 and row["low"] <= row["mean"] <= row["high"]
    assert results["distance"]["images"] == 6 and results["distance"]["fid"] > 0
    again = pipeline(tmp_path / "store", **parts | {"quality": Networks(encoder, clip, str(alexnet))})
    again.execution.load = lambda backend: pytest.fail("all of it is in the store")
    assert again.run(tmp_path / "again").results["distance"] == results["distance"]


def test_what_is_missing_is_named(tmp_path, monkeypatch, alexnet):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    away = "http://127.0.0.1:9/alexnet-owt-7be5be79.pth"
    with pytest.raises(NoWeights, match=r"(?s)alexnet-owt-7be5be79.pth are not on this machine .*\(job=prefetch\).* quality.lpips=null"):
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
        loaded(tiny.segmenter(tmp_path / "segmenter")).distance([lambda: tiny.image(0)] * 2, [lambda: tiny.image(1)] * 2)


def test_prefetch_knows_what_is_needed(encoder):
    url = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    assert [address for address, _ in needs(Networks(encoder, "openai/clip-vit-base-patch16", url))] == ["openai/clip-vit-base-patch16", url]


@pytest.mark.slow
def test_inception_takes_the_weights_of_torch_fidelity(tmp_path, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as inception

    path = tmp_path / "inception.pth"
    torch.save({}, path)
    with monkeypatch.context() as without:
        without.setattr(inception, "load_state_dict", lambda self, state: None)
        torch.save(inception("inception-v3-compat", ["2048"], str(path)).state_dict(), path)  # random, and as large as the real ones
    images = [lambda i=i: tiny.image(i, SIZE) for i in range(4)]
    found = loaded(str(path)).distance(images[:2], images[2:])
    assert found["features"] == "Inception" and found["fid"] > 0
