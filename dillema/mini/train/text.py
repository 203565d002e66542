"""Tokenizers trained on the captions of the small world, in the formats of the big models."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

MAX_TOKENS = 32
PAD_ID, BEGIN_ID, END_ID = 0, 1, 2  # of the captioner's tokenizer


def clip_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """Returns a CLIP tokenizer that makes one token of each word in the captions, several of other words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    words = ["".join(merge) for merge in merges]
    tokens = [*alphabet, *(char + "</w>" for char in alphabet), *words, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("".join(line + "\n" for line in lines))
    return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS)


def caption_tokenizer(captions: list[str]) -> PreTrainedTokenizerFast:
    """Returns the captioner's byte-level BPE tokenizer, which adds begin, end and padding tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BEGIN_ID), ("</s>", END_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=MAX_TOKENS,
    )
