"""Whole runs over stand-ins of the programs: what fails, hangs, prints rubbish or is missing."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from unittest import mock

from fakes import FIGURES, PASSING_TESTS, TOOLS, Place
from gpu_check_parts import bounded, main, parts, result
from gpu_check_parts.parts import Part
from gpu_check_parts.report import Report
from gpu_check_parts.said import say

REFUSES = """
if "devices" in sys.argv: print('{"nodes": []}')
else: print('{"error": {"kind": "device", "message": "this machine has no cuda:0"}}'); sys.exit(5)
"""


class Runs(Place):
    def check(self, *arguments: str) -> tuple[int, dict, str]:
        out = self.folder / "out"
        env = dict(os.environ, PATH=f"{self.bin}:/usr/bin:/bin")
        done = subprocess.run(
            [sys.executable, TOOLS / "gpu_check", "--build", self.folder, "--out", out, "--shared",
             self.folder / "nowhere", *arguments], capture_output=True, text=True, timeout=100,
            env=env, check=False)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return done.returncode, report, (out / "report.md").read_text(encoding="utf-8")

    def states(self, report: dict) -> dict[str, str]:
        return {part["name"]: part["state"] for part in report["parts"]}

    def test_all_is_well(self):
        self.program("test_kernels_cuda", PASSING_TESTS)
        self.program("test_ops_cuda", PASSING_TESTS)
        self.program("bench_gpu_limits", FIGURES)
        self.program("bench_gpu_model", FIGURES.replace("memory.read", "decode.bs1.ctx1024"))
        self.program("test_transport_torch", PASSING_TESTS)
        self.program("xcomposer", REFUSES)
        code, report, text = self.check()
        self.assertEqual(code, 0, report)
        states = self.states(report)
        for name in ("kernels", "ops", "limits", "model", "nccl"):
            self.assertEqual(states[name], result.PASSED)
        self.assertEqual(states["engine"], result.SKIPPED)
        self.assertEqual(list(states), [part.name for part in parts.PARTS])
        self.assertTrue(report["finished"])
        self.assertEqual(report["figures"]["memory.read"]["bytes"], 4e9)
        self.assertIn("| 1 | decode, 1 sequence, 1024 keys", text)
        self.assertIn("100.0 %", text)  # as fast as the limit, in this fake
        self.assertIn("goldens | recorded answers of every kind, end to end | skipped", text)

    def test_a_failing_part_does_not_stop_the_others(self):
        self.program("test_kernels_cuda", "sys.stderr.write('broken driver'); sys.exit(3)")
        self.program("bench_gpu_limits", FIGURES)
        self.program("bench_gpu_model", "print('rubbish'); print('{')")
        code, report, text = self.check("--only", "kernels", "--only", "limits", "--only", "model")
        self.assertEqual(code, 1)
        self.assertEqual(self.states(report), {"kernels": result.FAILED, "limits": result.PASSED,
                                               "model": result.FAILED})
        self.assertIn("broken driver", text)
        self.assertIn("model: 2 lines could not be read", text)

    def test_what_one_fault_took_with_it_runs_again_alone(self):
        for end, reason in (("", "0 passed, 2 failed, 0 skipped; each on its own: 2 of 3 passed"),
                            ("os.kill(os.getpid(), 11)", "killed by signal 11")):
            self.program("test_kernels_cuda", f"""
