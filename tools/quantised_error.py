"""How far quantised weights move the scores of the recorded cases, per kind.

    python tools/quantised_error.py --program build/release/bin/xcomposer --goldens ../shared/data/goldens

Runs the prompt of every recorded case with the weights as stored and with each precision, and
prints the root mean square of the difference between the scores of the first new id, as a share of
the root mean square of the scores, and how often the best id is another one. Needs numpy.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

PRECISIONS = ("int8", "int4")


def read_logits(path: Path) -> np.ndarray:
    """(vocab): the scores that chose the first new id."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + length])["logits"]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    return np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])[0].ravel()


def first_scores(program: Path, folder: Path, index: int, precision: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "trace.safetensors"
        command = [str(program), "trace", "--model", str(folder / "model"), "--request",
                   str(folder / "cases.json"), "--index", str(index), "--image-root",
                   str(folder.parent.parent), str(folder), "--taps", "logits", "--out", str(out),
                   "--max-new-tokens", "1", "--num-beams", "1", "--quiet", "--weights", precision]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return read_logits(out)


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def measure(program: Path, folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    indices = [i for i, case in enumerate(cases) if case.get("call", "chat") == "chat"
               and case.get("rope_state", "fresh") == "fresh" and "image0.video" not in case]
    stored = [first_scores(program, folder, i, "stored") for i in indices]
    for precision in PRECISIONS:
        found = [first_scores(program, folder, i, precision) for i in indices]
        shares = [root_mean_square(a - b) / root_mean_square(b) for a, b in zip(found, stored)]
        other = sum(int(a.argmax() != b.argmax()) for a, b in zip(found, stored))
        print(f"{folder.name:20} {precision} error {np.mean(shares):.4f} (largest "
              f"{max(shares):.4f}) of the scores; another best id in {other} of {len(indices)}",
              flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--goldens", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=[], help="only these folders")
    arguments = parser.parse_args()
    for folder in sorted(arguments.goldens.iterdir()):
        wanted = not arguments.kinds or folder.name in arguments.kinds
        quantised = folder.name.endswith("-4bit")
        if wanted and not quantised and (folder / "cases.json").exists():
            measure(arguments.program, folder)


if __name__ == "__main__":
    main()
