"""tools/bench_cpu with programs that only pretend: parsing, statistics, the report."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS / "bench_cpu"), str(TOOLS)]

try:
    import numpy
except ImportError as missing:
    print(f"skipped: {missing}")
    raise SystemExit(77) from None

import figures  # noqa: E402
import peer_file  # noqa: E402
import processes  # noqa: E402
import report  # noqa: E402
import rounds  # noqa: E402
from checkpoint_layout import KINDS  # noqa: E402

TINY = dataclasses.replace(KINDS["2-vl-1.8b"], hidden=256, layers=2, heads=4, kv_heads=2,
                           intermediate=512, vocab=512)


def our_report(scale: float = 1.0, dot: bool = True) -> dict:
    """As `xcomposer bench --json` prints it."""
    def of(value: float) -> dict:
        return {"median": value, "min": value, "max": value, "runs": 2}

    limits = [{"name": "memory read", "rate": of(100.0)}, {"name": "fp32 fma", "rate": of(1000.0)}]
    if dot:
        limits.append({"name": "int8 dot", "rate": of(4000.0)})
    figure = {"bytes": 50.0, "rows": 8, "context": 0, "picture_rows": 0}
    return {"version": "9.9.9", "commit": "abc", "limits": limits,
            "machine": {"processor": "a processor", "kernels": "avx2", "threads": 2},
            "figures": [
                {**figure, "name": "load", "phase": "load", "seconds": of(1.0), "operations": 0.0},
                {**figure, "name": "prefill 8", "phase": "prefill", "operations": 800.0,
                 "seconds": of(1.0 * scale)},
                {**figure, "name": "decode 1", "phase": "decode", "operations": 80.0,
                 "seconds": of(2.0 * scale), "rows": 4}]}


def sample(**changes: object) -> rounds.Sample:
    values = {"round": 1, "engine": rounds.OURS, "weights": "int8", "figure": "decode 1",
              "rows": 4, "seconds": 2.0, "bytes": 50.0, "operations": 80.0,
              "limits": {"memory read": 100.0, "fp32 fma": 1000.0, "int8 dot": 4000.0},
              "foreign_percent": 0.0}
    return rounds.Sample(**{**values, **changes})


class Parsing(unittest.TestCase):
    def test_our_report(self) -> None:
        mine = rounds.our_samples(rounds.parse_ours(json.dumps(our_report())), 3, "int4", 0.5)
        self.assertEqual([s.figure for s in mine], ["prefill 8", "decode 1"])
        self.assertEqual(mine[1], sample(round=3, weights="int4", foreign_percent=0.5))

    def test_what_stays_in_the_cache_is_not_read_from_memory(self) -> None:
        cached = our_report()
        cached["machine"]["cache_bytes"] = 20  # a prompt reads 50, a token 12.5
        prefill, decode = rounds.our_samples(cached, 1, "int8", 0.0)
        self.assertIn("memory read", prefill.limits)
        self.assertEqual(sorted(decode.limits), ["fp32 fma", "int8 dot"])

    def test_other_texts_are_refused(self) -> None:
        broken = our_report()
        del broken["figures"][1]["operations"]
        for text in ("", "Segmentation fault", "[]", "{}", '{"error": {"kind": "usage"}}',
                     json.dumps(broken)):
            with self.assertRaises(rounds.Unusable, msg=text):
                rounds.parse_ours(text)
        for text in ("", "{}", '{"version": "1", "seconds": {"decode 1": []}}',
                     '{"version": "1", "seconds": {"decode 1": [0]}}',
                     '{"version": "1", "seconds": {"decode 1": ["x"]}}'):
            with self.assertRaises(rounds.Unusable, msg=text):
                rounds.parse_peer(text)

    def test_the_peer_reads_its_file_and_computes_what_we_do(self) -> None:
        mine = rounds.our_samples(our_report(), 1, "int8", 0.0)
        peer = rounds.parse_peer('{"version": "1", "seconds": {"prefill 8": [4, 2, 3], '
                                 '"decode 1": [1.5]}}')
        reads = {"prefill 8": 8.0, "decode 1": 10.0}
        prefill, decode = rounds.peer_samples(peer, mine, "Q8_0", reads.get, 1.0)
        self.assertEqual((prefill.engine, prefill.weights), (rounds.PEER, "Q8_0"))
        self.assertEqual((prefill.seconds, prefill.bytes, prefill.operations), (3, 8, 800))
        self.assertEqual((decode.seconds, decode.bytes, decode.rows), (1.5, 40, 4))
        self.assertEqual(decode.foreign_percent, 1.0)

    def test_a_figure_that_we_did_not_time_is_refused(self) -> None:
        peer = {"version": "1", "seconds": {"prefill 9": [1.0]}}
        with self.assertRaises(rounds.Unusable):
            rounds.peer_samples(peer, rounds.our_samples(our_report(), 1, "int8", 0), "Q8_0",
                                lambda _: 1.0, 0)


class Processors(unittest.TestCase):
    def test_the_line_of_the_system(self) -> None:
        time = processes.parse_cpu_time("cpu  100 20 30 400 50 6 7 80 90 10\ncpu0 1 2 3 4", 100)
        self.assertAlmostEqual(time.busy, 1.63)
        self.assertAlmostEqual(time.idle, 4.5)
        self.assertAlmostEqual(time.stolen, 0.8)
        self.assertEqual(processes.parse_cpu_time("cpu 1 2 3 4", 1).stolen, 0)
        for text in ("", "cpu 1 2", "intr 1 2 3 4 5"):
            with self.assertRaises(ValueError, msg=text):
                processes.parse_cpu_time(text, 100)

    def test_foreign_is_what_is_neither_idle_nor_ours(self) -> None:
        before = processes.CpuTime(10, 100, 1)
        after = processes.CpuTime(16, 103, 2)
        self.assertAlmostEqual(processes.foreign_percent(before, after, 4), 30)
        self.assertEqual(processes.foreign_percent(before, after, 9), 0)
        self.assertEqual(processes.foreign_percent(before, before, 0), 0)

    def test_failures_name_the_program(self) -> None:
        with self.assertRaisesRegex(processes.ProgramFailed, "status 3: it hurts"):
            processes.run((sys.executable, "-c",
                           "import sys; print('it hurts', file=sys.stderr); sys.exit(3)"), 60)
        with self.assertRaisesRegex(processes.ProgramFailed, "/no/such cannot be run"):
            processes.run(("/no/such",), 60)
        with self.assertRaisesRegex(processes.ProgramFailed, "longer than"):
            processes.run((sys.executable, "-c", "import time; time.sleep(60)"), 0.3)


class Statistics(unittest.TestCase):
    def test_the_bound_is_the_nearest_limit(self) -> None:
        self.assertEqual(figures.bound(sample()), ("memory read", 25.0))
        busy = sample(operations=6000.0, bytes=1.0)
        self.assertEqual(figures.bound(busy), ("int8 dot", 75.0))
        # What is not quantised is not multiplied in 8 bits, nor where there are no instructions.
        self.assertEqual(figures.bound(dataclasses.replace(busy, weights="fp16"))[0], "fp32 fma")
        both = {**busy.limits, "bf16 dot": 2000.0}
        for weights, limit in (("bf16-rounded", "bf16 dot"), ("BF16", "bf16 dot"),
                               ("bf16", "fp32 fma"), ("bf12", "fp32 fma"), ("F16", "fp32 fma"),
                               ("Q4_0", "int8 dot")):
            one = dataclasses.replace(busy, weights=weights, limits=both)
            self.assertEqual(figures.bound(one)[0], limit)
        self.assertEqual(figures.bound(dataclasses.replace(busy, weights="BF16"))[0], "fp32 fma")
        without = {"memory read": 100.0, "fp32 fma": 1000.0}
        self.assertEqual(figures.bound(dataclasses.replace(busy, limits=without)),
                         ("fp32 fma", 300.0))

    def test_rounds_of_a_busy_machine_do_not_count(self) -> None:
        both = [sample(), sample(round=2, seconds=8.0, foreign_percent=40.0)]
        figure = figures.figure_of(both, 2.0)
        self.assertEqual((figure.rounds, figure.left_out), (2, 1))
        self.assertEqual(figure.tokens_per_s.median, 2)
        always = [dataclasses.replace(s, foreign_percent=40.0) for s in both]
        self.assertEqual(figures.figure_of(always, 2.0).left_out, 0)
        self.assertEqual(figures.figure_of(always, 2.0).tokens_per_s, figures.Spread(1.25, .5, 2, 2))

    def test_the_ratio_is_of_the_same_rounds(self) -> None:
        ours = [sample(round=n, seconds=s) for n, s in ((1, 1.0), (2, 2.0), (3, 4.0))]
        peers = [sample(round=n, seconds=s) for n, s in ((1, 2.0), (2, 6.0), (4, 9.0))]
        self.assertEqual(figures.ratio_of(ours, peers, 2.0), figures.Spread(2.5, 2, 3, 2))

    def test_who_beats_a_limit_is_named(self) -> None:
        table = figures.rows([sample(seconds=0.4)], 2.0)
        self.assertEqual(table[0].ours.percent.median, 125)
        [doubt] = figures.doubts(table, 2.0)
        self.assertIn("xcomposer int8, decode 1: 125 % of 'memory read'", doubt)
        self.assertEqual(figures.doubts(figures.rows([sample()], 2.0), 2.0), [])
        [busy] = figures.doubts(figures.rows([sample(foreign_percent=30.0)], 2.0), 2.0)
        self.assertIn("other programs used 30 %", busy)


class PeerFile(unittest.TestCase):
    def test_bytes_of_the_known_shape(self) -> None:
        shape = KINDS["2-vl-1.8b"]
        for file_type, expected in (("F16", 3.40), ("BF16", 3.40), ("Q8_0", 1.81), ("Q4_0", 1.01)):
            self.assertAlmostEqual(peer_file.bytes_per_token(shape, file_type, 0) / 1e9, expected,
                                   delta=0.006, msg=file_type)
        more = peer_file.bytes_per_token(shape, "F16", 10) - peer_file.bytes_per_token(
            shape, "F16", 0)
        self.assertEqual(more, 10 * 2 * 2 * 8 * 128 * 24)

    def test_blocks_fill_every_tensor(self) -> None:
        blocks = peer_file.Blocks()
        blocks.PIECE = 1 << 12
        for file_type in peer_file.FILE_TYPES:
            for tensor in peer_file.tensors(TINY, file_type):
                parts = list(blocks.of(tensor))
                self.assertEqual(sum(part.nbytes for part in parts), tensor.bytes, tensor.name)

    def test_scales_are_small_numbers(self) -> None:
        tensor = peer_file.Tensor("w", (2, 256), peer_file.Q6_K)
        [block] = peer_file.Blocks().of(tensor)
        scales = numpy.ascontiguousarray(block[:, 208:210]).view(numpy.float16)
        self.assertTrue((scales > 0).all() and (scales < 2e-5).all())

    def test_bfloats_are_upper_halves_of_floats(self) -> None:
        tensor = peer_file.Tensor("w", (64, 256), peer_file.BF16)
        halves = numpy.concatenate(list(peer_file.Blocks().of(tensor))).view(numpy.uint16)
        values = (halves.astype(numpy.uint32) << 16).view(numpy.float32)
        self.assertAlmostEqual(float(values.std()), 0.02, delta=0.001)
        self.assertLess(abs(float(values.mean())), 0.001)

    def test_rows_that_do_not_fill_blocks_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "multiple of 32"):
            _ = peer_file.Tensor("w", (2, 33), peer_file.Q4_0).bytes

    def test_the_file_is_what_the_package_reads(self) -> None:
        try:
            import gguf
        except ImportError as missing:
            self.skipTest(f"the package gguf is not installed: {missing}")
        with tempfile.TemporaryDirectory() as folder:
            for file_type in peer_file.FILE_TYPES:
                path = Path(folder) / "model.gguf"
                peer_file.write(path, TINY, file_type)
                reader = gguf.GGUFReader(path)
                found = {t.name: (tuple(t.shape.tolist())[::-1], t.tensor_type.name, t.n_bytes)
                         for t in reader.tensors}
                expected = {t.name: (t.shape, t.format.name, t.bytes)
                            for t in peer_file.tensors(TINY, file_type)}
                self.assertEqual(found, expected)
                heads = reader.get_field("internlm2.attention.head_count_kv")
                self.assertEqual(heads.contents(), 2)


class WholeRun(unittest.TestCase):
    """The programs are scripts that print canned figures and write down how they were called."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def program(self, name: str, body: str) -> str:
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\nimport json, sys\n"
                        f"with open({str(self.folder / 'calls')!r}, 'a') as calls:\n"
                        f"    print({name!r}, *sys.argv[1:], file=calls)\n{body}", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()

    def settings(self, **changes: object) -> rounds.Settings:
        peer = self.program("peer", "if any('llama_worker' in a for a in sys.argv):\n"
                            "    print(json.dumps({'version': '0.1', 'system': 'fake', 'seconds': "
                            "{'prefill 8': [2.0, 2.0], 'decode 1': [4.0, 4.0]}}))\n")
        ours = self.program("xcomposer", f"print({json.dumps(our_report())!r})\n")
        values = {"xcomposer": ours, "peer_python": peer, "sizes": TINY, "threads": 2,
                  "weights": ("bf16", "fp16", "int8"), "prompt_tokens": (8,), "context": 1,
                  "new_tokens": 4, "rounds": 2, "repeat": 2, "quiet_percent": 100.0,
                  "patience_s": 0.0, "timeout_s": 60.0}
        return rounds.Settings(**{**values, **changes})

    def measure(self, settings: rounds.Settings) -> dict:
        with contextlib.redirect_stderr(io.StringIO()):
            return rounds.measure(settings, self.folder)

    def test_engines_take_turns(self) -> None:
        result = self.measure(self.settings())
        kinds = [(s["round"], s["engine"], s["weights"]) for s in result["samples"]
                 if s["figure"] == "decode 1"]
        one = [("xcomposer", "bf16"), ("xcomposer", "fp16"), ("llama.cpp", "F16"),
               ("xcomposer", "int8"), ("llama.cpp", "Q8_0")]
        self.assertEqual(kinds, [(n, *who) for n in (1, 2) for who in one])
        written = [call for call in self.calls() if "write_peer_file" in call]
        self.assertEqual(len(written), 2)  # once per type, not once per round

    def test_both_are_asked_for_the_same(self) -> None:
        self.measure(self.settings(weights=("int4",), rounds=1))
        ours = next(call for call in self.calls() if call.startswith("xcomposer"))
        peer = next(call for call in self.calls() if "llama_worker" in call)
        # The first of our new tokens is part of the prompt's time.
        for words in ("--weights int4", "--threads 2", "--prompt-tokens 8", "--context 1",
                      "--new-tokens 5", "--no-picture", "config.json"):
            self.assertIn(words, ours)
        for words in ("--threads 2", "--prompt-tokens 8", "--context 1", "--new-tokens 4",
                      "Q4_0.gguf"):
            self.assertIn(words, peer)

    def test_bf12_is_bfloat16_and_stands_beside_the_same_file(self) -> None:
        result = self.measure(self.settings(weights=("bf16", "bf12"), rounds=1))
        self.assertIn("--dtype bf16 --weights bf12", " ".join(self.calls()))
        table = figures.rows([rounds.Sample(**s) for s in result["samples"]], 100.0)
        self.assertEqual([(row.ours.weights, row.peer.weights) for row in table
                          if row.ours.figure == "decode 1"], [("bf16", "F16"), ("bf12", "F16")])

    def test_a_kind_of_its_own_size_is_asked_for_by_name(self) -> None:
        self.measure(self.settings(sizes=KINDS["2-vl-1.8b"], weights=("int8",), rounds=1,
                                   peer_python=""))
        self.assertIn("--random 2-vl-1.8b", self.calls()[0])

    def test_without_the_peer_we_are_measured_alone(self) -> None:
        broken = self.program("no_llama", "print('No module named llama_cpp', file=sys.stderr)\n"
                              "sys.exit(1)\n")
        result = self.measure(self.settings(peer_python=broken))
        self.assertIn("No module named llama_cpp", result["peer"]["skipped"])
        self.assertEqual({s["engine"] for s in result["samples"]}, {"xcomposer"})
        self.assertIn("no peer: llama-cpp-python and gguf cannot be imported",
                      report.section(result))

    def test_a_program_that_fails_is_named(self) -> None:
        failing = self.program("failing", "print('out of memory', file=sys.stderr); sys.exit(5)\n")
        with self.assertRaisesRegex(processes.ProgramFailed, "status 5: out of memory"):
            self.measure(self.settings(xcomposer=failing))

    def test_a_prompt_of_the_peer_reads_no_keys_of_the_steps_context(self) -> None:
        reads = {}
        for context in (1, 1001):
            result = self.measure(self.settings(weights=("int8",), rounds=1, context=context))
            for s in result["samples"]:
                if s["engine"] == rounds.PEER:
                    reads[s["figure"], context] = s["bytes"]
        self.assertEqual(reads["prefill 8", 1], reads["prefill 8", 1001])
        self.assertLess(reads["decode 1", 1], reads["decode 1", 1001])

    def test_what_was_measured_before_a_failure_is_kept(self) -> None:
        marks = self.folder / "marks"
        failing = self.program("failing", f"""
with open({str(marks)!r}, 'a') as file: file.write('x')
import os
if os.path.getsize({str(marks)!r}) == 3: sys.exit(5)
print({json.dumps(our_report())!r})
""")
        out = self.folder / "kept.json"
        done = subprocess.run(
            [sys.executable, str(TOOLS / "bench_cpu"), "measure", "--out", str(out), "--xcomposer",
             failing, "--peer-python", "", "--weights", "int8", "--rounds", "4"],
            capture_output=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1)
        kept = json.loads(out.read_text(encoding="utf-8"))
        self.assertEqual({s["round"] for s in kept["samples"]}, {1, 2})
        self.assertFalse(out.with_suffix(".json.new").exists())

    def test_the_report_has_every_figure(self) -> None:
        result = self.measure(self.settings())
        text = report.section(json.loads(json.dumps(result)))
        self.assertIn("xcomposer 9.9.9 (abc), avx2 kernels; llama.cpp of llama-cpp-python 0.1.",
                      text)
        lines = [line for line in text.splitlines() if line.startswith("| prefill 8 | int8 ")]
        [line] = lines
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        self.assertEqual(cells[2], "8.00 [8.00-8.00]")
        self.assertIn("**50 %** of memory read", cells[3])
        self.assertEqual(cells[5:7], ["Q8_0", "4.00 [4.00-4.00]"])
        self.assertEqual(cells[8], "**2.00** [2.00-2.00]")
        self.assertEqual(text.count("\n| decode 1 "), 3)

    def test_the_command_line_writes_document_and_picture(self) -> None:
        settings = self.settings()
        tool = [sys.executable, str(TOOLS / "bench_cpu")]
        out = self.folder / "result.json"
        subprocess.run(
            [*tool, "measure", "--out", str(out), "--xcomposer", settings.xcomposer,
             "--peer-python", settings.peer_python, "--weights", "int8", "--prompt-tokens", "8",
             "--new-tokens", "4", "--rounds", "1", "--hidden", "256", "--layers", "2", "--heads",
             "4", "--kv-heads", "2", "--intermediate", "512", "--vocab", "512"],
            check=True, capture_output=True, timeout=120)
        subprocess.run([*tool, "report", "--out", str(self.folder), str(out)], check=True,
                       capture_output=True, timeout=120)
        document = (self.folder / "cpu.md").read_text(encoding="utf-8")
        self.assertIn("## a processor, 2 threads: 2-vl-1.8b", document)
        self.assertIn("(cpu.svg)", document)
        root = xml.etree.ElementTree.parse(self.folder / "cpu.svg").getroot()
        texts = [node.text for node in root.iter() if node.tag.endswith("text")]
        self.assertIn("prefill 8, int8 / Q8_0", texts)
        bars = [node for node in root.iter()
                if node.tag.endswith("rect") and node.get("height") == str(report.BAR)]
        self.assertEqual(len(bars), 4)

    def test_wrong_arguments_are_refused(self) -> None:
        tool = [sys.executable, str(TOOLS / "bench_cpu"), "measure", "--out", os.devnull]
        for wrong in (["--weights", "int3"], ["--prompt-tokens", "0"], ["--kind", "3-7b"],
                      ["--rounds", "0"], ["--repeat", "-1"]):
            done = subprocess.run([*tool, *wrong], capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 2, wrong)


if __name__ == "__main__":
    unittest.main()
