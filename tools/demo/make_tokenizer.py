"""Trains the demo's tokenizer.model: byte-pair pieces with the id layout of the real one.

Ids: 0 <unk>, 1 <s>, 2 </s>, 3..258 bytes, then normal pieces, last [UNUSED_TOKEN_0]..[_146].
"""

from __future__ import annotations

import argparse
import io
import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sentencepiece  # noqa: E402
from sentencepiece import sentencepiece_model_pb2  # noqa: E402

from demo import tasks  # noqa: E402
from reference.prompt import META  # noqa: E402

MARKERS = [f"[UNUSED_TOKEN_{n}]" for n in range(147)]


def corpus() -> list[str]:
    """Questions and answers, the system text and role names, one per line."""
    lines = tasks.all_texts() * 3 + META.split("\n") * 30 + ["system", "user", "assistant"] * 300
    lines += [item.label for item in tasks.CLASSES] * 100
    lines += [f"{c} {c}" for c in string.ascii_letters + string.digits + string.punctuation]
    return lines


def train(vocabulary: int) -> bytes:
    """The trained model, its user-defined pieces moved behind the normal ones."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=written, model_type="bpe",
        vocab_size=vocabulary, character_coverage=1.0, byte_fallback=True, split_digits=True,
        user_defined_symbols=["\n"] + MARKERS,
        normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, max_sentencepiece_length=24, minloglevel=2)
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    pieces = list(model.pieces)
    defined = [p for p in pieces if p.type == p.USER_DEFINED]
    others = [p for p in pieces if p.type != p.USER_DEFINED]
    del model.pieces[:]
    model.pieces.extend(others + defined)
    return model.SerializeToString(deterministic=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="tokenizer.model to write")
    parser.add_argument("--vocabulary", type=int, default=1024)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(train(arguments.vocabulary))


if __name__ == "__main__":
    main()
