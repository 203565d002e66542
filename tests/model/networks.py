"""Models as a user writes them."""

import lightning as L
import numpy as np
import torch


class Classifier(torch.nn.Module):
    """Six classes from the mean colours."""

    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, pixels):
        return self.head(pixels.mean((2, 3)))


class LitClassifier(L.LightningModule):
    def __init__(self, classes):
        super().__init__()
        self.save_hyperparameters()
        self.net = Classifier(classes)

    def forward(self, pixels):
        return self.net(pixels)

    def training_step(self, batch, index):
        return self(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Segmenter(torch.nn.Module):
    """Returns its answer at half the size, in a mapping, as torchvision's do."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 2, 2)

    def forward(self, pixels):
        return {"out": self.layer(pixels)}


def brightness(images, gain=1.0):
    return [[gain * np.asarray(image).mean() / 255, 0.5] for image in images]


class Brightness:
    def __init__(self, gain):
        self.gain = gain

    def __call__(self, images):
        return np.array(brightness(images, self.gain))


def wrong(images):
    return np.zeros((len(images) + 1, 2))


def broken(images):
    return [[float("nan"), 0.5] for _ in images]
