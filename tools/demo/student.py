"""The demo model's sizes, its initial weights and the training loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from demo.batches import CLASSES, IGNORE, SLOT, Batch, resize_matrix
from reference.config import ModelConfig, VisionConfig
from reference.decoder import KeyValue, Rows, causal_mask
from reference.model import XComposer
from reference.preprocess import MEAN, STD

RANK = 16
CONFIG = ModelConfig(
    kind="2-vl-7b", hidden=128, layers=3, heads=2, kv_heads=1, intermediate=384, vocab=1024,
    max_positions=32768, max_length=4096,
    vision=VisionConfig(width=192, layers=5, mlp=768, grid=6),
    plora_ranks={name: RANK for name in ("wqkv", "wo", "w1", "w2", "w3")})


def initialise(model: XComposer, seed: int) -> None:
    """Normal weights of deviation 1/sqrt(inputs); branches that end in a sum start small."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name or "layrnorm" in name:
            continue
        if parameter.ndim < 2:
            nn.init.zeros_(parameter)
            continue
        deviation = parameter[0].numel() ** -0.5
        if "embedding" in name and "patch" not in name:
            deviation = 0.02 if "position" in name else 0.5
        if any(end in name for end in ("out_proj", "fc2", "attention.wo.weight", "w2.weight")):
            deviation *= 0.3
        if "Plora_B" in name or name == "output.weight":
            deviation *= 0.1
        nn.init.normal_(parameter, std=deviation, generator=generator)


class Student(nn.Module):
    """The model together with what only training needs."""

    def __init__(self, seed: int, smoothing: float = 0.05):
        super().__init__()
        self.net = XComposer(CONFIG)
        initialise(self.net, seed)
        width = CONFIG.vision.width
        self.helper = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))
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

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the answers, loss of the auxiliary head."""
        features = self.net.vit(self.pixels(batch.images))                        # (B, R, C)
        helper = functional.cross_entropy(self.helper(features.mean(1)).float(), batch.classes,
                                          label_smoothing=self._smoothing)
        picture = self.net.vision_proj(features)                                  # (B, R, D)
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
