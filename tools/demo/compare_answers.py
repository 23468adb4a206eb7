"""Compares the engine's answers on the test pictures with the truth and with PyTorch's answers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo import pictures, tasks  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, required=True,
                        help="output of `xcomposer generate --request ... --json`")
    parser.add_argument("--pytorch", type=Path, help="answers of evaluate.py")
    parser.add_argument("--dataset", type=Path, default=pictures.DATASET)
    parser.add_argument("--least-accuracy", type=float, default=88.0, help="percent")
    parser.add_argument("--least-agreement", type=float, default=99.9, help="percent")
    arguments = parser.parse_args()
    answers = json.loads(arguments.engine.read_text(encoding="utf-8"))
    failed = [a for a in answers if "error" in a]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed, the first with {failed[0]['error']}")
    texts = [answer["text"] for answer in answers]
    labels = pictures.fashion("t10k", arguments.dataset)[1][:len(texts)]
    right = sum(t == tasks.CLASSES[c].label for t, c in zip(texts, labels))
    accuracy = 100 * right / len(texts)
    print(f"{len(texts)} pictures, {accuracy:.2f} % right")
    good = accuracy >= arguments.least_accuracy
    if arguments.pytorch:
        lines = arguments.pytorch.read_text(encoding="utf-8").splitlines()
        theirs = {a["index"]: a["answer"] for a in map(json.loads, lines)}
        same = 100 * sum(t == theirs[i] for i, t in enumerate(texts)) / len(texts)
        print(f"{same:.2f} % equal to PyTorch")
        good = good and same >= arguments.least_agreement
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
