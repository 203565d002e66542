import io
import json
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from dillema.dataset import check_sample
from dillema.dataset.scalabel import read_frames
from dillema.dataset.shift import Shift
from dillema.errors import ItemError, UserError

LOOKS = (("clear", "daytime"), ("rainy", "dawn/dusk"), ("foggy", "night"))


def ids(seed):
    return np.random.default_rng(seed).integers(0, 23, (80, 128), dtype=np.uint8)


def write(root, view="discrete/images/val/front", sequences=3, length=2):
    """Writes sequences of frames, unpacked; the mask of frame j of sequence i is ids(10 * i + j)."""
    folder, listed = root / view, []
    name = folder.name
    for i in range(sequences):
        sequence = f"{i:04x}-17fb"
        for group in ("img", "semseg"):
            (folder / group / sequence).mkdir(parents=True)
        for j in range(length):
            frame = f"{10 * j:08}"
            Image.new("RGB", (128, 80), (i * 40, j * 40, 90)).save(
                folder / "img" / sequence / f"{frame}_img_{name}.jpg"
            )
            Image.fromarray(ids(10 * i + j)).save(folder / "semseg" / sequence / f"{frame}_semseg_{name}.png")
            weather, time = LOOKS[i % 3]
            attributes = {
                "weather_coarse": weather,
                "timeofday_coarse": time,
                "town": "10HD",
                "fog_density": "0.0",
            }
            label = {
                "id": "11367",
                "category": "car",
                "attributes": {"type": "vehicle.mini.cooper"},
                "box2d": {"x1": 1.0, "y1": 2.0, "x2": 9.0, "y2": 8.0},
            }
            listed.append(
                {
                    "name": f"{frame}_img_{name}.jpg",
                    "videoName": sequence,
                    "frameIndex": j,
                    "attributes": attributes,
                    "labels": [label],
                }
            )
    (folder / "det_2d.json").write_text(
        json.dumps(
            {"frames": listed, "config": {"imageSize": {"width": 128, "height": 80}, "categories": []}}
        )
    )
    return folder


def pack(folder, *groups):
    for group in groups or ("img", "semseg"):
        shutil.make_archive(str(folder / group), "zip", folder / group)
        shutil.rmtree(folder / group)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture
def shift(tmp_path):
    return Shift(root=str(tmp_path))


@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_was_written(folder, shift, packed):
    if packed:
        pack(folder)
    samples = shift.samples()
    assert [s.id for s in samples] == [f"{i:04x}-17fb_{10 * j:08}" for i in range(3) for j in range(2)]
    for sample, seed in zip(samples, (0, 1, 10, 11, 20, 21), strict=True):
        check_sample(sample, shift)
        np.testing.assert_array_equal(sample.mask, ids(seed))
        assert sample.image.size == (128, 80)
    assert dict(samples[2].attributes) == {"weather": "rainy", "time of day": "dusk"}
    assert samples[2].group == samples[3].group != samples[4].group
    assert (
        pickle.loads(pickle.dumps(samples[2])).digest == samples[2].digest
    )  # samples travel to worker processes


def test_a_frame_is_the_same_sample_packed_and_unpacked(folder, shift, tmp_path):
    unpacked = [(s.id, s.digest) for s in shift.samples()]
    pack(folder)
    assert [(s.id, s.digest) for s in Shift(root=str(tmp_path)).samples()] == unpacked


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_the_class_ids_are_in_the_first_channel(folder, shift, mode):
    mask = Image.fromarray(ids(0))
    if mode == "P":
        mask.putpalette(list(range(255, -1, -1)) * 3)
    elif mode != "L":
        mask = Image.merge(mode, [mask] + [Image.new("L", mask.size, 77)] * (len(mode) - 1))
    mask.save(folder / "semseg" / "0000-17fb" / "00000000_semseg_front.png")
    np.testing.assert_array_equal(shift.samples()[0].mask, ids(0))


