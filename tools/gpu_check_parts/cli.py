"""The command line `xcomposer`, and how its answers and refusals are read."""

from __future__ import annotations

import json
from typing import Any

from . import bounded, result
from .bounded import Outcome
from .result import Context, Result

def answers(outcome: Outcome) -> list[dict[str, Any]] | None:
    """The answers of a `generate --json`, or none where it failed."""
    if outcome.code != 0 or outcome.timed_out:
        return None
    try:
        parsed = json.loads(outcome.out)
    except ValueError:
        return None
    parsed = parsed if isinstance(parsed, list) else [parsed]
    wanted = all(isinstance(a, dict) and "output_ids" in a and "timings" in a for a in parsed)
    return parsed if wanted and parsed else None


def error(outcome: Outcome) -> dict[str, Any]:
    """The error that --json names; empty if there is none."""
    try:
        parsed = json.loads(outcome.out)
    except ValueError:
        return {}
    parsed = parsed[0] if isinstance(parsed, list) and parsed else parsed
    found = parsed.get("error") if isinstance(parsed, dict) else None
    return found if isinstance(found, dict) else {}


def explain(outcome: Outcome) -> str:
    found = error(outcome)
    if found:
        return f"{outcome.what_happened}: {found.get('kind')}: {found.get('message')}"
    return f"{outcome.what_happened}: {outcome.last_words or 'no readable answer'}"


def _cuda_devices(text: str) -> list[str]:
    """Of the machine that `devices --json` describes."""
    try:
        names = [device["name"] for node in json.loads(text)["nodes"] for device in node["devices"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if str(name).startswith("cuda")]


def cuda_refusal(context: Context, box_s: float) -> Result | None:
    """Why the engine cannot be asked to run on the device; none where nothing says so. Asked once,
    beforehand: a fault of the device in the middle looks the same as one that was never there."""
    outcome = bounded.run([context.program("xcomposer"), "devices", "--json"], box_s, context.env)
    if outcome.missing:
        return Result(result.SKIPPED, outcome.missing)
    if outcome.code != 0:
        return Result(result.FAILED, f"xcomposer devices: {explain(outcome)}")
    if context.device.startswith("cuda") and not _cuda_devices(outcome.out):
        return Result(result.SKIPPED, "xcomposer devices names no CUDA device: no driver, or the "
                      "engine has no CUDA back end")
    return None
