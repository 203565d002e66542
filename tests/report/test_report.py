import csv
import json
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from dillema import report
from dillema.errors import UserError
from dillema.report import confusion, costs, gallery, origin, plots, thumbnails, validity
from dillema.run_folder import RunFolder
from tests.backends import Gate, Generator, Model, Noise, run_pipeline


def read_script(folder):
    """Returns what the script of a page reads."""
    page = (folder.path / "report.html").read_text()
    return json.loads(page.partition('id="gallery">')[2].partition("</script>")[0])


@pytest.fixture(scope="module", params=["classification", "segmentation"])
def folder(request, tmp_path_factory):
    base = tmp_path_factory.mktemp(request.param)
    parts = {"dataset": Noise(task=request.param), "models": (Model(task=request.param),), "placebos": 1}
    folder, _ = run_pipeline(base / "run", base / "store", gates=[Gate(least=0.497)], **parts)
    report.write(folder)
    return folder


def test_images_come_by_loss_with_the_answers_and_the_changes(folder):
    rows = read_script(folder)["rows"]
    images = {image.id: image for image in folder.generated()}
    assert {row["id"] for row in rows} == set(images) and len(rows) == 12
    for part in (True, False):
        losses = [sum(answer["loss"] for answer in row["answers"]) for row in rows if row["valid"] is part]
        assert losses == sorted(losses, reverse=True)
    assert {row["id"]: row["valid"] for row in rows} == {
        name: image.verdict.valid for name, image in images.items()
    }
    assert all(row["valid"] == (not row["reasons"]) for row in rows)
    assert all(
        [text for text, edited in row["text"] if edited] == [to for *_, to in row["edits"]] for row in rows
    )
    assert all("confidence" in text for row in rows for text in row["answers"][0]["texts"])
    assert all(row["classes"] and set(row["classes"]) <= {"sky", "road", "car"} for row in rows)


def test_a_folder_that_was_copied_needs_no_store(folder, tmp_path):
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder.path, copied)
    (copied / "report.html").unlink()
    store, away = folder.path.parent / "store", tmp_path / "store"
    store.rename(away)
    try:
        report.write(RunFolder.open(copied))
    finally:
        away.rename(store)
    pages = [(path / "report.html").read_text() for path in (folder.path, copied)]
    assert pages[0] == pages[1]


def test_small_images_are_in_the_page_and_the_others_beside_it(folder, monkeypatch):
    addresses = read_script(folder)["images"]
    assert all(address.startswith("data:image/") for address in addresses)
    monkeypatch.setattr(thumbnails, "EMBEDDED_BYTES", 2000)
    report.write(folder)
    addresses = read_script(folder)["images"]
    beside = [address for address in addresses if not address.startswith("data:")]
    assert addresses[0].startswith("data:") and beside
    assert {Image.open(folder.path / address).size for address in beside} == {(32, 20)}
    monkeypatch.undo()
    report.write(folder)


def test_small_copies_are_used_again(folder):
    files = {path: path.stat().st_mtime_ns for path in (folder.path / "report").rglob("*.jpg")}
    report.write(folder)
    assert files == {path: path.stat().st_mtime_ns for path in (folder.path / "report").rglob("*.jpg")}
    # originals, counterfactuals, placebos, control images
    assert len(files) == 6 + 12 + 6 + 6


def test_a_page_of_a_thousand_images_is_written_again_in_seconds(tmp_path):
    parts = {"dataset": Noise(count=500, task="classification"), "models": (Model(task="classification"),)}
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", **parts)
    report.write(folder)
    begin = time.process_time()  # other processes do not count
    report.write(RunFolder.open(folder.path))
    assert time.process_time() - begin < 2  # judging them takes the rest of the three seconds


def test_marks_keep_to_words_and_lose_nothing():
    text = "a red car (red) hired by a red-haired man"
    pieces = gallery.mark_spans(text, ["red", "red car", ""])
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, edited in pieces if edited] == ["red car", "red", "red"]
    assert gallery.mark_spans(text, []) == [(text, False)]


