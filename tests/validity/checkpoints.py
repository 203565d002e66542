"""Small random checkpoints of the models that gates ask, saved as their big relatives are."""

import torch


def spread(model):
    """Draws the weights so that different inputs give clearly different results."""
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.3)
    return model


def reader(folder, names=("clear", "foggy", "daytime", "night")):
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    torch.manual_seed(0)
    config = ConvNextConfig(
        hidden_sizes=[4, 8, 8, 16],
        depths=[1, 1, 1, 1],
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    spread(ConvNextForImageClassification(config)).save_pretrained(folder)
    ConvNextImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)
