"""Traced tensors beside the recorded ones, which hold chosen rows, crops or columns of them."""

from __future__ import annotations

import array
import dataclasses
import math

from .tensors import Tensors

BESIDE = ("_rows", "_cols", "_crops", "_tokens", "pixels_stats")


@dataclasses.dataclass(frozen=True)
class Difference:
    largest: float  # of all values; NaN if one is not a number
    rms: float      # of the recorded values
    per_row: list[float]

    @property
    def relative(self) -> float:
        if self.largest == 0:
            return 0.0
        return self.largest / self.rms if self.rms > 0 else math.inf


def is_traced(name: str) -> bool:
    """Whether `xcomposer trace` writes it too; pixels are the request's own."""
    return not (name.endswith(BESIDE) or name.startswith("beam.") or name.endswith(".rgb"))


def compare(name: str, recorded: Tensors, traced: Tensors, rows: int | None = None) -> Difference:
    """Raises ValueError where the shapes do not belong together. `rows`: only the first ones."""
    expected = recorded.all(name)
    shape = recorded.shape(name)
    width = math.prod(shape[1:])
    count = shape[0] if rows is None else min(rows, shape[0])
    expected = expected[:count * width]
    found = _narrow(name, recorded, traced, count)
    if len(found) != len(expected):
        raise ValueError(f"{name}: {len(found)} values of {traced.shape(name)}, expected "
                         f"{len(expected)} of {shape}")
    per_row = [_largest(found, expected, r * width, width) for r in range(count)]
    rms = math.sqrt(sum(x * x for x in expected) / max(1, len(expected)))
    # max() would drop a NaN that is not its first argument.
    largest = math.nan if any(map(math.isnan, per_row)) else max(per_row, default=0.0)
    return Difference(largest, rms, per_row)


def _largest(found: array.array, expected: array.array, first: int, count: int) -> float:
    differences = [abs(found[i] - expected[i]) for i in range(first, first + count)]
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)


def _narrow(name: str, recorded: Tensors, traced: Tensors, count: int) -> array.array:
    if name not in traced:
        raise ValueError(f"{name}: was not traced")
    if ".vit" in name:
        return _crops(name, recorded, traced)
    indices = None
    if name + "_rows" in recorded:
        indices = recorded.all(name + "_rows")
    elif name.startswith("layer") or name == "final_norm.out":
        indices = recorded.all("layer_rows")
    elif name == "prefill_logits":
        indices = recorded.all("prefill_rows")
    elif name + "_cols" in recorded:
        return _columns(name, recorded, traced, count)
    width = math.prod(traced.shape(name)[1:])
    if indices is None:
        have = min(count, traced.shape(name)[0])
        return traced.slice(name, 0, have * width)
    taken = array.array("f")
    for row in indices[:count]:
        taken.extend(traced.slice(name, row * width, width))
    return taken


def _crops(name: str, recorded: Tensors, traced: Tensors) -> array.array:
    crops, tokens, width = traced.shape(name)
    wanted = recorded.all(name + "_crops") if name + "_crops" in recorded else range(crops)
    rows = recorded.all(name + "_tokens") if name + "_tokens" in recorded else range(tokens)
    taken = array.array("f")
    for crop in wanted:
        for row in rows:
            taken.extend(traced.slice(name, (crop * tokens + row) * width, width))
    return taken


def _columns(name: str, recorded: Tensors, traced: Tensors, count: int) -> array.array:
    width = traced.shape(name)[-1]
    columns = recorded.all(name + "_cols")
    taken = array.array("f")
    for row in range(min(count, traced.shape(name)[0])):
        line = traced.slice(name, row * width, width)
        taken.extend(line[column] for column in columns)
    return taken
