import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DistributedSampler

from dillema.errors import UserError
from dillema.evaluation.predictions import COUNTERFACTUAL, ORIGINAL, TRUTH, read, row, write
from dillema.types import Edit
from tests.backends import Noise

FOG, NIGHT = Edit("weather", "clear", "foggy"), Edit("time of day", "day", "night")
CLASSIFICATION, SEGMENTATION = Noise(task="classification"), Noise()


def answer(label, predicted, top5=None):
    return {"label": label, "predicted": predicted, "certainty": 0.6, "confidence": 0.6 if label == predicted else 0.3, "top5": top5 or [predicted]}


def rows():
    yield row("m", "b", "b", ORIGINAL, answer(0, 0))
    yield row("m", "b_1", "b", COUNTERFACTUAL, answer(0, 1, [1, 0]), [FOG, NIGHT])
    yield row("other", "b", "b", ORIGINAL, answer(0, 2))
    yield row("m", "b_0", "b", COUNTERFACTUAL, answer(0, 2), [FOG], valid=False)
    yield row("m", "b_0", "b", TRUTH, answer(0, 0), [FOG], valid=False)
    yield row("m", "a", "a", ORIGINAL, answer(1, 1))
    yield row("m", "a_0", "a", COUNTERFACTUAL, answer(1, 1), [NIGHT])
    yield row("m", "c_0", "c", COUNTERFACTUAL, answer(1, 1), [NIGHT])  # its original could not be predicted


def test_what_is_written_is_read_by_model(tmp_path):
    write(tmp_path / "p.parquet", rows())
    said = read(tmp_path / "p.parquet", "m", CLASSIFICATION)
    before, after = said.pairs()
    assert said.image[before].tolist() == ["a", "b", "b"] and said.image[after].tolist() == ["a_0", "b_0", "b_1"]
    assert [said.combinations[c] for c in said.combination[after]] == [(NIGHT,), (FOG,), (FOG, NIGHT)]
    assert said.tallies[after].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert said.confidence[after].tolist() == [0.6, 0.3, 0.3]
    assert said.image[said.pairs(valid=True)[1]].tolist() == ["a_0", "b_1"]
    assert said.image[said.pairs(TRUTH)[1]].tolist() == ["b_0"]
    assert len(read(tmp_path / "p.parquet", "other", CLASSIFICATION).image) == 1
    assert len(read(tmp_path / "p.parquet", "nobody", CLASSIFICATION).pairs()[0]) == 0


def test_neither_order_nor_the_padding_of_a_distributed_sampler_matters(tmp_path):
    all_rows = list(rows())[:-1]
    ranks = [list(DistributedSampler(all_rows, num_replicas=2, rank=rank, shuffle=True)) for rank in (0, 1)]
    assert len(all_rows) == 7 and sum(map(len, ranks)) == 8  # one image is predicted twice, so that both processes get as many
    write(tmp_path / "a.parquet", all_rows)
    write(tmp_path / "b.parquet", (all_rows[i] for rank in ranks for i in rank))
    one, other = (read(tmp_path / name, "m", CLASSIFICATION) for name in ("a.parquet", "b.parquet"))
    for name in ("image", "source", "kind", "valid", "confidence", "tallies", "label", "predicted"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_confusions_are_counted_as_often_as_asked(tmp_path):
    cells = [[0, 0, 6], [1, 0, 4], [1, 1, 2]]
    masks = [
        row("m", "b", "b", ORIGINAL, {"confusion": cells, "confidence": 0.5}),
        row("else", "b", "b", ORIGINAL, {"confusion": [[2, 2, 9]], "confidence": 0.5}),
        row("m", "b_0", "b", COUNTERFACTUAL, {"confusion": [], "confidence": None}, [FOG]),
        row("m", "a", "a", ORIGINAL, {"confusion": [[2, 1, 5]], "confidence": 0.5}),
    ]
    write(tmp_path / "p.parquet", masks)
    said = read(tmp_path / "p.parquet", "m", SEGMENTATION)
    assert said.image.tolist() == ["a", "b_0", "b"]
    assert said.tallies.tolist() == [[0, 0, 0, 0, 0, 5, 0, 5, 0], [0] * 9, [6, 2, 0, 6, 6, 0, 10, 2, 0]]
    assert np.isnan(said.confidence[1])
    np.testing.assert_array_equal(said.confusion(np.array([1, 1, 3])), [[18, 0, 0], [12, 6, 0], [0, 5, 0]])


def test_the_file_says_what_it_holds(tmp_path):
    write(tmp_path / "p.parquet", rows())
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert table[1]["image"] == "b_1" and json.loads(table[1]["edits"]) == [["weather", "clear", "foggy"], ["time of day", "day", "night"]]
    assert table[1]["top5"] == [1, 0] and table[1]["confusion"] is None and table[1]["digest"] == ""


def test_another_file_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "p.parquet")
    (tmp_path / "q.parquet").write_text("no")
    for name in ("p.parquet", "q.parquet", "r.parquet"):
        with pytest.raises(UserError, match="holds no predictions"):
            read(tmp_path / name, "m", CLASSIFICATION)
