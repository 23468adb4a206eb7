"""The judgement of recorded cases, over a stand-in of the command line."""

from __future__ import annotations

import array
import json
import time
import unittest
from pathlib import Path
from unittest import mock

from fakes import Place
from gpu_check_parts import engine, golden_cases, result, taps, tensors

LOGITS = [[0.0, 4.0, 1.0], [2.0, 0.0, 1.5]]
HIDDEN = [[float(10 * row + column) for column in range(2)] for row in range(5)]
ROWS = [0, 4]
HAS_GPU = """
if "devices" in sys.argv: print('{"nodes": [{"devices": [{"name": "cuda:0"}]}]}'); sys.exit()
"""


def floats(rows: list[list[float]]) -> tuple[str, list[int], bytes]:
    flat = array.array("f", [x for row in rows for x in row])
    return "F32", [len(rows), len(rows[0])], flat.tobytes()


def integers(values: list[int]) -> tuple[str, list[int], bytes]:
    return "I32", [len(values)], array.array("i", values).tobytes()


class Goldens(Place):
    def goldens(self, budgets: dict | None = None) -> Path:
        folder = self.folder / "goldens"
        folder.mkdir(exist_ok=True)
        tensors.write(folder / "taps", {
            "logits": floats(LOGITS), "layer0.out": floats([HIDDEN[r] for r in ROWS]),
            "layer_rows": integers(ROWS)})
        case = {"name": "c", "request": "r.json", "taps": "taps", "names": ["logits", "layer0.out"],
                "output_ids": [1, 0], "margins": [3.0, 0.5], "rows": 5}
        if budgets is not None:
            case["budgets"] = budgets
        (folder / "r.json").write_text("{}", encoding="utf-8")
        (folder / "goldens.json").write_text(json.dumps(
            {"kinds": [{"kind": "k", "model": "m", "cases": [case]}]}), encoding="utf-8")
        return folder

    def answer(self, ids: list[int], logits=None, hidden=None, also: str = "") -> None:
        """The engine answers so, whatever it is asked."""
        source = self.folder / "engine.safetensors"
        tensors.write(source, {"logits": floats(logits or LOGITS),
                               "layer0.out": floats(hidden or HIDDEN)})
        self.program("xcomposer", HAS_GPU + f"""
import json, shutil
a = sys.argv
out = a[a.index("--out") + 1]
shutil.copy({str(source)!r}, out)
{also}
print(json.dumps({{"output_ids": {ids}}}))""")

    def judge(self, budgets: dict | None = None) -> result.Result:
        return golden_cases.run(self.context(self.goldens(budgets)), 60)

    def test_the_same_answer(self):
        self.answer([1, 0])
        done = self.judge({"logits": 0.1, "layer0.out": 0.1})
        self.assertEqual(done.state, result.PASSED, done.reason)
        self.assertEqual(set(done.details["cases"]), {"k c", "k c, again"})

    def test_another_id_beyond_what_rounding_explains(self):
        self.answer([1, 2], [LOGITS[0], [2.0, 0.0, 1.6]])  # error 0.1, margin 0.5
        done = self.judge()
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("id 1 is 2, expected 0", done.reason)

    def test_another_id_within_rounding(self):
        self.answer([1, 2], [LOGITS[0], [1.7, 0.0, 1.8]])  # error 0.3, margin 0.5
        self.assertEqual(self.judge({"logits": 0.4, "layer0.out": 0.1}).state, result.PASSED)

    def test_scores_must_be_near_the_recorded_ones_without_budgets_too(self):
        self.answer([0, 2], [[999, -999, 500], [-1e6, 3, 1e7]])
        done = self.judge()
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("logits differs by", done.reason)
        self.answer([1, 2], [LOGITS[0], [1.7, 0.0, 1.8]])  # 0.3 of 1.97 * 5.6 %
        self.assertEqual(self.judge().state, result.FAILED)
        self.answer([1, 0], [LOGITS[0], [2.1, 0.0, 1.5]])
        self.assertEqual(self.judge().state, result.PASSED)

    def test_a_repetition_for_which_there_was_no_time_is_said(self):
        self.answer([1, 0])
        context = self.context(self.goldens({"logits": 0.1, "layer0.out": 0.1}))
        first = golden_cases._Case(context, self.folder, {}, time.monotonic() + 1.0, 15)
        self.assertEqual(first.repeat("k c")["k c, again"]["state"], result.TIMED_OUT)

    def test_an_answer_that_ends_early(self):
        self.answer([1], LOGITS[:1])
        self.assertIn("id 1 is the end, expected 0", self.judge().reason)

    def test_an_answer_that_does_not_end(self):
        self.answer([1, 0, 2])
        self.assertIn("id 2 is 2, expected the end", self.judge().reason)

    def test_an_answer_of_a_program_that_failed(self):
        self.answer([1, 0], also="import atexit, os; atexit.register(lambda: os._exit(1))")
        self.assertIn("exit code 1", self.judge().reason)

    def test_tensors_beyond_their_budget(self):
        wrong = [list(row) for row in HIDDEN]
        wrong[4][1] += 0.25
        self.answer([1, 0], hidden=wrong)
        self.assertEqual(self.judge({"logits": 0.1, "layer0.out": 0.3}).state, result.PASSED)
        done = self.judge({"logits": 0.1, "layer0.out": 0.2})
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("layer0.out differs by 0.25, allowed 0.2", done.reason)

    def test_rows_that_were_not_recorded_do_not_matter(self):
        wrong = [list(row) for row in HIDDEN]
        wrong[2][1] += 100
        self.answer([1, 0], hidden=wrong)
        self.assertEqual(self.judge({"logits": 0.1, "layer0.out": 0.1}).state, result.PASSED)

    def test_no_number_is_never_within_a_budget(self):
        for place in ((0, 0), (4, 1)):
            wrong = [list(row) for row in HIDDEN]
            wrong[place[0]][place[1]] = float("nan")
            self.answer([1, 0], hidden=wrong)
            self.assertEqual(self.judge().state, result.FAILED, place)

    def test_a_tensor_of_another_shape(self):
        self.answer([1, 0], hidden=[[1.0], [2.0], [3.0], [4.0], [5.0]])
        self.assertIn("layer0.out", self.judge().reason)

    def test_other_bits_the_second_time(self):
        self.answer([1, 0], also=f"""
import os
counter = {str(self.folder / 'count')!r}
open(counter, 'a').write('x')
if os.path.getsize(counter) == 2: open(out, 'ab').write(b'y')""")
        done = self.judge()
        self.assertEqual(done.state, result.FAILED)
        self.assertEqual(done.details["cases"]["k c, again"]["state"], result.FAILED)

    def test_a_refused_device_is_a_skip_with_the_refusal(self):
        self.program("xcomposer", """print('{"nodes": [{"devices": [{"name": "cpu"}]}]}')""")
        done = self.judge()
        self.assertEqual(done.state, result.SKIPPED)
        self.assertIn("names no CUDA device", done.reason)

    def test_a_device_that_fails_on_the_way_is_a_failure(self):
        fault = ('{"error": {"kind": "device", "message": "the GPU failed while running a batch: '
                 'an illegal memory access was encountered"}}')
        self.program("xcomposer", HAS_GPU + f"print({fault!r}); sys.exit(5)")
        done = self.judge()
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("illegal memory access", done.reason)

    def test_any_other_error_is_a_failure(self):
        full = '{"error": {"kind": "capacity", "message": "out of memory"}}'
        for body in (f"print({full!r}); sys.exit(5)", "sys.exit(5)", "sys.exit(1)", "print('{}')",
                     "print('rubbish')", "import os; os.kill(os.getpid(), 11)"):
            self.program("xcomposer", HAS_GPU + body)
            self.assertEqual(self.judge().state, result.FAILED, body)
        self.program("xcomposer", "sys.exit(127)")  # before it can say what devices there are
        self.assertEqual(self.judge().state, result.FAILED)

    def test_one_case_that_hangs_costs_no_other(self):
        folder = self.goldens({"logits": 0.1, "layer0.out": 0.1})
        listed = json.loads((folder / "goldens.json").read_text(encoding="utf-8"))
        [case] = listed["kinds"][0]["cases"]
        (folder / "slow.json").write_text("{}", encoding="utf-8")
        listed["kinds"][0]["cases"] = [{**case, "name": "slow", "request": "slow.json"}, case]
        (folder / "goldens.json").write_text(json.dumps(listed), encoding="utf-8")
        self.answer([1, 0], also="import time; time.sleep(60 * ('slow' in ' '.join(a)))")
        with mock.patch.object(golden_cases, "CASE_S", 5.0):
            done = golden_cases.run(self.context(folder), 18)
        self.assertEqual({name: case["state"] for name, case in done.details["cases"].items()},
                         {"k slow": result.TIMED_OUT, "k c": result.PASSED})
        self.assertEqual(done.state, result.TIMED_OUT)
        self.assertIn("k slow: stopped after 5 s", done.reason)

    def test_files_of_tensors_that_hold_none(self):
        self.answer([1, 0], also="open(out, 'wb').write(b'1234567')")
        done = self.judge()
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("7 bytes are no file of tensors", done.reason)
        self.answer([1, 0], also="open(out, 'wb').write((2).to_bytes(8, 'little') + b'[]')")
        self.assertIn("its header is no object", self.judge().reason)

    def test_no_file_the_second_time(self):
        self.answer([1, 0], also="import os\nif 'other' in out: os.unlink(out)")
        done = self.judge({"logits": 0.1, "layer0.out": 0.1})
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("no tensors the second time", done.reason)

    def test_without_goldens(self):
        self.assertEqual(golden_cases.run(self.context(), 60).state, result.SKIPPED)


