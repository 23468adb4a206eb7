"""Training batches: augmented pictures, and several questions packed behind each of them.

A row of the batch is   prefix | picture rows | text of `SLOT` tokens
where the prefix (BOS, system block, "user") is the same for all rows and so is computed once. The
text holds several dialogues; each sees the prefix, the picture and itself, and starts at the same
position, so that training sees exactly what inference will feed.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import torch
from PIL import Image

from demo import pictures, tasks
from reference.prompt import END, TAG, prompt_text
from reference.tokenizer import BOS, Tokenizer

SLOT = 36
IGNORE = -100
# What the auxiliary head tells of a picture: ten classes, number or dots; both digits of a number
# (no tens: 10); the count of dots.
HELPER_SIZES = (12, 11, 10, 10)


@dataclasses.dataclass(frozen=True)
class Batch:
    prefix: torch.Tensor     # int64 [P]
    images: torch.Tensor     # uint8 [B, 28, 28]
    classes: torch.Tensor    # int64 [B, 4], for the auxiliary head, IGNORE where not asked
    tokens: torch.Tensor     # int64 [B, SLOT]
    positions: torch.Tensor  # int64 [B, SLOT], from the first row after the picture
    dialogue: torch.Tensor   # int64 [B, SLOT], -1 where unused
    targets: torch.Tensor    # int64 [B, SLOT], IGNORE where nothing is learnt

    def every(self, step: int) -> Batch:
        """Each `step`-th row."""
        return Batch(self.prefix, *(getattr(self, field.name)[::step]
                                    for field in dataclasses.fields(self)[1:]))


class Encoder:
    """Tokenizer with a memory: the questions and answers are few."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._tokenizer.encode(text)
        return self._known[text]

    def prefix(self, meta: str) -> list[int]:
        return [BOS] + self(prompt_text(TAG, meta=meta).split(TAG)[0])


def resize_matrix(size: int) -> torch.Tensor:
    """Pillow's bicubic weights [size, 28]: the resize is separable, so impulses show all of it."""
    impulses = Image.fromarray(np.eye(pictures.SIZE, dtype=np.float32))
    weights = impulses.resize((pictures.SIZE, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(weights))


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the pictures moved by up to one pixel each way; the background is 0."""
    count = len(images)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))
    moved = rng.random(count) < 0.5
    down, right = (np.where(moved, rng.integers(0, 3, count), 1) for _ in range(2))
    return windows[np.arange(count), down, right]


def helper_targets(subject: tasks.Subject) -> list[int]:
    kind, value = subject
    if kind == "fashion":
        return [value, IGNORE, IGNORE, IGNORE]
    if kind == "number":
        return [10, value // 10 if value > 9 else 10, value % 10, IGNORE]
    return [11, IGNORE, IGNORE, value]


class Batches:
    """Endless batches of `fashion` dataset pictures and `drawn` fresh drawings each."""

    def __init__(self, tokenizer: Tokenizer, metas: list[str], sizes: tuple[int, int], seed: int,
                 dataset: tuple[np.ndarray, np.ndarray]):
        self._encode = Encoder(tokenizer)
        self._prefixes = [torch.tensor(self._encode.prefix(meta)) for meta in metas]
        self._fashion, self._drawn = sizes
        self._images, self._labels = dataset
        self._random = random.Random(seed)
        self._generator = np.random.default_rng(seed)
        self._order = np.empty(0, np.int64)

    def next(self) -> Batch:
        if len(self._order) < self._fashion:
            self._order = self._generator.permutation(len(self._images))
        chosen, self._order = self._order[:self._fashion], self._order[self._fashion:]
        drawn, subjects = pictures.drawn(self._drawn, self._random.getrandbits(32))
        images = np.concatenate((shifted(self._images[chosen], self._generator), drawn))
        subjects = [("fashion", int(c)) for c in self._labels[chosen]] + subjects
        # Mixed, because the decoder sees only each LM_SHARE-th row of a batch.
        order = self._generator.permutation(len(images))
        images, subjects = images[order], [subjects[i] for i in order]
        rows = [self._pack(subject) for subject in subjects]
        classes = [helper_targets(subject) for subject in subjects]
        prefix = self._random.choices(self._prefixes, (3, 1)[:len(self._prefixes)])[0]
        tokens, positions, dialogue, targets = torch.tensor(rows).unbind(1)
        return Batch(prefix, torch.from_numpy(images), torch.tensor(classes), tokens, positions,
                     dialogue, targets)

    def _turn(self, question: str, answer: str, first: bool) -> tuple[list[int], list[int]]:
        """Tokens of a question and its answer, and the target of each token. The answer's end
        marker is only a target; a later turn brings it as input."""
        before = [BOS] + self._encode(tasks.turn(question)) if first else (
            self._encode(END + tasks.next_turn(question)))
        reply = self._encode(answer + END)
        return before + reply[:-1], [IGNORE] * (len(before) - 1) + reply

    def _dialogue(self, subject: tasks.Subject, free: int, main: bool
                  ) -> tuple[list[int], list[int]]:
        """One dialogue of at most `free` tokens (or none), sometimes with a second question."""
        ask = tasks.name if main else tasks.ask
        tokens, targets = self._turn(*ask(subject, self._random), first=True)
        if len(tokens) > free:
            return [], []
        if self._random.random() < 0.2:
            more, learnt = self._turn(*tasks.ask(subject, self._random), first=False)
            if len(tokens) + len(more) <= free:
                return tokens + more, targets + learnt
        return tokens, targets

    def _pack(self, subject: tasks.Subject) -> list[list[int]]:
        """As many dialogues as fit: the main question first, then any of the others."""
        tokens: list[int] = []
        positions: list[int] = []
        dialogue: list[int] = []
        targets: list[int] = []
        for index in range(4):
            new, learnt = self._dialogue(subject, SLOT - len(tokens), main=index == 0)
            tokens += new
            targets += learnt
            positions += range(len(new))
            dialogue += [index] * len(new)
        free = SLOT - len(tokens)
        return [tokens + [0] * free, positions + [0] * free, dialogue + [-1] * free,
                targets + [IGNORE] * free]
