"""Accuracy of a demo checkpoint on held-out pictures, and its answers as JSON lines.

Weights are the stored bfloat16 numbers, arithmetic is float32: what the engine computes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from demo import pictures, tasks  # noqa: E402
from demo.answering import Answerer  # noqa: E402
from reference import checkpoint  # noqa: E402
from reference.prompt import META  # noqa: E402
from reference.tokenizer import Tokenizer  # noqa: E402

DRAWN_SEED = 20240229  # of the held-out drawings; training seeds come from another generator


def score(answers: list[str], expected: list[str]) -> float:
    return 100 * sum(a == e for a, e in zip(answers, expected)) / len(expected)


def grouped(answerer: Answerer, features: torch.Tensor, pairs: list[tuple[str, str]],
            meta: str = META) -> list[str]:
    """Answers where each picture has its own question: pictures of one question go together."""
    answers = [""] * len(pairs)
    for question in sorted({q for q, _ in pairs}):
        chosen = [i for i, (q, _) in enumerate(pairs) if q == question]
        for index, text in zip(chosen, answerer.answer(features[chosen], question, meta)):
            answers[index] = text
    return answers


def all_tasks(answerer: Answerer, fashion: torch.Tensor, labels: np.ndarray, drawn: torch.Tensor,
              subjects: list[tasks.Subject]) -> dict[str, float]:
    """Percent of exactly right answers per task."""
    rng = random.Random(0)
    worn = [("fashion", int(c)) for c in labels]
    names, chinese = [tasks.label(s) for s in worn], [tasks.chinese(s) for s in worn]
    result = {}
    for question in tasks.NAME[1:]:
        result[question] = score(answerer.answer(fashion, question), names)
    result[f"{tasks.NAME[0]} (no system text)"] = score(
        answerer.answer(fashion, tasks.NAME[0], ""), names)
    for question in tasks.NAME_CHINESE:
        result[question] = score(answerer.answer(fashion, question), chinese)
    result[tasks.DESCRIBE[0]] = score(answerer.answer(fashion, tasks.DESCRIBE[0]),
                                      [f"The picture shows {tasks.phrase(s)}." for s in worn])
    result[tasks.GROUP[0]] = score(answerer.answer(fashion, tasks.GROUP[0]),
                                   [tasks.CLASSES[c].group for _, c in worn])
    asked = [c if rng.random() < 0.5 else rng.randrange(10) for _, c in worn]
    for title, make in (("Is this a ...?", tasks.confirm), ("这是……吗？", tasks.confirm_chinese)):
        pairs = [make(s, a) for s, a in zip(worn, asked)]
        answers = grouped(answerer, fashion, pairs)
        yes_no = [(a.split(",")[0].split("，")[0], e.split(",")[0].split("，")[0])
                  for a, (_, e) in zip(answers, pairs)]
        result[f"{title} (yes or no)"] = 100 * sum(a == e for a, e in yes_no) / len(yes_no)
        result[f"{title} (whole answer)"] = score(answers, [e for _, e in pairs])
    for kind, question in (("number", tasks.READ[0]), ("dots", tasks.COUNT[0])):
        chosen = [i for i, s in enumerate(subjects) if s[0] == kind]
        answers = answerer.answer(drawn[chosen], question)
        result[question] = score(answers, [str(subjects[i][1]) for i in chosen])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--dataset", type=Path, default=pictures.DATASET)
    parser.add_argument("--pictures", type=int, default=10000, help="the first so many")
    parser.add_argument("--question", default=tasks.NAME[0])
    parser.add_argument("--answers", type=Path, help="write {index, answer} per line here")
    parser.add_argument("--all", action="store_true", help="every task, not only the question")
    parser.add_argument("--others", type=int, default=2000, help="pictures for the other tasks")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    answerer = Answerer(checkpoint.load(arguments.model),
                        Tokenizer(arguments.model / "tokenizer.model"))
    images, labels = pictures.fashion("t10k", arguments.dataset)
    images, labels = images[:arguments.pictures], labels[:arguments.pictures]
    with torch.inference_mode():
        fashion = answerer.features(images)
        answers = answerer.answer(fashion, arguments.question)
        right = score(answers, [tasks.CLASSES[c].label for c in labels])
        print(f"{arguments.question}  {right:.2f} %", flush=True)
        if arguments.answers:
            lines = [json.dumps({"index": i, "answer": a}, ensure_ascii=False)
                     for i, a in enumerate(answers)]
            arguments.answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if arguments.all:
            drawings, subjects = pictures.drawn(2000, DRAWN_SEED)
            drawn = answerer.features(drawings)
            fashion, labels = fashion[:arguments.others], labels[:arguments.others]
            for task, percent in all_tasks(answerer, fashion, labels, drawn, subjects).items():
                print(f"{task}  {percent:.2f} %", flush=True)


if __name__ == "__main__":
    main()