def test_the_example_of_a_condition_has_few_other_edits_and_stands_once(folder):
    shown = gallery.choose_images(folder, folder.all_predictions())
    edit = next(image for image in folder.generated() if image.verdict.valid).counterfactual.edits[0]
    value = (edit.attribute, edit.replacement)
    having = [
        image
        for image in folder.generated()
        if image.verdict.valid and value in {(e.attribute, e.replacement) for e in image.counterfactual.edits}
    ]
    row = {"attribute": edit.attribute, "to": edit.replacement}
    used = set()
    example = gallery.find_example(shown, "brightest", row, folder, used)
    found = next(image for image in having if image.id in used).counterfactual.edits
    assert len(example["others"]) == len(found) - 1 and f"{value[0]} → {value[1]}" not in example["others"]
    fewest = min(len(image.counterfactual.edits) for image in having)
    assert example["text"] in {i.counterfactual.text for i in having if len(i.counterfactual.edits) == fewest}
    again = gallery.find_example(shown, "brightest", row, folder, used)
    assert len(used) == min(2, len(having)) and (again is None) == (len(having) == 1)
    assert gallery.find_example(shown, "brightest", row | {"to": "hail"}, folder, set()) is None


def test_rejections_are_counted_by_gate_attribute_and_value(folder):
    rejections = validity.count_rejections(folder)
    images = list(folder.generated())
    rejected = [image for image in images if not image.verdict.valid]
    assert 0 < len(rejected) < len(images) and rejections["gates"] == ["brightness"]
    total = rejections["all"]
    assert (total.images, total.rejected, total.by_gate["brightness"]) == (12, len(rejected), len(rejected))
    assert rejections["placebos"].images == len(list(folder.placebos()))

    def count(*changed):
        """Returns the numbers of images, and of rejected ones, with an attribute or a value of it."""
        return [
            sum(
                changed in [(e.attribute,), (e.attribute, e.replacement)][len(changed) - 1 : len(changed)]
                for image in part
                for e in image.counterfactual.edits
            )
            for part in (images, rejected)
        ]

    assert {name for name, _, _ in rejections["attributes"]} == {"weather", "time of day"}
    for attribute, values, row in rejections["attributes"]:
        assert [row.images, row.rejected] == count(attribute)
        assert sum(part.images for _, part in values) == row.images
        for value, part in values:
            assert [part.images, part.by_gate["brightness"]] == count(attribute, value)
        assert [part.rate for _, part in values] == sorted((p.rate for _, p in values), reverse=True)


def test_examples_of_rejected_images_come_with_their_edits_and_reasons(folder):
    examples = gallery.find_rejected(folder)
    page = (folder.path / "report.html").read_text()
    images = {image.id: image for image in folder.generated()}
    reasons = {name: image.verdict.reasons for name, image in images.items()}
    for example in examples:
        edits = images[example["id"]].counterfactual.edits
        assert example["edits"] == [f"{e.attribute}: {e.original} → {e.replacement}" for e in edits] != []
        assert all(f'<p class="soft">{edit}</p>' in page for edit in example["edits"])
    assert 0 < len(examples) <= gallery.REJECTED_EXAMPLES
    assert all(example["reasons"] == reasons[example["id"]] != () for example in examples)
    assert len({example["id"] for example in examples}) == len(examples)
    assert all((folder.path / unquote(example["file"])).is_file() for example in examples)
    page = re.sub(r"\s+", " ", (folder.path / "report.html").read_text())
    rejected = sum(not image.verdict.valid for image in folder.generated())
    assert (f"rejected images: {len(examples)} of {rejected}" in page) == (rejected > len(examples))
    assert "None checks the caption against the original image" in page


