"""What is found before the first caption: missing weights, memory, and what the run takes."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from dillema import estimate, gguf_header, memory
from dillema.conditioning.detail import SegmentationDetail
from dillema.conditioning.segmentation import Segmentation
from dillema.downloads import look_at_path
from dillema.errors import NoWeights, UserError
from dillema.execution.local import Local
from dillema.memory import StageMemory, find_problems, measure_stages
from dillema.needs import build_parts, list_needs
from dillema.preflight import check_weights
from dillema.progress import typical_seconds
from dillema.runner import Runner
from dillema.speeds import read_speed
from dillema.steps import items
from dillema.steps.caption import CaptionStep
from dillema.steps.source import SourceStep
from dillema.store import Store
from tests import tiny
from tests.backends import (
    Captioner,
    Conditioning,
    Editor,
    Generator,
    Model,
    Noise,
    make_pipeline,
    run_pipeline,
)
from tests.test_config import composed
from tests.test_hub import GATED, small_hub  # noqa: F401  # a fixture


def stages(*overrides):
    """Returns the memory of the stages of a configuration, all of whose weights are on this machine."""
    needs = list_needs(build_parts(composed(*overrides)))
    return {
        stage.stage: stage
        for stage in measure_stages((need, look_at_path(need)) for need in needs if need.is_local)
    }


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_the_small_world_is_complete(offline):
    check_weights(composed())


def test_all_that_is_missing_is_named_at_once(offline, tmp_path):
    cfg = composed(
        f"captioner.model={tmp_path}/lost",
        "llm.model=someone/some-GGUF/model.gguf",
        "validity.reader.model=someone/reader",
        "generator.lora=my/lora.safetensors",
    )
    with pytest.raises(NoWeights) as caught:
        check_weights(cfg)
    message = str(caught.value)
    settings = re.findall(r"^([\w.]+)=\S+: No weights", message, re.MULTILINE)
    assert sorted(settings) == ["captioner.model", "generator.lora", "llm.model", "validity.reader.model"]
    assert "llm=smollm2" in message and "captioner=mini" in message and "validity=none" in message
    assert (
        message.count("needs no download") == 1 and len(message.splitlines()) == 5
    )  # the advice is the last


@pytest.mark.parametrize("path", ["/no/such/weights.pth", "weights/best.pt", "../a/b/c/best.ckpt"])
def test_a_file_of_weights_that_is_not_there_is_not_looked_for_on_the_hub(path):
    cfg = composed(
        "model=resnet18",
        "dataset=mini_imagenet",
        "model.resnet18.classes=6",
        f"model.resnet18.checkpoint={path}",
    )
    with pytest.raises(UserError) as caught:
        check_weights(cfg)
    assert not isinstance(caught.value, NoWeights)  # which would propose to fetch it
    said = f"model.resnet18.checkpoint={path}: No weights for '{path}': it is no f"
    assert str(caught.value).startswith(said)


def test_weights_that_two_options_lack_are_named_for_both(offline):
    options = ("captioner=qwen3_vl_2b", "validity=questions")
    with pytest.raises(NoWeights) as caught:
        check_weights(composed(*options))
    lines = str(caught.value).splitlines()
    assert {line.partition("=")[0] for line in lines[:-1]} == {"captioner.model", "validity.questions.model"}


def test_a_gated_repository_is_found_before_anything_is_loaded(small_hub):  # noqa: F811
    small_hub(403, "GatedRepo")
    with pytest.raises(UserError, match=f"(?s)generator.model=some/model: {GATED}"):
        check_weights(composed("generator.model=some/model"))


def test_a_server_that_does_not_answer_is_found_before_the_captions():
    with pytest.raises(UserError, match=r"llm.base_url: no server answers at http://127.0.0.1:9"):
        check_weights(composed("llm=server", "llm.base_url=http://127.0.0.1:9"))


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_the_memory_is_that_of_the_loaded_parameters(tmp_path, dtype, width):
    """Of a checkpoint in float32: its files are twice as large as what is loaded in bfloat16."""
    folder = tiny.captioner(tmp_path)
    kind = transformers.AutoModelForImageTextToText
    network = kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    numbers = sum(parameter.numel() for parameter in network.parameters())
    stage = stages(f"captioner.model={folder}", f"captioner.dtype={dtype}", "captioner.device=cpu")[
        "captioner"
    ]
    assert stage.size == pytest.approx(numbers * width, rel=0.02) and stage.device == "cpu"


def test_eight_bits_take_a_quarter(tmp_path):
    folder = tiny.captioner(tmp_path)
    settings = (f"captioner.model={folder}", "captioner.device=cpu")
    whole = stages(*settings)["captioner"]
    setting = "captioner.quantization={quant_method: bitsandbytes, load_in_8bit: true}"
    assert stages(*settings, setting)["captioner"].size == pytest.approx(whole.size / 4)


def test_a_model_that_is_too_large_is_refused_before_it_is_loaded(offline, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [10**13], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(
        UserError, match=r"captioner: its weights take 40000.00 GB on \w+, where [\d.]+ GB are free"
    ):
        check_weights(composed(f"captioner.model={folder}"))


def test_a_model_that_hardly_fits_is_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda device: 10e9)
    assert find_problems([StageMemory("captioner", "cuda", 9.5e9)]) == []
    assert "captioner may not fit: its weights take 9.50 GB on cuda, about 12.40 GB" in caplog.text
    assert find_problems([StageMemory("captioner", "cuda", 10.5e9)])
    assert find_problems([StageMemory("llm", "cpu", 10.5e9, is_mapped=True)]) == []  # llama.cpp maps the file


@pytest.mark.parametrize(("offload", "size"), [("null", 100 + 60 + 40), ("model", 100), ("sequential", 0)])
def test_offloading_keeps_one_network_on_the_gpu(monkeypatch, tmp_path, offload, size):
    folder = tiny.generator(tmp_path / "pipeline")
    counts = {"unet": 25, "controlnet": 15, "vae": 10}
    monkeypatch.setattr(memory, "_count_parameters", lambda path: counts.get(path.parent.name, 0))
    monkeypatch.setattr("dillema.hub.placement", lambda device, dtype: ("cuda", torch.float32))
    found = stages(f"generator.model={folder}", f"generator.offload={offload}")["generator"]
    assert found.size == size


LLAMA_13B = {"general.architecture": "llama", "llama.block_count": 40, "llama.embedding_length": 5120}


@pytest.mark.parametrize(("file", "memory"), [(5.43e9, 8.8e9), (13.83e9, 17.2e9)])  # Q2_K and Q8_0
def test_the_cache_of_llama_2_adds_3_gigabytes(file, memory):
    cache = gguf_header.cache_bytes(LLAMA_13B | {"llama.attention.head_count": 40}, 4096)
    assert file + cache == pytest.approx(memory, rel=0.005)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_the_cache_follows_from_the_header_of_the_file(tmp_path, kind):
    path = tiny.gguf(tmp_path / "model.gguf", None, kind)
    with Path(path).open("rb") as file:
        values = gguf_header.read_numbers(file)
    assert values["general.architecture"] == kind
    assert gguf_header.cache_bytes(values, 512) == 1 * 512 * 4 * (64 + 64) * 2
    found = stages(f"llm.model={path}", "llm.context=512")["llm"]
    assert found.size == Path(path).stat().st_size + 1 * 512 * 4 * (64 + 64) * 2 and found.is_mapped


def test_a_header_that_is_cut_short_gives_what_it_has(tmp_path):
    path = tiny.gguf(tmp_path / "model.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(path).read_bytes()[:2000])
    with cut.open("rb") as file:
        assert "general.architecture" in gguf_header.read_numbers(file)


SLOW = {"pause": 0.02}
PARTS = {"captioner": Captioner(**SLOW), "editor": Editor(**SLOW), "generator": Generator(**SLOW)}


def test_the_estimate_comes_before_the_first_caption_and_holds(tmp_path, caplog):
    run_pipeline(tmp_path / "before", tmp_path / "other", models=[Model()])  # imports what the steps need
    caplog.set_level(logging.INFO)
    folder, runner = run_pipeline(tmp_path / "a", tmp_path / "store", placebos=1, models=[Model()], **PARTS)
    messages = [record.getMessage() for record in caplog.records]
    (place,) = (i for i, text in enumerate(messages) if text.startswith("This run takes at most about"))
    assert place < next(i for i, text in enumerate(messages) if text.startswith("caption:"))
    assert "18 images, under 10 MB of disk" in messages[place] and "roughly" in messages[place]
    assert "No run has measured caption" in messages[place] and "0.00" not in messages[place]
    pipeline = make_pipeline(placebos=1, models=[Model()], seed=1, **PARTS)  # a run of other work
    samples = pipeline.dataset.samples()
    found = estimate.estimate(pipeline, runner, samples, price=3600.0)
    assert found.images == 18 and found.unknown == ()
    took = sum(folder.results["seconds"].values())
    assert took / 2 < found.seconds < 2 * took
    assert f"a cost of {found.seconds:.2f}" in found.text
    many = estimate.estimate(make_pipeline(images_per_counterfactual=5, seed=1, **PARTS), runner, samples)
    assert many.images == 60 and many.disk > found.disk


def test_the_estimate_leaves_out_what_the_store_has(tmp_path):
    _, runner = run_pipeline(tmp_path / "a", tmp_path / "store", placebos=1, models=[Model()])
    pipeline = make_pipeline(placebos=1, models=[Model()])
    samples = pipeline.dataset.samples()
    again = estimate.estimate(pipeline, runner, samples)
    assert again.is_finished and again.images == 0 and again.disk == 0 and again.seconds is None
    assert again.text == "All images and answers of this run are in the store"
    more = estimate.estimate(replace(pipeline, counterfactuals=3), runner, samples)
    assert more.images == 6 and more.unknown == () and not more.is_finished
    other = estimate.estimate(replace(pipeline, models=[Model(gain=2.0)]), runner, samples)
    assert other.images == 0 and other.unknown == ("predict",)
    whole = estimate.Estimate(9, 120.0, ("predict",), 1e9, 5e9).text
    assert "at most about 9 images, 1.00 GB of disk (5.00 GB are free), roughly 2 minutes;" in whole


def test_the_only_item_of_a_check_tells_no_speed(tmp_path):
    step = CaptionStep(Captioner(pause=0.3), Noise())
    runner = Runner(Store(tmp_path), Local())
    pipeline = make_pipeline()
    samples = pipeline.dataset.samples()
    for count, known in ((1, False), (6, True)):
        sources = runner.run(SourceStep(pipeline.dataset, pipeline.size), samples[:count])
        runner.run(step, items.to_caption(sources, 0))
        assert (read_speed(tmp_path, step) is not None) == known
        assert ("caption" in runner.store.usual_seconds()) == known


def test_another_back_end_has_no_known_speed(tmp_path):
    _, runner = run_pipeline(tmp_path / "a", tmp_path / "store", conditionings={"grey": Conditioning()})
    dataset = make_pipeline().dataset
    assert read_speed(runner.store.folder, CaptionStep(Captioner(), dataset)) is not None
    assert read_speed(runner.store.folder, CaptionStep(Captioner(sentence="else"), dataset)) is None


def test_a_disk_that_is_too_small_is_warned_of(caplog):
    estimate.show(estimate.Estimate(100, None, ("generate",), disk=2e9, free=1e9))
    assert "may not fit on the disk" in caplog.text


def test_the_first_run_has_a_rough_time_and_cost(tmp_path):
    pipeline, runner = make_pipeline(models=[Model()], placebos=1), Runner(Store(tmp_path), Local())
    found = estimate.estimate(pipeline, runner, pipeline.dataset.samples(), price=3600.0)
    assert found.images == 18 and {"caption", "generate", "predict"} <= set(found.unknown)
    typical = sum(6 * items * typical_seconds(step) for step, items in pipeline.list_steps())
    assert found.seconds == pytest.approx(typical)
    assert f"roughly {typical:.0f} seconds, roughly a cost of {typical:.2f};" in found.text
    assert "No run has measured source, caption" in found.text


def test_the_text_has_nothing_that_is_nothing():
    assert "3.0 hours;" in estimate.Estimate(100, 3 * 3600.0, (), 1e9, 5e9).text
    text = estimate.Estimate(0, 0.2, ("predict",), 0.0, 5e9, price=1.0).text
    assert text.startswith("This run takes at most about roughly a second, a cost under 0.01;")
    assert "under 10 MB of disk" in estimate.Estimate(4, 0.2, (), 3e6, 5e9).text


@pytest.mark.parametrize(("gain", "warned"), [(1.0, False), (0.0, True)])
def test_the_score_of_the_predicted_original_is_shown(tmp_path, caplog, gain, warned):
    caplog.set_level(logging.INFO)
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", models=[Model(gain=gain)])
    (line,) = (text for text in caplog.messages if "its classes fit" in text)
    predictions = folder.predictions("brightest")
    (row,) = np.flatnonzero((predictions.image == "scene-0") & (predictions.kind == "original"))
    score = predictions.task.score(predictions.tallies[row])
    assert line.endswith(f"it predicts the original of scene-0: mean IoU {score:.2f}")
    warning = rf"model=brightest: mean IoU {score:.2f} on the original of .* Check class_map, the normalis"
    assert bool(re.search(warning, caplog.text)) == warned


def test_weights_of_torchvision_that_cannot_be_fetched_are_told_in_plain_words(offline, tmp_path):
    url = "https://nothing.invalid/resnet18-f37072fd.pth"
    cfg = composed("dataset=mini_imagenet", "model=resnet18", f"model.resnet18.checkpoint={url}")
    with pytest.raises(NoWeights) as caught:
        check_weights(cfg)
    first, *advice = str(caught.value).splitlines()
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    reason = f"it is not in {cache}, and the server nothing.invalid cannot be reached"
    assert first.endswith(f"={url}: {reason}")
    assert f"fetch all of them into {cache} while" in advice[-1] and "errno" not in str(caught.value).lower()
    assert str(caught.value).count(url) == 1


@pytest.mark.parametrize("conditioning", [Segmentation(), SegmentationDetail()])
def test_a_conditioning_that_needs_masks_is_refused_before_the_first_caption(tmp_path, conditioning):
    with pytest.raises(UserError, match=f"conditioning={conditioning.name} needs masks, and noise has none"):
        run_pipeline(
            tmp_path / "run",
            tmp_path / "store",
            dataset=Noise(task="classification"),
            captioner=Captioner(diary=str(tmp_path / "diary")),
            conditionings={conditioning.name: conditioning},
        )
    assert not (tmp_path / "diary").exists() and not (tmp_path / "run").exists()
