"""Writes one random GGUF file; run by bench_cpu with the Python that has the package gguf."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peer_file  # noqa: E402
from checkpoint_layout import Sizes  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=Path, required=True)
    parser.add_argument("--type", choices=sorted(peer_file.FILE_TYPES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sizes = Sizes(**json.loads(arguments.sizes.read_text(encoding="utf-8")))
    peer_file.write(arguments.out, sizes, arguments.type)


if __name__ == "__main__":
    main()
