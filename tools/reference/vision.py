"""CLIP tower, merging of tiles and projector (model specification 3)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .config import ModelConfig, VisionConfig


class Embeddings(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.grid ** 2 + 1, config.width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)         # (N, P, C)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat((first, patches), dim=1) + self.position_embedding.weight


class SelfAttention(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self._heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)                 # (N, H, T, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self._split(self.q_proj(x) * 0.125)
        scores = torch.matmul(query, self._split(self.k_proj(x)).transpose(2, 3))
        weights = scores.softmax(dim=-1).to(query.dtype)                          # (N, H, T, T)
        out = torch.matmul(weights, self._split(self.v_proj(x)))
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """fc2(quick_gelu(fc1 x)), with quick_gelu(x) = x sigmoid(1.702 x)."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp)
        self.fc2 = nn.Linear(config.mlp, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.fc1(x)
        return self.fc2(wide * torch.sigmoid(1.702 * wide))


class EncoderLayer(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width)
        self.self_attn = SelfAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.width)
        self.mlp = Mlp(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))


class VisionModel(nn.Module):
    """Last layer without post-norm; the class row is dropped."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width)
        self.encoder = Encoder(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [N, 3, S, S] -> features [N, P, width]."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


class VisionTower(nn.Module):
    """The two levels of names around the vision model."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = VisionModel(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.vision_tower.vision_model(pixels)


def projector(config: ModelConfig) -> nn.Sequential:
    return nn.Sequential(nn.Linear(config.projector_input, config.hidden), nn.GELU(),
                         nn.Linear(config.hidden, config.hidden))


def crops_of(pixels: torch.Tensor, tile: int) -> torch.Tensor:
    """Global view and tiles of a padded picture [3, h*tile, w*tile] -> [1 + h*w, 3, tile, tile].

    The global view is a bicubic resize (A = -0.75, no antialiasing) of the normalised picture.
    """
    _, height, width = pixels.shape
    view = functional.interpolate(pixels[None].float(), size=(tile, tile), mode="bicubic",
                                  align_corners=False).to(pixels.dtype)
    tiles = pixels.reshape(3, height // tile, tile, width // tile, tile)
    tiles = tiles.permute(1, 3, 0, 2, 4).reshape(-1, 3, tile, tile)
    return torch.cat((view, tiles))


def _merge(features: torch.Tensor, grid: int) -> torch.Tensor:
    """[N, grid*grid, C] -> [N, grid/2, grid/2, 4C]: 2 by 2 neighbours share a row."""
    count, _, width = features.shape
    blocks = features.reshape(count, grid // 2, 2, grid // 2, 2, width)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(count, grid // 2, grid // 2, 4 * width)


def merge_tiles(features: torch.Tensor, grid: int, tiles: tuple[int, int],
                row_end: torch.Tensor, separator: torch.Tensor) -> torch.Tensor:
    """ViT rows of all crops -> rows of one picture before the projector [rows, 4C]."""
    down, across = tiles
    half = grid // 2
    merged = _merge(features, grid)                                               # (N, m, m, 4C)
    width = merged.shape[-1]

    def with_ends(rows: torch.Tensor) -> torch.Tensor:
        ends = row_end.reshape(1, 1, width).expand(rows.shape[0], 1, width)
        return torch.cat((rows, ends), dim=1).reshape(-1, width)

    stitched = merged[1:].reshape(down, across, half, half, width).permute(0, 2, 1, 3, 4)
    stitched = stitched.reshape(down * half, across * half, width)
    return torch.cat((with_ends(merged[0]), separator.reshape(1, width), with_ends(stitched)))
