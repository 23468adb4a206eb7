"""The command line of gpu_check."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from . import bounded, devices, golden_requests, libraries, machine, pack, result, sources
from .parts import PARTS, Part
from .report import Report
from .result import Context, Result
from .said import say

TOOLS = Path(__file__).resolve().parent.parent
RESERVE_S = 4.0  # kept of the whole time for the last report
NOTHING_PROVEN = 5
TARGETS = ("test_kernels_cuda", "test_ops_cuda", "bench_gpu_limits", "bench_gpu_model",
           "xcomposer_cli")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    bounded.end_on_signals()
    if options.pack:
        return _pack(options)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        place = _place(options, Path(scratch))
        # Building and unpacking are not part of the check.
        deadline = time.monotonic() + options.total_seconds
        context, about = _prepare(options, place, Path(scratch))
        report = Report(options.out, about)
        boxes = dict(options.box or [])
        parts = [dataclasses.replace(part, box_s=boxes.get(part.name, part.box_s))
                 for part in PARTS if not options.only or part.name in options.only]
        states = [_run_part(part, context, deadline, report) for part in parts]
        report.finish(time.monotonic() - begin)
    if report.fault:
        say(f"the report could not be written: {report.fault}")
        return 1
    say(f"\n{options.out}/report.md and report.json")
    return _exit_code(parts, states)


def _exit_code(parts: list[Part], states: list[str]) -> int:
    if result.FAILED in states or result.TIMED_OUT in states:
        return 1
    # That the card or a peer was measured proves nothing of ours, unless nothing else was asked for.
    proofs = [state for part, state in zip(parts, states) if part.proves]
    if result.PASSED in (proofs or states):
        return 0
    say("nothing was proven: every part was skipped", file=sys.stderr)
    return NOTHING_PROVEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description="Proves and measures the CUDA side on a machine with a GPU.",
        epilog="Exit codes: 0 all that ran passed, 1 a part failed or was stopped, 2 wrong usage, "
        "5 nothing could run. docs/benchmarks/README.md says what the figures mean.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--pack", type=Path, metavar="DIR",
                      help="write what travels to a machine that has nothing")
    what.add_argument("--from", type=Path, metavar="DIR", dest="source",
                      help="run from a pack (default where gpu_check lies in one)")
    parser.add_argument("--build", type=Path, metavar="DIR",
                        help="a build folder whose programs are taken as they are")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the reports go")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS],
                        help="this part; may be repeated")
    parser.add_argument("--total-seconds", type=float, default=470.0,
                        help="of all parts together (default 470)")
    parser.add_argument("--box", action="append", type=_box, metavar="PART=SECONDS",
                        help="another time box for this part; may be repeated")
    parser.add_argument("--device", default="cuda:0", type=_device, metavar="cuda:N",
                        help="the GPU that everything takes (default cuda:0); cpu runs the goldens "
                        "and the engine on the CPU")
    parser.add_argument("--no-budgets", action="store_true",
                        help="with --pack: leave out how far float16 alone moves the recorded "
                        "tensors, which --python works out in minutes")
    parser.add_argument("--decoder", type=Path, metavar="XCOMPOSER",
                        help="with --pack: a build that decodes pictures, for those of the goldens "
                        "whose pixels were not recorded (tiles of 4khd)")
    parser.add_argument("--python", default=sys.executable or "python3",
                        help="the interpreter that has torch, for its libraries and as the peer")
    parser.add_argument("--shared", type=Path, default=_shared_folder(),
                        help="folder with the goldens (XCOMPOSER_SHARED_DIR, else ../shared)")
    return _Defaults(parser)


def _box(text: str) -> tuple[str, float]:
    name, _, seconds = text.partition("=")
    if name not in {part.name for part in PARTS} or not float(seconds) > 0:
        raise ValueError(text)  # argparse says which argument it is
    return name, float(seconds)


def _device(text: str) -> str:
    if not devices.FORM.fullmatch(text):
        raise ValueError(text)
    return text


class _Defaults:
    """Fills in what depends on where gpu_check lies."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._parser = parser

    def parse_args(self, arguments: list[str] | None) -> argparse.Namespace:
        options = self._parser.parse_args(arguments)
        inside_pack = (TOOLS / "pack.json").is_file()
        if inside_pack and not (options.source or options.build or options.pack):
            options.source = TOOLS
        if options.out is None:
            options.out = (Path.cwd() if options.source else TOOLS.parent / "build") / "gpu_check"
        if options.total_seconds <= 0:
            self._parser.error("--total-seconds must be above 0")
        if options.source and options.build:
            self._parser.error("--from brings its own programs: --build is not for it")
        return options


def _shared_folder() -> Path:
    named = os.environ.get("XCOMPOSER_SHARED_DIR")
    return Path(named) if named else TOOLS.parent.parent / "shared"


