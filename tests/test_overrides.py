"""Settings as they are typed on the command line."""

import shlex
from pathlib import Path

import pytest
from hydra import compose as compose_with_hydra
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dillema.config import compose
from dillema.errors import UserError
from dillema.overrides import gate_options, prepare
from tests.test_config import composed

MAPPINGS = [
    ("dataset.vary={weather: [foggy, snowy]}", "dataset.vary", {"weather": ["foggy", "snowy"]}),
    ("dataset.where={weather: [rainy]}", "dataset.where", {"weather": ["rainy"]}),
    ("generator.controlnet={canny: a/b}", "generator.controlnet", {"canny": "a/b"}),
    ("model.mini_segformer.class_map={road: 7}", "model.mini_segformer.class_map", {"road": 7}),
    ("model.mini_segformer.class_map={0: 99}", "model.mini_segformer.class_map", {0: 99}),
    ("dataset.vary={}", "dataset.vary", {}),
]


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [*MAPPINGS, ("dataset.vary.weather=[foggy]", "dataset.vary.weather", ["foggy"])],
)
def test_a_mapping_that_is_given_replaces_that_of_the_option(sign, override, path, expected):
    value = OmegaConf.select(composed(sign + override), path)
    assert OmegaConf.to_container(value) == expected


def test_a_file_sets_the_parts_that_it_composes():
    parts = composed("conditioning=segmentation_depth").conditioning.parts
    assert all("_target_" in part and part.weight == 0.9 for part in parts.values()) and len(parts) == 2


def test_a_single_value_of_a_mapping_leaves_the_others():
    assert set(composed("dataset.vary.weather=[foggy]").dataset.vary) == {"weather", "time of day", "colour"}


@pytest.mark.parametrize("sign", ["", "++"])
def test_each_mapping_of_a_sweep_replaces_that_of_the_option(sign):
    varied = f"{sign}dataset.vary={{weather: [foggy]}},{{colour: [red]}}"
    arguments = prepare(["-m", varied, "dataset.where={weather: [rainy]}"])
    overrides = OverridesParser.create().parse_overrides(arguments[1:])
    (runs,) = BasicSweeper.split_arguments(overrides, None)
    datasets = [OmegaConf.to_container(compose(run).dataset) for run in runs]
    assert [dataset["vary"] for dataset in datasets] == [{"weather": ["foggy"]}, {"colour": ["red"]}]
    assert [dataset["where"] for dataset in datasets] == 2 * [{"weather": ["rainy"]}]


