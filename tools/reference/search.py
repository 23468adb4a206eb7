"""Greedy and beam search over a step function (model specification 8.6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

# (chosen tokens [B], beam each continues [B]) -> scores of the next token [B, vocab]
Step = Callable[[list[int], list[int]], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    max_new_tokens: int = 1024
    repetition_penalty: float = 1.005
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False


@dataclasses.dataclass
class Found:
    """New ids with the stop id, and the raw scores of every step ([V], or [B, V] for beams)."""

    ids: list[int]
    logits: list[torch.Tensor]
    score: float | None = None


def penalised(scores: torch.Tensor, seen: list[int], penalty: float) -> torch.Tensor:
    """scores [V] with the repetition penalty on the ids in `seen`."""
    scores = scores.clone()
    index = torch.tensor(sorted(set(seen)))
    values = scores[index]
    scores[index] = torch.where(values < 0, values * penalty, values / penalty)
    return scores


def greedy(first: torch.Tensor, step: Step, seen: list[int], stop_ids: set[int],
           options: SearchOptions) -> Found:
    """`first` are the prompt's scores [V], `seen` the ids the penalty starts from."""
    found = Found([], [])
    scores = first
    while True:
        found.logits.append(scores)
        token = int(penalised(scores, seen + found.ids, options.repetition_penalty).argmax())
        found.ids.append(token)
        if token in stop_ids or len(found.ids) == options.max_new_tokens:
            return found
        scores = step([token], [0])[0]


class _Hypotheses:
    """The best finished continuations, at most `size`."""

    def __init__(self, size: int, length_penalty: float):
        self._size, self._length_penalty = size, length_penalty
        self.kept: list[tuple[float, list[int]]] = []

    def add(self, total: float, ids: list[int], length: int) -> None:
        score = total / length ** self._length_penalty
        if len(self.kept) == self._size and score <= min(s for s, _ in self.kept):
            return
        self.kept.append((score, ids))
        if len(self.kept) > self._size:
            self.kept.remove(min(self.kept, key=lambda kept: kept[0]))

    def closed(self, best: float, length: int, early: bool) -> bool:
        if len(self.kept) < self._size:
            return False
        worst = min(s for s, _ in self.kept)
        return early or worst >= best / length ** self._length_penalty


def beam_search(first: torch.Tensor, step: Step, seen: list[int], stop_ids: set[int],
                options: SearchOptions) -> Found:
    """As `greedy`, with `num_beams` beams; lengths count the ids in `seen`."""
    beams = options.num_beams
    sums = torch.full((beams,), -1e9, dtype=first.dtype)
    sums[0] = 0
    ids: list[list[int]] = [[] for _ in range(beams)]
    hypotheses = _Hypotheses(beams, options.length_penalty)
    scores = first.expand(beams, -1)
    found = Found([], [])
    while True:
        found.logits.append(scores)
        logs = torch.log_softmax(scores, dim=-1)
        logs = torch.stack([penalised(row, seen + own, options.repetition_penalty)
                            for row, own in zip(logs, ids)])
        totals = (logs + sums[:, None]).flatten()
        best, where = totals.topk(max(2, 1 + len(stop_ids)) * beams)
        length = len(seen) + len(ids[0])
        chosen: list[tuple[float, int, int]] = []
        for place, (total, index) in enumerate(zip(best.tolist(), where.tolist())):
            beam, token = divmod(index, scores.shape[1])
            if token in stop_ids:
                if place < beams:
                    hypotheses.add(total, ids[beam], length)
            else:
                chosen.append((total, beam, token))
            if len(chosen) == beams:
                break
        ids = [ids[beam] + [token] for _, beam, token in chosen]
        sums = torch.tensor([total for total, _, _ in chosen], dtype=first.dtype)
        if hypotheses.closed(best[0].item(), length + 1, options.early_stopping):
            break
        if len(ids[0]) == options.max_new_tokens:
            for total, own in zip(sums.tolist(), ids):
                hypotheses.add(total, own, len(seen) + len(own))
            break
        scores = step([token for _, _, token in chosen], [beam for _, beam, _ in chosen])
    found.score, found.ids = max(hypotheses.kept, key=lambda kept: kept[0])
    if len(found.ids) < options.max_new_tokens:
        found.ids = found.ids + [2]
    return found
