"""Reading what programs print, and the shares and goals made of it."""

from __future__ import annotations

import unittest

import fakes
from gpu_check_parts import figure_lines, goals, googletest, report, result
from gpu_check_parts.bounded import Outcome


def ended(out: str, code: int = 0, err: str = "") -> Outcome:
    return Outcome(out, err, 1.0, code)


def figure(seconds: float, **work: float) -> dict:
    return {"seconds": seconds, **work}


LIMITS = {"memory.read": figure(1.0, bytes=4e12), "memory.copy": figure(1.0, bytes=3e12),
          goals.GEMM: figure(1.0, flops=800e12), goals.LINK: figure(1.0, bytes=50e9)}


class FigureLines(unittest.TestCase):
    def test_figures_of_a_stopped_program_are_kept(self):
        out = '{"figure": "a", "seconds": 0.5}\n{"figure": "b", "sec'
        read = figure_lines.read(Outcome(out, "", 9.0, timed_out=True))
        self.assertEqual(read.state, result.TIMED_OUT)
        self.assertEqual(list(read.figures), ["a"])
        self.assertEqual(read.details["rubbish_lines"], 1)

    def test_rubbish_is_no_figure(self):
        read = figure_lines.read(ended("[1]\n12\n\x00\xff\n{}\n"))
        self.assertEqual(read.state, result.FAILED)
        self.assertEqual(read.figures, {})
        self.assertEqual(read.details["rubbish_lines"], 4)

    def test_a_figure_without_a_time_fails_by_its_name(self):
        lines = ['{"figure": "a"}', '{"figure": "b", "seconds": -1}',
                 '{"figure": "c", "seconds": "1"}', '{"figure": "d", "seconds": NaN}',
                 '{"figure": "e", "seconds": true}', '{"figure": "f", "seconds": Infinity}',
                 '{"figure": "g", "seconds": null}', '{"figure": "good", "seconds": 1}']
        read = figure_lines.read(ended("\n".join(lines)))
        self.assertEqual(read.state, result.FAILED)
        self.assertEqual(list(read.figures), ["good"])
        self.assertEqual(read.details["rubbish_lines"], 0)
        self.assertEqual("".join(read.details["failed"]), "abcdefg")
        self.assertEqual(read.details["failed"]["d"], "no time: nan")

    def test_fields_of_a_wrong_kind_are_dropped(self):
        read = figure_lines.read(ended('{"figure": "a", "seconds": 1, "bytes": "many", "runs": 3}'))
        self.assertEqual(read.figures["a"], {"seconds": 1, "runs": 3})

    def test_no_device_is_a_skip_with_its_reason(self):
        read = figure_lines.read(ended('{"no_device": "no driver"}', 5))
        self.assertEqual((read.state, read.reason), (result.SKIPPED, "no NVIDIA GPU: no driver"))

    def test_a_failed_figure_fails_the_part(self):
        out = '{"figure": "a", "seconds": 1}\n{"failed": "b", "reason": "x"}'
        read = figure_lines.read(ended(out))
        self.assertEqual(read.state, result.FAILED)
        self.assertEqual(list(read.figures), ["a"])

    def test_an_exit_code_fails_the_part(self):
        read = figure_lines.read(ended('{"figure": "a", "seconds": 1}', -11, "out of luck"))
        self.assertEqual(read.state, result.FAILED)
        self.assertIn("SIGSEGV", read.reason)
        self.assertIn("out of luck", read.reason)


class GoogleTestOutput(unittest.TestCase):
    OUT = ("[ RUN      ] A.One\n[       OK ] A.One (0 ms)\n[ RUN      ] B/0.Two\nwhy\nso\n"
           "[  FAILED  ] B/0.Two, where TypeParam = Half (1 ms)\n[ RUN      ] A.Three\n"
           "file.h:3: Skipped\nno device: none\n\n[  SKIPPED ] A.Three (0 ms)\n"
           "[  FAILED  ] B/0.Two, where TypeParam = Half\n[ RUN      ] A.Four\n")

    def test_every_outcome_is_read_once(self):
        tests = googletest.read(self.OUT)
        self.assertEqual(tests.passed, ["A.One"])
        self.assertEqual(tests.failed, {"B/0.Two": "why\nso"})
        self.assertEqual(tests.skipped, {"A.Three": "no device: none"})
        self.assertEqual(tests.running, "A.Four")

    def judge(self, out: str, **ended_how) -> result.Result:
        outcome = Outcome(out, "", 2.0, **ended_how)
        return googletest.judge(outcome, googletest.read(out))

    def test_a_crash_names_its_test(self):
        judged = self.judge("[ RUN      ] A.One\n", code=-6)
        self.assertEqual(judged.state, result.FAILED)
        self.assertIn("A.One", judged.reason)

    def test_all_skipped_is_a_skip(self):
        out = "[ RUN      ] A.One\nno device: none\n[  SKIPPED ] A.One (0 ms)\n"
        self.assertEqual(self.judge(out, code=0).state, result.SKIPPED)

    def test_what_passes_without_a_device_proves_nothing(self):
        out = ("[ RUN      ] A.One\nno device: none\n[  SKIPPED ] A.One (0 ms)\n"
               "[ RUN      ] A.Two\n[       OK ] A.Two (0 ms)\n")
        judged = self.judge(out, code=0)
        self.assertEqual(judged.state, result.SKIPPED)
        self.assertIn("no device: none", judged.reason)
        other = out.replace("no device: none", "two GPUs are needed; found 1")
        self.assertEqual(self.judge(other, code=0).state, result.PASSED)

    def test_nothing_run_is_a_failure(self):
        self.assertEqual(self.judge("hello\n", code=0).state, result.FAILED)

    def test_passing_and_a_bad_exit_code_is_a_failure(self):
        out = "[ RUN      ] A.One\n[       OK ] A.One (0 ms)\n"
        self.assertEqual(self.judge(out, code=0).state, result.PASSED)
        self.assertEqual(self.judge(out, code=1).state, result.FAILED)

    def test_a_failure_counts_whatever_came_after(self):
        out = "[ RUN      ] A.One\n[  FAILED  ] A.One (0 ms)\n"
        self.assertEqual(self.judge(out, code=1).reason, "0 passed, 1 failed, 0 skipped")
        self.assertEqual(self.judge(out, timed_out=True).state, result.FAILED)

    def test_a_stopped_run_says_where(self):
        judged = self.judge("[ RUN      ] A.One\n", timed_out=True)
        self.assertEqual(judged.state, result.TIMED_OUT)
        self.assertIn("A.One", judged.reason)


