"""Small random checkpoints of the real classes, in the format of the published ones, and a data set."""

import ctypes
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from dillema.dataset import shift
from dillema.types import Sample

SIZE = (64, 32)  # width, height


def dataset(task="segmentation", **changes):
    fields = {
        "name": "tiny",
        "task": task,
        "classes": shift.CLASSES,
        "colours": shift.COLOURS,
        "ignored": shift.IGNORED,
        "vary": {},
    }
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
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
        SwinConfig,
        SwinModel,
        VisionEncoderDecoderModel,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate([*symbols, "<s>", "</s>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    encoder = SwinModel(
        SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    )
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
        config.decoder_start_token_id, config.bos_token_id, config.eos_token_id, config.pad_token_id = (
            256,
            256,
            257,
            257,
        )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def gguf(path, template=None, kind="llama", unlikely=""):
    """Writes a language model of one layer with a token for each byte; returns its path.

    It is wide enough for every quantisation of llama.cpp. `kind` is its architecture, llama or qwen3. It uses
    the characters in `unlikely` only where a grammar leaves no choice.
    """
    from gguf import GGUFWriter, TokenType
    from tokenizers.pre_tokenizers import ByteLevel

    width, heads = 256, 4
    size = width // heads
    writer = GGUFWriter(path, kind)
    if kind == "llama":
        tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256))]
        types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([0.0] * len(tokens))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(False)
        writer.add_rope_dimension_count(size)
    else:
        letters = sorted(ByteLevel.alphabet())
        tokens = [token.encode() for token in [*letters, "Ġt", "<|im_start|>", "<|im_end|>"]]
        types = [*[TokenType.NORMAL] * 257, TokenType.CONTROL, TokenType.CONTROL]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_merges(["Ġ t"])
        writer.add_eos_token_id(258)
        writer.add_add_bos_token(False)
        writer.add_key_length(size)
        writer.add_value_length(size)
        writer.add_rope_freq_base(1e6)
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if template:
        writer.add_chat_template(template)
    rng = np.random.default_rng(0)
    tensors = {
        f"blk.0.{part}": (width, width)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    tensors |= {"token_embd": (len(tokens), width), "output": (len(tokens), width)}
    matrices = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in tensors.items()}
    # one dimension is equal for all tokens; in the output it makes the unlikely ones less probable
    matrices["token_embd"][:, 0], matrices["output"][:, 0] = 5, 0
    matrices["output"][
        [tokens.index(c.encode() if kind != "llama" else f"<0x{ord(c):02X}>".encode()) for c in unlikely], 0
    ] = -2
    norms = {"output_norm": width, "blk.0.attn_norm": width, "blk.0.ffn_norm": width}
    norms |= {"blk.0.attn_q_norm": size, "blk.0.attn_k_norm": size} if kind == "qwen3" else {}
    for name, tensor in (
        matrices | {name: np.ones(length, np.float32) for name, length in norms.items()}
    ).items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


TYPES = {"Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "Q8_0": 7}  # numbers of llama.cpp


def quantised(source, target, kind):
    """Writes a quantised copy of a GGUF file, with the quantisation of the published ones."""
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = TYPES[kind], 1
    assert (
        llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings))
        == 0
    )


COMMIT = "a" * 40


