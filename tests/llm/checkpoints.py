"""A small random language model of the real class, saved as its big relatives are."""

import torch

from tests.captioner.checkpoints import BEGIN, END, PAD, tokenizer

TEMPLATE = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n{% endfor %}assistant>"


def save(folder, template):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokens = tokenizer()
    tokens.chat_template = template
    tokens.save_pretrained(folder)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.5,
    }
    LlamaForCausalLM(
        LlamaConfig(**sizes, vocab_size=320, bos_token_id=BEGIN, eos_token_id=END, pad_token_id=PAD)
    ).save_pretrained(folder)
    return str(folder)
