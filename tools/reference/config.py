"""Sizes of a checkpoint: what config.json says, and what only the tensor shapes say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch

KINDS = ("2-7b", "2-vl-7b", "2-4khd-7b", "2.5-7b", "2-vl-1.8b")
TILED_KINDS = ("2-4khd-7b", "2.5-7b")
PATCH_TABLE = "vit.vision_tower.vision_model.embeddings.position_embedding.weight"
PATCH_KERNEL = "vit.vision_tower.vision_model.embeddings.patch_embedding.weight"
VIT_LAYER = "vit.vision_tower.vision_model.encoder.layers."
FIRST_LAYER = "model.layers.0."


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Sizes of the CLIP tower. Heads are always 64 wide."""

    width: int
    layers: int
    mlp: int
    grid: int
    patch: int = 14

    @property
    def heads(self) -> int:
        return self.width // 64

    @property
    def image_size(self) -> int:
        return self.grid * self.patch


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything the model needs; ranks map a linear's name (wqkv, wo, w1, w2, w3) to its rank."""

    kind: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    max_positions: int
    max_length: int
    vision: VisionConfig
    plora_ranks: Mapping[str, int]
    adapter_ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rope_theta: float = 1e6
    ntk_factor: float | None = 1.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.heads % self.kv_heads or self.hidden % self.heads:
            raise ValueError(f"{self.heads} heads do not divide: hidden {self.hidden}, "
                             f"{self.kv_heads} key/value heads")

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def tiled(self) -> bool:
        return self.kind in TILED_KINDS

    @property
    def qkv_rows(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def projector_input(self) -> int:
        return self.vision.width * (4 if self.tiled else 1)

    def plora_scale(self, linear: str) -> float:
        """alpha / rank of the published code; a constant of the kind, stored in no file."""
        return 2.0 if self.kind == "2-4khd-7b" and linear == "wqkv" else 1.0


def _layer_count(names: Mapping[str, object], prefix: str) -> int:
    return 1 + max(int(n[len(prefix):].split(".")[0]) for n in names if n.startswith(prefix))


def _kind_of(weights: Mapping[str, torch.Tensor], config: dict) -> str:
    if "plora_glb_GN" in weights:
        has_web = any(".lora_web_A." in name for name in weights)
        return "2.5-7b" if has_web else "2-4khd-7b"
    if weights[PATCH_TABLE].shape[0] == 257:
        return "2-7b"
    is_small = config["hidden_size"] == 2048 and config["num_hidden_layers"] == 24
    return "2-vl-1.8b" if is_small else "2-vl-7b"


def config_of(folder: Path, weights: Mapping[str, torch.Tensor],
              kind: str | None = None) -> ModelConfig:
    """Reads config.json of `folder` and completes it from the shapes of `weights`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = kind or _kind_of(weights, config)
    kernel = weights[PATCH_KERNEL]
    vision = VisionConfig(
        width=kernel.shape[0],
        layers=_layer_count(weights, VIT_LAYER),
        mlp=weights[VIT_LAYER + "0.mlp.fc1.weight"].shape[0],
        grid=round((weights[PATCH_TABLE].shape[0] - 1) ** 0.5),
        patch=kernel.shape[-1],
    )
    linears = {"wqkv": "attention.wqkv", "wo": "attention.wo", "w1": "feed_forward.w1",
               "w2": "feed_forward.w2", "w3": "feed_forward.w3"}
    ranks = {short: weights[f"{FIRST_LAYER}{path}.Plora_A.weight"].shape[0]
             for short, path in linears.items()}
    adapters = {}
    for adapter in ("sft", "dpo", "web"):
        name = f"{FIRST_LAYER}attention.wqkv.lora_{adapter}_A.weight"
        if name in weights:
            adapters[adapter] = weights[name].shape[0]
    scaling = config.get("rope_scaling")
    return ModelConfig(
        kind=kind,
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        max_length=config["max_length"],
        vision=vision,
        plora_ranks=ranks,
        adapter_ranks=adapters,
        rope_theta=float(config["rope_theta"]),
        ntk_factor=scaling["factor"] if scaling else None,
        norm_eps=config["rms_norm_eps"],
    )
