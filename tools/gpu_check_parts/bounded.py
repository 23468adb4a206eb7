"""Programs that must end: output to files, a time box, the whole process group killed after it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_OUTPUT = 8 << 20  # bytes that are kept of each stream; what is cut is the beginning


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended. `code` is None where it never started or was stopped."""

    out: str
    err: str
    seconds: float
    code: int | None = None
    timed_out: bool = False
    missing: str = ""  # why it could not be started

    @property
    def what_happened(self) -> str:
        if self.missing:
            return self.missing
        if self.timed_out:
            return f"stopped after {self.seconds:.0f} s"
        if self.code is not None and self.code < 0:
            return f"killed by signal {-self.code} ({_signal_name(-self.code)})"
        return f"exit code {self.code}"

    @property
    def last_words(self) -> str:
        """The last lines that it said, for a report."""
        lines = [line for line in (self.err or self.out).splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-500:]


def run(command: Sequence[str | Path], box_s: float, env: Mapping[str, str] | None = None,
        cwd: Path | None = None) -> Outcome:
    """Runs a program for at most `box_s` seconds. Never raises for what the program does."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=err, cwd=cwd, start_new_session=True,
                                       env=None if env is None else dict(env))
        except OSError as error:
            return Outcome("", "", 0.0, missing=f"{command[0]}: {error.strerror}")
        timed_out = False
        try:
            process.wait(timeout=max(0.1, box_s))
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end_group(process)
        seconds = time.monotonic() - begin
        code = None if timed_out else process.returncode
        return Outcome(_tail(out), _tail(err), seconds, code, timed_out)


def _end_group(process: subprocess.Popen) -> None:
    """Nothing that a program started outlives it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _tail(file) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MOST_OUTPUT))
    return file.read().decode(errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
