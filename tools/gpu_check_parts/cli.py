"""The command line `xcomposer`, and how its answers and refusals are read."""

from __future__ import annotations

import json
from typing import Any

from . import bounded
from .bounded import Outcome
from .result import Context

NO_SUCH_DEVICE = 5


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


def is_refusal_of_device(outcome: Outcome) -> bool:
    """Whether the program said that it cannot use the device. That something does not fit has the
    same exit code, and is a failure."""
    return outcome.code == NO_SUCH_DEVICE and error(outcome).get("kind") == "device"


def _cuda_devices(text: str) -> list[str]:
    """Of the machine that `devices --json` describes."""
    try:
        names = [device["name"] for node in json.loads(text)["nodes"] for device in node["devices"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if str(name).startswith("cuda")]


def cuda_refusal(context: Context, box_s: float) -> str:
    """Why the engine cannot run on the device; empty where nothing says so."""
    outcome = bounded.run([context.program("xcomposer"), "devices", "--json"], box_s, context.env)
    if outcome.missing:
        return outcome.missing
    if outcome.code != 0:
        return f"xcomposer devices: {explain(outcome)}"
    if context.device.startswith("cuda") and not _cuda_devices(outcome.out):
        return ("xcomposer devices names no CUDA device: no driver, or the engine has no CUDA back "
                "end")
    return ""