def test_fourteen_classes_are_scored(shift):
    scored = {name for i, name in enumerate(shift.classes) if i not in shift.ignored}
    assert len(shift.classes) == len(shift.colours) == len(set(shift.colours)) == 23
    assert scored == {
        "building", "fence", "pedestrian", "pole", "road line", "road", "sidewalk", "vegetation", "vehicle",
        "wall", "traffic sign", "sky", "traffic light", "terrain",
    }  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_depth_is_read_where_it_is_there(folder, shift, packed, mode):
    assert shift.samples()[0].read_depth is None
    steps = np.zeros((80, 128, len(mode)), np.uint8)
    steps[0, :4, :3] = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (255, 255, 255)]
    (folder / "depth" / "0000-17fb").mkdir(parents=True)
    Image.fromarray(steps, mode).save(folder / "depth" / "0000-17fb" / "00000000_depth_front.png")
    if packed:
        pack(folder, "depth")
    first, second, *_ = pickle.loads(pickle.dumps(shift.samples()))
    metres = first.read_depth()
    assert metres.shape == (80, 128)
    np.testing.assert_allclose(
        metres[0, :5], [1000 / 2**24, 1000 / 2**16, 1000 / 2**8, 1000 - 1000 / 2**24, 0]
    )
    check_sample(second, shift)  # who does not use depth does not miss it
    with pytest.raises(ItemError, match="the depth of 0000-17fb_00000010 is missing"):
        second.read_depth()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"weather_coarse": ["clear", "foggy"], "timeofday_coarse": None}, ["clear", "foggy"]),
        (
            {"weather_coarse": ["rainy", "foggy"], "timeofday_coarse": ["dawn/dusk"], "town": ["10HD"]},
            ["rainy"],
        ),
    ],
)
def test_where_keeps_the_frames_whose_attributes_match(folder, tmp_path, where, expected):
    samples = Shift(root=str(tmp_path), where=where).samples()
    assert [s.attributes["weather"] for s in samples] == [weather for weather in expected for _ in range(2)]


def test_a_value_of_where_that_no_frame_has_is_named_beside_one_that_some_have(folder, tmp_path, caplog):
    where = {"weather_coarse": ["clear", "cloudy"]}
    assert Shift(root=str(tmp_path), where=where).samples()
    message = "dataset.where.weather_coarse: no frame has cloudy; they have clear, foggy, rainy"
    assert message in caplog.text


def test_a_where_that_nothing_matches_says_what_there_is(folder, tmp_path):
    with pytest.raises(UserError, match=r"snowy.*6 frames have.*weather_coarse=rainy': 2.*fog_density"):
        Shift(root=str(tmp_path), where={"weather_coarse": ["snowy"]}).samples()


def test_the_limit_draws_by_the_seed(tmp_path):
    write(tmp_path, sequences=20)
    picks = {seed: [s.id for s in Shift(root=str(tmp_path), limit=6, seed=seed).samples()] for seed in (0, 1)}
    every = [s.id for s in Shift(root=str(tmp_path)).samples()]
    assert len(picks[0]) == 6
    assert picks[0] == sorted(picks[0])
    assert picks[0] != picks[1]
    assert picks[0] != every[:6]
    assert set(picks[0]) < {s.id for s in Shift(root=str(tmp_path), limit=12).samples()}


@pytest.mark.parametrize("speed", ["1x", "10x", "100x"])
def test_reads_the_continuous_sets_and_other_views_and_splits(tmp_path, speed):
    pack(write(tmp_path, f"continuous/videos/{speed}/train/left_45"))
    shift = Shift(
        root=str(tmp_path),
        shift_type=f"continuous/{speed}",
        view="left_45",
        framerate="videos",
        split="train",
    )
    assert len(shift.samples()) == 6
    check_sample(shift.samples()[0], shift)


def test_videos_that_are_still_packed_are_an_error_that_says_so(shift, tmp_path):
    folder = tmp_path / "discrete/images/val/front"
    folder.mkdir(parents=True)
    (folder / "img.tar").touch()
    with pytest.raises(UserError, match=r"img\.tar holds videos: unpack"):
        shift.samples()


def test_attributes_are_not_needed_where_nothing_asks_for_them(folder, tmp_path, shift):
    (folder / "det_2d.json").unlink()
    assert len(shift.samples()) == 6
    with pytest.raises(UserError, match=r"det_2d.json is missing.*dataset.where"):
        Shift(root=str(tmp_path), where={"weather_coarse": ["clear"]}).samples()


