"""What a GoogleTest program printed, of an unfinished run too."""

from __future__ import annotations

import dataclasses
import re

from . import result
from .bounded import Outcome

MARK = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED) +\] ([\w/.<>:-]+)")
NO_DEVICE = re.compile(r"no device: (.*)|a GPU is needed; found none")
MOST_LINES = 12  # of one failure


@dataclasses.dataclass
class Tests:
    passed: list[str] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    running: str = ""  # the one that had begun when the output ended


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
    """Passed only if something passed, nothing failed and the program ended well."""
    details = {"passed": len(tests.passed), "skipped": tests.skipped, "failed": tests.failed}
    counts = f"{len(tests.passed)} passed, {len(tests.failed)} failed, {len(tests.skipped)} skipped"
    if outcome.missing:
        return result.Result(result.SKIPPED, outcome.missing, details=details)
    if tests.failed:
        return result.Result(result.FAILED, counts, details=details)
    if outcome.timed_out:
        reason = f"{counts} when it was stopped after {outcome.seconds:.0f} s"
        if tests.running:
            reason += f", in {tests.running}"
        return result.Result(result.TIMED_OUT, reason, details=details)
    if outcome.code != 0:
        reason = f"{outcome.what_happened} in {tests.running or 'no test'}: {outcome.last_words}"
        return result.Result(result.FAILED, reason, details=details)
    # Some tests need no device: that they pass where the others are skipped proves nothing.
    no_device = next((why for why in tests.skipped.values() if NO_DEVICE.search(why)), "")
    if tests.passed and not no_device:
        return result.Result(result.PASSED, counts, details=details)
    if no_device:
        return result.Result(result.SKIPPED, f"{no_device} ({counts})", details=details)
    if tests.skipped:
        return result.Result(result.SKIPPED, next(iter(tests.skipped.values())), details=details)
    return result.Result(result.FAILED, "the program ran no test", details=details)
