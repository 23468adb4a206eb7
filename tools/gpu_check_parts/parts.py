"""The parts of a check, in order of value, each with its own time box."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from . import bounded, engine, figure_lines, golden_cases, googletest, machine, result
from .result import Context, Result


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    title: str
    run: Callable[[Context, float], Result]
    box_s: float
    least_s: float  # with less time left it is not begun
    proves: bool = True  # that our programs do what they should


def kernels(context: Context, box_s: float) -> Result:
    return googletest.run(context.program("test_kernels_cuda"), box_s, context.env)


def ops(context: Context, box_s: float) -> Result:
    """Where there is a card a skip is a failure: LibTorch must see what the driver sees."""
    deadline = time.monotonic() + box_s
    required = {"XCOMPOSER_REQUIRE_GPU": "1"} if machine.has_card(context.env, box_s / 2) else {}
    return googletest.run(context.program("test_ops_cuda"), deadline - time.monotonic(),
                          {**context.env, **required})


def limits(context: Context, box_s: float) -> Result:
    command = [context.program("bench_gpu_limits"), "--scratch", _large_folder(context)]
    return figure_lines.read(bounded.run(command, box_s, context.env))


def model(context: Context, box_s: float) -> Result:
    return figure_lines.read(bounded.run([context.program("bench_gpu_model")], box_s, context.env))


def goldens(context: Context, box_s: float) -> Result:
    return golden_cases.run(context, box_s)


def engine_at_full_size(context: Context, box_s: float) -> Result:
    return engine.run(context, box_s, _large_folder(context))


REFUSED = re.compile(r"Device not supported|Target application.*terminated before first|"
                     r"not supported|[Ii]nsufficient (permission|privilege)|ERR_NVGPUCTRPERM")
SUMMARY = re.compile(r"(ERROR|RACECHECK) SUMMARY:")
ERROR = re.compile(r"Error: Race reported|Invalid |Uninitialized |Barrier error|Leaked ")
NOTHING_FOUND = re.compile(r"SUMMARY: 0 (errors|hazards)")
# The products of cuBLASLt, low_rank.cu's kernel among them, and whole layers, whose kernels the other
# tests take one by one.
LEFT_OUT = ("LinearOf*", "ComposedModel*")
WORSE = (result.PASSED, result.SKIPPED, result.TIMED_OUT, result.FAILED)


def sanitizer(context: Context, box_s: float) -> Result:
    """memcheck over the kernel tests but LEFT_OUT, then racecheck with the time that is left."""
    program = shutil.which("compute-sanitizer", path=context.env.get("PATH"))
    program = program or _first_file("/usr/local/cuda/bin/compute-sanitizer",
                                     "/usr/local/cuda/compute-sanitizer/compute-sanitizer")
    if program is None:
        return Result(result.SKIPPED, "compute-sanitizer is not installed")
    all_of_it = Result(result.PASSED)
    left = box_s
    for tool, part in (("memcheck", 0.6), ("racecheck", 1.0)):
        command = [program, "--tool", tool, "--error-exitcode", "99",
                   context.program("test_kernels_cuda"), f"--gtest_filter=-{':'.join(LEFT_OUT)}"]
        outcome = bounded.run(command, left * part, context.env)
        left -= outcome.seconds
        one = _judge_sanitizer(outcome)
        all_of_it.details[tool] = {"state": one.state, "reason": one.reason, **one.details}
        all_of_it.state = max(all_of_it.state, one.state, key=WORSE.index)
        all_of_it.reason += f"{'; ' * bool(all_of_it.reason)}{tool}: {one.reason}"
        if one.state in (result.SKIPPED, result.FAILED):
            break
    all_of_it.reason += f"; left out: {', '.join(LEFT_OUT)}"
    return all_of_it


def _judge_sanitizer(outcome: bounded.Outcome) -> Result:
    tests = googletest.read(outcome.out)
    found = [line.strip("= ") for line in (outcome.out + outcome.err).splitlines()
             if line.startswith("=========")]
    # "ERROR SUMMARY: 0 errors" of memcheck, "RACECHECK SUMMARY: 0 hazards displayed (...)".
    summaries = [line for line in found if SUMMARY.search(line)]
    if summaries and not NOTHING_FOUND.search(summaries[-1]):
        return Result(result.FAILED, summaries[-1], details={"said": found[:60]})
    # A run that was stopped has no summary, but may have found something.
    error = next((line for line in found if ERROR.match(line)), "")
    if error:
        return Result(result.FAILED, error, details={"said": found[:60]})
    refused = next((line for line in found if REFUSED.search(line)), "")
    if refused and not tests.passed:
        return Result(result.SKIPPED, f"refused on this machine: {refused}")
    one = googletest.judge(outcome, tests)
    if one.state != result.PASSED and found:
        one.details["said"] = found[:60]
    if one.state == result.PASSED and not summaries:
        return Result(result.FAILED, "compute-sanitizer gave no summary")
    return one


NO_TESTS = re.compile(r"^\[=+\] Running 0 tests ", re.MULTILINE)


def nccl(context: Context, box_s: float) -> Result:
    program = context.program("test_transport_torch")
    if not program.is_file():
        return Result(result.SKIPPED, "the build has no test_transport_torch: without libnccl-dev and "
                      "ZeroMQ there is none")
    outcome = bounded.run([program, "--gtest_filter=NcclGpu.*"], box_s, context.env)
    if outcome.code == 0 and NO_TESTS.search(outcome.out):
        return Result(result.SKIPPED, "test_transport_torch was built without libnccl-dev: it has no "
                      "NcclGpu tests")
    tests = googletest.read(outcome.out)
    judged = googletest.judge(outcome, tests)
    if judged.state == result.PASSED and tests.skipped:
        judged.reason += "; " + "; ".join(f"{k}: {v}" for k, v in tests.skipped.items())
    return judged


def peer(context: Context, box_s: float) -> Result:
    """Torch's own kernels, and a Llama-shaped 7B of transformers, where the machine has them."""
    program = Path(__file__).resolve().parent / "torch_peer.py"
    read = figure_lines.read(bounded.run([context.python, program], box_s, context.env))
    if read.state in (result.FAILED, result.TIMED_OUT):
        # A peer that does not run says nothing about us.
        read.state = result.PASSED if read.figures else result.SKIPPED
    return read


PARTS = [
    Part("kernels", "kernel tests against float64", kernels, 60, 5),
    Part("ops", "the engine's CUDA ops, steps and splits", ops, 40, 5),
    Part("goldens", "recorded answers of every kind, end to end", goldens, 60, 10),
    Part("limits", "what the card can do at best", limits, 40, 10, proves=False),
    Part("model", "the kernels at full 7B size", model, 40, 15),
    Part("engine", "the engine at full 7B size", engine_at_full_size, 45, 40),
    Part("nccl", "two NCCL ranks", nccl, 15, 10),
    Part("sanitizer", f"compute-sanitizer over the kernel tests but {' and '.join(LEFT_OUT)}",
         sanitizer, 120, 15),
    Part("peer", "torch and transformers at the same sizes", peer, 50, 15,
         proves=False),
]


def _large_folder(context: Context) -> Path:
    """In memory where there is room for a checkpoint, else the scratch folder."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > (24 << 30):
        return shared
    return context.scratch


def _first_file(*paths: str) -> str | None:
    return next((path for path in paths if Path(path).is_file()), None)
