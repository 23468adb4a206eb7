"""What a GoogleTest program printed, of an unfinished run too."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from pathlib import Path

from . import bounded, result
from .bounded import Outcome

MARK = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED) +\] ([\w/.<>:-]+)")
NO_DEVICE = re.compile(r"no device: (.*)|a GPU is needed; found none")
MOST_LINES = 40  # of one failure
LEAST_S = 3.0    # to begin a program again
SILENCE_S = 20.0  # of one test; on an H200 all kernel tests together take 12 s
LIST_S = 3.0     # for the names of all tests, kept of the box


@dataclasses.dataclass
class Tests:
    passed: list[str] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    hung: dict[str, str] = dataclasses.field(default_factory=dict)
    running: str = ""  # the one that had begun when the output ended

    def add(self, later: Tests) -> None:
        self.passed += later.passed
        self.skipped.update(later.skipped)
        self.failed.update(later.failed)
        self.running = later.running

    def begun(self) -> list[str]:
        return [*self.passed, *self.skipped, *self.failed, *self.hung,
                *([self.running] if self.running else [])]


def run(program: Path, box_s: float, env: Mapping[str, str]) -> result.Result:
    """All tests in one process; after one that hangs the others in another. Where one failed, what
    failed after it again, each on its own.

    A fault of one kernel costs the process its GPU, so that all later tests fail with it or, where
    the process ended, never ran.
    """
    deadline = time.monotonic() + box_s
    kept = min(LIST_S, box_s / 4)
    silence_s = min(SILENCE_S, box_s / 2)  # so that there is time for the others
    tests = Tests()
    suspects: list[str] = []
    command: list[str | Path] = [program]
    while True:
        outcome = bounded.run(command, deadline - time.monotonic() - kept, env,
                              silence_s=silence_s)
        more = read(outcome.out)
        tests.add(more)
        suspects += list(more.failed)[1:]
        if not outcome.silent or not more.running:
            break
        tests.hung[more.running] = f"{outcome.what_happened}, {silence_s:.0f} s without a word"
        tests.running = ""
        if deadline - time.monotonic() - kept < LEAST_S:
            break
        command = [program, "--gtest_filter=-" + ":".join(tests.begun())]
    judged = judge(outcome, tests)
    if outcome.missing or judged.state not in (result.FAILED, result.TIMED_OUT):
        return judged
    never_ran = _never_ran(program, tests, max(kept, deadline - time.monotonic()), env)
    if not outcome.timed_out:
        suspects += never_ran
        never_ran = []
    if suspects:
        _run_alone(program, suspects, deadline, env, judged)
    if never_ran:
        judged.details["never_ran"] = never_ran
        judged.reason += f"; {len(never_ran)} never ran: {', '.join(never_ran)}"
    return judged


def _run_alone(program: Path, suspects: list[str], deadline: float, env: Mapping[str, str],
               judged: result.Result) -> None:
    alone: dict[str, str] = {}
    for name in suspects:
        left = deadline - time.monotonic()
        if left < LEAST_S:
            alone[name] = "not run again: no time left"
            continue
        again = bounded.run([program, f"--gtest_filter={name}"], left, env, silence_s=SILENCE_S)
        one = read(again.out)
        passed = again.code == 0 and one.passed
        alone[name] = "passed" if passed else "skipped" if one.skipped else (
            one.failed.get(name) or f"{again.what_happened}: {again.last_words}")
    good = sum(said == "passed" for said in alone.values())
    judged.details["alone"] = alone
    judged.reason += f"; each on its own: {good} of {len(alone)} passed"


def _never_ran(program: Path, tests: Tests, left: float, env: Mapping[str, str]) -> list[str]:
    listed = bounded.run([program, "--gtest_list_tests"], min(20.0, left), env)
    names, suite = [], ""
    for line in listed.out.splitlines():
        word = line.split("  #")[0].rstrip()
        if word.endswith(".") and not line.startswith(" "):
            suite = word
        elif line.startswith("  ") and suite:
            names.append(suite + word.strip())
    known = set(tests.begun())
    return [name for name in names if name not in known]


def read(text: str) -> Tests:
    tests = Tests()
    lines: list[str] = []
    for line in text.splitlines():
        mark = MARK.match(line)
        if mark is None:
            lines.append(line)
            continue
        word, name = mark.groups()
        if word == "RUN":
            tests.running, lines = name, []
        elif name == tests.running:  # the summary at the end names tests again
            said = "\n".join(lines[:MOST_LINES]).strip()
            if word == "OK":
                tests.passed.append(name)
            elif word == "SKIPPED":
                tests.skipped[name] = said.splitlines()[-1] if said else ""
            else:
                tests.failed[name] = said
            tests.running = ""
    return tests


def judge(outcome: Outcome, tests: Tests) -> result.Result:
    """Passed only if something passed, nothing failed or hung and the program ended well."""
    details = {"passed": len(tests.passed), "skipped": tests.skipped, "failed": tests.failed}
    counts = f"{len(tests.passed)} passed, {len(tests.failed)} failed, {len(tests.skipped)} skipped"
    if outcome.missing:
        return result.Result(result.SKIPPED, outcome.missing, details=details)
    if tests.hung:
        details["hung"] = tests.hung
        counts += f", {len(tests.hung)} hung ({', '.join(tests.hung)})"
    if tests.failed:
        return result.Result(result.FAILED, counts, details=details)
    if outcome.timed_out:
        reason = f"{counts} when it was {outcome.what_happened}"
        if tests.running:
            reason += f", in {tests.running}"
        return result.Result(result.TIMED_OUT, reason, details=details)
    if outcome.code != 0:
        reason = f"{outcome.what_happened} in {tests.running or 'no test'}: {outcome.last_words}"
        return result.Result(result.FAILED, reason, details=details)
    if tests.hung:
        return result.Result(result.TIMED_OUT, counts, details=details)
    # Some tests need no device: that they pass where the others are skipped proves nothing.
    no_device = next((why for why in tests.skipped.values() if NO_DEVICE.search(why)), "")
    if tests.passed and not no_device:
        return result.Result(result.PASSED, counts, details=details)
    if no_device:
        return result.Result(result.SKIPPED, f"{no_device} ({counts})", details=details)
    if tests.skipped:
        return result.Result(result.SKIPPED, next(iter(tests.skipped.values())), details=details)
    return result.Result(result.FAILED, "the program ran no test", details=details)