def test_a_gate_that_checks_captions_is_named(folder, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(folder.path, copied)
    gates = {"clip": {"minimum": {"text_original": 0.2}}, "other": {"minimum": {"label": 0.2}}, "reader": {}}
    write_settings(copied, gates)
    assert validity.find_caption_gates(RunFolder(copied)) == ["clip"]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_run_on_masks_without_a_gate_for_them_says_so(tmp_path, caplog, task):
    gates = {"image": {"_target_": "dillema.validity.image.ImageGate"}}
    folder, _ = run_pipeline(
        tmp_path / "run", tmp_path / "store", dataset=Noise(task=task), gates=[Gate()], validity=gates
    )
    write_settings(folder.path, gates)
    report.write(folder)
    sentence = "no gate compares the images with their masks: validity=[image,segmenter_trainids]"
    times = int(task == "segmentation")
    assert sum(sentence in record.getMessage() for record in caplog.records) == times
    assert (folder.path / "report.html").read_text().count(sentence) == times


def write_settings(path, gates):
    (path / ".hydra").mkdir()
    (path / ".hydra/config.yaml").write_text(json.dumps({"validity": gates}))
    (path / ".hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {}}}")
    (path / ".hydra/overrides.yaml").write_text("[]")


def rewrite_results(path, results):
    """Writes changed results of a run with a digest that fits them."""
    del results["digest"]
    RunFolder(path).write_results(results)


def test_rare_and_missing_values_are_named(folder, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(folder.path, copied)
    results = json.loads((copied / "results.json").read_text())
    [time_of_day] = {
        edit.original
        for image in folder.generated()
        for edit in image.counterfactual.edits
        if edit.attribute == "time of day"
    }
    results["plan"] = {"weather": {"foggy": 20, "rainy": 21, "snowy": 4}, "time of day": {"night": 5}}
    rewrite_results(copied, results)
    vary = {"weather": ["foggy", "sunny"], "time of day": [time_of_day, "night"], "colour": ["red"]}
    (copied / ".hydra").mkdir()
    (copied / ".hydra/config.yaml").write_text(json.dumps({"dataset": {"vary": vary | {"season": None}}}))
    (copied / ".hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {}}}")
    (copied / ".hydra/overrides.yaml").write_text("[]")
    rare = validity.find_rare_values(RunFolder(copied))
    assert rare == ["colour: no value at all", "season: no value at all", "weather: sunny (none of 45)"]
    assert validity.describe_rare_values("a", {"b": 20, "c": 20, "d": 4}) == ["a: d (4 of 44)"]
    assert validity.describe_rare_values("a", {"b": 20, "c": 20, "d": 6}) == []


def test_the_confusion_matrices_are_in_a_file(folder):
    with (folder.path / "confusion_brightest.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["images", "true", *folder.labels.classes]
    assert [row[:2] for row in rows] == [
        [kind, name] for kind in ("original", "counterfactual") for name in folder.labels.classes
    ]
    counts = np.array([row[2:] for row in rows], int)
    if folder.labels.task == "classification":
        valid = sum(image.verdict.valid for image in folder.generated())
        assert [counts[:3].sum(), counts[3:].sum()] == [6, valid]
        before, _ = folder.predictions("brightest").pairs()
        answers = folder.predictions("brightest").list_answers(np.unique(before))
        right = sum(answer.values["label"] == answer.values["predicted"] for answer in answers)
        assert np.trace(counts[:3]) == right


def test_of_a_thousand_classes_the_most_confused_are_shown():
    classes = [f"class {i}" for i in range(1000)]
    matrix = np.diag(np.full(1000, 50))
    confused = range(300, 320)
    matrix[confused, [i + 1 if i % 2 == 0 else i - 1 for i in confused]] = 10
    view = confusion.build_view(classes, {"original": matrix})
    assert view["hidden_classes"] == 980
    [shown] = view["maps"]
    assert shown["classes"] == [f"class {i}" for i in confused]
    name, cells = shown["rows"][0]
    assert name == "class 300"
    assert [(cell["count"], cell["right"]) for cell in cells[:3]] == [(50, True), (10, False), (0, False)]
    assert cells[1]["percent"] == pytest.approx(100 / 6)


def test_no_two_models_share_a_file():
    names = confusion.name_files(["a/b", "a b", "../c", "x" * 300])
    assert names["a/b"] == "confusion_a_b.csv" and len(set(names.values())) == 4
    assert all("/" not in name and len(name) < 120 for name in names.values())


def test_costs_come_from_the_seconds_of_the_records():
    results = {
        "counts": {"valid": 4, "generated": 8},
        "seconds": {"caption": 10.0, "generate": 30.0},
        "gates": ["g"],
    }
    assert costs.summarise_costs(results, 3.6) == {
        "validity": 0.5, "seconds_total": 40.0, "seconds_per_valid_image": 10.0,
        "cost_per_valid_image": pytest.approx(0.01),
    }  # fmt: skip
    assert costs.summarise_costs(results | {"gates": []}, None)["validity"] is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.05, 0.87, [0, 25, 50, 75, 100]),
        (-0.03, 0.12, [-5, 0, 5, 10, 15]),
        (0.001, 0.012, [0, 0.5, 1, 1.5]),
        (0, 0, [0, 0.1]),
        (-0.4, -0.1, [-40, -30, -20, -10, 0]),
    ],
)
def test_an_axis_has_zero_and_few_round_ticks(low, high, ticks):
    scale = plots.scale([{"low": low, "high": high}, {"low": None, "high": None}], "low", "high")
    assert [100 * tick for tick in scale.ticks] == pytest.approx(ticks)
    assert scale.position(scale.ticks[0]) == 0 and scale.position(scale.ticks[-1]) == 1


