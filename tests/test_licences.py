import pytest
from omegaconf import OmegaConf

from dillema import licences
from dillema.config import conf_dir
from dillema.config_check import check
from dillema.errors import UserError
from dillema.licences import UNKNOWN, list_licences
from tests.contracts.options import options
from tests.test_config import composed

OWN = {  # options of data or a model of the user's, or of a server's
    "dataset": {"folder", "huggingface"},
    "model": {"callable", "module"},
    "llm": {"server", "openai", "lm_studio", "ollama"},
}
MADE_FROM = ("model", "lora", "vae", "features", "clip", "lpips")  # settings that name weights


def name_weights(block):
    """Yields the names of weights in the file of an option."""
    for key in MADE_FROM:
        if isinstance(block.get(key), str):
            yield block[key]
    yield from (block.get("controlnet") or {}).values()


@pytest.mark.parametrize("group", ["captioner", "llm", "conditioning", "generator", "validity", "quality"])
def test_the_licences_of_the_weights_of_every_option_are_known(group):
    seen = 0
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        for name in name_weights(OmegaConf.load(path)):
            found = licences.look_up(f"{group}.model", name, name, {})
            assert (found.licence == UNKNOWN) == (path.stem in OWN.get(group, ())), (path.stem, found)
            seen += 1
    assert seen


@pytest.mark.parametrize("group", ["dataset", "model"])
def test_the_licences_of_data_sets_and_models_under_test_are_known(group):
    names = {option.name for option in options(group)} - OWN["model"]
    for name in names:
        licences_of_option = list_licences(composed(f"{group}={name}"))
        found = [part for part in licences_of_option if part.setting.startswith(group)]
        is_unknown = UNKNOWN in {part.licence for part in found}
        assert found and is_unknown == (name in OWN[group]), (name, found)


FORBIDDEN = {
    "dataset=shift": "CC-BY-NC-SA-4.0",
    "dataset=imagenet": "non-commercial research",
    "dataset=cityscapes": "Cityscapes terms: non-commercial",
    "experiment=acdc": "ACDC terms: non-commercial",
    "experiment=bdd100k": "BDD100K terms",
    "captioner=qwen25_vl_3b": "Qwen Research",
    "captioner=blip2_opt67b": "OPT-175B",
    "generator=flux_kontext": "FLUX.1 [dev] Non-Commercial",
    "model=convnextv2_tiny": "CC-BY-NC-4.0",
    "model=segformer_trainids": "NVIDIA Source Code License",
}


@pytest.mark.parametrize("override", FORBIDDEN)
def test_commercial_use_is_refused_with_the_option_and_its_licence(override):
    with pytest.raises(UserError, match="forbids commercial use") as caught:
        check(composed(override, "commercial=true"))
    group = override.partition("=")[0]
    setting = {"experiment": "dataset"}.get(group, group)
    line = next(line for line in str(caught.value).splitlines() if FORBIDDEN[override] in line)
    assert line.strip().startswith(setting)


def test_the_small_world_and_free_models_may_be_used_commercially():
    check(composed("commercial=true"))
    check(composed("commercial=true", "captioner=florence2", "llm=qwen3_4b", "generator=sd15_canny"))


def test_own_data_and_models_are_unknown_until_the_user_says_so():
    cfg = ["dataset=folder", "model=vit_base", "model.vit_base.model=./my/checkpoint"]
    unknown = {part.setting for part in list_licences(composed(*cfg)) if part.commercial is None}
    assert unknown == {"dataset", "model.vit_base.model"}
    said = "licences={dataset: ours, model.vit_base: CC BY-NC 4.0}"
    found = {part.setting: part for part in list_licences(composed(*cfg, said))}
    assert found["dataset"].licence == "ours" and found["dataset"].commercial is True
    assert found["model.vit_base.model"].commercial is False
    with pytest.raises(
        UserError, match=r"model.vit_base.model: ./my/checkpoint has the licence 'CC BY-NC 4.0'"
    ):
        check(composed(*cfg, said, "commercial=true"))


def test_they_are_described_in_one_line_for_each_answer():
    lines = licences.describe(list_licences(composed("dataset=shift", "model=mask2former_cityscapes")))
    assert [line.partition(":")[0] for line in lines] == [
        "Licences",
        "Licences that forbid commercial use",
        "Licences that are not known, or do not say whether they allow commercial use",
    ]
    assert "CC-BY-NC-SA-4.0 (dataset)" in lines[1] and "model.mask2former_cityscapes" in lines[2]


def test_images_carry_the_licences_of_what_they_are_made_from():
    texts = licences.of_images(list_licences(composed("dataset=shift")))
    assert texts[0] == "shift: CC-BY-NC-SA-4.0"
    assert any("stable-diffusion-v1-5" in text for text in texts)
    assert not any("segformer" in text for text in texts)  # the model under test made nothing
