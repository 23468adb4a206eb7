"""The Python tokenizer around the SentencePiece model (model specification 9)."""

from __future__ import annotations

import re
from pathlib import Path

import sentencepiece

from .prompt import END

BOS = 1
EOS = 2
_SPECIALS = {"<s>": 1, "</s>": 2, "<unk>": 0}
_CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
             (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


class Tokenizer:
    """Encodes without BOS; special strings become control ids and, except in the tiled kinds,
    lose the white space next to them."""

    def __init__(self, path: Path, keep_space: bool = False):
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self._keep_space = keep_space
        end = self._pieces.piece_to_id(END)
        self.stop_ids = {EOS} if end == self._pieces.unk_id() else {EOS, end}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        parts = re.split(r"(<s>|</s>|<unk>)", text)
        for index, part in enumerate(parts):
            if part in _SPECIALS:
                ids.append(_SPECIALS[part])
                continue
            if not self._keep_space:
                part = part.lstrip() if index > 0 else part
                part = part.rstrip() if index + 1 < len(parts) else part
            ids += self._pieces.encode(part)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text without control ids, cleaned up, cut at the end marker."""
        text = self._pieces.decode([i for i in ids if i > 2])
        for found, replacement in _CLEAN_UP:
            text = text.replace(found, replacement)
        return text.split(END)[0]
