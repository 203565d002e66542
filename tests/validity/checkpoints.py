"""Small random checkpoints of the models of gates, in the format of the published ones."""

import torch

from dillema.mini.scene import COLOURS, TIMES, WEATHERS
from tests import tiny


def spread(model):
    """Draws the weights so that different inputs give clearly different results."""
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.3)
    return model


def reader(folder):
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    torch.manual_seed(0)
    names = [*WEATHERS, *TIMES, *COLOURS]
    config = ConvNextConfig(
        hidden_sizes=[4, 8, 8, 16],
        depths=[1, 1, 1, 1],
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    spread(ConvNextForImageClassification(config)).save_pretrained(folder)
    ConvNextImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)


SMALL = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}


def clip(folder):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    text = SMALL | {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    spread(CLIPModel(config)).save_pretrained(folder)
    square = {"height": 32, "width": 32}
    tokenizer = tiny.clip_tokenizer(folder)
    CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square), tokenizer
    ).save_pretrained(folder)
    return str(folder)


def dinov2(folder):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    spread(Dinov2Model(config)).save_pretrained(folder)
    square = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 32}, crop_size=square).save_pretrained(folder)
    return str(folder)


def letter_vocabulary(folder):
    letters = "abcdefghijklmnopqrstuvwxyz"
    parts = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(parts))
    return str(vocabulary)


def sentence_encoder(folder):
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    tokenizer = BertTokenizer(letter_vocabulary(folder))
    spread(BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def owlv2(folder):
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    torch.manual_seed(0)
    text = SMALL | {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 0}
    text |= {"max_position_embeddings": 77}
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
    spread(Owlv2ForObjectDetection(config)).save_pretrained(folder)
    eye = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(eye, tiny.clip_tokenizer(folder)).save_pretrained(folder)
    return str(folder)


def grounding_dino(folder):
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    tokenizer = BertTokenizer(letter_vocabulary(folder))
    stages = ["stage2", "stage3", "stage4"]
    sizes = {"depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "out_features": stages}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(image_size=32, patch_size=4, embed_dim=8, **sizes),
        text_config={"model_type": "bert", "vocab_size": len(tokenizer), **SMALL},
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=6,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    eye = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    GroundingDinoProcessor(eye, tokenizer).save_pretrained(folder)
    return str(folder)
