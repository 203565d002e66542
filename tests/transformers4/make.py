"""Writes checkpoints.json: what transformers 4 saves of each architecture that the options name.

Run with transformers 4.57 (`pip install --target <folder> transformers==4.57.1`):
`PYTHONPATH=<folder>:. python -m tests.transformers4.make`. For each architecture it holds the configuration,
the names and shapes of the weights, and numbers of the output for the weights of `weights.fill`.
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from .networks import CASES, run
from .weights import fill, summarise

SMALL = {"hidden_size": 32, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 4}
EYE = SMALL | {"image_size": 32, "patch_size": 8}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
SWIN |= {"window_size": 4}
T = transformers


def dino(**more):
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28}
    return T.Dinov2Config(**sizes, patch_size=14, **more)


def rope(**more):
    return SMALL | {"vocab_size": 64, "num_key_value_heads": 2, "head_dim": 8} | more


def qwen_text(**more):
    return rope(rope_scaling={"type": "mrope", "rope_type": "default", "mrope_section": [2, 1, 1]}, **more)


IDS = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
TOWER = {"depth": 2, "hidden_size": 32, "intermediate_size": 36, "num_heads": 4, "patch_size": 8}


def blip():
    text = SMALL | {"vocab_size": 32, "encoder_hidden_size": 32}
    config = T.BlipConfig(text_config=text, vision_config=EYE, projection_dim=32)
    return T.BlipForConditionalGeneration(config)


def blip2():
    opt = {"model_type": "opt", "hidden_size": 32, "ffn_dim": 36, "num_hidden_layers": 2, "vocab_size": 32}
    opt |= {"num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 64}
    former = SMALL | {"vocab_size": 8, "encoder_hidden_size": 32}
    config = T.Blip2Config(
        vision_config=EYE, qformer_config=former, text_config=opt, num_query_tokens=4, image_token_index=31
    )
    return T.Blip2ForConditionalGeneration(config)


def git():
    return T.GitForCausalLM(T.GitConfig(vision_config=EYE, **SMALL, vocab_size=32))


def vit_gpt2():
    sizes = {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    decoder = T.GPT2LMHeadModel(T.GPT2Config(**sizes, add_cross_attention=True, is_decoder=True))
    return T.VisionEncoderDecoderModel(encoder=T.ViTModel(T.ViTConfig(**EYE)), decoder=decoder)


def florence2():
    text = {"model_type": "bart", "vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
    text |= {"encoder_ffn_dim": 36, "decoder_ffn_dim": 36, "encoder_attention_heads": 4}
    text |= {"decoder_attention_heads": 4}
    vision = {"depths": (1, 1, 1, 1), "embed_dim": (8, 8, 16, 32), "num_heads": (2, 2, 2, 2)}
    vision |= {"num_groups": (2, 2, 2, 2), "window_size": 4, "projection_dim": 32}
    config = T.Florence2Config(text_config=text, vision_config=vision, image_token_id=60)
    return T.Florence2ForConditionalGeneration(config)


def qwen3_vl():
    vision = TOWER | {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": (0,)}
    config = T.Qwen3VLConfig(text_config=qwen_text(), vision_config=vision, **IDS)
    return T.Qwen3VLForConditionalGeneration(config)


def qwen2_5_vl():
    vision = TOWER | {"out_hidden_size": 32, "fullatt_block_indexes": [1], "window_size": 16}
    config = T.Qwen2_5_VLConfig(text_config=qwen_text(), vision_config=vision, **IDS)
    return T.Qwen2_5_VLForConditionalGeneration(config)


def smolvlm():
    text = rope(model_type="llama")
    config = T.SmolVLMConfig(vision_config=EYE, text_config=text, image_token_id=60, scale_factor=2)
    return T.SmolVLMForConditionalGeneration(config)


def qwen3():
    return T.Qwen3ForCausalLM(T.Qwen3Config(**rope()))


def depth_anything():
    backbone = dino(out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    sizes = {"reassemble_hidden_size": 16, "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    config = T.DepthAnythingConfig(backbone_config=backbone, **sizes, head_hidden_size=8)
    return T.DepthAnythingForDepthEstimation(config)


def segformer():
    sizes = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    config = T.SegformerConfig(num_labels=5, **sizes, decoder_hidden_size=16)
    return T.SegformerForSemanticSegmentation(config)


def mask2former():
    stages = [f"stage{i}" for i in range(1, 5)]
    config = T.Mask2FormerConfig(
        backbone_config=T.SwinConfig(**SWIN, out_features=stages), num_labels=5, num_queries=6,
        feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
    )  # fmt: skip
    return T.Mask2FormerForUniversalSegmentation(config)


def vit():
    return T.ViTForImageClassification(T.ViTConfig(**EYE, num_labels=5))


def clip():
    text = SMALL | {"vocab_size": 64, "bos_token_id": 62, "eos_token_id": 63}
    config = T.CLIPConfig(text_config=text, vision_config=EYE, projection_dim=16)
    return T.CLIPModel(config)


def clip_text():
    return T.CLIPTextModel(T.CLIPTextConfig(**SMALL, vocab_size=64, bos_token_id=62, eos_token_id=63))


def owlv2():
    text = SMALL | {"vocab_size": 64, "max_position_embeddings": 16}
    config = T.Owlv2Config(text_config=text, vision_config=EYE, projection_dim=32)
    return T.Owlv2ForObjectDetection(config)


def grounding_dino():
    backbone = T.SwinConfig(**SWIN, out_features=["stage2", "stage3", "stage4"])
    config = T.GroundingDinoConfig(
        backbone_config=backbone, text_config={"model_type": "bert", "vocab_size": 64, **SMALL}, d_model=32,
        encoder_layers=1, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=6,
    )  # fmt: skip
    return T.GroundingDinoForObjectDetection(config)


def dinov2():
    return T.Dinov2Model(dino())


def bert():
    return T.BertModel(T.BertConfig(vocab_size=64, **SMALL))


def main():
    assert transformers.__version__.startswith("4."), transformers.__version__
    written = {}
    for name in CASES:
        torch.manual_seed(0)
        network = globals()[name]().eval()
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            saved = load_file(Path(folder) / "model.safetensors")
            config = json.loads((Path(folder) / "config.json").read_text())
            shapes = {key: list(value.shape) for key, value in saved.items()}
            weights = {k: fill(k, v.shape) if v.is_floating_point() else v for k, v in saved.items()}
            indices = [key for key, value in saved.items() if not value.is_floating_point()]
            save_file(weights, Path(folder) / "model.safetensors", {"format": "pt"})
            loaded = type(network).from_pretrained(folder).eval()
        with torch.inference_mode():
            numbers = summarise(run(name, loaded))
        written[name] = {"config": config, "shapes": shapes, "indices": indices, "output": numbers}
        print(name, len(shapes), numbers[:3])
    target = Path(__file__).with_name("checkpoints.json")
    target.write_text(
        json.dumps(written, separators=(",", ":"), sort_keys=True).replace('},"', '},\n"') + "\n"
    )
    print(target.stat().st_size)


if __name__ == "__main__":
    main()
