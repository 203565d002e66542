"""The architectures that options name, the auto class that opens each, and an input for it."""

import inspect

import torch

from .weights import images

CASES = {
    "blip": "AutoModelForImageTextToText",
    "blip2": "AutoModelForImageTextToText",
    "git": "AutoModelForImageTextToText",
    "vit_gpt2": "AutoModelForImageTextToText",
    "florence2": "AutoModelForImageTextToText",
    "qwen3_vl": "AutoModelForImageTextToText",
    "qwen2_5_vl": "AutoModelForImageTextToText",
    "smolvlm": "AutoModelForImageTextToText",
    "qwen3": "AutoModelForCausalLM",
    "depth_anything": "AutoModelForDepthEstimation",
    "segformer": "AutoModelForSemanticSegmentation",
    "mask2former": "AutoModelForUniversalSegmentation",
    "vit": "AutoModelForImageClassification",
    "clip": "CLIPModel",
    "clip_text": "CLIPTextModel",
    "owlv2": "AutoModelForZeroShotObjectDetection",
    "grounding_dino": "AutoModelForZeroShotObjectDetection",
    "dinov2": "AutoModel",
    "bert": "AutoModel",
}
IDS = torch.arange(1, 7)[None]
PLACES = 60  # the id of the token that an image takes the place of
IMAGE = {"pixel_values": images(1, 3, 32, 32)}
QWEN = {
    "input_ids": torch.tensor([[1, 62, *[PLACES] * 4, 63, 2]]),
    "pixel_values": images(1, 1, 16, 3 * 2 * 8 * 8)[0, 0],
    "image_grid_thw": torch.tensor([[1, 4, 4]]),  # 16 patches, which become 4 tokens
}
INPUTS = {
    "blip2": IMAGE | {"input_ids": torch.tensor([[*[31] * 4, 1, 2]])},
    "vit_gpt2": IMAGE | {"decoder_input_ids": IDS},
    "florence2": IMAGE | {"input_ids": torch.tensor([[1, PLACES, PLACES, 2]]), "decoder_input_ids": IDS},
    "qwen3_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "smolvlm": {
        "input_ids": torch.tensor([[1, *[PLACES] * 4, 2]]),
        "pixel_values": images(1, 3, 32, 32)[None],
    },
    "qwen3": {"input_ids": IDS},
    "depth_anything": {"pixel_values": images(1, 3, 28, 28)},
    "segformer": IMAGE,
    "mask2former": {"pixel_values": images(1, 3, 64, 64)},
    "vit": IMAGE,
    "clip_text": {"input_ids": IDS},
    "grounding_dino": {"pixel_values": images(1, 3, 128, 128), "input_ids": IDS},
    "dinov2": {"pixel_values": images(1, 3, 28, 28)},
    "bert": {"input_ids": IDS},
}
OUTPUTS = {  # of the others: the logits
    "depth_anything": ("predicted_depth",),
    "mask2former": ("class_queries_logits", "masks_queries_logits"),
    "clip": ("image_embeds", "text_embeds"),
    "clip_text": ("last_hidden_state",),
    "grounding_dino": ("logits", "pred_boxes"),
    "dinov2": ("last_hidden_state",),
    "bert": ("last_hidden_state",),
}


def run(name, network):
    """Returns the finite numbers of the outputs of a network, in which all of its weights take part."""
    inputs = INPUTS.get(name, IMAGE | {"input_ids": IDS})
    if "mm_token_type_ids" in inspect.signature(network.forward).parameters:  # transformers 5 asks for it
        inputs = inputs | {"mm_token_type_ids": (inputs["input_ids"] == PLACES).int()}
    output = network(**inputs)
    numbers = torch.cat([output[part].flatten() for part in OUTPUTS.get(name, ("logits",))])
    return numbers[numbers.isfinite()]  # places without a word are minus infinity