import os
name = sys.argv[1].split("=")[-1] if len(sys.argv) > 1 else ""
if name == "--gtest_list_tests": print("A.\\n  One\\n  Two  # GetParam() = 1\\n  Four\\nB.\\n  Three")
elif name in ("A.Two", "B.Three"): print(f"[ RUN      ] {{name}}\\n[       OK ] {{name}} (1 ms)")
elif name: print(f"[ RUN      ] {{name}}\\nwrong\\n[  FAILED  ] {{name}} (1 ms)"); sys.exit(1)
else:
    print("[ RUN      ] A.One", flush=True)
    {end}
    print("illegal address\\n[  FAILED  ] A.One (1 ms)\\n[ RUN      ] A.Two")
    print("[  FAILED  ] A.Two (1 ms)"); sys.exit(1)""")
            _, report, _ = self.check("--only", "kernels")
            part = report["parts"][0]
            self.assertEqual(part["state"], result.FAILED)
            self.assertIn(reason, part["reason"])
            alone = part["details"]["alone"]
            self.assertEqual({k: alone[k] for k in ("A.Two", "A.Four", "B.Three")},
                             {"A.Two": "passed", "A.Four": "wrong", "B.Three": "passed"})
            self.assertNotIn("A.One", alone)

    def test_without_a_gpu_nothing_is_proven(self):
        skip = ("print('[ RUN      ] A.B'); print('no device: no driver');"
                "print('[  SKIPPED ] A.B (0 ms)')")
        self.program("test_kernels_cuda", skip)
        self.program("bench_gpu_limits", "print('{\"no_device\": \"no driver\"}'); sys.exit(5)")
        code, report, text = self.check("--only", "kernels", "--only", "limits", "--only", "model")
        self.assertEqual(code, main.NOTHING_PROVEN)
        self.assertEqual(set(self.states(report).values()), {result.SKIPPED})
        self.assertIn("no NVIDIA GPU: no driver", text)
        self.assertIn("bench_gpu_model: No such file", text)

    def test_a_folder_without_programs_proves_nothing(self):
        self.program("bench_gpu_limits", FIGURES)
        for arguments, expected in ((["--only", "limits", "--only", "kernels"], main.NOTHING_PROVEN),
                                    (["--only", "limits"], 0)):
            code, report, _ = self.check(*arguments)
            self.assertEqual(code, expected, arguments)
            self.assertEqual(self.states(report)["limits"], result.PASSED)

    def test_libtorch_must_see_the_card_that_the_driver_sees(self):
        self.program("test_ops_cuda", """
import os
print("[ RUN      ] A.B")
if os.environ.get("XCOMPOSER_REQUIRE_GPU") == "1":
    print("no device: none\\n[  FAILED  ] A.B (0 ms)"); sys.exit(1)