class Taps(Place):
    def test_crops_and_tokens_are_picked(self):
        whole = array.array("f", range(2 * 3 * 2)).tobytes()
        picked = array.array("f", [8, 9]).tobytes()  # crop 1, token 1
        tensors.write(self.folder / "got", {"image0.vit": ("F32", [2, 3, 2], whole)})
        tensors.write(self.folder / "want", {
            "image0.vit": ("F32", [1, 1, 2], picked), "image0.vit_crops": integers([1]),
            "image0.vit_tokens": integers([1])})
        with tensors.Tensors(self.folder / "got") as got, \
                tensors.Tensors(self.folder / "want") as want:
            self.assertEqual(taps.compare("image0.vit", want, got).largest, 0)

    def test_columns_are_picked(self):
        tensors.write(self.folder / "got", {"logits": floats([[1, 2, 3], [4, 5, 6]])})
        tensors.write(self.folder / "want", {"logits": floats([[3, 1], [6, 4.5]]),
                                             "logits_cols": integers([2, 0])})
        with tensors.Tensors(self.folder / "got") as got, \
                tensors.Tensors(self.folder / "want") as want:
            self.assertEqual(taps.compare("logits", want, got).per_row, [0, 0.5])

    def test_a_truncated_file_is_an_error(self):
        path = self.folder / "got"
        tensors.write(path, {"x": floats([[1, 2, 3]])})
        path.write_bytes(path.read_bytes()[:-4])
        with tensors.Tensors(path) as got, self.assertRaises(ValueError):
            got.all("x")


