import json

import numpy as np
import pytest
from PIL import Image

from dillema.conditioning.canny import Canny
from dillema.conditioning.several import Several, conditionings_by_name
from dillema.config import build
from dillema.config_check import check
from dillema.errors import UserError
from tests.backends import SIZE, Conditioning, Generator, run_pipeline
from tests.test_config import composed


def test_conditionings_are_told_apart_by_their_kind():
    edges, grey = Canny(), Conditioning()
    assert conditionings_by_name(edges) == {"canny": edges}
    assert conditionings_by_name(Several({"a": edges, "b": grey})) == {"canny": edges, "grey": grey}
    assert conditionings_by_name(Several({})) == {}
    with pytest.raises(UserError, match="canny more than once"):
        Several({"a": edges, "b": Canny(low=1)})


def test_the_option_is_built_of_others_with_weights_of_its_own():
    cfg = composed("conditioning=segmentation_depth", "conditioning.parts.depth.weight=0.4")
    conditionings = conditionings_by_name(build(cfg.conditioning))
    assert {name: part.weight for name, part in conditionings.items()} == {"segmentation": 0.9, "depth": 0.4}
    assert conditionings["segmentation"].palette == "ade20k"


def test_mistakes_within_a_part_are_named():
    name = r"conditioning\.parts\.depth\."
    message = rf"a mistake:\n  {name}wight: Depth takes no wight; did you mean {name}weight\?"
    with pytest.raises(UserError, match=message):
        check(composed("conditioning=segmentation_depth", "+conditioning.parts.depth.wight=1"))


def test_a_generator_gets_every_control_image_and_they_are_saved_on_request(tmp_path):
    received = []

    class Watching(Generator):
        def generate(self, samples, counterfactuals, controls, seeds):
            for by_name in controls:
                received.append({name: (np.asarray(c.image), c.weight) for name, c in by_name.items()})
            return super().generate(samples, counterfactuals, controls, seeds)

    both = conditionings_by_name(Several({"a": Canny(weight=0.3), "b": Conditioning(weight=0.6)}))
    parts = {"conditionings": both, "generator": Watching(), "save_controls": True}
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", **parts)
    assert folder.results["counts"]["generated"] == len(received) == 12
    for by_name in received:
        assert {name: weight for name, (_, weight) in by_name.items()} == {"canny": 0.3, "grey": 0.6}
        assert (by_name["canny"][0] != by_name["grey"][0]).any()
    generated = folder.path / "generated"
    for line in (generated / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in ("canny", "grey"):
            assert Image.open(generated / row[f"{name}_file_name"]).size == SIZE


def test_a_generator_needs_no_control_image(tmp_path):
    none = conditionings_by_name(Several({}))
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", conditionings=none, save_controls=True)
    assert folder.results["counts"]["generated"] == 12
    assert not (folder.path / "generated" / "controls").exists()


def test_a_source_that_one_conditioning_cannot_do_is_left_out(tmp_path):
    both = conditionings_by_name(Several({"a": Canny(), "b": Conditioning(fails="scene-1")}))
    folder, runner = run_pipeline(tmp_path / "run", tmp_path / "store", conditionings=both)
    assert [failure["id"] for failure in runner.failures] == ["scene-1"]
    assert folder.results["counts"]["generated"] == 10
