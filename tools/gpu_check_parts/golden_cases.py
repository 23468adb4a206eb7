"""Recorded answers of the reference, asked of the engine on the device.

Ids must be the reference's wherever its margin at a step - the best score before the second best -
is more than twice what the scores at that step differ by, for then no smaller error can explain
another id. Tensors are compared with the budgets that the pack carries: twice the error that the
plain computation has which rounds to float16 wherever the kernels store (half_error.py).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from . import bounded, cli, result, taps
from .result import Context, Result
from .tensors import Tensors

LEAST_S = 2.0   # for one case
CASE_S = 15.0   # at most, that one which hangs costs no others; on an H200 one takes a second or two

# Of the recorded scores' root mean square: twice the most by which plain float16 moves those of the
# recorded models (docs/benchmarks/README.md). Scores must stay within it where the pack has no
# budgets, for their error is what an other id may be excused by.
SCORES_WITHOUT_BUDGET = 2 * 0.028


def run(context: Context, box_s: float) -> Result:
    if context.goldens_fault:
        return Result(result.FAILED, f"no cases could be made: {context.goldens_fault}")
    if context.goldens is None:
        return Result(result.SKIPPED,
                      "no goldens: neither a pack nor XCOMPOSER_SHARED_DIR has them")
    listed = json.loads((context.goldens / "goldens.json").read_text(encoding="utf-8"))["kinds"]
    if not listed:
        return Result(result.SKIPPED, "no case could be made of the goldens")
    deadline = time.monotonic() + box_s
    refusal = cli.cuda_refusal(context, min(20.0, box_s / 3))
    if refusal:
        return refusal
    cases: dict[str, Any] = {}
    for kind in listed:
        for number, case in enumerate(kind["cases"]):
            name = f"{kind['kind']} {case['name']}"
            if deadline - time.monotonic() < LEAST_S:
                cases[name] = {"state": result.TIMED_OUT, "reason": "no time left"}
                continue
            model = context.goldens / kind["model"]
            # A longer box is asked for where the device is slow.
            first = _Case(context, model, case, deadline, max(CASE_S, box_s / 4))
            cases[name] = first.judge()
            if number == 0 and cases[name]["state"] == result.PASSED:
                cases.update(first.repeat(name))
    return _sum_up(cases)


def _sum_up(cases: dict[str, Any]) -> Result:
    states = [case["state"] for case in cases.values()]
    counts = ", ".join(f"{states.count(s)} {s}" for s in (result.PASSED, result.FAILED,
                                                           result.TIMED_OUT) if s in states)
    state = result.PASSED
    if result.FAILED in states:
        state = result.FAILED
    elif result.TIMED_OUT in states:
        state = result.TIMED_OUT
    worst = [f"{name}: {case['reason']}" for name, case in cases.items()
             if case["state"] != result.PASSED]
    return Result(state, "; ".join([counts, *worst[:3]]), details={"cases": cases})


class _Case:
    def __init__(self, context: Context, model: Path, case: dict[str, Any], deadline: float,
                 most_s: float):
        self._context = context
        self._model = model
        self._case = case
        self._deadline = deadline
        self._most_s = most_s
        self._traced = context.scratch / "traced.safetensors"

    def judge(self) -> dict[str, Any]:
        outcome = self._trace(self._traced)
        if outcome.timed_out:
            return {"state": result.TIMED_OUT, "reason": outcome.what_happened}
        if outcome.code != 0:
            return {"state": result.FAILED, "reason": cli.explain(outcome)}
        try:
            ids = json.loads(outcome.out)["output_ids"]
            return self._compare(ids)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return {"state": result.FAILED, "reason": f"cannot be read: {error}"}

    def repeat(self, name: str) -> dict[str, Any]:
        """The same again: not one bit may differ. (Splits over stages: `ops`, GpuPipeline.)"""
        if self._deadline - time.monotonic() < LEAST_S:
            return {f"{name}, again": {"state": result.TIMED_OUT, "reason": "no time left"}}
        once = self._traced.read_bytes()
        other = self._context.scratch / "other.safetensors"
        outcome = self._trace(other)
        entry = {"state": result.PASSED, "reason": "the same bits"}
        if outcome.timed_out:
            entry = {"state": result.TIMED_OUT, "reason": outcome.what_happened}
        elif outcome.code != 0:
            entry = {"state": result.FAILED, "reason": cli.explain(outcome)}
        elif not other.is_file():
            entry = {"state": result.FAILED, "reason": "no tensors the second time"}
        elif other.read_bytes() != once:
            entry = {"state": result.FAILED, "reason": "other bits than the first time"}
        return {f"{name}, again": entry}

    def _trace(self, out: Path) -> bounded.Outcome:
        assert self._context.goldens is not None
        out.unlink(missing_ok=True)
        return bounded.run(
            [self._context.program("xcomposer"), "trace", "--model", self._model, "--request",
             self._context.goldens / self._case["request"], "--out", out, "--taps",
             ",".join(self._case["names"]), "--json", "--devices", self._context.device],
            min(self._most_s, self._deadline - time.monotonic()), self._context.env)

    def _compare(self, ids: list[int]) -> dict[str, Any]:
        assert self._context.goldens is not None
        with Tensors(self._context.goldens / self._case["taps"]) as recorded, \
                Tensors(self._traced) as traced:
            agreed = _agreed(ids, self._case["output_ids"])
            steps = min(agreed + 1, max(1, len(ids)))
            logits = taps.compare("logits", recorded, traced, rows=steps)
            faults = self._id_faults(ids, agreed, logits)
            differences = {"logits": logits}
            for name in self._case["names"]:
                if name != "logits":
                    differences[name] = taps.compare(name, recorded, traced)
        budgets = self._case.get("budgets") or {"logits": SCORES_WITHOUT_BUDGET * logits.rms}
        for name, difference in differences.items():
            budget = budgets.get(name, 0.0 if name == "im_mask" else math.inf)
            if not difference.largest <= budget or math.isnan(difference.largest):
                faults.append(f"{name} differs by {difference.largest:.3g}, allowed {budget:.3g}")
        state = result.FAILED if faults else result.PASSED
        reason = "; ".join(faults) or f"{agreed} of {len(self._case['output_ids'])} ids equal"
        if not self._case.get("budgets"):
            reason += "; tensors other than scores are only reported: the pack has no budgets"
        return {"state": state, "reason": reason, "ids_equal": agreed,
                "taps": {name: {"largest": d.largest, "relative_to_rms": d.relative,
                                "budget": budgets.get(name)} for name, d in differences.items()}}

    def _id_faults(self, ids: list[int], agreed: int, logits: taps.Difference) -> list[str]:
        expected = self._case["output_ids"]
        if agreed == len(expected) == len(ids):
            return []
        margin = self._case["margins"][agreed] if agreed < len(self._case["margins"]) else math.inf
        error = logits.per_row[agreed] if agreed < len(logits.per_row) else 0.0
        if margin <= 2 * error:
            return []
        found = ids[agreed] if agreed < len(ids) else "the end"
        wanted = expected[agreed] if agreed < len(expected) else "the end"
        return [f"id {agreed} is {found}, expected {wanted}: the margin {margin:.3g} is more than "
                f"twice the scores' error {error:.3g}"]


def _agreed(a: list[int], b: list[int]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count
