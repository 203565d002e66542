import numpy as np
import torch
from PIL import Image

from dillema.retraining.augmentation import augment
from dillema.task import get_task

CLASSIFY, SEGMENT = get_task("classification"), get_task("segmentation")


def halves():
    """Returns an image that is dark on the left and light on the right, and a mask that says so."""
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 40:] = 1
    return Image.fromarray(np.where(mask[..., None], 220, 40).repeat(3, 2).astype(np.uint8)), mask


def test_masks_stay_with_what_they_mark():
    image, mask = halves()
    flipped, agreed = 0, []
    for seed in range(40):
        changed, truth = augment(image, mask, SEGMENT, seed)
        assert changed.size == image.size and truth.shape == mask.shape and truth.dtype == np.uint8
        grey = np.asarray(changed).mean(2)
        dark, light = grey[truth == 0].mean(), grey[truth == 1].mean()
        assert light > dark + 1
        agreed.append(((grey > (dark + light) / 2) == truth).mean())
        assert set(np.unique(truth)) == {0, 1}
        flipped += truth[0, 0] > truth[0, -1]
    assert min(agreed) > 0.8 and np.median(agreed) > 0.97
    assert 8 <= flipped <= 32


def test_images_change_in_light_and_labels_do_not_change():
    image, _ = halves()
    means = []
    for seed in range(40):
        changed, label = augment(image, 3, CLASSIFY, seed)
        assert label == 3
        means.append(np.asarray(changed).mean())
    assert min(means) < 0.6 * np.asarray(image).mean() and max(means) > 1.2 * np.asarray(image).mean()


def test_the_seed_decides_and_nothing_else_is_drawn_from():
    image, mask = halves()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (augment(image, mask, SEGMENT, seed)[0].tobytes() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert first == second != other