print("no device: none\\n[  SKIPPED ] A.B (0 ms)")""")
        for smi, state in (("sys.exit(9)", result.SKIPPED),
                           ("print('GPU 0: a card (UUID: 1)')", result.FAILED)):
            self.program("nvidia-smi", smi)
            _, report, _ = self.check("--only", "ops")
            self.assertEqual(self.states(report), {"ops": state})

    def test_a_run_that_is_killed_leaves_a_whole_report(self):
        self.program("test_kernels_cuda", PASSING_TESTS)
        self.program("bench_gpu_limits", "import time; time.sleep(60)")
        out = self.folder / "out"
        process = subprocess.Popen([sys.executable, TOOLS / "gpu_check", "--build", self.folder,
                                    "--out", out, "--only", "kernels", "--only", "limits"],
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)
        for line in process.stdout:
            if "passed" in line:
                break
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        self.assertEqual(self.states(report), {"kernels": result.PASSED})
        self.assertFalse(report["finished"])
        self.assertIn("NOT FINISHED", (out / "report.md").read_text(encoding="utf-8"))

    def test_too_little_time_is_said(self):
        self.program("test_kernels_cuda", PASSING_TESTS)
        for short, said in ((["--total-seconds", "5"], "s were left, it needs 5"),
                            (["--box", "kernels=4.5"], "its time box is 4.5 s, it needs 5")):
            code, report, _ = self.check("--only", "kernels", *short)
            self.assertEqual(code, main.NOTHING_PROVEN)
            self.assertIn(said, report["parts"][0]["reason"])

    def test_goldens_that_cannot_be_read_cost_their_part_only(self):
        self.program("test_kernels_cuda", PASSING_TESTS)
        shared = self.folder / "shared"
        kind = shared / "data" / "goldens" / "2-vl-7b"
        kind.mkdir(parents=True)
        _, report, _ = self.check("--only", "kernels", "--only", "goldens", "--shared", str(shared))
        self.assertEqual(self.states(report), {"kernels": result.PASSED, "goldens": result.SKIPPED})
        self.assertIn("no case could be made", report["parts"][1]["reason"])
        (kind / "cases.json").write_text("[{", encoding="utf-8")
        code, report, text = self.check("--only", "kernels", "--only", "goldens", "--shared",
                                        str(shared))
        self.assertEqual(code, 1)
        self.assertEqual(self.states(report), {"kernels": result.PASSED, "goldens": result.FAILED})
        self.assertIn("JSONDecodeError", text)

    def test_words_that_are_no_unicode_are_kept(self):
        said = '{"failed": "a", "reason": "\\ud800 oh"}'
        self.program("bench_gpu_limits", FIGURES + f"print({said!r})")
        self.program("bench_gpu_model", f"print({said.replace('failed', 'skipped')!r})")
        code, report, text = self.check("--only", "limits", "--only", "model")
        self.assertEqual((code, report["finished"]), (1, True))
        self.assertEqual(report["parts"][0]["details"]["failed"], {"a": "\ud800 oh"})
        self.assertEqual(report["parts"][1]["reason"], "a: \ud800 oh")
        self.assertIn("\\ud800 oh", text)

    def test_a_reader_that_has_gone_costs_nothing(self):
        self.program("test_kernels_cuda", PASSING_TESTS)
        self.program("bench_gpu_limits", FIGURES)
        out = self.folder / "out"
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([sys.executable, TOOLS / "gpu_check", "--build", self.folder, "--out",
                               out, "--only", "kernels", "--only", "limits", "--shared",
                               self.folder / "nowhere"], stdout=writing, stderr=subprocess.PIPE,
                              text=True, check=False)
        os.close(writing)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        self.assertEqual(set(self.states(report).values()), {result.PASSED})
        self.assertTrue(report["finished"])

    def test_wrong_usage(self):
        for arguments in (["--only", "nothing"], ["--total-seconds", "0"], ["--box", "model"],
                          ["--box", "nothing=3"], ["--box", "model=0"], ["--box", "model=x"],
                          ["--from", "a", "--build", "b"], ["--device", "gpu"],
                          ["--device", "cuda:"]):
            done = subprocess.run([sys.executable, TOOLS / "gpu_check", *arguments],
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, 2, arguments)


class Said(unittest.TestCase):
    def test_what_the_output_cannot_show_is_shown_otherwise(self):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding="ascii")
        say("\ud800 \u00e9", file=stream)
        say("more", file=stream)
        self.assertEqual(written.getvalue(), b"\\ud800 \\xe9\nmore\n")


class Documented(unittest.TestCase):
    def test_boxes_are_those_of_the_document(self):
        text = (TOOLS.parent / "docs" / "benchmarks" / "README.md").read_text(encoding="utf-8")
        boxes = re.findall(r"^\| `(\w+)` \| .* \| (\d+) s \|$", text, re.MULTILINE)
        self.assertEqual(boxes, [(part.name, f"{part.box_s:.0f}") for part in parts.PARTS])


class Boxes(Place):
    def run_part(self, run, box_s: float = 1.0, left_s: float = 60.0) -> tuple[str, dict]:
        report = Report(self.folder / "out", {})
        part = Part("x", "a part", run, box_s, 0.1)
        state = main._run_part(part, self.context(), time.monotonic() + left_s, report)
        return state, json.loads((self.folder / "out" / "report.json").read_text(encoding="utf-8"))

    def test_a_hanging_program_and_its_children_are_ended(self):
        mark = self.folder / "alive"
        self.program("test_kernels_cuda", f"""