def test_a_missing_folder_says_where_it_should_be_and_what_to_do(shift, tmp_path):
    with pytest.raises(UserError) as error:
        shift.samples()
    assert all(
        words in str(error.value)
        for words in (str(tmp_path / "discrete/images/val/front/img"), "dataset.root", "dataset=mini_shift")
    )


def test_an_empty_data_set_says_what_was_expected(tmp_path, shift):
    for group in ("img", "semseg"):
        (tmp_path / "discrete/images/val/front" / group).mkdir(parents=True)
    with pytest.raises(UserError, match=r"_img_front\.jpg"):
        shift.samples()


def test_a_damaged_archive_is_named(folder, shift):
    pack(folder)
    archive = folder / "img.zip"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"img.zip is damaged"):
        shift.samples()


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"frames": [{"name": "0_img', "is damaged"), ('{"other": 1}', "not a Scalabel file")],
)
def test_damaged_annotations_are_named(folder, shift, text, words):
    (folder / "det_2d.json").write_text(text)
    with pytest.raises(UserError, match=words):
        shift.samples()


FRAME = {
    "name": "00000000_img_front.jpg",
    "videoName": "0000-17fb",
    "attributes": {"weather_coarse": "clear"},
}


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (3, "frame 1: 3 should be a mapping"),
        (["a"], r"frame 1: \['a'\] should be a mapping"),
        ({"name": "a"}, "frame 1: videoName should be a text, not None"),
        (FRAME | {"name": 7}, "frame 1: name should be a text, not 7"),
        (FRAME | {"attributes": ["clear"]}, "frame 1: .* should be a mapping with attributes"),
    ],
)
def test_annotations_of_another_shape_are_named_with_their_frame(folder, shift, frame, words):
    (folder / "det_2d.json").write_text(json.dumps([FRAME, frame]))
    with pytest.raises(UserError, match=rf"det_2d\.json, {words}"):
        shift.samples()


@pytest.mark.parametrize("text", ["[" * 200_000, '[{"name": "\x00', "[[[1,", "[1 2"])
def test_annotations_that_are_no_json_are_named(folder, shift, text):
    (folder / "det_2d.json").write_text(text)
    with pytest.raises(UserError, match=r"det_2d\.json"):
        shift.samples()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_annotations_are_read_with_any_byte_order_mark(folder, shift, encoding):
    text = (folder / "det_2d.json").read_text()
    (folder / "det_2d.json").write_bytes(text.encode(encoding))
    assert [s.attributes["weather"] for s in shift.samples()][::2] == ["clear", "rainy", "foggy"]


def test_a_large_annotation_file_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "det_2d.json"
    labels = [{"id": "1", "category": "car", "rle": {"counts": "k0" * 5000, "size": [800, 1280]}}]
    listed = [
        {"name": f"{i:08}_img_front.jpg", "videoName": "0003-17fb", "labels": labels} for i in range(1000)
    ]
    path.write_text(json.dumps({"frames": listed}))
    tracemalloc.start()
    assert [f["name"] for f in read_frames(path)] == [f["name"] for f in listed]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.3 * path.stat().st_size


def damage(folder, how):
    image = folder / "img/0000-17fb/00000000_img_front.jpg"
    mask = folder / "semseg/0000-17fb/00000000_semseg_front.png"
    if how == "no image":
        image.unlink()
    elif how == "no mask":
        mask.unlink()
    elif how == "truncated":
        noise = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 128, 3), dtype=np.uint8)).save(
            noise, "JPEG"
        )
        image.write_bytes(noise.getvalue()[:2000])
    elif how == "other size":
        Image.fromarray(ids(0)[:40]).save(mask)
    else:
        Image.fromarray(np.full((80, 128), 23, np.uint8)).save(mask)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no image", "the image of .* is missing"),
        ("no mask", "the mask of .* is missing"),
        ("truncated", "cannot be read"),
        ("other size", "128x40, its image 128x80"),
        ("unknown id", r"unknown class ids \[23\]"),
    ],
)
def test_bad_input_is_an_error_of_its_sample_alone(folder, shift, how, words, packed):
    damage(folder, how)
    if packed:
        pack(folder)
    bad, *good = shift.samples()
    with pytest.raises(ItemError, match=words):
        check_sample(bad, shift)
    assert bad.id == "0000-17fb_00000000"
    assert len(good) == 5
    for sample in good:
        check_sample(sample, shift)