class Goals(unittest.TestCase):
    def judge(self, row: str, name: str, figures: dict) -> tuple:
        goal = next(g for g in goals.GOALS if g.row == row and g.figure == name)
        return goals.judge(goal, {**LIMITS, **figures})

    def test_shares_are_of_the_limit_that_binds(self):
        figures = {**LIMITS, "decode.x": figure(1.0, bytes=2e12),
                   "prefill.x": figure(1.0, flops=400e12, bytes=4e12),
                   "host.pageable_to_device": figure(1.0, bytes=10e9)}
        self.assertAlmostEqual(goals.share("decode.x", figures), 0.5)
        self.assertAlmostEqual(goals.share("prefill.x", figures), 0.5)
        self.assertAlmostEqual(goals.share("host.pageable_to_device", figures), 0.2)
        self.assertIsNone(goals.share("decode.x", {"decode.x": figure(1.0, bytes=1)}))

    def test_decode_is_judged_by_bytes(self):
        name = "decode.bs1.ctx1024"
        self.assertEqual(self.judge("1", name, {name: figure(1.0, bytes=3.68e12)}), (0.92, True))
        self.assertFalse(self.judge("1", name, {name: figure(1.0, bytes=3.6e12)})[1])
        self.assertEqual(self.judge("1", name, {}), (None, None))

    def test_time_beside_streaming(self):
        name = "decode.bs1.ctx1024"
        value, holds = self.judge("12", name, {name: figure(3.75e-3, bytes=4e12 * 3.5e-3)})
        self.assertAlmostEqual(value, 0.25)
        self.assertTrue(holds)

    def test_adapters_are_judged_by_the_prompt_without_them(self):
        base = {"prefill.1289": figure(0.030, flops=1)}
        name = "prefill.1289.pictures"
        self.assertTrue(self.judge("6", name, {**base, name: figure(0.0325, flops=1)})[1])
        self.assertFalse(self.judge("6", name, {**base, name: figure(0.034, flops=1)})[1])
        self.assertEqual(self.judge("6", name, {name: figure(0.034, flops=1)}), (None, None))

    def goals_of(self, figures: dict, card: str) -> list[str]:
        part = {"name": "limits", "title": "", "state": "passed", "reason": "", "seconds": 1.0,
                "details": {"device": {"device": card}}}
        text = report.markdown({"started": "now", "finished": True, "seconds": 1, "parts": [part],
                                "figures": {**LIMITS, **figures}})
        return [line for line in text.splitlines() if line.startswith(("| 8 |", "| 9 |"))]

    def test_milliseconds_are_the_goal_of_one_card(self):
        figures = {"ttft.490": figure(0.041)}
        self.assertIn("| 41.00 ms | <= 40 ms (an H200's) | **misses** |",
                      self.goals_of(figures, "NVIDIA H200")[0])
        self.assertIn("| 41.00 ms | <= 40 ms (an H200's) | not judged: another card |",
                      self.goals_of(figures, "NVIDIA H100 80GB HBM3")[0])

    def test_the_whole_load_stands_beside_its_weights(self):
        figures = {"engine.weights": figure(1.0, bytes=40e9), "engine.load": figure(2.0, bytes=40e9)}
        weights, load = self.goals_of(figures, "NVIDIA H200")[2:]
        self.assertIn("| 80.0 % | >= 60.0 % | holds |", weights)
        self.assertIn("the whole load", load)
        self.assertIn("| 40.0 % |  |  |", load)

    def test_what_beats_its_limit_is_named(self):
        figures = {**LIMITS, "part.a": figure(1.0, bytes=5e12), "part.b": figure(1.0, bytes=1e12)}
        self.assertEqual(goals.beaten(figures), ["part.a"])


if __name__ == "__main__":
    assert fakes
    unittest.main()
