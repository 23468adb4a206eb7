"""The whole engine on CPUs beside llama.cpp: same shapes, random weights, in turns.

    python tools/bench_cpu measure --out RESULT.json
    python tools/bench_cpu report --out build/bench RESULT.json ...

`measure` runs `xcomposer bench` and llama-cpp-python (skipped by name where it cannot be imported)
round after round and writes every sample; `report` writes cpu.md and cpu.svg from such files.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import processes  # noqa: E402
import report  # noqa: E402
import rounds  # noqa: E402
from checkpoint_layout import KINDS  # noqa: E402


def counts(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in text.split(","))
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("expected numbers above 0 with commas between")
    return numbers


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


def known_weights(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in rounds.VARIANTS]:
        raise argparse.ArgumentTypeError(
            f"unknown {', '.join(unknown)}; expected of {', '.join(rounds.VARIANTS)}")
    return names


def add_measure(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("measure", help="run both engines, write every sample")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--xcomposer", default="build/release/bin/xcomposer")
    parser.add_argument("--peer-python", default=sys.executable,
                        help="the Python that has llama-cpp-python and gguf; empty: without them")
    parser.add_argument("--kind", choices=sorted(KINDS), default="2-vl-1.8b")
    for name in ("hidden", "layers", "heads", "kv-heads", "intermediate", "vocab"):
        parser.add_argument(f"--{name}", type=int, help="replaces the kind's own")
    parser.add_argument("--weights", type=known_weights, default=tuple(rounds.VARIANTS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt-tokens", type=counts, default=(128, 512))
    parser.add_argument("--context", type=int, default=1, help="tokens before the timed ones")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens that are timed")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--repeat", type=at_least_one, default=2, help="runs of a figure in one process")
    parser.add_argument("--quiet-percent", type=float, default=2.0,
                        help="rounds in which others used more of the processors do not count")
    parser.add_argument("--wait-quiet", type=float, default=0.0, metavar="SECONDS",
                        help="how long to wait for a quiet machine before each process")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds of one process")
    parser.add_argument("--work", type=Path, help="where the peer's files are written meanwhile")
    parser.set_defaults(run=run_measure)


def write(path: Path, result: dict) -> None:
    """Whole at any moment, unless it is no file (a pipe, a terminal)."""
    text = json.dumps(result, indent=1) + "\n"
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def run_measure(arguments: argparse.Namespace) -> None:
    names = {field.name for field in dataclasses.fields(rounds.Sizes)} - {"kind", "adapters"}
    given = {k: v for k, v in vars(arguments).items() if k in names and v is not None}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    settings = rounds.Settings(
        xcomposer=arguments.xcomposer, peer_python=arguments.peer_python,
        sizes=dataclasses.replace(KINDS[arguments.kind], **given), weights=arguments.weights,
        threads=arguments.threads, prompt_tokens=arguments.prompt_tokens,
        context=arguments.context, new_tokens=arguments.new_tokens, rounds=arguments.rounds,
        repeat=arguments.repeat, quiet_percent=arguments.quiet_percent,
        patience_s=arguments.wait_quiet, timeout_s=arguments.timeout)
    result = rounds.measure(settings, arguments.work, lambda part: write(arguments.out, part))
    print(report.section(result))


def run_report(arguments: argparse.Namespace) -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.results]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "cpu.md").write_text(report.document(results, "cpu.svg"), encoding="utf-8")
    (arguments.out / "cpu.svg").write_text(report.picture(results), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    add_measure(commands)
    show = commands.add_parser("report", help="write cpu.md and cpu.svg from results")
    show.add_argument("--out", type=Path, required=True, help="folder, for example build/bench")
    show.add_argument("results", type=Path, nargs="*")
    show.set_defaults(run=run_report)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (processes.ProgramFailed, rounds.Unusable) as error:
        raise SystemExit(f"bench_cpu: {error}") from None


if __name__ == "__main__":
    main()
