"""Gates that can judge some of the images, or none."""

import re
from dataclasses import dataclass

from dillema import report
from dillema.job.summary import show
from tests.backends import Gate, Model, run_pipeline


def run(path, **parts):
    return run_pipeline(path, path.parent / "store", **parts)[0]


@dataclass
class Abstaining(Gate):
    """Has nothing to judge in the images of some sources, as a detector in images without a label."""

    blind_to: tuple[str, ...] = tuple(f"scene-{i}" for i in range(6))

    def score(self, samples, *parts):
        scores = super().score(samples, *parts)
        return [{} if s.id in self.blind_to else row for s, row in zip(samples, scores, strict=True)]

    def reasons(self, scores):
        return super().reasons(scores) if scores else []


def test_images_that_no_gate_could_judge_count_but_are_not_called_valid(tmp_path, capsys, caplog):
    folder = run(tmp_path / "run", gates=[Abstaining()], models=[Model()], placebos=1)
    counts = folder.results["counts"]
    assert (counts["generated"], counts["valid"], counts["unjudged"]) == (12, 0, 12)
    assert not any(image.verdict.checked for image in folder.generated())
    assert folder.results["models"]["brightest"]["images"] == 12
    report.write(folder)
    page = " ".join((folder.path / "report.html").read_text().split())
    assert "No gate checked the 12 generated images: none is called valid" in page
    assert "12 images: no gate could judge them (brightness), so whether the labels still hold" in page
    assert "are valid and count" not in page and "No image was rejected" not in page
    card = (folder.path / "generated" / "README.md").read_text()
    assert "There are 12 images; no gate has checked them." in card
    show(folder)
    assert "12 unjudged" in " ".join(capsys.readouterr().out.split())
    assert "validity.brightness scored none of the 12 images" in caplog.text
    assert "12 images: no gate could judge them, so they count, but are not called valid." in caplog.text


def test_the_page_says_how_many_images_each_gate_judged(tmp_path, caplog):
    gates = [Abstaining(blind_to=("scene-1",)), Abstaining(name="other", blind_to=("scene-1", "scene-2"))]
    folder = run(tmp_path / "run", gates=gates, models=[Model()], placebos=1)
    counts = folder.results["counts"]
    assert (counts["valid"], counts["unjudged"]) == (10, 2)
    report.write(folder)
    page = " ".join((folder.path / "report.html").read_text().split())
    assert "10 of 12 generated images are valid and count." in page
    assert "2 images: no gate could judge them, so they count, but are not called valid." in page
    assert "brightness judged 10 of 12 images and 5 of 6 placebos." in page
    assert "other judged 8 of 12 images and 4 of 6 placebos." in page
    assert "valid counterfactuals" not in page
    show(folder)
    assert "scored none" not in caplog.text
    card = (folder.path / "generated" / "README.md").read_text()
    assert "2 of those that count were not checked: no gate could judge them." in card
    gates[0].least = 1.0
    report.write(strict := run(tmp_path / "strict", gates=gates, placebos=1))
    table = (strict.path / "report.html").read_text().partition(">of these judged</th>")[2].split("</tr>")[0]
    assert re.findall(r"<td[^>]*>(.*?)</td>", table) == ["10", "", "10", "8"]
