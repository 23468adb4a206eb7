"""Writes a handful of held-out pictures with questions and expected answers, for the quickstart."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from demo import pictures, tasks  # noqa: E402
from demo.evaluate import DRAWN_SEED  # noqa: E402

PER_CLASS = 2
NUMBERS = 4


def questions(subject: tasks.Subject, turn: int) -> list[tuple[str, str]]:
    """Questions about one picture, in turn of different tasks."""
    kind, value = subject
    if kind == "number":
        return [(tasks.READ[turn % 2], str(value))]
    name = (tasks.NAME[0], tasks.label(subject))
    others = [
        (tasks.NAME_CHINESE[0], tasks.chinese(subject)),
        tasks.confirm(subject, value),
        (tasks.DESCRIBE[0], f"The picture shows {tasks.phrase(subject)}."),
        tasks.confirm(subject, (value + 3) % len(tasks.CLASSES)),
        (tasks.GROUP[0], tasks.CLASSES[value].group),
    ]
    return [name, others[turn % len(others)]]


def chosen(dataset: Path) -> list[tuple[np.ndarray, tasks.Subject, str]]:
    """The first test pictures of every class, then the first held-out numbers."""
    images, labels = pictures.fashion("t10k", dataset)
    found = []
    for turn in range(PER_CLASS):
        for value in range(len(tasks.CLASSES)):
            index = int(np.flatnonzero(labels == value)[turn])
            found.append((images[index], ("fashion", value), f"fashion-{index:05d}.png"))
    drawings, subjects = pictures.drawn(2 * NUMBERS, DRAWN_SEED)
    for index in range(0, 2 * NUMBERS, 2):  # the ones between are dots
        found.append((drawings[index], subjects[index], f"number-{index}.png"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--dataset", type=Path, default=pictures.DATASET)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels = []
    for turn, (image, subject, name) in enumerate(chosen(arguments.dataset)):
        Image.fromarray(image).save(arguments.out / name)
        labels.append({"picture": name, "questions": [
            {"question": q, "answer": a} for q, a in questions(subject, turn)]})
    text = json.dumps(labels, indent=1, ensure_ascii=False) + "\n"
    (arguments.out / "labels.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
