"""The shares of the measured limits, and the goals beside them."""

from __future__ import annotations

import dataclasses
from typing import Any

Figures = dict[str, dict[str, Any]]

GEMM = "gemm.8192x8192x8192.best"
MEMORY = ("memory.read", "memory.read_bulk", "memory.copy", "memory.copy_driver")
LINK = "host.pinned_to_device"


def rate(figure: dict[str, Any], work: str) -> float | None:
    """Bytes or flops per second."""
    amount = figure.get(work)
    return amount / figure["seconds"] if amount else None


def memory_limit(figures: Figures) -> float | None:
    """The larger of what a read and a copy (read and write counted) attain, in bytes/s."""
    rates = [rate(figures[name], "bytes") for name in MEMORY if name in figures]
    return max((r for r in rates if r), default=None)


def gemm_limit(figures: Figures) -> float | None:
    return rate(figures[GEMM], "flops") if GEMM in figures else None


def link_limit(figures: Figures) -> float | None:
    return rate(figures[LINK], "bytes") if LINK in figures else None


def share(name: str, figures: Figures) -> float | None:
    """Of the limit that a figure is bound by: the link, the products' rate, or the memory."""
    figure = figures[name]
    if name.startswith(("host.", "variant.host.", "engine.load", "engine.weights")):
        return _part(rate(figure, "bytes"), link_limit(figures))
    if figure.get("flops"):
        return _part(rate(figure, "flops"), gemm_limit(figures))
    return _part(rate(figure, "bytes"), memory_limit(figures))


def _part(value: float | None, limit: float | None) -> float | None:
    return value / limit if value and limit else None


@dataclasses.dataclass(frozen=True)
class Goal:
    row: str
    what: str
    kind: str  # "share at least", "ms at most", "extra at most"
    figure: str
    bound: float
    base: str = ""  # of "extra at most": the figure without it
    card: str = ""  # the only one whose goal it is: milliseconds depend on its rates
    judged: bool = True  # else only shown beside the goal's own figure


def _steps(row: str, sequences: int, bound: float, contexts: tuple[int, ...]) -> list[Goal]:
    plural = "s" if sequences > 1 else ""
    return [Goal(row, f"decode, {sequences} sequence{plural}, {keys} keys: bytes over the memory's "
                 "rate", "share at least", f"decode.bs{sequences}.ctx{keys}", bound)
            for keys in contexts]


MS_CARD = "H200"

GOALS = [
    *_steps("1", 1, 0.92, (1024,)),
    *_steps("2", 1, 0.90, (8192,)),
    *_steps("3", 8, 0.88, (1024, 8192)),
    *_steps("3", 32, 0.85, (1024, 8192)),
    Goal("4", "attention of a step, 32 sequences, 4096 keys: bytes over the memory's rate",
         "share at least", "part.bs32.ctx4096.attention", 0.85),
    Goal("5", "prompt of 1289 rows, 1225 of a picture: flops over the products' rate",
         "share at least", "prefill.1289.pictures", 0.75),
    Goal("5", "prompt of 512 rows", "share at least", "prefill.512", 0.75),
    Goal("5", "prompt of 2048 rows", "share at least", "prefill.2048", 0.75),
    Goal("5", "4khd: prompt of 8201 rows, 8137 of a picture", "share at least",
         "prefill.8201.pictures", 0.75),
    Goal("6", "partial LoRA: extra time of the prompt", "extra at most", "prefill.1289.pictures",
         0.10, "prefill.1289"),
    Goal("7", "one view of 490 pixels: flops over the products' rate", "share at least",
         "vision.490", 0.50),
    Goal("7", "56 views of 336 pixels: flops over the products' rate", "share at least",
         "vision.336x56", 0.70),
    Goal("8", "picture of 490 pixels and 64 rows of text to the first id", "ms at most", "ttft.490",
         40.0, card=MS_CARD),
    Goal("8", "55 tiles and 64 rows of text to the first id", "ms at most", "ttft.336x56", 300.0,
         card=MS_CARD),
    Goal("9", "checkpoint in the page cache to the card: bytes over the link's rate",
         "share at least", "engine.weights", 0.60),
    Goal("9", "the whole load, with opening, checking, planning and warming up: bytes over the "
         "link's rate", "share at least", "engine.load", 0.60, judged=False),
    Goal("12", "time of a step that is not streaming", "ms beside streaming at most",
         "decode.bs1.ctx1024", 0.30, card=MS_CARD),
]

# Rows of the goals that one card cannot show.
ELSEWHERE = {"10": "hand-over between devices needs two",
             "11": "throughput of a pipeline needs two"}


def judge(goal: Goal, figures: Figures) -> tuple[float | None, bool | None]:
    """The measured value, as a share or in milliseconds, and whether the goal holds."""
    if goal.figure not in figures or (goal.base and goal.base not in figures):
        return None, None
    seconds = figures[goal.figure]["seconds"]
    if goal.kind == "share at least":
        value = share(goal.figure, figures)
        return value, None if value is None else value >= goal.bound
    if goal.kind == "extra at most":
        value = seconds / figures[goal.base]["seconds"] - 1
        return value, value <= goal.bound
    if goal.kind == "ms at most":
        return seconds * 1e3, seconds * 1e3 <= goal.bound
    limit = memory_limit(figures)
    if limit is None:
        return None, None
    value = (seconds - figures[goal.figure]["bytes"] / limit) * 1e3
    return value, value <= goal.bound


def beaten(figures: Figures) -> list[str]:
    """Figures above their limit: then the limit was measured badly, or the figure is wrong."""
    above = [name for name in figures
             if not name.startswith(("memory.", "gemm.", "host.", "launch.", "peer."))
             and (share(name, figures) or 0) > 1.0]
    return sorted(above)
