import base64
import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from dillema.captioner.openai import OpenAICaptioner
from dillema.config import build
from dillema.errors import ItemError
from tests import tiny
from tests.captioner import checkpoints
from tests.server import serving, started
from tests.test_config import composed


def decode(request):
    picture, prompt = request["messages"][0]["content"]
    assert prompt == {"type": "text", "text": "What is this?"}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def captions(answer, *samples, **fields):
    with serving(answer) as (url, _):
        captioner = OpenAICaptioner("any", url, prompt="What is this?", **fields)
        captioner.load()
        return captioner.caption(samples, tiny.dataset(), range(len(samples)))


def flat(name, colour):
    return tiny.Sample(name, lambda: tiny.png(np.full((32, 64, 3), colour, np.uint8)))


def test_each_image_arrives_and_its_caption_comes_back():
    def answer(request, headers):
        return f"a picture\nof {np.asarray(decode(request)).mean():.0f}, seed {request['seed']}"

    assert [c.text for c in captions(answer, flat("a", 40), flat("b", 200))] == [
        "a picture of 40, seed 0",
        "a picture of 200, seed 1",
    ]


def test_large_images_are_sent_smaller():
    (caption,) = captions(lambda request, headers: str(decode(request).size), flat("a", 40), longest_side=16)
    assert caption.text == "(16, 8)"


def test_one_failure_leaves_the_others():
    def answer(request, headers):
        return (400, {"error": "not this one"}) if request["seed"] == 1 else "a car"

    first, second, third = captions(answer, flat("a", 1), flat("b", 2), flat("c", 3))
    assert (first.text, third.text) == ("a car", "a car")
    assert isinstance(second, ItemError)


def test_a_real_server_sees_the_image(tmp_path):
    """The server is that of transformers, with a small Qwen3-VL."""
    pytest.importorskip("fastapi")
    (tmp_path / "model").mkdir()
    (tmp_path / "home" / "hub").mkdir(parents=True)
    folder = checkpoints.qwen3_vl(tmp_path / "model", checkpoints.WORDS)
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    with started(
        "transformers.cli.transformers",
        "serve",
        folder,
        "--device",
        "cpu",
        "--dtype",
        "float32",
        env=environment,
    ) as url:
        settings = (
            f"captioner.model={folder}",
            f"captioner.base_url={url}",
            "captioner.temperature=0.01",
            "captioner.batch_size=1",
        )
        captioner = build(composed("captioner=server", *settings).captioner)
        captioner.load()
        samples = [tiny.sample("a", 1), tiny.sample("b", 2), flat("c", 0), flat("d", 255)]
        texts = [
            captioner.caption([sample], tiny.dataset(), [0])[0].text for sample in (*samples, samples[0])
        ]
    replies = [
        set(re.sub(r"<.+?>(assistant)?", "", text).split()) for text in texts
    ]  # the server leaves the marks of the chat in
    assert all(words and words <= set(checkpoints.WORDS) for words in replies)
    assert len(set(texts)) > 1 and texts[4] == texts[0]