@pytest.fixture
def own_options(tmp_path, monkeypatch):
    """Makes a working folder with options of one's own, and returns a function that writes one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)

    def write(name, content):
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")

    return write


@pytest.mark.parametrize(("override", "path", "expected"), MAPPINGS)
def test_a_mapping_in_a_file_of_ones_own_replaces_that_of_the_option(own_options, override, path, expected):
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, path, expected)
    own_options("mine", OmegaConf.to_yaml(cfg))
    assert OmegaConf.to_container(OmegaConf.select(composed("experiment=mine"), path)) == expected
    own_options("second", "defaults: [mine]\ndataset: {vary: {colour: [red]}, where: {weather: [clear]}}")
    dataset = OmegaConf.to_container(composed("experiment=second", "dataset.where={colour: [blue]}").dataset)
    assert (dataset["vary"], dataset["where"]) == ({"colour": ["red"]}, {"colour": ["blue"]})


def test_the_configurations_of_other_applications_are_merged_as_hydra_merges_them(tmp_path):
    (tmp_path / "app.yaml").write_text("table: {columns: {a: 1}}")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        cfg = compose_with_hydra("app", overrides=["++table.columns={b: 2}"])
    assert cfg.table.columns == {"a": 1, "b": 2}


def test_a_number_of_thousands_of_digits_is_refused_in_words():
    with pytest.raises(UserError, match=r"cannot be read: .*Exceeds the limit"):
        prepare([f"seed={'9' * 5000}"])


def test_a_class_map_that_an_option_brings_is_replaced_too():
    overrides = [
        "dataset=shift",
        "model=segformer_cityscapes",
        "model.segformer_cityscapes.class_map={7: 7, 13: 13}",
    ]
    assert OmegaConf.to_container(composed(*overrides).model.segformer_cityscapes.class_map) == {7: 7, 13: 13}


def test_an_option_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"did you mean llm=llama2_q5\? The options are "):
        prepare(["llm=lama2_q5"])
    with pytest.raises(UserError, match=r"did you mean llm=llama2_7b_q2\?"):
        prepare(["llm=lama2"])
    with pytest.raises(UserError, match=r"llm=zzz: there is no such option\. The options are "):
        prepare(["llm=zzz"])
    with pytest.raises(UserError, match=r"did you mean model=resnet50"):
        prepare(["model=[resnet18,resent50]"])
    with pytest.raises(UserError, match=r"did you mean llm=smollm2\?"):
        prepare(["-m", "llm=smollm2,smollm3"])
    assert prepare(["-m", "llm=llama2_q4,llama2_q5", "--cfg"]) == ["-m", "llm=llama2_q4,llama2_q5", "--cfg"]


TEXTS = {
    "model.module.checkpoint": "/ckpt/epoch=3-step=20.ckpt",
    "dataset.root": "/data/a,b",
    "dataset.images": "Ana's [new] photos",
    "captioner.template": "{label}, on a clear day",
    "name": "a#2",
}


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_that_hydra_would_read_otherwise_is_answered_with_the_quotes_that_it_needs(key):
    with pytest.raises(UserError, match="needs quotes") as error:
        prepare([f"{key}={TEXTS[key]}"])
    (typed,) = shlex.split(str(error.value).rpartition(": ")[2])
    options = ("dataset=folder", "captioner=label", "model=module", "model.module.network=null")
    assert OmegaConf.select(composed(*options, typed), key) == TEXTS[key]


def test_the_home_folder_may_be_written_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    cfg = composed(
        "dataset=folder", "dataset.root=~/photos", "model=resnet18", "model.resnet18.checkpoint=~/a.pt"
    )
    assert (cfg.dataset.root, cfg.model.resnet18.checkpoint) == ("/home/ana/photos", "/home/ana/a.pt")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("validity=image,reader", r"needs the flag -m; a list needs brackets: 'validity=\[image,reader\]'$"),
        (
            "llm=smollm2,ollama",
            "^Ambiguous value in 'llm=smollm2,ollama': a sweep over several values needs the flag -m$",
        ),
        ("dataset.vary.time of day=[night]", r"'dataset.vary=\{time of day: \[night\]\}'$"),
        ("~dataset.vary.time of day", r"the mapping that it is in without it: 'dataset\.vary=\{\.\.\.\}'$"),
        ("dataset.vary={weather: [foggy}", r"input '\{weather: \[foggy\}'\. In a list or a mapping, a text"),
        ("captioner.template={label}", r"as one text it is 'captioner\.template=\"\{label\}\"'$"),
        ('name="a', r"Quotes must be closed; inside of them, \\\" stands for a quote"),
    ],
)
def test_an_override_that_cannot_be_read_says_how_it_is_written(override, words):
    with pytest.raises(UserError, match=words):
        prepare([override])
    if "," in override:
        assert prepare(["-m", override])[:2] == ["-m", override]


def test_a_word_that_is_no_setting_is_answered_with_the_form_of_one():
    with pytest.raises(UserError, match="'quick' is no setting: settings are written name=value"):
        prepare(["seed=1", "quick"])
    assert prepare(["--config-dir", "mine", "~quality"]) == ["--config-dir", "mine", "~quality"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=mine", "--cfg", "job"],
        ["seed=0,1", "-m"],
        ["-m", "seed=0,1"],
        ["--cfg", "job", "~quality", "seed=1"],
        ["--cfg", "job"],
        ["job=judge", "run=run", "--cfg", "job"],
    ],
)
def test_flags_may_stand_before_and_behind_settings_where_one_has_options_of_ones_own(own_options, arguments):
    own_options("mine", "seed: 3")
    Path("run/.hydra").mkdir(parents=True)
    Path("run/.hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {validity: image}}}")
    parsed = get_args_parser().parse_args(prepare(arguments))
    assert f'hydra.searchpath=["file://{Path("conf").absolute()}"]' in parsed.overrides
    assert ("validity=[image]" in parsed.overrides) == ("job=judge" in arguments)


@pytest.mark.parametrize("content", [b"hydra: [", "hydra: {}".encode("utf-16")[2:]])
def test_damaged_settings_of_a_run_are_refused_in_words(tmp_path, content):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"hydra\.yaml cannot be read, it is damaged"):
        gate_options(tmp_path)
