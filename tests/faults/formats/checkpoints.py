"""Weights: of safetensors, of torch, of training scripts, and GGUF."""

import json
import random
import struct
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dillema.llm.llama_cpp import LlamaCpp
from dillema.model.module import ModuleModel
from dillema.model.weights import load_weights, read_weights

from ..damage import BYTES, PATHS
from ..format import Accepted, Format

SIZES = {"features.weight": (8, 3, 3, 3), "features.bias": (8,), "head.weight": (4, 8), "head.bias": (4,)}


def state() -> dict[str, torch.Tensor]:
    """Returns the weights of a small network."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=generator) for name, size in SIZES.items()}


class Network(torch.nn.Module):
    """A small classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


def _write(name: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    path = folder / name
    if name.endswith(".safetensors"):
        save_file(state(), path)
    elif name.endswith(".ckpt"):
        weights = {f"model.{key}": value for key, value in state().items()}
        torch.save({"state_dict": weights, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, path)
    elif name == "program.pt":
        network = Network()
        network.load_state_dict(state())
        torch.jit.script(network).save(path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=name != "old.pth")


def _read(name: str, folder: Path) -> Any:
    path = str(folder / name)
    network = Network()
    load_weights(network, read_weights(path, "model.m.checkpoint"), f"model.m.checkpoint={path}")
    return {key: value.numpy().tobytes() for key, value in network.state_dict().items()}


def _parse_safetensors(folder: Path) -> Any:
    content = (folder / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kept = {name: about for name, about in header.items() if name != "__metadata__"}
    if {name: (about["dtype"], tuple(about["shape"])) for name, about in kept.items()} != {
        name: ("F32", size) for name, size in SIZES.items()
    }:
        raise ValueError("other weights")
    return {name: bytes(data[slice(*about["data_offsets"])]) for name, about in kept.items()}


def _parse_old(folder: Path) -> Any:
    weights = torch.load(folder / "old.pth", weights_only=True)
    return {name: value.numpy().tobytes() for name, value in weights.items()}


def _read_program(folder: Path) -> Any:
    model = ModuleModel("m", None, str(folder / "program.pt"), device="cpu")
    model.load()
    return {name: value.numpy().tobytes() for name, value in model._network.state_dict().items()}


def _write_exported(folder: Path) -> None:
    folder.mkdir(parents=True)
    network = Network()
    network.load_state_dict(state())
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 32, 32),)), folder / "program.pt2")


def _read_exported(folder: Path) -> Any:
    model = ModuleModel("m", None, str(folder / "program.pt2"), device="cpu", trust=True)
    model.load()
    return {name: value.numpy().tobytes() for name, value in model._network.state_dict().items()}


def _write_gguf(folder: Path) -> None:
    from tests.tiny import gguf

    folder.mkdir(parents=True)
    gguf(folder / "model.gguf")


def _read_gguf(folder: Path) -> Any:
    llm = LlamaCpp(str(folder / "model.gguf"), context=128, threads=1, temperature=0)
    llm.load([[{"role": "user", "content": "a day in the sun"}]])
    return Accepted("nothing in the file tells other weights apart")


def _damage_header(path: Path, rng: random.Random) -> None:
    """Changes a bit or a byte of what llama.cpp reads before the weights, in which most damages are."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(content.rindex(b".weight") + 50)
    content[place] = rng.randrange(256) if rng.random() < 0.5 else content[place] ^ 1 << rng.randrange(8)
    path.write_bytes(content)


FORMATS = [
    Format(
        "safetensors",
        "weights.safetensors",
        partial(_write, "weights.safetensors"),
        partial(_read, "weights.safetensors"),
        BYTES | PATHS,
        _parse_safetensors,
    ),
    Format(
        "weights of torch",
        "weights.pth",
        partial(_write, "weights.pth"),
        partial(_read, "weights.pth"),
        BYTES | PATHS,
    ),
    Format(
        "weights of torch before 1.6",
        "old.pth",
        partial(_write, "old.pth"),
        partial(_read, "old.pth"),
        BYTES,
        _parse_old,
    ),
    Format(
        "checkpoint of Lightning",
        "last.ckpt",
        partial(_write, "last.ckpt"),
        partial(_read, "last.ckpt"),
        BYTES,
    ),
    Format("program of torch", "program.pt", partial(_write, "program.pt"), _read_program, BYTES | PATHS),
    Format("exported program of torch", "program.pt2", _write_exported, _read_exported, BYTES | PATHS),
    Format("GGUF", "model.gguf", _write_gguf, _read_gguf, BYTES | PATHS | {"header": _damage_header}),
]
