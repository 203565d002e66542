"""What is judged, the answers as files, and the figures of a review."""

import json
from collections import Counter

import numpy as np
import pytest

from dillema.config import compose, without_hydra
from dillema.context import JobContext
from dillema.errors import UserError
from dillema.job.review import review as job
from dillema.review.agreement import summarise_answers
from dillema.review.answers import Answer, AnswerStore, read_csv, write_csv
from dillema.review.items import KNOWN, Review
from dillema.review.page import render_page
from dillema.review.sampling import choose_evenly
from dillema.run_folder import RunFolder
from tests.backends import Noise, run_pipeline

SETTINGS = {"count": 30, "control_share": 0.3, "port": 0, "html": None, "import_csv": [], "export_csv": None}


def run_job(folder, tmp_path, **changes):
    context = JobContext(without_hydra(compose([f"run={folder.path}"])), tmp_path)
    return job(context, **(SETTINGS | changes))


def right_answer(review, number, rater):
    """Returns what a rater says who knows the controls and the verdicts of the gate."""
    item = review.items[number]
    truth = "yes" if review.images[item.image].verdict.valid else "no"
    known = {"label": truth, "edit": truth} | dict(KNOWN.get(item.kind, {}))
    return Answer(
        rater, number, 5 if item.kind == "original" else 2, known["label"], known["edit"], 1.0, number
    )


def test_rare_scores_are_judged_as_often_as_common_ones():
    random = np.random.default_rng(0)
    scores = np.concatenate([random.uniform(0.9, 1, 1900), random.uniform(0, 0.9, 100)])[:, None]
    chosen = choose_evenly(scores, 200, 0)
    assert len(chosen) == len(set(chosen)) == 200
    assert (scores[chosen] < 0.9).sum() > 80  # 10 of them in a plain sample
    counts = np.histogram(scores[choose_evenly(scores, 40, 0)], bins=10, range=(0, 1))[0]
    assert counts.min() >= 1 and counts.max() <= 8
    assert sorted(choose_evenly(scores, 5000, 0)) == list(range(2000))
    assert len(choose_evenly(np.full((50, 2), np.nan), 10, 0)) == 10
    assert len(choose_evenly(np.zeros((50, 0)), 10, 0)) == 10


def test_controls_are_mixed_in_and_the_choice_stays(run_copy):
    review = Review.open(run_copy, 30, 0.3, 0)
    kinds = [item.kind for item in review.items]
    assert Counter(kinds) == {"counterfactual": 21, "original": 3, "other": 3, "placebo": 3}
    assert set(kinds[:15]) != {"counterfactual"} and set(kinds[15:]) != {"counterfactual"}
    for number, item in enumerate(review.items):
        image, shown = review.images[item.image], review.shown_file(number)
        assert shown.is_file() and review.original_file(number) == image.original
        assert {
            "counterfactual": shown == image.path,
            "original": shown == image.original,
            "other": shown.parent == image.original.parent and shown != image.original,
            "placebo": shown.is_relative_to(run_copy.path / "placebo"),
        }[item.kind]
    assert Review.open(run_copy, 5, 0.0, 99).items == review.items


