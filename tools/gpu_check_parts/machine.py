"""What the report says of the machine."""

from __future__ import annotations

import os
import platform
from typing import Any

from . import bounded

QUERY = ("name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.memory,clocks.sm,"
         "clocks.mem,temperature.gpu,ecc.mode.current,pcie.link.gen.max,pcie.link.width.max,index,uuid")


def describe(env: dict[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(),
                             "memory_bytes": _memory(), "kernel": platform.release(),
                             "python": platform.python_version()}
    outcome = bounded.run(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"], 20, env)
    if outcome.code == 0:
        cards = [line.split(", ") for line in outcome.out.splitlines() if line.strip()]
        facts["cards"] = [dict(zip(QUERY.split(","), card)) for card in cards]
    else:
        facts["cards"] = []
        facts["nvidia_smi"] = outcome.what_happened
    return facts


def has_card(env: dict[str, str], box_s: float) -> bool:
    """Whether the driver names one."""
    outcome = bounded.run(["nvidia-smi", "-L"], min(20.0, box_s), env)
    return outcome.code == 0 and outcome.out.startswith("GPU ")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
