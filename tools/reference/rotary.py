"""Rotary position tables with dynamic NTK scaling (model specification 6.1 to 6.4)."""

from __future__ import annotations

import torch


class RotaryTable:
    """cos and sin of every position, in float32 as the published code forms them.

    The table never shrinks: after a call beyond `max_positions` its base stays enlarged, and so do
    the answers of later calls. Make a new table for a fresh start.
    """

    def __init__(self, dim: int, max_positions: int, theta: float, factor: float | None):
        self._dim = dim
        self._max_positions = max_positions
        self._theta = theta
        self._factor = factor
        self._build(max_positions)

    def rows(self, total: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, each [total, dim], for a call whose cache and new rows are `total`."""
        if total > self._cos.shape[0]:
            self._build(total)
        return self._cos[:total], self._sin[:total]

    def _build(self, total: int) -> None:
        base = self._theta
        if self._factor is not None and total > self._max_positions:
            growth = self._factor * total / self._max_positions - (self._factor - 1)
            base = self._theta * growth ** (self._dim / (self._dim - 2))
        exponents = torch.arange(0, self._dim, 2, dtype=torch.float32) / self._dim
        inverse = 1.0 / (base ** exponents)                                       # (D/2)
        angles = torch.outer(torch.arange(total, dtype=torch.float32), inverse)   # (S, D/2)
        angles = torch.cat((angles, angles), dim=-1)                              # (S, D)
        self._cos, self._sin = angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Split-half rotation of x [..., T, D] by tables that broadcast to [T, D]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
