"""Muon: momentum whose update of each matrix is made orthogonal (Newton-Schulz iteration)."""

from __future__ import annotations

import collections

import torch


def orthogonalise(stack: torch.Tensor) -> torch.Tensor:
    """[N, rows, columns] -> nearly the nearest semi-orthogonal matrices, in bfloat16."""
    transposed = stack.shape[1] > stack.shape[2]
    x = stack.transpose(1, 2) if transposed else stack
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.transpose(1, 2) if transposed else x


class Muon(torch.optim.Optimizer):
    """For weight matrices only; the step has the root mean square of a typical Adam step."""

    def __init__(self, matrices: list[torch.nn.Parameter], weight_decay: float):
        super().__init__(matrices, {"lr": 0.0, "momentum": 0.95, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_shape = collections.defaultdict(list)
            for matrix in group["params"]:
                by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                updates = torch.stack([self._momentum(m, group["momentum"]) for m in matrices])
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for matrix, update in zip(matrices, orthogonalise(updates)):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-scale)

    def _momentum(self, matrix: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        state = self.state[matrix]
        if "buffer" not in state:
            state["buffer"] = torch.zeros_like(matrix)
        state["buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["buffer"], momentum)
