"""The whole engine on a random checkpoint of full size: load, prompt, steps."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

from . import bounded, cli, result
from .result import Context, Result

KEYS = 1024
NEW_IDS = 65  # 64 steps after the first


def run(context: Context, box_s: float, folder: Path) -> Result:
    maker = _maker()
    if maker is None:
        return Result(result.SKIPPED, "make_random_checkpoint.py is not beside gpu_check")
    refusal = cli.cuda_refusal(context, min(20.0, box_s / 3))
    if refusal:
        return Result(result.SKIPPED, refusal)
    free = shutil.disk_usage(folder).free
    if free < (20 << 30):
        return Result(result.SKIPPED,
                      f"{folder} has {free >> 30} GiB free, a checkpoint of full size takes 17")
    with tempfile.TemporaryDirectory(dir=folder, prefix="gpu-check-") as place:
        return _measure(context, box_s, maker, Path(place))


def _maker() -> Path | None:
    path = Path(__file__).resolve().parent.parent / "make_random_checkpoint.py"
    return path if path.is_file() else None


def _measure(context: Context, box_s: float, maker: Path, place: Path) -> Result:
    deadline = time.monotonic() + box_s
    model = place / "model"
    # It wants a tokenizer to copy; requests are ids, so that none is needed.
    tokenizer = place / "tokenizer.model"
    tokenizer.touch()
    made = bounded.run([context.python, maker, "--kind", "2-vl-7b", "--out", model, "--tokenizer",
                        tokenizer], 0.6 * box_s, context.env)
    if made.code != 0:
        return Result(result.SKIPPED, "no random checkpoint could be written: "
                      f"{made.what_happened}: {made.last_words}")
    (model / "tokenizer.model").unlink(missing_ok=True)
    weights = sum(f.stat().st_size for f in model.iterdir())
    merged = Result(result.PASSED, details={"write_s": made.seconds})
    for sequences in (1, 8):
        left = deadline - time.monotonic()
        if left < 5:
            merged.details[f"bs{sequences}"] = "no time left"
            continue
        request = place / f"requests{sequences}.json"
        request.write_text(json.dumps([_request(i) for i in range(sequences)]), encoding="utf-8")
        outcome = bounded.run(
            [context.program("xcomposer"), "generate", "--model", model, "--request", request,
             "--json", "--devices", context.device], left, context.env)
        answers = cli.answers(outcome)
        if answers is None:
            merged.state = result.TIMED_OUT if outcome.timed_out else result.FAILED
            merged.reason = f"{sequences} sequences: {cli.explain(outcome)}"
            return merged
        _add(merged, sequences, answers, weights)
    merged.reason = f"{len(merged.figures)} figures"
    return merged


def _request(seed: int) -> dict:
    ids = [1] + [(seed * 977 + i * 7919) % 90000 + 3 for i in range(KEYS - NEW_IDS - 1)]
    return {"token_ids": ids, "images": None,
            "generate": {"do_sample": False, "max_new_tokens": NEW_IDS, "eos_token_id": [2],
                         "use_cache": True, "repetition_penalty": 1.0}}


def _add(merged: Result, sequences: int, answers: list[dict], weights: int) -> None:
    timings = [answer["timings"] for answer in answers]
    steps = [len(answer["output_ids"]) - 1 for answer in answers]
    if sequences == 1:
        _put(merged, "engine.load", timings[0]["load_s"], bytes=weights)
        _put(merged, f"engine.prefill.{KEYS - NEW_IDS}", timings[0]["prefill_s"])
    if min(steps) > 0:
        step = max(t["decode_s"] / n for t, n in zip(timings, steps))
        _put(merged, f"engine.decode.bs{sequences}.ctx{KEYS}", step)


def _put(merged: Result, name: str, seconds: float, **work: float) -> None:
    if seconds > 0:
        merged.figures[name] = {"seconds": seconds, "least": seconds, "most": seconds, "runs": 1,
                                **work}