import subprocess, time
print("[ RUN      ] A.B", flush=True)
subprocess.Popen([sys.executable, "-c",
                  "import time; time.sleep(5.5); open({str(mark)!r}, 'w').close()"])
time.sleep(60)""")
        begin = time.monotonic()
        state, report = self.run_part(parts.kernels, box_s=4)
        self.assertEqual(state, result.TIMED_OUT)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertIn("1 hung (A.B)", report["parts"][0]["reason"])
        time.sleep(3)
        self.assertFalse(mark.exists(), "a child outlived its box")

    def test_a_box_ends_with_the_whole_time(self):
        self.program("bench_gpu_limits", "import time; time.sleep(60)")
        begin = time.monotonic()
        self.run_part(parts.limits, box_s=50, left_s=main.RESERVE_S + 1)
        self.assertLess(time.monotonic() - begin, 10)

    def test_a_fault_of_the_script_costs_its_part_only(self):
        def broken(context, box_s):
            raise KeyError("oh")
        state, report = self.run_part(broken)
        self.assertEqual(state, result.FAILED)
        self.assertIn("KeyError", report["parts"][0]["details"]["trace"])

    def test_a_result_is_stored_before_it_is_said(self):
        with mock.patch.object(main, "say", side_effect=["", KeyboardInterrupt]), \
                self.assertRaises(KeyboardInterrupt):
            self.run_part(lambda context, box_s: result.Result(result.PASSED, "well"))
        stored = json.loads((self.folder / "out" / "report.json").read_text(encoding="utf-8"))
        self.assertEqual([part["reason"] for part in stored["parts"]], ["well"])

    def test_a_report_that_cannot_be_written_is_written_with_the_next_part(self):
        report = Report(self.folder / "out", {})
        part = {"name": "a", "title": "", "state": "passed", "reason": "", "seconds": 1.0}
        with mock.patch("gpu_check_parts.report.os.replace", side_effect=OSError(28, "disk full")):
            report.add(part, {})
        self.assertIn("disk full", report.fault)
        report.add({**part, "name": "b"}, {})
        self.assertEqual(report.fault, "")
        stored = json.loads((self.folder / "out" / "report.json").read_text(encoding="utf-8"))
        self.assertEqual([part["name"] for part in stored["parts"]], ["a", "b"])

    def test_numbers_that_json_has_not_are_written_as_text(self):
        state, report = self.run_part(
            lambda context, box_s: result.Result(result.PASSED, details={"x": float("nan")}))
        self.assertEqual((state, report["parts"][0]["details"]["x"]), (result.PASSED, "nan"))

    def test_much_output_is_cut(self):
        self.program("test_kernels_cuda", "sys.stdout.write('x' * (bounded := 9 << 20))")
        outcome = bounded.run([self.bin / "test_kernels_cuda"], 30)
        self.assertEqual(len(outcome.out), bounded.MOST_OUTPUT)


class Sanitizer(Place):
    SUMMARY = """
