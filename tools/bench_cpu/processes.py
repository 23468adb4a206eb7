"""Runs a program and tells what else the processors did meanwhile. Linux only."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


class ProgramFailed(Exception):
    """Names the program, its exit status and the end of what it said."""


@dataclasses.dataclass(frozen=True)
class CpuTime:
    """Seconds of all processors since the machine was started."""

    busy: float
    idle: float
    stolen: float


def parse_cpu_time(stat: str, ticks_per_second: float) -> CpuTime:
    """The first line of /proc/stat. Guests' time is part of the first two columns."""
    words = stat.split("\n", 1)[0].split()
    if len(words) < 5 or words[0] != "cpu":
        raise ValueError(f"no line of processor times: {stat[:60]!r}")
    user, nice, system, idle, disk, irq, softirq, steal = (
        [float(word) / ticks_per_second for word in words[1:9]] + [0.0] * 8)[:8]
    return CpuTime(user + nice + system + irq + softirq, idle + disk, steal)


def cpu_time() -> CpuTime:
    return parse_cpu_time(Path("/proc/stat").read_text(encoding="ascii"),
                          os.sysconf("SC_CLK_TCK"))


def foreign_percent(before: CpuTime, after: CpuTime, own: float) -> float:
    """Percent of all processors that was neither idle nor `own` seconds of ours."""
    passed = (after.busy - before.busy) + (after.idle - before.idle) + (
        after.stolen - before.stolen)
    if passed <= 0:
        return 0.0
    foreign = after.busy - before.busy - own + after.stolen - before.stolen
    return 100 * min(max(foreign / passed, 0.0), 1.0)


@dataclasses.dataclass(frozen=True)
class Finished:
    output: str
    foreign_percent: float


def run(command: Sequence[str], timeout_s: float) -> Finished:
    """Runs to the end; raises ProgramFailed where it fails, or takes longer than the timeout."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        before, used_before = cpu_time(), os.times()
        try:
            status = subprocess.run(command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL,
                                    timeout=timeout_s, check=False).returncode
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{command[0]} took longer than {timeout_s:.0f} s") from None
        except OSError as error:
            raise ProgramFailed(f"{command[0]} cannot be run: {error.strerror}") from None
        after, used_after = cpu_time(), os.times()
        out.seek(0)
        errors.seek(0)
        text = out.read().decode("utf-8", "replace")
        if status != 0:
            said = (errors.read().decode("utf-8", "replace").strip() or text.strip())[-800:]
            raise ProgramFailed(f"{' '.join(command)} ended with status {status}: {said}")
    own = sum(used_after[:4]) - sum(used_before[:4])
    return Finished(text, foreign_percent(before, after, own))


def wait_until_quiet(most_percent: float, patience_s: float) -> bool:
    """Waits until others use less than that for two seconds; false where patience ran out."""
    until = time.monotonic() + patience_s
    while True:
        before, used = cpu_time(), sum(os.times()[:2])
        time.sleep(2)
        if foreign_percent(before, cpu_time(), sum(os.times()[:2]) - used) <= most_percent:
            return True
        if time.monotonic() >= until:
            return False
