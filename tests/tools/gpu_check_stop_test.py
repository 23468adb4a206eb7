"""What hangs, what cannot be ended, and gpu_check itself being ended: nothing else is lost with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

from fakes import TOOLS, Place
from gpu_check_parts import bounded, googletest, result

# Tests A.One to A.Four as GoogleTest runs them: `HANGS` never end, `FAILS` fail, --gtest_filter holds.
SUITE = """
import time
HANGS, FAILS = {hangs!r}, {fails!r}
names = ["A.One", "A.Two", "A.Three", "A.Four"]
asked = next((a.split("=")[1] for a in sys.argv if a.startswith("--gtest_filter=")), "")
if "--gtest_list_tests" in sys.argv:
    print("A.", *(n[2:] for n in names), sep="\\n  ")
    sys.exit()
failed = False
for name in names:
    if asked.startswith("-") and name in asked[1:].split(":"): continue
    if asked and not asked.startswith("-") and name != asked: continue
    print(f"[ RUN      ] {{name}}", flush=True)
    if name in HANGS: time.sleep(60)
    failed |= name in FAILS
    print(f"[  {{'FAILED  ' if name in FAILS else '     OK '}}] {{name}} (1 ms)", flush=True)
sys.exit(failed)
"""


class HangingTests(Place):
    def run_suite(self, hangs: list[str], fails: list[str], box_s: float) -> result.Result:
        program = self.program("suite", SUITE.format(hangs=hangs, fails=fails))
        with mock.patch.object(googletest, "SILENCE_S", 1.0):
            return googletest.run(program, box_s, dict(os.environ))

    def test_the_others_run_after_one_that_hangs(self):
        done = self.run_suite(["A.Two"], [], 40)
        self.assertEqual(done.state, result.TIMED_OUT)
        self.assertEqual(done.details["passed"], 3)
        self.assertEqual(list(done.details["hung"]), ["A.Two"])
        self.assertIn("3 passed, 0 failed, 0 skipped, 1 hung (A.Two)", done.reason)
        self.assertNotIn("never_ran", done.details)

    def test_what_fails_after_one_that_hangs_is_told(self):
        done = self.run_suite(["A.One"], ["A.Two", "A.Four"], 40)
        self.assertEqual(done.state, result.FAILED)
        self.assertEqual(list(done.details["failed"]), ["A.Two", "A.Four"])
        self.assertEqual(list(done.details["alone"]), ["A.Four"])

    def test_what_never_ran_is_named(self):
        # Half of the box goes to the first, then too little is left to begin again.
        done = self.run_suite(["A.Two", "A.Three"], [], 4)
        self.assertEqual(done.state, result.TIMED_OUT)
        self.assertEqual(done.details["never_ran"], ["A.Three", "A.Four"])
        self.assertIn("2 never ran: A.Three, A.Four", done.reason)


class Bounded(Place):
    def test_a_program_that_speaks_is_not_silent(self):
        speaks = self.program("speaks", """
import time
time.sleep(1.2)
for _ in range(8): print("x", flush=True); time.sleep(0.3)""")
        outcome = bounded.run([speaks], 30, silence_s=1.0)
        self.assertEqual((outcome.code, outcome.silent), (0, False))

    def test_one_that_says_nothing_more_is_stopped(self):
        speaks = self.program("speaks", "import time; print('x', flush=True); time.sleep(60)")
        outcome = bounded.run([speaks], 30, silence_s=0.5)
        self.assertTrue(outcome.timed_out and outcome.silent)
        self.assertLess(outcome.seconds, 15)

    def test_what_cannot_be_ended_is_said_and_left(self):
        sleeps = self.program("sleeps", "import os, time; print(os.getpid(), flush=True); "
                              "time.sleep(60)")
        with mock.patch.object(bounded.os, "killpg"), mock.patch.object(bounded, "END_S", 0.2):
            outcome = bounded.run([sleeps], 1.5)
        os.kill(int(outcome.out), signal.SIGKILL)
        self.assertTrue(outcome.timed_out)
        self.assertIn("cannot be ended", outcome.what_happened)
        self.assertLess(outcome.seconds, 15)
        judged = googletest.judge(outcome, googletest.read(outcome.out))
        self.assertIn("cannot be ended", judged.reason)


class Ended(Place):
    """gpu_check gets a signal while a program runs."""

    def end(self, *numbers: signal.Signals, before: tuple[str, ...] = ()) -> int:
        """Sends the signals, and returns the exit code."""
        self.pid = self.folder / "pid"
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir()
        self.program("test_kernels_cuda", f"""
import os, time
with open({str(self.pid)!r} + ".new", "w") as file: file.write(str(os.getpid()))
os.rename({str(self.pid)!r} + ".new", {str(self.pid)!r})
time.sleep(60)""")
        env = dict(os.environ, TMPDIR=str(self.temporary))
        process = subprocess.Popen(
            [*before, sys.executable, TOOLS / "gpu_check", "--build", self.folder, "--out",
             self.folder / "out", "--shared", self.folder / "nowhere", "--only", "kernels"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        self.addCleanup(process.kill)
        for _ in range(300):
            if self.pid.exists():
                break
            time.sleep(0.1)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.5)
        return process.wait(timeout=30)

    def assert_nothing_is_left(self) -> None:
        with self.assertRaises(ProcessLookupError):
            os.kill(int(self.pid.read_text(encoding="utf-8")), 0)
        self.assertEqual(list(self.temporary.iterdir()), [])
        report = json.loads((self.folder / "out" / "report.json").read_text(encoding="utf-8"))
        self.assertFalse(report["finished"])

    def test_sigterm(self):
        self.assertEqual(self.end(signal.SIGTERM), 128 + signal.SIGTERM)
        self.assert_nothing_is_left()

    def test_sighup(self):
        self.assertEqual(self.end(signal.SIGHUP), 128 + signal.SIGHUP)
        self.assert_nothing_is_left()

    def test_one_that_was_ignored_stays_so(self):
        ignoring = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
        self.assertEqual(self.end(signal.SIGHUP, signal.SIGTERM, before=ignoring),
                         128 + signal.SIGTERM)
        self.assert_nothing_is_left()

    def test_a_signal_while_a_program_begins(self):
        sleeps = self.program("sleeps", "import time; time.sleep(60)")
        begun = []

        def begin(*arguments, **named):
            begun.append(popen(*arguments, **named))
            os.kill(os.getpid(), signal.SIGTERM)
            return begun[0]
        popen = subprocess.Popen
        before = {number: signal.getsignal(number) for number in bounded.ENDING}
        try:
            bounded.end_on_signals()
            with mock.patch.object(subprocess, "Popen", begin), self.assertRaises(SystemExit):
                bounded.run([sleeps], 30)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.assertEqual(begun[0].returncode, -signal.SIGKILL)

    def test_programs_hold_no_signal_back(self):
        shows = self.program("shows", """
print(next(line for line in open("/proc/self/status") if line.startswith("SigBlk")))""")
        held = bounded.run([shows], 20).out.split()[1]
        own = next(line for line in Path("/proc/self/status").read_text(encoding="utf-8").split("\n")
                   if line.startswith("SigBlk")).split()[1]
        self.assertEqual(held, own)


if __name__ == "__main__":
    unittest.main()