race = "racecheck" in sys.argv
print("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)" if race
      else "========= ERROR SUMMARY: {} errors")"""
    RACE = SUMMARY.replace("0 hazards displayed (0 errors", "1 hazard displayed (1 error")

    def state(self, body: str, box_s: float = 20) -> result.Result:
        self.program("compute-sanitizer", body)
        return parts.sanitizer(self.context(), box_s)

    def test_clean(self):
        done = self.state(PASSING_TESTS + self.SUMMARY.format(0))
        self.assertEqual(done.state, result.PASSED)
        self.assertEqual(set(done.details), {"memcheck", "racecheck"})

    def test_errors(self):
        done = self.state(PASSING_TESTS + "print('========= Invalid read of size 4');"
                          + self.SUMMARY.format(2) + "; sys.exit(99)")
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("Invalid read of size 4", done.details["memcheck"]["said"])

    def test_races(self):
        done = self.state(PASSING_TESTS + self.RACE.format(0))
        self.assertEqual(done.state, result.FAILED)
        self.assertEqual({k: v["state"] for k, v in done.details.items()},
                         {"memcheck": result.PASSED, "racecheck": result.FAILED})
        self.assertIn("1 hazard", done.reason)

    def test_what_was_found_before_it_was_stopped(self):
        race = "========= Error: Race reported between Read access at void Kernel()+0x10"
        done = self.state("import time\n" + PASSING_TESTS + f"\nif 'racecheck' in sys.argv: print({race!r}"
                          ", flush=True); time.sleep(60)" + self.SUMMARY.format(0), 3)
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("Race reported", done.reason)

    def test_refused(self):
        done = self.state(
            "print('========= Error: Device not supported. Please refer'); sys.exit(1)")
        self.assertEqual(done.state, result.SKIPPED)
        self.assertIn("Device not supported", done.reason)

    def test_a_tool_that_was_stopped_is_not_forgotten_for_one_that_was_refused(self):
        done = self.state("""
import time
if "memcheck" in sys.argv: time.sleep(60)
print("========= Error: Device not supported."); sys.exit(1)""", 3)
        self.assertEqual(done.details["memcheck"]["state"], result.TIMED_OUT)
        self.assertEqual(done.state, result.TIMED_OUT)

    def test_what_it_leaves_out_is_said(self):
        done = self.state("if '--gtest_filter=-LinearOf*:ComposedModel*' not in sys.argv: sys.exit(3)"
                          + PASSING_TESTS + self.SUMMARY.format(0))
        self.assertEqual(done.state, result.PASSED, done.reason)
        title = next(part.title for part in parts.PARTS if part.name == "sanitizer")
        for said in (title, done.reason):
            self.assertIn("LinearOf*", said)
            self.assertIn("ComposedModel*", said)

    def test_it_starves_no_cheaper_proof(self):
        names = [part.name for part in parts.PARTS if part.proves]
        self.assertEqual(names[-1], "sanitizer")

    def test_silent(self):
        self.assertEqual(self.state(PASSING_TESTS).state, result.FAILED)

    def test_not_installed(self):
        if any(parts.Path(p).is_file() for p in ("/usr/local/cuda/bin/compute-sanitizer",
                                                  "/usr/bin/compute-sanitizer")):
            self.skipTest("this machine has one")
        self.assertEqual(parts.sanitizer(self.context(), 20).state, result.SKIPPED)


class Nccl(Place):
    def test_a_build_without_it_is_a_skip(self):
        done = parts.nccl(self.context(), 20)
        self.assertEqual(done.state, result.SKIPPED)
        self.assertIn("without libnccl-dev and ZeroMQ there is none", done.reason)
        self.program("test_transport_torch", "print('Note: Google Test filter = NcclGpu.*');"
                     "print('[==========] Running 0 tests from 0 test suites.')")
        done = parts.nccl(self.context(), 20)
        self.assertEqual(done.state, result.SKIPPED)
        self.assertIn("built without libnccl-dev", done.reason)


class Peer(Place):
    def test_without_torch_it_is_skipped_by_name(self):
        context = self.context()
        said = '{"skipped": "peer.torch", "reason": "no torch"}'
        fake = self.program("python", f"print({said!r})")
        done = parts.peer(type(context)(**{**context.__dict__, "python": str(fake)}), 20)
        self.assertEqual((done.state, done.reason), (result.SKIPPED, "peer.torch: no torch"))

    def test_its_failure_is_not_ours(self):
        context = self.context()
        said = '{"figure": "peer.a", "seconds": 1}'
        fake = self.program("python", f"print({said!r}); sys.exit(1)")
        done = parts.peer(type(context)(**{**context.__dict__, "python": str(fake)}), 20)
        self.assertEqual(done.state, result.PASSED)


if __name__ == "__main__":
    unittest.main()
