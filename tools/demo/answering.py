"""Greedy answers to one question about many pictures at once, through the real prompt."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from reference.decoder import Rows, causal_mask
from reference.model import XComposer
from reference.preprocess import normalise, square
from reference.prompt import META, TAG, interleave, prompt_text
from reference.tokenizer import BOS, Tokenizer

LONGEST = 24
PENALTY = 1.005  # default of the published chat call


class Answerer:
    def __init__(self, model: XComposer, tokenizer: Tokenizer):
        self._model = model
        self._tokenizer = tokenizer

    def features(self, images: np.ndarray, batch: int = 250) -> torch.Tensor:
        """uint8 [N, H, W] gray -> projected picture rows [N, R, hidden]."""
        size = self._model.config.vision.image_size
        rows = []
        for begin in range(0, len(images), batch):
            pixels = torch.stack([normalise(square(Image.fromarray(image), size))
                                  for image in images[begin:begin + batch]])
            rows.append(self._model.vision_proj(self._model.vit(pixels)))
        return torch.cat(rows)

    def answer(self, features: torch.Tensor, question: str, meta: str = META,
               batch: int = 250) -> list[str]:
        """One answer per picture."""
        ids = [i for part in features.split(batch) for i in self._generate(part, question, meta)]
        return [self._tokenizer.decode(row) for row in ids]

    def _embed(self, ids: list[int], count: int) -> torch.Tensor:
        return self._model.model.tok_embeddings(torch.tensor([ids])).expand(count, -1, -1)

    def _generate(self, pictures: torch.Tensor, question: str, meta: str) -> list[list[int]]:
        count = len(pictures)
        text = prompt_text(TAG + question, meta=meta)
        before, after = ([BOS] * piece.bos + self._tokenizer.encode(piece.text)
                         for piece in interleave(text, 1, self._model.config.kind))
        h = torch.cat((self._embed(before, count), pictures, self._embed(after, count)), dim=1)
        spans = [(len(before), len(before) + pictures.shape[1])]
        table = self._model.new_rotary_table()
        total, past = 0, None
        rows: list[list[int]] = [[] for _ in range(count)]
        seen = torch.zeros(count, self._model.config.vocab, dtype=torch.bool)
        seen[:, BOS] = True
        done = torch.zeros(count, dtype=torch.bool)
        for _ in range(LONGEST):
            new, total = h.shape[1], total + h.shape[1]
            cos, sin = table.rows(total)
            call = Rows(spans, cos[total - new:], sin[total - new:], causal_mask(new, total, h))
            h, past = self._model.model(h, call, past)
            scores = self._model.output(h[:, -1])                                 # (B, V)
            lowered = torch.where(scores > 0, scores / PENALTY, scores * PENALTY)
            chosen = torch.where(seen, lowered, scores).argmax(-1)
            seen[torch.arange(count), chosen] = True
            for row, (token, finished) in enumerate(zip(chosen.tolist(), done.tolist())):
                if not finished:
                    rows[row].append(token)
            done |= torch.isin(chosen, torch.tensor(sorted(self._tokenizer.stop_ids)))
            if done.all():
                break
            h, spans = self._model.model.tok_embeddings(chosen)[:, None], []
        return rows