def cached(cache, repository):
    """Makes the folder of a downloaded repository in a cache of the Hugging Face hub, and returns it."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=True)
    return home / "snapshots" / COMMIT


def clip_tokenizer(folder):
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(f"{s}</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: i for i, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)
    vocabulary.unlink()
    merges.unlink()
    return tokenizer


CLIP = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "eos_token_id": 513,
}


def unet(channels=4, **options):
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **options,
    )
    for name, weights in model.named_parameters():
        if "attn2.to" in name and weights.ndim == 2:  # otherwise the text has hardly any effect
            torch.nn.init.normal_(weights, std=0.5)
    return model


def controlnet(model, halvings=3):
    from diffusers import ControlNetModel

    channels = (8,) * (halvings + 1)  # as the autoencoder halves the size
    control = ControlNetModel.from_unet(model, conditioning_embedding_out_channels=channels)
    # the last layers of a new ControlNet are zero, so that it has no effect
    ends = torch.nn.ModuleList(
        [*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding]
    )
    for layer in ends.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return control


def autoencoder(channels=(8, 8, 8, 8), **options):
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * len(channels), ("UpDecoderBlock2D",) * len(channels)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=1,
        norm_num_groups=4,
        **options,
    )


def generator(folder):
    torch.manual_seed(0)
    network = unet(cross_attention_dim=32)
    return pipeline(folder, network, controlnet(network), autoencoder(latent_channels=4))


def pixel_generator(folder):
    from dillema.generator.pixels import PixelSpace

    torch.manual_seed(0)
    network = unet(48, cross_attention_dim=32)
    return pipeline(folder, network, controlnet(network, 2), PixelSpace())


def pipeline(folder, network, controls, vae):
    from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    StableDiffusionControlNetPipeline(
        vae=vae,
        unet=network,
        controlnet=controls,
        text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP)),
        tokenizer=clip_tokenizer(folder),
        scheduler=DDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return str(folder)


def stable_diffusion(folder, controlnet):
    """Saves the model in the published form: without its ControlNet, which has its own folder."""
    generator(folder)
    shutil.copytree(folder / "controlnet", controlnet, dirs_exist_ok=True)
    shutil.rmtree(folder / "controlnet")
    index = json.loads((folder / "model_index.json").read_text())
    del index["controlnet"]
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionPipeline"}))


def sdxl(folder):
    """Makes base/ (without a ControlNet), canny/ and depth/ (ControlNets) and vae/."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    text = CLIPTextConfig(**CLIP, projection_dim=32)
    network = unet(
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )
    tokenizer = clip_tokenizer(folder)
    StableDiffusionXLPipeline(
        vae=autoencoder(latent_channels=4),
        unet=network,
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(),
    ).save_pretrained(folder / "base")
    for name in ("canny", "depth"):
        controlnet(network).save_pretrained(folder / name)
    autoencoder(latent_channels=4).save_pretrained(folder / "vae")
    return folder


def kontext(folder):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(0)
    letters = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -1.0),
        *((chr(c), -2.0) for c in range(33, 127)),
    ]
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    for weights in transformer.parameters():
        if weights.ndim == 2:  # otherwise source and text have hardly any effect
            torch.nn.init.normal_(weights, std=0.3)
    vae = autoencoder(
        (8, 8, 8, 8),
        latent_channels=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
    for name, weights in vae.named_parameters():  # otherwise the latents have hardly any effect
        if name.endswith("bias"):
            torch.nn.init.zeros_(weights)
    vae.decoder.conv_out.weight.data *= 5
    FluxKontextPipeline(
        transformer=transformer,
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP, projection_dim=32)),
        tokenizer=clip_tokenizer(folder),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=200, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
        ),
        tokenizer_2=T5Tokenizer(vocab=letters, model_max_length=512),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)
    return str(folder)


def depth(folder):
    from transformers import (
        DepthAnythingConfig,
        DepthAnythingForDepthEstimation,
        Dinov2Config,
        DPTImageProcessor,
    )

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        initializer_range=0.3,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return str(folder)


def hed(path, change=None):
    """Writes a file in the layout of ControlNetHED.pth, in half precision.

    All tensors are zero, until `change` edits them.
    """
    channels, layers = (3, 64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    tensors = {"norm": torch.zeros(1, 3, 1, 1)}
    for block in range(1, 6):
        for layer in range(layers[block - 1]):
            before = channels[block - 1] if layer == 0 else channels[block]
            tensors |= {f"block{block}.convs.{layer}.weight": torch.zeros(channels[block], before, 3, 3)}
            tensors |= {f"block{block}.convs.{layer}.bias": torch.zeros(channels[block])}
        tensors |= {
            f"block{block}.projection.weight": torch.zeros(1, channels[block], 1, 1),
            f"block{block}.projection.bias": torch.zeros(1),
        }
    if change:
        change(tensors)
    torch.save({name: tensor.half() for name, tensor in tensors.items()}, path)
    return str(path)


def segmenter(folder, classes=23):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=classes,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": SIZE[1], "width": SIZE[0]}).save_pretrained(folder)
    return str(folder)


def mask_segmenter(folder, classes=19):
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=stages,
    )
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
    from transformers import (
        ConvNextConfig,
        SegformerImageProcessor,
        UperNetConfig,
        UperNetForSemanticSegmentation,
    )

    torch.manual_seed(1)
    backbone = ConvNextConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, num_labels=23)
    ).save_pretrained(folder)
    SegformerImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)


def classifier(folder, classes=6):
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=classes
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(do_resize=False).save_pretrained(folder)
    return str(folder)
