"""Captions that contradict the label of their source, in a whole run."""

import json

import pytest

from dillema import report
from dillema.run_folder import RunFolder
from tests.backends import Captioner, Model, Noise, run_pipeline

TEXT = "a clear day on a road, number"


def run(base, name, task="classification", **parts):
    folder, _ = run_pipeline(
        base / name,
        base / "store",
        dataset=Noise(count=3, task=task),
        captioner=Captioner(sentence=TEXT),
        models=[Model(task=task)],
        placebos=1,
        **parts,
    )
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("corrected")


@pytest.fixture(scope="module")
def folder(base):
    return run(base, "run")


def test_a_caption_names_the_class_of_its_label_and_the_record_says_what_the_captioner_wrote(folder):
    for image in [*folder.generated(), *folder.placebos()]:
        label = image.label["label_name"]
        assert image.caption.text.startswith(f"a clear day on a {label}, number")
        assert f"on a {label}, number" in image.counterfactual.text
        expected = image.caption.text.replace(f"a {label},", "a road,") if label != "road" else ""
        assert image.caption.uncorrected == expected
    assert {image.label["label_name"] for image in folder.generated()} == {"sky", "road", "car"}
    assert folder.results["counts"]["corrected_captions"] == 2


def test_the_page_tells_corrected_captions_apart(folder):
    report.write(RunFolder.open(folder.path))
    page = (folder.path / "report.html").read_text()
    assert "In 2 of 3 captions the captioner named" in page and "corrected_captions" not in page
    rows = json.loads(page.partition('id="gallery">')[2].partition("</script>")[0])["rows"]
    assert {row["classes"][0]: row["uncorrected"][:22] for row in rows} == {
        "sky": TEXT[:22],
        "road": "",
        "car": TEXT[:22],
    }


def test_captions_can_stay_as_they_are_and_are_not_made_again(base, folder):
    Captioner.loads.clear()
    kept = run(base, "kept", correct_captions=False)
    assert all(image.caption.text.startswith(TEXT) for image in kept.generated())
    assert not any(image.caption.uncorrected for image in kept.generated())
    assert "corrected_captions" not in kept.results["counts"]
    assert "Captioner" not in Captioner.loads


def test_a_mask_has_no_class_that_a_caption_could_contradict(base):
    masks = run(base, "masks", "segmentation")
    assert all(image.caption.text.startswith(TEXT) for image in masks.generated())
