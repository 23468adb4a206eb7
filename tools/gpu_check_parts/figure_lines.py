"""The lines of JSON that measuring programs print (tests/bench/cuda/figures.h)."""

from __future__ import annotations

import json
import math
from typing import Any

from . import result
from .bounded import Outcome

NO_DEVICE = 5  # exit code


def read(outcome: Outcome) -> result.Result:
    """The figures of a run, finished or not."""
    figures: dict[str, dict[str, Any]] = {}
    details: dict[str, Any] = {"skipped": {}, "failed": {}, "rubbish_lines": 0}
    no_device = ""
    for text in outcome.out.splitlines():
        line = _object(text)
        if "figure" in line and _is_time(line.get("seconds")):
            figures[str(line["figure"])] = _figure(line)
        elif "figure" in line:
            details["failed"][str(line["figure"])] = f"no time: {line.get('seconds')!r}"
        elif "skipped" in line or "failed" in line:
            kind = "skipped" if "skipped" in line else "failed"
            details[kind][str(line[kind])] = str(line.get("reason", ""))
        elif "device" in line:
            details["device"] = line
        elif "no_device" in line:
            no_device = str(line["no_device"])
        elif text.strip():
            details["rubbish_lines"] += 1
    state, reason = _judge(outcome, figures, details, no_device)
    return result.Result(state, reason, figures, details)


def _judge(outcome: Outcome, figures: dict, details: dict, no_device: str) -> tuple[str, str]:
    count = f"{len(figures)} figures"
    if outcome.missing:
        return result.SKIPPED, outcome.missing
    if no_device or (outcome.code == NO_DEVICE and not figures):
        return result.SKIPPED, f"no NVIDIA GPU: {no_device or outcome.last_words}"
    if details["failed"]:
        return result.FAILED, f"{count}; failed: " + ", ".join(details["failed"])
    if outcome.timed_out:
        return result.TIMED_OUT, f"{count} when it was stopped after {outcome.seconds:.0f} s"
    if outcome.code != 0:
        return result.FAILED, f"{count}; {outcome.what_happened}: {outcome.last_words}"
    if figures:
        return result.PASSED, count
    if details["skipped"]:
        return result.SKIPPED, "; ".join(f"{k}: {v}" for k, v in details["skipped"].items())
    return result.FAILED, "the program printed no figure"


def _object(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _figure(line: dict) -> dict[str, Any]:
    """Times and work as numbers, remarks as text; anything else is dropped."""
    kept: dict[str, Any] = {"seconds": line["seconds"]}
    for name in ("least", "most", "bytes", "flops", "runs"):
        if _is_time(line.get(name)):
            kept[name] = line[name]
    for name in ("note", "beside"):
        if isinstance(line.get(name), str):
            kept[name] = line[name]
    return kept


def _is_time(value: object) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and math.isfinite(value) and value > 0)
