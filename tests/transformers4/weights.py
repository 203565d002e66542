"""Weights and inputs that depend on names and shapes alone, so that two versions of transformers agree."""

import hashlib

import torch

POSITIONS_OF_SMOLVLM = "model.vision_model.embeddings.position_embedding.weight"


def fill(name, shape):
    """Returns the weights of a name: small numbers, and numbers near 1 for the scale of a norm."""
    if name == POSITIONS_OF_SMOLVLM:  # transformers 4.57 gives a patch the position of the one before it
        return torch.zeros(shape)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1
    is_scale = len(shape) == 1 and name.endswith("weight")
    if name.endswith("running_var"):
        return numbers.abs() + 1
    return numbers + 1 if is_scale else numbers


def images(count, channels, height, width):
    """Returns pixels of -1 to 1."""
    return torch.sin(torch.arange(count * channels * height * width) * 0.37).view(
        count, channels, height, width
    )


def summarise(output):
    """Returns some numbers of an output, by which two outputs are compared."""
    flat = output.detach().float().flatten()
    chosen = flat[torch.linspace(0, len(flat) - 1, 8).long()]
    return [round(value, 6) for value in (flat.mean().item(), flat.std().item(), *chosen.tolist())]
