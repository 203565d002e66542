import pytest

from dillema import report
from tests.backends import Captioner, Gate, Generator, Noise, run_pipeline
from tests.report.chromium import chromium
from tests.report.page_run import FIGURES, HOSTILE, change_results, write_predictions


@pytest.fixture(scope="module")
def tab():
    with chromium() as tab:
        yield tab


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Returns the folder of a run of two models, with texts that would harm a careless page."""
    base = tmp_path_factory.mktemp("run")
    parts = {
        "captioner": Captioner(sentence=HOSTILE),
        "generator": Generator(fails="night"),
        "gates": [Gate(least=0.497)],
    }
    folder, _ = run_pipeline(
        base / "run",
        base / "store",
        dataset=Noise(task="classification", count=8),
        counterfactuals=4,
        placebos=1,
        **parts,
    )
    side = {"a": 0.1, "b": 0.2, "difference": -0.1, "low": -0.2, "high": 0.05, "p": 0.02, "p_adjusted": 0.04}
    sides = {"sources": 6, "rough": True, "level": 0.95, "original": side, "counterfactual": side}
    pair = {"a": "net", "b": "other <i>net", "metric": "accuracy", "paired": "images", "images": [9, 9]}
    compared = pair | sides | {"drop": side | {"difference": 0.25}}
    missing = pair | {"paired": "sources", "images": [0, 0], "sources": 0}
    none = {"metric": "accuracy", "sources": 0, "groups": 0, "images": 0, "placebo": None}
    change_results(
        folder,
        models={"net": FIGURES | {"all": FIGURES}, "other <i>net": none | {"all": none}},
        quality={
            "ssim": {"images": 9, "mean": 0.5, "low": 0.4, "high": 0.6},
            "psnr": {"images": 0, "mean": None, "low": None, "high": None},
            "clip_score": {"images": 9, "mean": 21.5, "low": None, "high": None},
        },
        distance={"features": "<b>net", "originals": 6, "images": 9, "fid": 12.345, "kid": 0.01},
        comparisons=[compared, missing],
    )
    write_predictions(folder)
    report.write(folder)
    return folder
