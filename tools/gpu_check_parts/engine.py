"""The whole engine on a random checkpoint of full size: load, prompt, steps."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from . import bounded, cli, result
from .result import Context, Result

KEYS = 1024
NEW_IDS = 65  # 64 steps after the first
PROMPT = KEYS - NEW_IDS
OTHER_PROMPT = PROMPT - 64

# Prompts that follow one another in one process: the first of a process, the first of another
# length, and prompts whose length has been seen.
PROMPTS = (PROMPT, PROMPT, PROMPT, OTHER_PROMPT, OTHER_PROMPT)


def run(context: Context, box_s: float, folder: Path) -> Result:
    maker = _maker()
    if maker is None:
        return Result(result.SKIPPED, "make_random_checkpoint.py is not beside gpu_check")
    deadline = time.monotonic() + box_s
    refusal = cli.cuda_refusal(context, min(20.0, box_s / 3))
    if refusal:
        return refusal
    free = shutil.disk_usage(folder).free
    if free < (20 << 30):
        return Result(result.SKIPPED,
                      f"{folder} has {free >> 30} GiB free, a checkpoint of full size takes 17")
    with tempfile.TemporaryDirectory(dir=folder, prefix="gpu-check-") as place:
        return _measure(context, deadline, maker, Path(place))


def _maker() -> Path | None:
    path = Path(__file__).resolve().parent.parent / "make_random_checkpoint.py"
    return path if path.is_file() else None


def _measure(context: Context, deadline: float, maker: Path, place: Path) -> Result:
    model = place / "model"
    # It wants a tokenizer to copy; requests are ids, so that none is needed.
    tokenizer = place / "tokenizer.model"
    tokenizer.touch()
    made = bounded.run([context.python, maker, "--kind", "2-vl-7b", "--out", model, "--tokenizer",
                        tokenizer], 0.6 * (deadline - time.monotonic()), context.env)
    if made.code != 0:
        return Result(result.SKIPPED, "no random checkpoint could be written: "
                      f"{made.what_happened}: {made.last_words}")
    (model / "tokenizer.model").unlink(missing_ok=True)
    weights = sum(f.stat().st_size for f in model.iterdir())
    merged = Result(result.PASSED, details={"write_s": made.seconds})
    for sequences, prompts in ((1, PROMPTS), (8, (PROMPT,) * 8)):
        left = deadline - time.monotonic()
        if left < 5:
            merged.state = result.TIMED_OUT
            merged.reason = f"{sequences} sequences: no time left"
            return merged
        request = place / f"requests{sequences}.json"
        request.write_text(json.dumps([_request(i, rows) for i, rows in enumerate(prompts)]),
                           encoding="utf-8")
        outcome = bounded.run(
            [context.program("xcomposer"), "generate", "--model", model, "--request", request,
             "--json", "--parallel", str(sequences), "--devices", context.device], left,
            context.env)
        answers = cli.answers(outcome)
        if answers is None:
            merged.state = result.TIMED_OUT if outcome.timed_out else result.FAILED
            merged.reason = f"{sequences} sequences: {cli.explain(outcome)}"
            return merged
        # The first process finds the checkpoint's pages still on their way to the disk.
        _add_load(merged, ".first" if sequences == 1 else "", answers[0]["timings"], weights)
        if sequences == 1:
            _add_prompts(merged, prompts, answers)
        _add_steps(merged, sequences, answers)
    merged.reason = f"{len(merged.figures)} figures"
    return merged


def _request(seed: int, rows: int) -> dict:
    ids = [1] + [(seed * 977 + i * 7919) % 90000 + 3 for i in range(rows - 1)]
    return {"token_ids": ids, "images": None,
            "generate": {"do_sample": False, "max_new_tokens": NEW_IDS, "eos_token_id": [2],
                         "use_cache": True, "repetition_penalty": 1.0}}


def _add_load(merged: Result, which: str, timings: dict, weights: int) -> None:
    """The whole, and what it is made of: the rest is opening, checking and planning."""
    load = timings["load"]
    _put(merged, f"engine.load{which}", [timings["load_s"]], bytes=weights)
    _put(merged, f"engine.device_start{which}", [load["device_s"]])
    _put(merged, f"engine.weights{which}", [load["weights_s"]], bytes=load["weight_bytes"])
    _put(merged, f"engine.warm_up{which}", [load["warm_up_s"]])


def _add_prompts(merged: Result, prompts: tuple[int, ...], answers: list[dict]) -> None:
    """For each length the first prompt and the later ones."""
    for rows in dict.fromkeys(prompts):
        seconds = [answer["timings"]["prefill_s"]
                   for length, answer in zip(prompts, answers) if length == rows]
        _put(merged, f"engine.prefill.{rows}.first", seconds[:1])
        _put(merged, f"engine.prefill.{rows}", seconds[1:])


def _add_steps(merged: Result, sequences: int, answers: list[dict]) -> None:
    """By each answer's median: where several begin together, the prompts of the later ones stand
    between some ids of the earlier ones. `.overall` counts those too."""
    several = [answer for answer in answers if len(answer["output_ids"]) > 1]
    name = f"engine.decode.bs{sequences}.ctx{KEYS}"
    _put(merged, name, [answer["timings"]["step_s"] for answer in several])
    _put(merged, f"{name}.overall",
         [answer["timings"]["decode_s"] / (len(answer["output_ids"]) - 1) for answer in several])


def _put(merged: Result, name: str, seconds: list[float], **work: float) -> None:
    if seconds and min(seconds) > 0:
        merged.figures[name] = {"seconds": statistics.median(seconds), "least": min(seconds),
                                "most": max(seconds), "runs": len(seconds), **work}