def test_a_review_of_other_images_is_refused(run_copy, tmp_path):
    Review.open(run_copy, 10, 0.2, 0)
    other, _ = run_pipeline(tmp_path / "o", tmp_path / "store", dataset=Noise(count=1), counterfactuals=2)
    (other.path / "review").mkdir()
    (other.path / "review" / "items.json").write_text((run_copy.path / "review" / "items.json").read_text())
    with pytest.raises(UserError, match="the run was made again since"):
        Review.read(other)
    again = run_copy.path / "generated" / "metadata.jsonl"
    again.write_text(again.read_text().replace('"record": "', '"record": "0'))  # equal ids, other images
    with pytest.raises(UserError, match="the run was made again since"):
        Review.read(RunFolder.open(run_copy.path))
    (other.path / "review" / "items.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        Review.read(other)


def test_answers_go_out_and_come_back_as_csv(run_copy, tmp_path):
    review = Review.open(run_copy, 30, 0.3, 0)
    answers = [right_answer(review, number, "Zoë W.") for number in range(30)]
    AnswerStore.of(review).put(answers)
    run_job(run_copy, tmp_path, export_csv=str(tmp_path / "answers.csv"))
    assert read_csv(tmp_path / "answers.csv", review) == AnswerStore.of(review).all() == answers
    AnswerStore.of(review).path.unlink()
    saved_by_excel = tmp_path / "utf16.csv"
    saved_by_excel.write_text((tmp_path / "answers.csv").read_text(encoding="utf-8-sig"), encoding="utf-16")
    assert read_csv(saved_by_excel, review) == answers
    run_job(run_copy, tmp_path, import_csv=[str(tmp_path / "answers.csv")])
    assert AnswerStore.of(review).all() == answers
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert lines[0].endswith("kind,image,source")
    damaged = lines[3].replace(",yes", ",aye").replace(",no,", ",nay,")
    (tmp_path / "wrong.csv").write_text("\n".join([*lines[:3], damaged]))
    (tmp_path / "other.csv").write_text("\n".join([lines[0], lines[1].replace(review.id, "abc")]))
    for name, message in (
        ("wrong.csv", "line 4: real is from 1 to 5"),
        ("other.csv", "belongs to the review 'abc'"),
        ("none.csv", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            run_job(run_copy, tmp_path, import_csv=[str(tmp_path / "answers.csv"), str(tmp_path / name)])
    write_csv(tmp_path / "empty.csv", review, [])
    with pytest.raises(UserError, match="holds no answers"):
        read_csv(tmp_path / "empty.csv", review)


def test_figures_name_raters_who_fail_and_compare_gates_with_people(run_copy):
    review = Review.open(run_copy, 40, 0.3, 0)
    careful = [right_answer(review, n, name) for n in range(40) for name in ("anna", "ben")]
    random = np.random.default_rng(0)
    guesses = [
        Answer("guess", n, int(random.integers(1, 6)), *random.choice(["yes", "no"], 2).tolist(), 1.0, n)
        for n in range(40)
    ]
    figures = summarise_answers(review, careful + guesses, 0)
    raters = figures["raters"]
    assert [name for name, row in raters.items() if row["failed"]] == ["guess"]
    assert raters["anna"] == {"answers": 40, "known": 16, "missed": 0, "failed": False}
    pairs = {(row["question"], row["a"], row["b"]): row for row in figures["pairs"]}
    assert pairs["edit", "anna", "ben"]["kappa"] == 1
    assert abs(pairs["edit", "anna", "guess"]["kappa"]) < 0.4
    assert 0 < figures["kappa"]["edit"]["low"] < figures["kappa"]["edit"]["kappa"] < 0.8
    assert figures["kappa"]["label"]["images"] == 40
    for row in figures["gates"]:  # the guesses are left out: people agree with the gate
        assert row["gate"] == "brightness" and row["agreement"] == row["kappa"] == 1
        assert row["images"] == 28 and row["agreement_low"] < 1
    assert figures["real"]["original"]["mean"] == 5 and figures["real"]["placebo"]["mean"] == 2
    assert json.loads(json.dumps(figures)) == figures


def test_the_job_shows_the_figures_and_writes_the_page_of_a_rater(run_copy, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    review = Review.open(run_copy, 30, 0.3, 0)
    AnswerStore.of(review).put([right_answer(review, n, name) for n in range(30) for name in ("anna", "ben")])
    AnswerStore.of(review).put([Answer("lazy", n, 1, "yes", "yes", 0.1, n) for n in range(30)])
    run_job(run_copy, tmp_path, html=str(tmp_path / "page.html"))
    assert "lazy FAILS the controls" in caplog.text and "Page for one rater" in caplog.text
    printed = capsys.readouterr().out
    assert "Fleiss' kappa" in printed and "brightness" in printed and "anna, ben" in printed
    assert (run_copy.path / "review" / "agreement.json").exists()
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 60 and "http://" not in page and "<script>alert" not in page
    assert "validity=none" not in page
    review.folder.results["gates"] = []
    assert "No gate has checked these images (validity=none)." in render_page(review)


def test_the_id_of_a_review_changes_with_its_images(run_copy, tmp_path):
    review = Review.open(run_copy, 10, 0.2, 0)
    again = Review(run_copy, review.items)
    assert again.id == review.id
    assert Review(run_copy, review.items[:-1]).id != review.id
