import base64
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DistributedSampler

from dillema.errors import UserError
from dillema.new_verdicts import judge
from dillema.predictions import (
    COUNTERFACTUAL,
    ORIGINAL,
    PLACEBO,
    TRUTH,
    error_maps,
    read,
    row,
    score_names,
    write,
)
from dillema.types import Edit, Verdict
from tests.labels import CLASSIFICATION, SEGMENTATION

FOG, NIGHT = Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night")
REJECTED = Verdict({"gate.agreement": 0.2}, ("agreement is below 0.5",))
ACCEPTED = Verdict({"gate.agreement": 0.7, "other.sharp": float("nan")})
SCORES = ("gate.agreement", "other.sharp")


def answer(label, predicted, top5=None):
    confidence = 0.6 if label == predicted else 0.3
    record = {"label": label, "predicted": predicted, "certainty": 0.6, "confidence": confidence}
    return record | {"top5": top5 or [predicted]}


def rows():
    yield row("m", "b", "b", ORIGINAL, answer(0, 0), group="video")
    yield row(
        "m",
        "b_1",
        "b",
        COUNTERFACTUAL,
        answer(0, 1, [1, 0]),
        group="video",
        edits=[FOG, NIGHT],
        verdict=ACCEPTED,
    )
    yield row("other", "b", "b", ORIGINAL, answer(0, 2), group="video")
    yield row("m", "b_0", "b", COUNTERFACTUAL, answer(0, 2), group="video", edits=[FOG], verdict=REJECTED)
    yield row("m", "b_0", "b", TRUTH, answer(0, 0), group="video", edits=[FOG], verdict=REJECTED)
    yield row("m", "b_placebo", "b", PLACEBO, answer(0, 0), group="video", verdict=ACCEPTED)
    yield row("m", "a", "a", ORIGINAL, answer(1, 1))
    yield row("m", "a_0", "a", COUNTERFACTUAL, answer(1, 1), edits=[NIGHT], verdict=ACCEPTED)
    # its original could not be predicted
    yield row("m", "c_0", "c", COUNTERFACTUAL, answer(1, 1), group="video", edits=[NIGHT], verdict=ACCEPTED)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "p.parquet", rows(), CLASSIFICATION, SCORES)
    return tmp_path / "p.parquet"


def test_what_is_written_is_read_by_model(path):
    predictions = read(path, "m", CLASSIFICATION)
    before, after = predictions.pairs()
    assert predictions.image[before].tolist() == ["a", "b", "b"]
    assert predictions.image[after].tolist() == ["a_0", "b_0", "b_1"]
    combinations = [predictions.combinations[i] for i in predictions.combination[after]]
    assert combinations == [(NIGHT,), (FOG,), (FOG, NIGHT)]
    assert predictions.tallies[after].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert predictions.confidence[after].tolist() == [0.6, 0.3, 0.3]
    assert predictions.image[predictions.pairs(valid=True)[1]].tolist() == ["a_0", "b_1"]
    assert predictions.image[predictions.pairs(TRUTH)[1]].tolist() == ["b_0"]
    assert [predictions.groups[i] for i in predictions.group] == ["a", "video", "video"]
    assert len(read(path, "other", CLASSIFICATION).image) == 1
    assert len(read(path, "nobody", CLASSIFICATION).pairs()[0]) == 0


def test_counterfactuals_are_paired_with_the_placebo_of_their_source(path):
    predictions = read(path, "m", CLASSIFICATION)
    before, after = predictions.pairs(COUNTERFACTUAL, reference=PLACEBO)
    assert predictions.image[before].tolist() == ["b_placebo", "b_placebo"]
    assert predictions.image[after].tolist() == ["b_0", "b_1"]


def test_answers_are_the_predictions_as_pages_show_them(path):
    predictions = read(path, "m", CLASSIFICATION)
    _, after = predictions.pairs()
    first, _, last = predictions.list_answers(after)
    assert (first.confidence, first.score, first.values["label"], first.values["predicted"]) == (0.6, 1, 1, 1)
    assert (last.confidence, last.score, last.values["predicted"]) == (0.3, 0, 1)


