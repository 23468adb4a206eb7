"""How far quantised weights, or keys and values in int8, move the scores of the recorded cases.

    python tools/quantised_error.py --program build/release/bin/xcomposer --goldens ../shared/data/goldens

Answers every recorded case greedily, without beams, with everything as stored and with each change.
Prints per kind the root mean square of the difference between the scores of the first new id, as a
share of the root mean square of the scores, how often the best id is another one, and how many
answers have the same ids from start to end. Needs numpy.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

CHANGES = {"int8": ("--weights", "int8"), "int4": ("--weights", "int4"), "kv-int8": ("--kv", "int8"),
           "activations-bf16": ("--activations", "bf16")}


def read_logits(path: Path) -> np.ndarray:
    """(vocab): the scores that chose the first new id."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8:8 + length])["logits"]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    return np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])[0].ravel()


def answer(program: Path, folder: Path, index: int, change: tuple[str, ...]) -> tuple[np.ndarray, list]:
    """The scores of the first new id, and all new ids."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "trace.safetensors"
        command = [str(program), "trace", "--model", str(folder / "model"), "--request",
                   str(folder / "cases.json"), "--index", str(index), "--image-root",
                   str(folder.parent.parent), str(folder), "--taps", "logits", "--out", str(out),
                   "--num-beams", "1", "--greedy", "--quiet", "--json", *change]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return read_logits(out), json.loads(run.stdout)["output_ids"]


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def measure(program: Path, folder: Path, changes: list[str]) -> None:
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    indices = [i for i, case in enumerate(cases) if case.get("call", "chat") == "chat"
               and case.get("rope_state", "fresh") == "fresh" and "image0.video" not in case]
    stored = [answer(program, folder, i, ()) for i in indices]
    for name in changes:
        found = [answer(program, folder, i, CHANGES[name]) for i in indices]
        pairs = list(zip(found, stored))
        shares = [root_mean_square(a - b) / root_mean_square(b) for (a, _), (b, _) in pairs]
        other = sum(int(a.argmax() != b.argmax()) for (a, _), (b, _) in pairs)
        same = sum(int(a == b) for (_, a), (_, b) in pairs)
        print(f"{folder.name:20} {name:8} error {np.mean(shares):.5f} (largest {max(shares):.5f}) of "
              f"the scores; another best id in {other}, the same answer in {same} of {len(indices)}",
              flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--goldens", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=[], help="only these folders")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES),
                        help="only these; a checkpoint in 4 bits has no other weights to compare")
    arguments = parser.parse_args()
    for folder in sorted(arguments.goldens.iterdir()):
        if arguments.kinds and folder.name not in arguments.kinds:
            continue
        changes = [name for name in arguments.changes
                   if not name.startswith("int") or not folder.name.endswith("-4bit")]
        if changes and (folder / "cases.json").exists():
            measure(arguments.program, folder, changes)


if __name__ == "__main__":
    main()
