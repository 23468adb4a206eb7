"""The demo model's sizes, its initial weights and the training loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from demo.batches import HELPER_SIZES, IGNORE, SLOT, Batch, resize_matrix
from reference.config import ModelConfig, VisionConfig
from reference.decoder import KeyValue, Rows, causal_mask
from reference.model import XComposer
from reference.preprocess import MEAN, STD

RANK = 16
CONFIG = ModelConfig(
    kind="2-vl-7b", hidden=128, layers=3, heads=2, kv_heads=1, intermediate=384, vocab=1024,
    max_positions=32768, max_length=4096,
    vision=VisionConfig(width=192, layers=4, mlp=768, grid=6),
    plora_ranks={name: RANK for name in ("wqkv", "wo", "w1", "w2", "w3")})


PATCH_COMPONENTS = 40  # of the principal components of a patch that the first weights look at
LM_SHARE = 4           # one picture in so many also passes through the decoder


def initialise(model: XComposer, seed: int) -> None:
    """Normal weights of deviation 1/sqrt(inputs); branches that end in a sum start small."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name or "layrnorm" in name:
            continue
        if parameter.ndim < 2:
            nn.init.zeros_(parameter)
            continue
        deviation = 0.5 if "tok_embeddings" in name else parameter[0].numel() ** -0.5
        if any(end in name for end in ("out_proj", "fc2", "attention.wo.weight", "w2.weight")):
            deviation *= 0.3
        if "Plora_B" in name or name == "output.weight":
            deviation *= 0.1
        nn.init.normal_(parameter, std=deviation, generator=generator)


def waves(grid: int, width: int) -> torch.Tensor:
    """Sines and cosines of both coordinates of each patch [grid * grid, width]."""
    frequencies = torch.logspace(0, 1.5, width // 4) / grid
    angles = torch.arange(grid)[:, None] * frequencies                            # (g, width/4)
    line = torch.cat((angles.sin(), angles.cos()), dim=1)                         # (g, width/2)
    down = line[:, None].expand(grid, grid, -1)
    return torch.cat((down, line.expand(grid, grid, -1)), dim=2).flatten(0, 1)


@torch.no_grad()
def look_at(model: XComposer, pixels: torch.Tensor) -> None:
    """Fits the first layer to pictures [N, 3, S, S]: each patch filter is a random mixture of
    whitened principal components, the positions cancel the mean and tell the place."""
    embeddings = model.vit.vision_tower.vision_model.embeddings
    width, patch = CONFIG.vision.width, CONFIG.vision.patch
    columns = functional.unfold(pixels, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    mean = columns.mean(0)
    values, vectors = torch.linalg.eigh((columns - mean).T.cov())
    best = vectors[:, -PATCH_COMPONENTS:] / (values[-PATCH_COMPONENTS:] + 1e-2).sqrt()
    kernel = embeddings.patch_embedding.weight
    mixture = torch.randn(width, PATCH_COMPONENTS) / PATCH_COMPONENTS ** 0.5
    kernel.copy_((mixture @ best.T).view_as(kernel))
    positions = embeddings.position_embedding.weight
    positions[0].normal_()
    positions[1:] = 0.5 * waves(CONFIG.vision.grid, width) - kernel.flatten(1) @ mean


class Student(nn.Module):
    """The model together with what only training needs."""

    def __init__(self, seed: int, smoothing: float = 0.05):
        super().__init__()
        self.net = XComposer(CONFIG)
        initialise(self.net, seed)
        width = CONFIG.vision.width
        self.helper = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(HELPER_SIZES)))
        self._smoothing = smoothing
        self._rows = CONFIG.vision.grid ** 2
        self.register_buffer("_resize", resize_matrix(CONFIG.vision.image_size), persistent=False)
        self.register_buffer("_mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        cos, sin = self.net.new_rotary_table().rows(1024)
        self.register_buffer("_cos", cos, persistent=False)
        self.register_buffer("_sin", sin, persistent=False)

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 28, 28] -> normalised [B, 3, S, S], within a level of Pillow's resize."""
        gray = (self._resize @ images.float() @ self._resize.T).round().clamp(0, 255) / 255
        return (gray[:, None] - self._mean) / self._std

    def _prefix(self, tokens: torch.Tensor) -> list[KeyValue]:
        count = len(tokens)
        h = self.net.model.tok_embeddings(tokens)[None]
        rows = Rows([], self._cos[:count], self._sin[:count], causal_mask(count, count, h))
        return self.net.model(h, rows)[1]

    def _mask(self, batch: Batch, prefix: int) -> torch.Tensor:
        """[B, 1, R + SLOT, P + R + SLOT]: what the packed dialogues may see."""
        count, picture = len(batch.tokens), self._rows
        own = batch.dialogue
        text = (own[:, :, None] == own[:, None, :]).tril() & (own >= 0)[:, :, None]
        text = text | torch.eye(SLOT, dtype=torch.bool)
        allowed = torch.zeros(count, picture + SLOT, prefix + picture + SLOT, dtype=torch.bool)
        allowed[:, :, :prefix] = True
        allowed[:, :picture, prefix:prefix + picture] = torch.ones(picture, picture).tril().bool()
        allowed[:, picture:, prefix:prefix + picture] = True
        allowed[:, picture:, prefix + picture:] = text
        return torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill_(
            ~allowed, float("-inf"))[:, None]

    def _helper_loss(self, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Each part of the auxiliary head, weighed by the share of pictures that it concerns."""
        loss = features.new_zeros(())
        parts = self.helper(features.mean(1)).float().split(HELPER_SIZES, dim=1)
        for logits, wanted in zip(parts, classes.unbind(1)):
            loss = loss + functional.cross_entropy(
                logits, wanted, ignore_index=IGNORE, label_smoothing=self._smoothing,
                reduction="sum") / len(wanted)
        return loss

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the answers, loss of the auxiliary head."""
        features = self.net.vit(self.pixels(batch.images))                        # (B, R, C)
        helper = self._helper_loss(features, batch.classes)
        batch = batch.every(LM_SHARE)
        picture = self.net.vision_proj(features[::LM_SHARE])                      # (B, R, D)
        text = self.net.model.tok_embeddings(batch.tokens)                        # (B, SLOT, D)
        prefix = len(batch.prefix)
        start = prefix + self._rows
        positions = torch.cat((torch.arange(prefix, start).expand(len(text), -1),
                               batch.positions + start), dim=1)                   # (B, R + SLOT)
        rows = Rows([(0, self._rows)], self._cos[positions][:, None],
                    self._sin[positions][:, None], self._mask(batch, prefix))
        h, _ = self.net.model(torch.cat((picture.to(text.dtype), text), dim=1), rows,
                              self._prefix(batch.prefix))
        learnt = batch.targets != IGNORE
        logits = self.net.output(h[:, self._rows:][learnt]).float()
        answers = functional.cross_entropy(logits, batch.targets[learnt])
        return answers, helper
