"""Small random captioners of the real classes, in the format of the published ones."""

import torch

SMALL = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
EYE = SMALL | {"image_size": 32, "patch_size": 8}
BEGIN, END, PAD = 256, 257, 258
SQUARE = {"height": 32, "width": 32}
WORDS = ("sunny", "foggy", "morning", "night", "street", "park", "red", "blue", "car", "bus", "tree", "sky")


def tokenizer(*special, words=(), **named):
    """Returns a tokenizer with a token for each byte (0 to 255), then <s>, </s>, <pad> and others.

    The tokens of words include the space before them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(
        models.BPE({s: i for i, s in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    model.pre_tokenizer, model.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named,
    )
    fast.add_tokens(list(special), special_tokens=True)
    fast.add_tokens([AddedToken(f" {word}", normalized=False) for word in words])
    assert fast.convert_tokens_to_ids(["<s>", "</s>", "<pad>"]) == [BEGIN, END, PAD]
    return fast


def save(folder, model, processor, words=()):
    # the small numbers that weights start with make a text of one letter; larger ones make some that differ
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.3)
        if words:  # it has nothing else to say
            word_ids = [END, *processor[0].tokenizer.convert_tokens_to_ids([f" {word}" for word in words])]
            unsaid = [i for i in range(len(processor[0].tokenizer)) if i not in word_ids]
            model.generation_config.update(
                eos_token_id=END,
                min_new_tokens=3,
                suppress_tokens=unsaid,
                exponential_decay_length_penalty=(8, 1.5),
            )
            if hasattr(model, "qformer"):  # its language model has settings of its own, which are not saved
                decoder = model.language_model.model.decoder
                decoder.embed_tokens.weight[:, 0], decoder.embed_tokens.weight[word_ids, 0] = -1, 1
                decoder.embed_tokens.weight[END, 0], decoder.final_layer_norm.bias[0] = 0.9, 20
    model.save_pretrained(folder)
    for part in processor:
        part.save_pretrained(folder)
    return str(folder)


def blip(folder):
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    torch.manual_seed(0)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *"abcdefghijklmnopqrstuvwxyz"])
    )
    text = SMALL | {
        "vocab_size": 32,
        "encoder_hidden_size": 32,
        "bos_token_id": 5,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "sep_token_id": 3,
    }
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=EYE, projection_dim=32))
    return save(
        folder,
        model,
        [BlipProcessor(BlipImageProcessor(size=SQUARE), BertTokenizer(str(folder / "vocab.txt")))],
    )


def blip2(folder, words=()):
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    torch.manual_seed(0)
    processor = Blip2Processor(BlipImageProcessor(size=SQUARE), tokenizer(words=words), num_query_tokens=4)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    opt = {
        "model_type": "opt",
        "hidden_size": 32,
        "ffn_dim": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
    }
    opt |= {
        "vocab_size": len(processor.tokenizer),
        "max_position_embeddings": 128,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    former = SMALL | {"vocab_size": 8, "encoder_hidden_size": 32}
    config = Blip2Config(
        vision_config=EYE, qformer_config=former, text_config=opt, num_query_tokens=4, image_token_index=image
    )
    return save(folder, Blip2ForConditionalGeneration(config), [processor], words)


def git(folder):
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    torch.manual_seed(0)
    config = GitConfig(
        vision_config=EYE, **SMALL, vocab_size=259, bos_token_id=BEGIN, eos_token_id=END, pad_token_id=PAD
    )
    return save(
        folder,
        GitForCausalLM(config),
        [GitProcessor(CLIPImageProcessor(size=SQUARE, crop_size=SQUARE), tokenizer())],
    )


def vit_gpt2(folder):
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=259,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        add_cross_attention=True,
        is_decoder=True,
    )
    model = VisionEncoderDecoderModel(encoder=ViTModel(ViTConfig(**EYE)), decoder=GPT2LMHeadModel(config))
    for settings in (model.config, model.generation_config):
        (
            settings.decoder_start_token_id,
            settings.bos_token_id,
            settings.eos_token_id,
            settings.pad_token_id,
        ) = BEGIN, BEGIN, END, PAD
    return save(folder, model, [tokenizer(), ViTImageProcessor(size=SQUARE)])


def florence2(folder):
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    torch.manual_seed(0)
    words = tokenizer(image_token="<image>")
    eye = CLIPImageProcessor(size=SQUARE, crop_size=SQUARE)
    eye.image_seq_length = 2  # one place, and the mean of all places
    text = {
        "model_type": "bart",
        "vocab_size": 260,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37,
    }
    text |= {
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    text |= {"decoder_start_token_id": END, "forced_eos_token_id": END}
    vision = {
        "depths": (1, 1, 1, 1),
        "embed_dim": (8, 8, 16, 32),
        "num_heads": (2, 2, 2, 2),
        "num_groups": (2, 2, 2, 2),
        "window_size": 4,
        "projection_dim": 32,
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=words.image_token_id)
    return save(folder, Florence2ForConditionalGeneration(config), [Florence2Processor(eye, words)])


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


def smolvlm(folder, tiles=1):
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    torch.manual_seed(0)
    words = tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>")
    edge = {"longest_edge": 32}
    parts = (
        SmolVLMImageProcessor(
            size={"longest_edge": 32 * tiles}, max_image_size=edge, do_image_splitting=tiles > 1
        ),
        words,
        SmolVLMVideoProcessor(size=edge, max_image_size=edge),
    )
    processor = SmolVLMProcessor(*parts, image_seq_len=4, chat_template=TEMPLATE.replace("IMAGE", "<image>"))
    text = SMALL | {
        "model_type": "llama",
        "vocab_size": len(words),
        "num_key_value_heads": 2,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    config = SmolVLMConfig(
        vision_config=EYE,
        text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=PAD,
    )
    return save(folder, SmolVLMForConditionalGeneration(config), [processor])


def qwen3_vl(folder, words=()):
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    torch.manual_seed(0)
    special = [
        "<|image_pad|>",
        "<|video_pad|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|im_start|>",
        "<|im_end|>",
    ]
    tokens = tokenizer(*special, words=words)
    sizes = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}}
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**sizes), tokens, Qwen3VLVideoProcessor(**sizes), chat_template=template
    )
    text = SMALL | {
        "vocab_size": len(tokens),
        "num_key_value_heads": 2,
        "head_dim": 8,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }
    text |= {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        }
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_heads": 4,
        "patch_size": 8,
        "out_hidden_size": 32,
    }
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": (0,)}
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: tokens.convert_tokens_to_ids(token) for name, token in zip(names, special, strict=False)}
    return save(
        folder,
        Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **ids)),
        [processor],
        words,
    )
