"""Reads checkpoint folders: safetensors or PyTorch zip files, sharded or not."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from .config import config_of
from .model import XComposer

UNUSED = ("post_layernorm", "position_ids", "inv_freq")


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, as stored."""
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights.update(load_file(path))
    if not weights:
        for path in sorted(folder.glob("*.bin")):
            weights.update(torch.load(path, map_location="cpu", weights_only=True))
    if not weights:
        raise FileNotFoundError(f"{folder} holds neither .safetensors nor .bin files")
    return {name: t for name, t in weights.items() if not any(u in name for u in UNUSED)}


def load(folder: Path, dtype: torch.dtype = torch.float32, kind: str | None = None) -> XComposer:
    """The model of a folder in `dtype`, ready to evaluate."""
    weights = read_weights(folder)
    config = config_of(folder, weights, kind)
    with torch.device("meta"):
        model = XComposer(config)
    wide = {name: tensor.to(dtype) for name, tensor in weights.items()}
    model.load_state_dict(wide, strict=True, assign=True)
    return model.eval().requires_grad_(False)
