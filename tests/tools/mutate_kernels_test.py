"""Which tests tools/mutate_kernels.py asks of a kernel, and what it makes of their answers.

    python3 mutate_kernels_test.py
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import re
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

SOURCE = Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(SOURCE / "tools"))

import mutate_kernels  # noqa: E402

TEST = re.compile(r"^(TEST|TEST_F|TEST_P|TYPED_TEST)\((\w+),\s*(\w+)\)", re.MULTILINE)
# The emulator's own tests, those of whole layers, and one of the reference that tests compare with.
OF_NO_KERNEL = {"composed_model_test", "emulator_barriers_test", "emulator_hopper_test", "emulator_test",
                "sampling_engine_test"}
FORMS = {"TYPED_TEST": "{}/0.{}", "TEST_P": "{}.{}/0"}


def tests_of(name: str) -> list[str]:
    """As GoogleTest names them."""
    text = (SOURCE / "tests" / "kernels_cuda" / f"{name}.cpp").read_text(encoding="utf-8")
    return [FORMS.get(macro, "{}.{}").format(suite, test) for macro, suite, test in
            TEST.findall(text)]


def asks_for(pattern: str, test: str) -> bool:
    return any(fnmatch.fnmatchcase(test, part) for part in pattern.split(":"))


class Suites(unittest.TestCase):
    def setUp(self) -> None:
        folder = SOURCE / "tests" / "kernels_cuda"
        self.tests = {path.stem: tests_of(path.stem) for path in folder.glob("*_test.cpp")
                      if path.stem not in OF_NO_KERNEL}

    def test_every_kernel_has_tests(self):
        text = (SOURCE / "kernels" / "cuda" / "kernels.cmake").read_text(encoding="utf-8")
        self.assertEqual(set(mutate_kernels.SUITES), set(re.findall(r"(\w+)\.cu\b", text)))

    def test_a_kernel_is_asked_all_tests_of_its_file(self):
        for kernel, pattern in mutate_kernels.SUITES.items():
            for test in self.tests.get(f"{kernel}_test", []):
                self.assertTrue(asks_for(pattern, test), f"{kernel}: {test}")

    def test_no_test_is_asked_of_no_kernel(self):
        patterns = mutate_kernels.SUITES.values()
        for tests in self.tests.values():
            self.assertTrue(tests)
            for test in tests:
                self.assertTrue(any(asks_for(pattern, test) for pattern in patterns), test)

    def test_every_part_of_a_pattern_asks_for_something(self):
        names = [test for tests in self.tests.values() for test in tests]
        for pattern in mutate_kernels.SUITES.values():
            for part in pattern.split(":"):
                self.assertTrue(any(asks_for(part, name) for name in names), part)


class Judging(unittest.TestCase):
    def judge(self, *counts: int) -> int:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return mutate_kernels.judge(*counts)

    def test_a_tenth_may_survive(self):
        self.assertEqual(self.judge(9, 1, 5), 0)
        self.assertEqual(self.judge(8, 1, 5), 1)

    def test_no_fault_that_compiles_proves_nothing(self):
        self.assertEqual(self.judge(0, 0, 40), 1)

    def test_a_file_that_no_tested_kernel_includes_is_not_tried(self):
        self.assertEqual(mutate_kernels.run([], [], Path(), ""), "invalid")


class Unchanged(unittest.TestCase):
    """Before any fault the kernels run as they are."""

    def main(self, outcomes: list) -> tuple[int, str, int]:
        """The exit code with these outcomes of runs, what is said and how often was run."""
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), \
                mock.patch.object(mutate_kernels, "objects_of", return_value=[]), \
                mock.patch.object(mutate_kernels, "run", side_effect=outcomes) as run, \
                mock.patch.object(sys, "argv", ["mutate_kernels.py", "--build", "b", "--count", "2",
                                                "--file", "norm.cuh"]):
            return mutate_kernels.main(), said.getvalue(), run.call_count

    def test_where_they_fail_nothing_is_planted(self):
        for outcome, words in (("caught", "fail their tests"), ("invalid", "do not compile"),
                               ("hung", "do not end their tests in 240 s"),
                               (subprocess.CalledProcessError(1, "g++"), "do not link")):
            code, said, runs = self.main([outcome])
            self.assertEqual((code, runs), (1, 1))
            self.assertIn(words, said)

    def test_where_they_pass_faults_are_planted(self):
        code, _, runs = self.main(["survived", "caught", "hung"])
        self.assertEqual((code, runs), (0, 3))


if __name__ == "__main__":
    unittest.main()