class Engine(Place):
    def test_a_device_that_is_not_there_is_a_skip(self):
        no_gpu = ('{"nodes": [{"devices": [{"name": "cpu"}]}], "versions": {"build": "cuda", '
                  '"cuda_driver": ""}}')
        for said in (no_gpu, "{}", "rubbish"):
            self.program("xcomposer", f"print({said!r})")
            done = engine.run(self.context(), 60, self.folder)
            self.assertEqual(done.state, result.SKIPPED)
            self.assertIn("names no CUDA device", done.reason)

    def test_a_checkpoint_is_made_and_asked(self):
        maker = self.program("python", """
import os, pathlib
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir()
(out / "model.safetensors").write_bytes(b"x" * 1000)
(out / "tokenizer.model").write_bytes(b"")""")
        self.program("xcomposer", """
import json, os
if "devices" in sys.argv:
    print('{"nodes": [{"devices": [{"name": "cuda:0"}]}]}')
    sys.exit()
model = sys.argv[sys.argv.index("--model") + 1]
requests = json.load(open(sys.argv[sys.argv.index("--request") + 1]))
if os.path.exists(model + "/tokenizer.model") or len(requests[0]["token_ids"]) != 959: sys.exit(1)
if len(requests) == 8: print("[]"); sys.exit(1)
if sys.argv[sys.argv.index("--parallel") + 1] != "1": sys.exit(1)
load = {"device_s": 0.1, "weights_s": 0.3, "warm_up_s": 0.05, "weight_bytes": 900}
print(json.dumps([{"output_ids": [3] * 65, "timings": {
    "load_s": 0.5, "prefill_s": 0.1, "decode_s": 0.64, "step_s": 0.01, "load": load}}
    for r in requests]))""")
        context = self.context()
        context = type(context)(**{**context.__dict__, "python": str(maker)})
        done = engine._measure(context, time.monotonic() + 60, Path("maker.py"), self.folder)
        self.assertEqual(done.state, result.FAILED)
        self.assertIn("8 sequences: exit code 1", done.reason)
        self.assertEqual(done.figures["engine.load.first"]["bytes"], 1000)
        self.assertNotIn("engine.load", done.figures)  # the second process's, which failed
        self.assertIn("engine.prefill.959", done.figures)

    def test_figures_for_which_there_was_no_time_are_said(self):
        context = self.context()
        context = type(context)(**{**context.__dict__, "python": str(self.program(
            "python", "import os; os.mkdir(sys.argv[sys.argv.index('--out') + 1])"))})
        done = engine._measure(context, time.monotonic() + 4, Path("maker.py"), self.folder)
        self.assertEqual(done.state, result.TIMED_OUT)
        self.assertIn("1 sequences: no time left", done.reason)

    def test_a_load_is_told_by_its_parts(self):
        merged = result.Result(result.PASSED)
        timings = {"load_s": 0.5, "load": {"device_s": 0.1, "weights_s": 0.3, "warm_up_s": 0.0,
                                           "weight_bytes": 16_000}}
        engine._add_load(merged, "", timings, 17_000)
        self.assertEqual(merged.figures["engine.load"]["bytes"], 17_000)
        self.assertEqual(merged.figures["engine.weights"]["bytes"], 16_000)
        self.assertEqual(merged.figures["engine.weights"]["seconds"], 0.3)
        self.assertEqual(merged.figures["engine.device_start"]["seconds"], 0.1)
        self.assertNotIn("engine.warm_up", merged.figures)  # there was none

    def test_the_first_prompt_of_a_length_stands_alone(self):
        merged = result.Result(result.PASSED)
        answers = [{"timings": {"prefill_s": s}} for s in (0.9, 0.1, 0.3, 0.5, 0.2)]
        engine._add_prompts(merged, (959, 959, 959, 895, 895), answers)
        self.assertEqual({name: figure["seconds"] for name, figure in merged.figures.items()},
                         {"engine.prefill.959.first": 0.9, "engine.prefill.959": 0.2,
                          "engine.prefill.895.first": 0.5, "engine.prefill.895": 0.2})

    def test_steps_are_counted_without_what_came_between(self):
        merged = result.Result(result.PASSED)
        answers = [{"output_ids": list(range(65)), "timings": {"decode_s": 0.64, "step_s": step}}
                   for step in (0.005, 0.006, 0.009)] + [
                       {"output_ids": [2], "timings": {"decode_s": 0, "step_s": 0}}]
        engine._add_steps(merged, 8, answers)
        step = merged.figures["engine.decode.bs8.ctx1024"]
        self.assertEqual((step["seconds"], step["least"], step["most"]), (0.006, 0.005, 0.009))
        overall = merged.figures["engine.decode.bs8.ctx1024.overall"]
        self.assertAlmostEqual(overall["seconds"], 0.01)


if __name__ == "__main__":
    unittest.main()
