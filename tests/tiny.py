"""Small random checkpoints of the real classes, saved as their big relatives are, and a data set to go with them."""

import io
import json
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from dillema.dataset import shift
from dillema.types import Sample

SIZE = (64, 32)  # width, height


def dataset(task="segmentation", **changes):
    fields = {"name": "tiny", "task": task, "classes": shift.CLASSES, "colours": shift.COLOURS, "ignored": shift.IGNORED, "vary": {}}
    return SimpleNamespace(**fields | changes)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image(seed, size=SIZE):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def sample(name="s", seed=0, mask=None, **fields):
    pixels = np.asarray(image(seed))
    return Sample(name, lambda: png(pixels), None if mask is None else lambda: png(mask), **fields)


def captioner(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, SwinConfig, SwinModel, VisionEncoderDecoderModel, ViTImageProcessor

    torch.manual_seed(0)
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate([*symbols, "<s>", "</s>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    encoder = SwinModel(SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4))
    decoder = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=258,
            n_embd=32,
            n_layer=1,
            n_head=2,
            n_positions=64,
            add_cross_attention=True,
            is_decoder=True,
            initializer_range=0.5,
            bos_token_id=256,
            eos_token_id=257,
        )
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.bos_token_id, config.eos_token_id, config.pad_token_id = 256, 256, 257, 257
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def gguf(path, template=None):
    """A Llama of one layer, so wide that every quantisation of llama.cpp can be made of it, with a token for each byte."""
    from gguf import GGUFWriter, TokenType

    width, tokens = 256, [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256))]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    if template:
        writer.add_chat_template(template)
    rng = np.random.default_rng(0)
    for name in ("token_embd", "output", *(f"blk.0.{part}" for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))):
        rows = len(tokens) if name in ("token_embd", "output") else width
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.05, (rows, width)).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def generator(folder):
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(f"{s}</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: i for i, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    text = CLIPTextConfig(vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4, eos_token_id=513)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    for name, weights in unet.named_parameters():
        if "attn2.to" in name and weights.ndim == 2:  # else the text hardly shows
            torch.nn.init.normal_(weights, std=0.5)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 8))
    # a fresh ControlNet ends in zeros and would leave the image as it is
    ends = torch.nn.ModuleList([*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding])
    for layer in ends.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.3)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    StableDiffusionControlNetPipeline(
        vae=vae,
        unet=unet,
        controlnet=control,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77),
        scheduler=DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    vocabulary.unlink()
    merges.unlink()
    return str(folder)


def segmenter(folder, classes=23):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(num_labels=classes, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": SIZE[1], "width": SIZE[0]}).save_pretrained(folder)
    return str(folder)


def mask_segmenter(folder, classes=19):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=stages)
    config = Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=classes,
        num_queries=6,
        feature_size=32,  # the norms have 32 groups
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 128}, num_labels=classes).save_pretrained(folder)
    return str(folder)


def judge(folder):
    from transformers import ConvNextConfig, SegformerImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

    torch.manual_seed(1)
    backbone = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], out_features=["stage1", "stage2", "stage3", "stage4"])
    UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, num_labels=23)).save_pretrained(folder)
    SegformerImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)


def classifier(folder, classes=6):
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=classes)
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)