def test_a_heat_map_is_higher_than_wide():
    drops = (("fog", 0.4), ("rain", -0.1), ("snow", None))
    rows = [
        {"attributes": ["time", "weather"], "to": ["night", weather], "drop": drop} for weather, drop in drops
    ]
    [table] = plots.heat_maps(rows)
    assert (table["down"], table["rows"], table["across"], table["columns"]) == (
        "weather",
        ["fog", "rain"],
        "time",
        ["night"],
    )
    assert [round(table["cells"][value, "night"]["heat"]) for value in table["rows"]] == [100, 25]


def test_the_page_says_how_the_run_was_made_and_hides_passwords(tmp_path):
    (tmp_path / ".hydra").mkdir()
    weights = tmp_path / "weights"
    weights.write_text("learned")
    (tmp_path / ".hydra/overrides.yaml").write_text(
        "- ++dataset.limit=3\n- prompt.text='a street'\n- llm.seed=${seed}\n"
    )
    (tmp_path / ".hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {}}}")
    backend = "dillema.model.transformers.TransformersSegmentation"
    (tmp_path / ".hydra/config.yaml").write_text(
        f"seed: 3\ntracking: {{uri: 'http://me:secret@host'}}\nmodel:\n  net:\n    _target_: {backend}\n"
        f"    model: {weights}\n    name: net\nllm:\n- _target_: {backend}\n  model: a/b\n  name: net\n"
    )
    page_origin = origin.read_origin(RunFolder(tmp_path))
    assert (
        page_origin["command"]
        == "python -m dillema dataset.limit=3 'prompt.text='\"'\"'a street'\"'\"'' 'llm.seed=${seed}'"
    )
    assert "seed: 3" in page_origin["config"] and "secret" not in page_origin["config"]
    described = [(name, value, len(part)) for name, value, part in page_origin["weights"]]
    assert described == [("model.net.model", str(weights), 12), ("llm.0.model", "a/b", 0)]
    assert {"python", "torch", "dillema"} <= set(page_origin["versions"])
    weights.unlink()  # a page that is written again keeps what was found the first time
    assert [list(row) for row in page_origin["weights"]] == [
        list(row) for row in origin.read_origin(RunFolder(tmp_path))["weights"]
    ]


def test_a_page_of_a_run_without_images_says_so(folder, tmp_path):
    empty = tmp_path / "empty"
    shutil.copytree(folder.path, empty)
    (empty / "generated" / "metadata.jsonl").write_text("")
    results = json.loads((empty / "results.json").read_text())
    nothing = {"metric": "mean_iou", "sources": 0, "groups": 0, "images": 0, "placebo": None}
    results["models"] = {"brightest": nothing | {"all": nothing}}
    results["counts"] |= {"generated": 0, "valid": 0}
    rewrite_results(empty, results)
    report.write(RunFolder.open(empty))
    page = re.sub(r"\s+", " ", Path(empty / "report.html").read_text())
    assert "No counterfactual is valid, so nothing can be said about brightest." in page
    assert "rejected all of them" not in page
    assert "There are none: no counterfactual was generated." in page


def test_a_run_that_did_not_finish_has_a_page_of_what_failed(tmp_path):
    with pytest.raises(UserError) as caught:
        run_pipeline(tmp_path / "run", tmp_path / "store", generator=Generator(fails="scene"))
    folder = RunFolder(tmp_path / "run")
    report.write_failed(folder, str(caught.value))
    page = re.sub(r"\s+", " ", (tmp_path / "run" / "report.html").read_text())
    assert "of the step generate failed, most often because: no scene here" in page
    assert "generate: 12" in page and "&lt;b&gt;what?&lt;/b&gt;" in page


def test_the_command_is_the_one_that_was_typed():
    overrides = (
        *("++dataset.vary=null", "++dataset.vary={weather: [foggy]}"),
        *("++seed=1", "++name=null", "+new.key=2", "~quality"),
    )
    typed = ["dataset.vary={weather: [foggy]}", "seed=1", "name=null", "+new.key=2", "~quality"]
    assert origin.typed_overrides(overrides) == typed


def test_confusion_matrices_of_another_run_are_removed(folder):
    other = folder.path / "confusion_other.csv"
    other.write_text("images,true\n")
    confusion.write_confusion_matrices(folder, folder.all_predictions())
    assert [file.name for file in folder.path.glob("confusion_*")] == ["confusion_brightest.csv"]
