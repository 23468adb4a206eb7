"""Greedy answers to one question about many pictures at once, through the real prompt."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from reference.decoder import KeyValue, Rows, Spans, causal_mask
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
        self._table = model.new_rotary_table()

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

    def _embed(self, ids: list[int]) -> torch.Tensor:
        return self._model.model.tok_embeddings(torch.tensor([ids]))              # (1, T, D)

    def _forward(self, h: torch.Tensor, spans: Spans, past: list[KeyValue] | None
                 ) -> tuple[torch.Tensor, list[KeyValue]]:
        total = h.shape[1] + (past[0][0].shape[2] if past else 0)
        cos, sin = (table[total - h.shape[1]:] for table in self._table.rows(total))
        return self._model.model(h, Rows(spans, cos, sin, causal_mask(h.shape[1], total, h)), past)

    def _generate(self, pictures: torch.Tensor, question: str, meta: str) -> list[list[int]]:
        count = len(pictures)
        text = prompt_text(TAG + question, meta=meta)
        before, after = ([BOS] * piece.bos + self._tokenizer.encode(piece.text)
                         for piece in interleave(text, 1, self._model.config.kind))
        # What stands before the picture is the same for all, and so are its keys and values.
        _, past = self._forward(self._embed(before), [], None)
        h = torch.cat((pictures, self._embed(after).expand(count, -1, -1)), dim=1)
        spans = [(0, pictures.shape[1])]
        rows: list[list[int]] = [[] for _ in range(count)]
        seen = torch.zeros(count, self._model.config.vocab, dtype=torch.bool)
        seen[:, BOS] = True
        done = torch.zeros(count, dtype=torch.bool)
        for _ in range(LONGEST):
            h, past = self._forward(h, spans, past)
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
