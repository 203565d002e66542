import numpy as np
import pytest
import torch

from dillema.config import build
from dillema.errors import UserError
from dillema.keys import identity
from dillema.model.callable import CallableModel
from tests import tiny
from tests.test_config import composed

IMAGES = [tiny.image(0), tiny.image(1)]


def configured(name, *overrides):
    cfg = composed(
        "model=callable", f"model.callable.function._target_=tests.model.networks.{name}", *overrides
    )
    model = build(cfg.model.callable)
    model.load()
    return model


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("brightness", []), ("Brightness", ["model.callable.function._partial_=false"])],
)
def test_a_function_and_an_object_of_a_class_are_models(name, overrides):
    logits = configured(name, "+model.callable.function.gain=2", *overrides).predict(IMAGES)
    torch.testing.assert_close(
        logits,
        torch.tensor([[np.asarray(image).mean() / 127.5, 0.5] for image in IMAGES], dtype=torch.float32),
    )


def test_an_answer_of_another_shape_is_named():
    with pytest.raises(
        UserError,
        match=r"model.callable: tests.model.networks.wrong returned an array of \(3, 2\) for 2 images",
    ):
        configured("wrong").predict(IMAGES)


def test_predictions_are_made_anew_when_the_code_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "judged.py").write_text("def say(images): return [[1.0, 0.0]] * len(images)")
    first_identity = identity(CallableModel("m", {"_target_": "judged.say"}))
    assert identity(CallableModel("other name", {"_target_": "judged.say"})) == first_identity
    (tmp_path / "judged.py").write_text("def say(images): return [[0.0, 1.0]] * len(images)  # better")
    assert identity(CallableModel("m", {"_target_": "judged.say"})) != first_identity
