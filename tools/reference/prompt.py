"""Prompt text and interleaving with pictures (model specification 8.1 to 8.3)."""

from __future__ import annotations

import dataclasses

TAG = "<ImageHere>"
START = "[UNUSED_TOKEN_146]"
END = "[UNUSED_TOKEN_145]"
META = "\n".join((
    "You are an AI assistant whose name is InternLM-XComposer (浦语·灵笔).",
    "- InternLM-XComposer (浦语·灵笔) is a multi-modality conversational language model that is "
    "developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, "
    "honest, and harmless.",
    "- InternLM-XComposer (浦语·灵笔) can understand and communicate fluently in the language "
    "chosen by the user such as English and 中文.",
    "- InternLM-XComposer (浦语·灵笔) is capable of comprehending and articulating responses "
    "effectively based on the provided image.",
))


@dataclasses.dataclass(frozen=True)
class Piece:
    """A text that is tokenised on its own, with or without BOS, then possibly a picture."""

    text: str
    bos: bool
    image: int | None


def prompt_text(query: str, history: list[tuple[str, str]] | None = None, meta: str = META) -> str:
    """The full prompt string; an empty `meta` leaves the system block out."""
    text = f"{START}system\n{meta}{END}\n" if meta else ""
    for asked, answered in history or []:
        text += f"{START}user\n{asked}{END}\n{START}assistant\n{answered}{END}\n"
    return text + f"{START}user\n{query}{END}\n{START}assistant\n"


def interleave(text: str, images: int, kind: str) -> list[Piece]:
    """Splits a prompt at the picture tags and decides where BOS stands."""
    parts = text.split(TAG)
    if kind == "2.5-7b":
        if len(parts) == 1 and images == 1:
            parts = [""] + parts
    elif len(parts) - 1 != images:
        raise ValueError(f"{len(parts) - 1} {TAG} tags for {images} pictures")
    pieces = []
    for index, part in enumerate(parts):
        bos = index == 0 if kind == "2.5-7b" else part != ""
        pieces.append(Piece(part, bos, index if index < images else None))
    return pieces
