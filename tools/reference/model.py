"""The whole model; its state_dict has exactly the names and shapes of the checkpoints."""

from __future__ import annotations

import torch
from torch import nn

from .config import ModelConfig
from .decoder import Decoder
from .rotary import RotaryTable
from .vision import VisionTower, crops_of, merge_tiles, projector


class XComposer(nn.Module):
    """InternLM-XComposer2 of any kind, in float32 or float64 (`.double()`)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.output = nn.Linear(config.hidden, config.vocab, bias=False)
        self.vision_proj = projector(config)
        self.vit = VisionTower(config.vision)
        if config.tiled:
            self.plora_glb_GN = nn.Parameter(torch.zeros(1, 1, config.projector_input))
            self.plora_sub_GN = nn.Parameter(torch.zeros(1, 1, 1, config.projector_input))

    def new_rotary_table(self) -> RotaryTable:
        config = self.config
        return RotaryTable(config.head_dim, config.max_positions, config.rope_theta,
                           config.ntk_factor)

    def vit_rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """One normalised picture [3, H, W] -> ViT rows of each crop [N, P, width]."""
        if not self.config.tiled:
            return self.vit(pixels[None])
        return self.vit(crops_of(pixels, self.config.vision.image_size))

    def project(self, features: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """ViT rows of a picture of height by width pixels -> its rows in the prompt."""
        if not self.config.tiled:
            return self.vision_proj(features[0])
        tile = self.config.vision.image_size
        merged = merge_tiles(features, self.config.vision.grid, (height // tile, width // tile),
                             self.plora_sub_GN, self.plora_glb_GN)
        return self.vision_proj(merged)

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """One normalised picture [3, H, W] -> rows [R, hidden]."""
        return self.project(self.vit_rows(pixels), pixels.shape[1], pixels.shape[2])
