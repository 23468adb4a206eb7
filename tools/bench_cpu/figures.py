"""Medians, shares of limits and ratios out of samples."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from rounds import OURS, PEER, VARIANTS, Sample


#: what weights that are not quantised, ours and the peer's, are multiplied by at best
PRODUCTS = {"bf16": "fp32 fma", "bf12": "fp32 fma", "fp16": "fp32 fma", "F16": "fp32 fma",
            "bf16-rounded": "bf16 dot", "BF16": "bf16 dot"}


@dataclasses.dataclass(frozen=True)
class Spread:
    median: float
    least: float
    most: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1], len(known))


def limits_that_bind(sample: Sample) -> list[tuple[str, float]]:
    """The limits that hold for this way of computing, each with what of it a run used, in percent.

    Reading memory always; products in 8 bits where the weights are quantised, or of bfloat16 where
    activations are, if the processor has instructions for that; else fused multiply-adds."""
    product = PRODUCTS.get(sample.weights, "int8 dot")
    if product not in sample.limits:
        product = "fp32 fma"
    shares = []
    for limit, amount in (("memory read", sample.bytes), (product, sample.operations)):
        if limit in sample.limits:
            shares.append((limit, 100 * amount / sample.limits[limit] / sample.seconds))
    return shares


def bound(sample: Sample) -> tuple[str, float]:
    """The nearest limit."""
    return max(limits_that_bind(sample), key=lambda share: share[1], default=("", 0.0))


@dataclasses.dataclass(frozen=True)
class Figure:
    """One engine, weights and figure over all rounds."""

    engine: str
    weights: str
    figure: str
    tokens_per_s: Spread
    limit: str
    percent: Spread
    rate: float  # bytes or operations per second, as the limit
    rounds: int
    left_out: int  # rounds in which the machine was not quiet
    foreign_percent: float


def quiet(samples: Sequence[Sample], most: float) -> list[Sample]:
    """Those of a quiet machine; all of them where it never was."""
    kept = [sample for sample in samples if sample.foreign_percent <= most]
    return kept or list(samples)


def figure_of(samples: Sequence[Sample], most_foreign: float) -> Figure:
    kept = quiet(samples, most_foreign)
    first = kept[0]
    limit = statistics.mode(bound(sample)[0] for sample in kept)
    shares = [dict(limits_that_bind(sample)).get(limit, 0.0) for sample in kept]
    amount = first.bytes if limit == "memory read" else first.operations
    return Figure(first.engine, first.weights, first.figure,
                  spread(sample.rows / sample.seconds for sample in kept), limit, spread(shares),
                  amount / statistics.median(sample.seconds for sample in kept), len(samples),
                  len(samples) - len(kept),
                  statistics.median(sample.foreign_percent for sample in kept))


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table."""

    ours: Figure
    peer: Figure | None
    ratio: Spread | None  # ours over the peer's, of the same rounds


def rows(samples: Sequence[Sample], most_foreign: float) -> list[Row]:
    """In the order of the samples, figure by figure."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.engine, sample.weights, sample.figure), []).append(sample)
    table = []
    names = dict.fromkeys(sample.figure for sample in samples)
    for name in names:
        for engine, weights, figure in groups:
            if engine != OURS or figure != name:
                continue
            ours = groups[engine, weights, figure]
            peers = groups.get((PEER, VARIANTS[weights][1], figure))
            table.append(Row(figure_of(ours, most_foreign),
                             figure_of(peers, most_foreign) if peers else None,
                             ratio_of(ours, peers, most_foreign) if peers else None))
    return table


def ratio_of(ours: Sequence[Sample], peers: Sequence[Sample], most: float) -> Spread:
    """How many times as fast we are, round by round; rounds in which both had a quiet machine,
    where there are any."""
    by_round = {sample.round: sample for sample in peers}
    pairs = [(sample, by_round[sample.round]) for sample in ours if sample.round in by_round]
    still = [pair for pair in pairs if max(s.foreign_percent for s in pair) <= most]
    return spread(peer.seconds / mine.seconds for mine, peer in still or pairs)


def limit_spreads(samples: Sequence[Sample]) -> dict[str, Spread]:
    """Each process's limits, once."""
    seen: dict[str, dict[tuple[int, str], float]] = {}
    for sample in samples:
        if sample.engine == OURS:
            for name, rate in sample.limits.items():
                seen.setdefault(name, {})[sample.round, sample.weights] = rate
    return {name: spread(rates.values()) for name, rates in seen.items()}


def doubts(table: Sequence[Row], quiet_percent: float) -> list[str]:
    """What makes the figures doubtful."""
    found = []
    for row in table:
        for figure in (row.ours, row.peer):
            if figure is None:
                continue
            what = f"{figure.engine} {figure.weights}, {figure.figure}"
            if figure.percent.median > 100:
                found.append(f"{what}: {figure.percent.median:.0f} % of '{figure.limit}'. Nothing "
                             "can be faster than a limit: the limit was measured too low, and every "
                             "share of it is too high.")
            if figure.foreign_percent > quiet_percent:
                found.append(f"{what}: other programs used {figure.foreign_percent:.0f} % of the "
                             "processors meanwhile.")
    return found