def _pack(options: argparse.Namespace) -> int:
    build = options.build or _build()
    python = None if options.no_budgets else options.python
    version = sources.of_tree(TOOLS)
    commit = sources.of_library(build / "lib", libraries.environment(options.python, [build / "lib"]))
    _warn_of_other_sources(version, commit)
    manifest = pack.write(options.pack, build, options.shared / "data" / "goldens", TOOLS,
                          version, python, options.decoder, commit)
    size = pack.size_of(options.pack)
    has = {name: "yes" if manifest[name] else "NO" for name in ("goldens", "budgets")}
    print(f"{options.pack}: {size / 2**20:.1f} MiB, goldens: {has['goldens']}, budgets of their "
          f"tensors: {has['budgets']}, built from {commit or 'unknown sources'}")
    for name in manifest["left_out"]:
        print(f"without {name}, which the build does not have", file=sys.stderr)
    if size <= pack.MOST_BYTES:
        return 0
    print(f"more than {pack.MOST_BYTES >> 20} MiB; the largest are", *pack.largest(manifest),
          sep="\n", file=sys.stderr)
    return 1


def _build() -> Path:
    """The build without what such machines lack: OpenCV and sentencepiece."""
    source = TOOLS.parent
    build = source / "build" / "minimal"
    _run_or_end(["cmake", "--preset", "minimal"], source)
    offered = subprocess.run(["cmake", "--build", build, "--target", "help"], capture_output=True,
                             text=True, check=False).stdout
    _run_or_end(["cmake", "--build", "--preset", "minimal", "--target", *_targets(offered)], source)
    return build


def _targets(offered: str) -> list[str]:
    """What is needed, and of the rest what the build offers: ninja says "name: phony", make
    "... name"."""
    words = {word.rstrip(":") for word in offered.split()}
    return [*TARGETS, *(name for name in pack.OPTIONAL if name in words)]


def _run_or_end(command: list[str], folder: Path) -> None:
    if subprocess.run(command, cwd=folder, check=False).returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed; on a machine without the packages use "
                         "--from with a pack that was made elsewhere")


def _warn_of_other_sources(version: str, commit: str) -> None:
    if sources.differ(version, commit):
        say(f"warning: the programs were built from {commit}, the tools are of {version}",
            file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the programs lie, and what is known of them."""

    programs: Path
    libraries: Path
    origin: str
    version: str
    commit: str = ""
    goldens_fault: str = ""


def _place(options: argparse.Namespace, scratch: Path) -> _Place:
    if options.source:
        manifest = pack.unpack(options.source, scratch)
        return _Place(scratch / "bin", scratch / "lib", "a pack", manifest["version"],
                      manifest.get("commit", ""))
    build = options.build or _build()
    recorded = options.shared / "data" / "goldens"
    fault = ""
    if recorded.is_dir():
        try:
            golden_requests.write(recorded, scratch / "goldens")
        except Exception as error:  # pylint: disable=broad-except
            # Damaged records must not cost the parts that need none.
            fault = f"{recorded}: {error!r}"
    return _Place(build / "bin", build / "lib", str(build), sources.of_tree(TOOLS),
                  goldens_fault=fault)


def _prepare(options: argparse.Namespace, place: _Place, scratch: Path
             ) -> tuple[Context, dict[str, Any]]:
    env = libraries.environment(options.python, [place.libraries])
    described = machine.describe(env)
    env, card = devices.first(options.device, env, described["cards"])
    commit = place.commit or sources.of_library(place.libraries, env)
    _warn_of_other_sources(place.version, commit)
    goldens = scratch / "goldens"
    work = scratch / "work"
    work.mkdir()
    context = Context(place.programs, env, goldens if (goldens / "goldens.json").is_file() else None,
                      work, "cpu" if options.device == "cpu" else "cuda:0",
                      shutil.which(options.python) or options.python, place.goldens_fault)
    about = {"version": place.version, "commit": commit, "programs": place.origin,
             "device": options.device, "card": card, "machine": described}
    return context, about


def _run_part(part: Part, context: Context, deadline: float, report: Report) -> str:
    left = deadline - time.monotonic() - RESERVE_S
    begin = time.monotonic()
    box = min(part.box_s, left)
    if part.box_s < part.least_s:
        done = Result(result.SKIPPED, f"its time box is {part.box_s:g} s, it needs {part.least_s:.0f}")
    elif box < part.least_s:
        done = Result(result.SKIPPED,
                      f"{max(0.0, left):.0f} s were left, it needs {part.least_s:.0f}")
    else:
        say(f"{part.name}: {part.title} (at most {box:.0f} s) ... ", end="")
        try:
            done = part.run(context, box)
        except Exception as error:  # pylint: disable=broad-except
            # A fault of this script must not cost the parts that follow.
            done = Result(result.FAILED, f"gpu_check itself failed: {error!r}",
                          details={"trace": traceback.format_exc()})
    seconds = time.monotonic() - begin
    report.add({"name": part.name, "title": part.title, "state": done.state, "reason": done.reason,
                "seconds": round(seconds, 2), "box_s": round(max(box, 0.0), 1),
                "details": done.details}, done.figures)
    say(f"{done.state}, {seconds:.1f} s: {done.reason[:400]}")
    return done.state
