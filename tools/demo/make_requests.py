"""Writes the Fashion-MNIST test pictures as PNG files and a list of requests about them.

    xcomposer generate --model demo/checkpoint --request OUT/requests.json --json > answers.json

The list is in picture order; `compare_answers.py` reads the engine's answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image  # noqa: E402

from demo import pictures, tasks  # noqa: E402
from demo.answering import LONGEST  # noqa: E402
from reference.prompt import TAG  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--dataset", type=Path, default=pictures.DATASET)
    parser.add_argument("--pictures", type=int, default=10000, help="the first so many")
    parser.add_argument("--question", default=tasks.NAME[0])
    arguments = parser.parse_args()
    images, _ = pictures.fashion("t10k", arguments.dataset)
    folder = arguments.out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    requests = []
    for index, image in enumerate(images[:arguments.pictures]):
        name = f"{index:05d}.png"
        Image.fromarray(image).save(folder / name)
        requests.append({
            "id": str(index), "query": TAG + arguments.question, "images": [f"pictures/{name}"],
            "generate": {"do_sample": False, "max_new_tokens": LONGEST}})
    text = json.dumps(requests, indent=0, ensure_ascii=False) + "\n"
    (arguments.out / "requests.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
