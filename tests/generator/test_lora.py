"""Low-rank changes of the weights of a pipeline."""

import pytest
import torch
from safetensors.torch import save_file

from dillema.errors import UserError
from tests.generator import test_diffusers
from tests.generator.test_diffusers import control, difference, generator, nets, paint

parts = test_diffusers.parts  # a fixture


@pytest.mark.parametrize("layout", ["kohya", "peft", "diffusers"])
def test_a_lora_is_added_to_the_unet(parts, tmp_path, layout):
    plain = generator(parts / "base", controlnet=nets(parts, "canny"))
    torch.manual_seed(3)
    changed = {
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (16, 16),
        "mid_block.resnets.0.conv1": (16, 16, 3, 3),
    }
    tensors, expected = {}, {}
    for name, (after, before, *kernel) in changed.items():
        down, up = torch.randn(2, before, *kernel), torch.randn(after, 2, *(1 for _ in kernel))
        layouts = {"kohya": ("lora_down", "lora_up"), "peft": ("lora_A", "lora_B")}
        a, b = layouts.get(layout, ("lora.down", "lora.up"))
        prefix = f"lora_unet_{name.replace('.', '_')}" if layout == "kohya" else f"unet.{name}"
        tensors |= {f"{prefix}.{a}.weight": down, f"{prefix}.{b}.weight": up}
        if layout == "kohya":
            tensors[f"{prefix}.alpha"] = torch.tensor(1.0)
        product = torch.einsum("or,r...->o...", up.reshape(after, 2), down)
        expected[name] = plain._pipeline.unet.get_submodule(name).weight + product * (
            0.5 if layout == "kohya" else 1
        )
    save_file(tensors, tmp_path / "lora.safetensors")
    other = generator(
        parts / "base", controlnet=nets(parts, "canny"), lora=str(tmp_path / "lora.safetensors")
    )
    for name, weight in expected.items():
        assert torch.allclose(other._pipeline.unet.get_submodule(name).weight, weight, atol=1e-5)
    (first,), (second,) = (paint(g, ["a bus"], [control(0)], [1]) for g in (plain, other))
    assert difference(first, second) > 1


@pytest.mark.parametrize(
    "layers, words",
    [
        ({"lora_unet_input_blocks_7_1_proj_in": (8, 8)}, r"proj_in'?\} not found"),
        ({"lora_unet_mid_block_resnets_0_conv1": (8, 8)}, "size mismatch"),
        (
            {
                "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (16, 16),
                "lora_unet_up_blocks_9_proj_in": (8, 8),
            },
            "only 1 of its 2 layers",
        ),
        ({}, "Invalid LoRA"),
    ],
)
def test_a_lora_for_another_network_is_refused(parts, tmp_path, layers, words):
    tensors = {"other": torch.zeros(1)} if not layers else {}
    for name, (after, before) in layers.items():
        tensors |= {f"{name}.lora_down.weight": torch.zeros(2, before)}
        tensors |= {f"{name}.lora_up.weight": torch.zeros(after, 2)}
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=rf"(?s)other\.safetensors does not fit .*{words}"):
        generator(parts / "base", controlnet=nets(parts, "canny"), lora=str(tmp_path / "other.safetensors"))
