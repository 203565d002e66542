"""Tar files of a generated set, as the library webdataset, `datasets` and plain tar read them."""

import io
import json
import tarfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
import webdataset
from omegaconf import OmegaConf
from PIL import Image

from dillema.context import JobContext
from dillema.job.pack import pack
from tests.backends import Gate, Noise, run_pipeline


@dataclass
class Dotted(Noise):
    """Samples whose names have dots."""

    def samples(self):
        return [replace(sample, id=f"v1.{sample.id}") for sample in super().samples()]


def pack_run(tmp_path, dataset, images_per_file=5):
    gate = Gate(least=0.497)  # rejects some
    folder, _ = run_pipeline(tmp_path / "run", tmp_path / "store", dataset=dataset, gates=[gate], placebos=1)
    context = JobContext(OmegaConf.create({"run": str(folder.path)}), tmp_path / "packed")
    return folder, pack(context, images_per_file)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_every_image_is_there_once_with_its_label_and_its_texts(tmp_path, task):
    folder, packed = pack_run(tmp_path, Dotted(task=task))
    files = sorted(map(str, packed.glob("generated/*.tar")))
    assert len([name for name in files if "/images-" in name]) > 1  # more than five images count
    samples = {
        sample["json"]["id"]: sample
        for sample in webdataset.WebDataset(files, shardshuffle=False).decode("rgb8")
    }
    images = {image.id: image for image in folder.generated()}
    assert samples.keys() == images.keys()
    for name, image in images.items():
        sample = samples[name]
        assert (sample["png"] == np.asarray(Image.open(image.path))).all()
        assert sample["json"]["counterfactual"] == image.counterfactual.text
        assert sample["json"]["valid"] == image.verdict.valid == ("/images-" in sample["__url__"])
        if task == "segmentation":
            with tarfile.open(sample["__url__"]) as archive:
                content = archive.extractfile(f"{sample['__key__']}.mask.png").read()
            expected = Image.open(folder.path / "generated" / image.label["mask_file_name"])
            assert (np.asarray(Image.open(io.BytesIO(content))) == np.asarray(expected)).all()
        else:
            assert sample["cls"] == image.label["label"]


def test_the_same_run_gives_the_same_files_and_a_second_packing_leaves_no_old_ones(tmp_path):
    _, packed = pack_run(tmp_path, Noise(), images_per_file=2)
    first = {path.name: path.read_bytes() for path in packed.glob("*/*")}
    _, again = pack_run(tmp_path, Noise(), images_per_file=2)
    assert {path.name: path.read_bytes() for path in again.glob("*/*")} == first
    _, larger = pack_run(tmp_path, Noise(), images_per_file=100)
    assert len(list(larger.glob("generated/*"))) == 2  # those that count, and the others
    with tarfile.open(larger / "placebo" / "images-000000.tar") as archive:
        names = archive.getnames()
    assert json.dumps(names).count(".png") >= 2 and not any(name.startswith(("/", ".")) for name in names)
