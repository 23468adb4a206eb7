"""Compares the reference model with recorded goldens: ids, text and intermediate tensors.

A tap passes within 1e-4 of its root mean square; ids must be equal.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from reference.runner import Result, Runner  # noqa: E402

LIMIT = 1e-4
# Recorded beside the taps: which rows they hold, the crops' statistics, what beams chose from.
BESIDE = re.compile(r"_(rows|cols|crops|tokens)$|\.pixels_stats$|^beam\.")


def recorded_rows(name: str, taps: dict[str, torch.Tensor], mine: torch.Tensor) -> torch.Tensor:
    """The rows of our whole tensor that the golden holds."""
    if name.endswith(".vit") and name + "_crops" in taps:
        return mine[taps[name + "_crops"].long()][:, taps[name + "_tokens"].long()]
    rows = name + "_rows"
    if name.startswith(("layer", "final_norm")):
        rows = "layer_rows"
    elif name == "prefill_logits":
        rows = "prefill_rows"
    elif name == "logits" and "logits_cols" in taps:
        return mine[..., taps["logits_cols"].long()]
    return mine[taps[rows].long()] if rows in taps else mine


def compare(case: dict, result: Result, taps: dict[str, torch.Tensor]) -> list[str]:
    """What differs, in words."""
    faults = []
    if "output_ids" in case and result.output_ids != case["output_ids"]:
        faults.append(f"ids {result.output_ids} instead of {case['output_ids']}")
    if "output_text" in case and result.output_ids and result.text != case["output_text"]:
        faults.append(f"text {result.text!r} instead of {case['output_text']!r}")
    for name, expected in taps.items():
        if name not in result.taps:
            if not BESIDE.search(name):
                faults.append(f"{name}: recorded, and not computed")
            continue
        mine = recorded_rows(name, taps, result.taps[name])
        if mine.shape != expected.shape:
            faults.append(f"{name}: shape {list(mine.shape)} instead of {list(expected.shape)}")
        elif not expected.is_floating_point():
            if not torch.equal(mine, expected):
                faults.append(f"{name}: {(mine != expected).sum()} values differ")
        else:
            size = expected.double().pow(2).mean().sqrt().item()
            off = (mine.double() - expected.double()).abs().max().item()
            if not off <= LIMIT * size:  # not (off > ...), which a NaN would pass
                faults.append(f"{name}: off by {off:.2e}, size {size:.2e}")
    return faults


def check_kind(folder: Path, data: Path, dtype: torch.dtype) -> int:
    """Runs every case of a kind folder; returns the number of failed ones."""
    runner = Runner(folder / "model", dtype)
    failed = 0
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        request = dict(case)
        if "image0.video" in case:
            request["images"] = [{"canvas": case["image0.video"]["canvas"]}]
        keep = case.get("rope_state", "fresh") != "fresh"
        result = runner.run(request, [data, folder], keep_rotary=keep)
        faults = compare(case, result, load_file(folder / case["taps"]))
        failed += bool(faults)
        print(f"{folder.name}/{case['name']}: {'; '.join(faults) or 'equal'}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True,
                        help="folder that holds data/goldens and data/images")
    parser.add_argument("--kinds", nargs="*", help="kind folders (default: all but 4 bit)")
    parser.add_argument("--float64", action="store_true", help="arithmetic in float64")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = arguments.shared / "data"
    found = sorted(p.parent.name for p in (data / "goldens").glob("*/cases.json"))
    kinds = arguments.kinds or [k for k in found if not k.endswith("4bit")]
    if not kinds:
        raise SystemExit(f"no goldens under {data}")
    dtype = torch.float64 if arguments.float64 else torch.float32
    failed = sum(check_kind(data / "goldens" / kind, data, dtype) for kind in kinds)
    print(f"{failed} cases differ" if failed else "all cases equal")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
