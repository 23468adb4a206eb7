"""The measuring programs where no GPU is to be seen: a clear message, and the exit code for it.

    python3 gpu_programs_test.py PROGRAM...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest

PROGRAMS: list[str] = []


class WithoutAGpu(unittest.TestCase):
    def run_program(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        env = dict(os.environ, CUDA_VISIBLE_DEVICES="-1")
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60,
                              env=env, check=False)

    def test_it_says_so(self):
        self.assertTrue(PROGRAMS)
        for program in PROGRAMS:
            done = self.run_program(program)
            self.assertEqual(done.returncode, 5, program)
            self.assertIn("no NVIDIA GPU: ", done.stderr)
            self.assertTrue(json.loads(done.stdout)["no_device"])

    def test_wrong_usage(self):
        for program in PROGRAMS:
            for arguments in (["--bad"], ["--only"], ["decode"]):
                done = self.run_program(program, *arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)
                self.assertIn("usage: ", done.stderr)


if __name__ == "__main__":
    PROGRAMS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
