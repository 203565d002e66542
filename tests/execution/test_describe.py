"""What the log calls a back-end."""

from dataclasses import dataclass

from dillema.config import build
from dillema.execution.local import describe
from tests.test_config import composed


def test_a_back_end_is_called_by_its_setting():
    cfg = composed()
    parts = (cfg.captioner, cfg.prompt, cfg.generator, cfg.validity.reader, cfg.model.mini_segformer)
    names = [describe(build(part)) for part in parts]
    assert names == ["captioner", "llm", "generator", "validity=reader", "model=mini_segformer"]


def test_a_back_end_of_the_user_is_called_by_its_class():
    @dataclass
    class Own:
        name: str = "mine"

    assert describe(Own()) == "Own"