def test_neither_order_nor_the_padding_of_a_distributed_sampler_matters(tmp_path):
    all_rows = list(rows())
    ranks = [list(DistributedSampler(all_rows, num_replicas=2, rank=rank, shuffle=True)) for rank in (0, 1)]
    # one image is predicted twice, so that both processes get as many
    assert len(all_rows) == 9 and sum(map(len, ranks)) == 10
    write(tmp_path / "a.parquet", all_rows, CLASSIFICATION, SCORES)
    write(tmp_path / "b.parquet", (all_rows[i] for rank in ranks for i in rank), CLASSIFICATION, SCORES)
    first, second = (read(tmp_path / name, "m", CLASSIFICATION) for name in ("a.parquet", "b.parquet"))
    for name in ("image", "source", "group", "kind", "valid", "confidence", "tallies"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name, column in first.values.items():
        np.testing.assert_array_equal(column, second.values[name])


def test_confusions_are_counted_as_often_as_asked(tmp_path):
    cells = [[0, 0, 6], [1, 0, 4], [1, 1, 2]]
    masks = [
        row("m", "b", "b", ORIGINAL, {"confusion": cells, "confidence": 0.5}),
        row("else", "b", "b", ORIGINAL, {"confusion": [[2, 2, 9]], "confidence": 0.5}),
        row("m", "b_0", "b", COUNTERFACTUAL, {"confusion": [], "confidence": None}, edits=[FOG]),
        row("m", "a", "a", ORIGINAL, {"confusion": [[2, 1, 5]], "confidence": 0.5}),
    ]
    write(tmp_path / "p.parquet", masks, SEGMENTATION, ())
    predictions = read(tmp_path / "p.parquet", "m", SEGMENTATION)
    assert predictions.image.tolist() == ["a", "b_0", "b"]
    assert predictions.tallies.tolist() == [
        [0, 0, 0, 0, 0, 5, 0, 5, 0],
        [0] * 9,
        [6, 2, 0, 6, 6, 0, 10, 2, 0],
    ]
    assert np.isnan(predictions.confidence[1])
    matrix = predictions.confusion(np.array([1, 1, 3]))
    np.testing.assert_array_equal(matrix, [[18, 0, 0], [12, 6, 0], [0, 5, 0]])


def test_error_maps_are_found_by_kind_and_image(tmp_path):
    def record(content):
        return {"confusion": [[0, 0, 1]], "confidence": 1.0, "error_map": base64.b64encode(content).decode()}

    masks = [
        row("m", "a", "a", ORIGINAL, record(b"original")),
        row("m", "a_0", "a", COUNTERFACTUAL, record(b"fog"), edits=[FOG]),
        row("m", "a_0", "a", TRUTH, record(b"real fog"), edits=[FOG]),
        row("n", "a_0", "a", COUNTERFACTUAL, record(b"of another model"), edits=[FOG]),
    ]
    write(tmp_path / "p.parquet", masks, SEGMENTATION, ())
    maps = error_maps(tmp_path / "p.parquet", "m", {"a_0"}, SEGMENTATION)
    assert maps == {(COUNTERFACTUAL, "a_0"): b"fog", (TRUTH, "a_0"): b"real fog"}


def test_the_format_of_the_file(path):
    file = pq.read_table(path)
    assert file.schema.metadata == {b"dillema.predictions.version": b"2"}
    assert [(field.name, str(field.type)) for field in file.schema] == [
        ("model", "string"),
        ("image", "string"),
        ("source", "string"),
        ("group", "string"),
        ("digest", "string"),
        ("kind", "string"),
        ("valid", "bool"),
        ("reasons", "list<element: string>"),
        ("edits", "string"),
        ("score:gate.agreement", "double"),
        ("score:other.sharp", "double"),
        ("confidence", "double"),
        ("label", "int32"),
        ("predicted", "int32"),
        ("certainty", "double"),
        ("top5", "list<element: int32>"),
    ]
    second = file.to_pylist()[1]
    assert json.loads(second.pop("edits")) == [["weather", "clear", "foggy"], ["time of day", "day", "night"]]
    assert second == {
        "model": "m",
        "image": "b_1",
        "source": "b",
        "group": "video",
        "digest": "",
        "kind": "counterfactual",
        "valid": True,
        "reasons": [],
        "score:gate.agreement": 0.7,
        "score:other.sharp": None,
        "confidence": 0.3,
        "label": 0,
        "predicted": 1,
        "certainty": 0.6,
        "top5": [1, 0],
    }
    assert score_names(path) == ["gate.agreement", "other.sharp"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, path):
    before = path.read_bytes()

    def interrupted():
        yield from rows()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted(), CLASSIFICATION, SCORES)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_other_files_are_refused_in_words(tmp_path, path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "no_columns.parquet")
    (tmp_path / "text.parquet").write_text("no")
    for name in ("no_columns.parquet", "text.parquet", "missing.parquet"):
        with pytest.raises(UserError, match="holds no predictions"):
            read(tmp_path / name, "m", CLASSIFICATION)
    old = pq.read_table(path).replace_schema_metadata({}).drop_columns(["group", "reasons"])
    pq.write_table(old, tmp_path / "old.parquet")
    with pytest.raises(
        UserError, match=r"another version of DILLEMA \(format 1, this version reads 2\).*Run it again"
    ):
        read(tmp_path / "old.parquet", "m", CLASSIFICATION)
    with pytest.raises(
        UserError, match=r"no predictions of the task segmentation: it has no column confusion"
    ):
        read(path, "m", SEGMENTATION)


