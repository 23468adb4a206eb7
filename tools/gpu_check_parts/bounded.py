"""Programs that must end: output to files, a time box, the whole process group killed after it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MOST_OUTPUT = 8 << 20  # bytes that are kept of each stream; what is cut is the beginning
END_S = 10.0           # for a killed program to be gone
LOOK_S = 0.1           # between two looks at how much a program has said
ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended. `code` is None where it never started or was stopped."""

    out: str
    err: str
    seconds: float
    code: int | None = None
    timed_out: bool = False
    missing: str = ""  # why it could not be started
    silent: bool = False  # it was stopped because it had said nothing more for so long
    remains: bool = False  # it was killed and is still there

    @property
    def what_happened(self) -> str:
        if self.missing:
            return self.missing
        if self.timed_out:
            remains = f" and cannot be ended: still there {END_S:.0f} s after SIGKILL"
            return f"stopped after {self.seconds:.0f} s{remains * self.remains}"
        if self.code is not None and self.code < 0:
            return f"killed by signal {-self.code} ({_signal_name(-self.code)})"
        return f"exit code {self.code}"

    @property
    def last_words(self) -> str:
        """The last lines that it said, for a report."""
        lines = [line for line in (self.err or self.out).splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-500:]


def end_on_signals() -> None:
    """SIGTERM and SIGHUP unwind, which ends programs and removes temporary files: those have
    sessions of their own, and a checkpoint in memory takes 17 GB until somebody removes it."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _unwind)


def _unwind(number: int, _frame: object) -> None:
    for other in ENDING:  # another one must not disturb the unwinding
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def run(command: Sequence[str | Path], box_s: float, env: Mapping[str, str] | None = None,
        cwd: Path | None = None, silence_s: float | None = None) -> Outcome:
    """Runs a program for at most `box_s` seconds. Never raises for what the program does.

    `silence_s`: once it has said something, it is also stopped when it says nothing for so long.
    """
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = None
        remains = False
        try:
            with _signals_held() as mask:
                process = subprocess.Popen(
                    [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                    stderr=err, cwd=cwd, start_new_session=True,
                    env=None if env is None else dict(env),
                    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask))
            stopped = _wait(process, box_s, out, silence_s)
        except OSError as error:
            return Outcome("", "", 0.0, missing=f"{command[0]}: {error.strerror}")
        finally:
            if process is not None:
                remains = not _end_group(process)
        seconds = time.monotonic() - begin
        code = None if stopped else process.returncode
        return Outcome(_tail(out), _tail(err), seconds, code, bool(stopped),
                       silent=stopped == "silent", remains=remains)


@contextlib.contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """A program that has begun must be known before a signal can end this one."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(process: subprocess.Popen, box_s: float, out, silence_s: float | None) -> str:
    """Why it has to be stopped; empty where it ended."""
    now = time.monotonic()
    deadline = now + max(0.1, box_s)
    said, since = 0, now
    while True:
        left = deadline - now
        try:
            process.wait(timeout=left if silence_s is None else min(left, LOOK_S))
            return ""
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        if now >= deadline:
            return "time"
        size = os.fstat(out.fileno()).st_size
        if size != said:
            said, since = size, now
        elif said and silence_s is not None and now - since >= silence_s:
            return "silent"


def _end_group(process: subprocess.Popen) -> bool:
    """Nothing that a program started outlives it. False where it does: a driver may hold it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tail(file) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MOST_OUTPUT))
    return file.read().decode(errors="replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
