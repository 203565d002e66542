import base64
import io

import numpy as np
from PIL import Image

from dillema.captioner.openai import OpenAICaptioner
from dillema.errors import ItemError
from tests import tiny
from tests.server import serving


def seen(request):
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
        return f"a picture\nof {np.asarray(seen(request)).mean():.0f}, seed {request['seed']}"

    assert [c.text for c in captions(answer, flat("a", 40), flat("b", 200))] == ["a picture of 40, seed 0", "a picture of 200, seed 1"]


def test_large_images_are_sent_smaller():
    (caption,) = captions(lambda request, headers: str(seen(request).size), flat("a", 40), longest_side=16)
    assert caption.text == "(16, 8)"


def test_one_failure_leaves_the_others():
    def answer(request, headers):
        return (400, {"error": "not this one"}) if request["seed"] == 1 else "a car"

    first, second, third = captions(answer, flat("a", 1), flat("b", 2), flat("c", 3))
    assert (first.text, third.text) == ("a car", "a car")
    assert isinstance(second, ItemError)