def test_other_thresholds_give_other_verdicts_and_leave_all_else_as_it_was(tmp_path, path):
    judged_images = []

    def strict(image, scores):
        judged_images.append(scores)
        return Verdict(scores, () if scores["gate.agreement"] >= 0.9 else ("agreement is below 0.9",))

    judge(path, tmp_path / "strict.parquet", strict)
    # once an image; what a gate could not tell is left out
    assert judged_images == [{"gate.agreement": value} for value in (0.7, 0.2, 0.7, 0.7, 0.7)]
    judged, original = (pq.read_table(tmp_path / name) for name in ("strict.parquet", "p.parquet"))
    assert judged.schema.equals(original.schema, check_metadata=True)
    changed = ["valid", "reasons"]
    assert judged.drop_columns(changed).equals(original.drop_columns(changed))
    kinds = judged["kind"].to_pylist()
    assert judged["valid"].to_pylist() == [kind == ORIGINAL for kind in kinds]
    assert judged["reasons"].to_pylist() == [
        [] if k == ORIGINAL else ["agreement is below 0.9"] for k in kinds
    ]
    judge(tmp_path / "strict.parquet", tmp_path / "strict.parquet", lambda image, scores: Verdict(scores))
    assert all(pq.read_table(tmp_path / "strict.parquet")["valid"].to_pylist())


def test_ten_thousand_images_of_two_models_are_judged_in_two_seconds(tmp_path):
    random = np.random.default_rng(0)
    records = [
        {
            "confusion": (random.integers(0, 3000, (100, 3)) % [3, 3, 3000]).tolist(),
            "confidence": 0.5,
            "error_map": base64.b64encode(random.bytes(2000)).decode(),
        }
        for _ in range(50)
    ]

    def rows():
        for model in ("m", "n"):
            for i in range(10_000):
                verdict = Verdict({"gate.agreement": i / 10_000})
                yield row(
                    model, f"s{i}_0", f"s{i}", COUNTERFACTUAL, records[i % 50], edits=[FOG], verdict=verdict
                )

    path = tmp_path / "p.parquet"
    write(path, rows(), SEGMENTATION, ("gate.agreement",))
    start = time.process_time()
    judge(
        path, path, lambda image, scores: Verdict(scores, () if scores["gate.agreement"] >= 0.5 else ("low",))
    )
    assert time.process_time() - start < 2
    assert read(path, "m", SEGMENTATION).valid.sum() == 5000
