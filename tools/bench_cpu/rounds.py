"""Runs xcomposer and llama.cpp in turns and keeps every sample."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import processes
from checkpoint_layout import KINDS, Sizes, config_json

#: our weights -> our flags, and the file type of llama.cpp that is nearest
VARIANTS = {"bf16": (("--dtype", "bf16"), "F16"),
            "bf12": (("--dtype", "bf16", "--weights", "bf12"), "F16"),
            "bf16-rounded": (("--dtype", "bf16", "--activations", "bf16"), "BF16"),
            "fp16": (("--dtype", "fp16"), "F16"),
            "int8": (("--weights", "int8"), "Q8_0"),
            "int4": (("--weights", "int4"), "Q4_0")}

OURS = "xcomposer"
PEER = "llama.cpp"


@dataclasses.dataclass(frozen=True)
class Settings:
    xcomposer: str
    peer_python: str  # "": without the peer
    sizes: Sizes
    weights: tuple[str, ...]
    threads: int
    prompt_tokens: tuple[int, ...]
    context: int
    new_tokens: int
    rounds: int
    repeat: int
    quiet_percent: float
    patience_s: float
    timeout_s: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """The median of one process's runs of one figure."""

    round: int
    engine: str
    weights: str      # ours, or the peer's file type
    figure: str       # "prefill 128", "decode 1"
    rows: int         # tokens of a run
    seconds: float
    bytes: float      # that a run must read
    operations: float
    limits: dict[str, float]  # rates, measured by our process of the same minute
    foreign_percent: float


class Unusable(Exception):
    """What a program printed is not what was expected."""


def parse_ours(text: str) -> dict:
    """The report of `xcomposer bench --json`, with the fields that are used looked at."""
    try:
        report = json.loads(text)
        for figure in report["figures"]:
            if figure["phase"] in ("prefill", "decode"):
                float(figure["seconds"]["median"]), float(figure["bytes"])
                float(figure["operations"]), int(figure["rows"]), str(figure["name"])
        for limit in report["limits"]:
            float(limit["rate"]["median"]), str(limit["name"])
        for key in ("processor", "kernels", "threads"):
            report["machine"][key]
        report["version"], report["commit"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"xcomposer bench printed no report ({error!r}): {text[:200]!r}") from None
    return report


def parse_peer(text: str) -> dict:
    try:
        report = json.loads(text)
        str(report["version"])
        for seconds in report["seconds"].values():
            if not all(float(value) > 0 for value in seconds) or not seconds:
                raise ValueError("a run without time")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"the peer printed no figures ({error!r}): {text[:200]!r}") from None
    return report


def limits_of(report: dict) -> dict[str, float]:
    return {limit["name"]: limit["rate"]["median"] for limit in report["limits"]}


def limits_of_figure(report: dict, figure: dict) -> dict[str, float]:
    """Reading memory is none where what a step reads stays in the last-level cache."""
    limits = limits_of(report)
    steps = figure["rows"] if figure["phase"] == "decode" else 1
    if figure["bytes"] / steps < report["machine"].get("cache_bytes", 0):
        limits.pop("memory read", None)
    return limits


def our_samples(report: dict, number: int, weights: str, foreign: float) -> list[Sample]:
    return [Sample(number, OURS, weights, figure["name"], figure["rows"],
                   figure["seconds"]["median"], figure["bytes"], figure["operations"],
                   limits_of_figure(report, figure), foreign)
            for figure in report["figures"] if figure["phase"] in ("prefill", "decode")]


def peer_samples(peer: dict, ours: list[Sample], file_type: str,
                 token_bytes: Callable[[str], float], foreign: float) -> list[Sample]:
    """The peer computes what we compute and reads its own file; the limits are ours. `token_bytes`
    of a figure: what a token, or a prompt, reads."""
    by_name = {sample.figure: sample for sample in ours}
    samples = []
    for figure, seconds in peer["seconds"].items():
        if figure not in by_name:
            raise Unusable(f"the peer timed {figure!r}, which xcomposer did not")
        like = by_name[figure]
        times = like.rows if figure.startswith("decode") else 1
        samples.append(dataclasses.replace(
            like, engine=PEER, weights=file_type, seconds=statistics.median(seconds),
            bytes=token_bytes(figure) * times, foreign_percent=foreign))
    return samples


def peer_is_missing(python: str) -> str:
    """Why the peer is left out; empty where it is there."""
    if not python:
        return "it was not asked for"
    try:
        processes.run((python, "-c", "import llama_cpp, gguf"), 300)
    except processes.ProgramFailed as error:
        return f"llama-cpp-python and gguf cannot be imported by {python}: " + \
            str(error).strip().split("\n")[-1]
    return ""


class Run:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._config = folder / "config.json"
        self._config.write_text(json.dumps(config_json(settings.sizes)), encoding="utf-8")
        self.samples: list[Sample] = []
        self.ours: dict = {}
        self.peer: dict = {"skipped": peer_is_missing(settings.peer_python)}
        if self.peer["skipped"]:
            print(f"without {PEER}: {self.peer['skipped']}", file=sys.stderr)

    def all(self, after_round: Callable[[], None]) -> None:
        types = [VARIANTS[weights][1] for weights in self._settings.weights]
        if not self.peer["skipped"]:
            for file_type in dict.fromkeys(types):
                self._write(file_type)
        for number in range(1, self._settings.rounds + 1):
            for i, weights in enumerate(self._settings.weights):
                mine = self._measure_ours(number, weights)
                last = types[i] not in types[i + 1:]
                if last and not self.peer["skipped"]:
                    self._measure_peer(mine, types[i])
            after_round()

    def _write(self, file_type: str) -> None:
        print(f"writing a random {file_type} file", file=sys.stderr)
        write = Path(__file__).with_name("write_peer_file.py")
        sizes = self._folder / "sizes.json"
        sizes.write_text(json.dumps(dataclasses.asdict(self._settings.sizes)), encoding="utf-8")
        processes.run((self._settings.peer_python, str(write), "--sizes", str(sizes), "--type",
                       file_type, "--out", str(self._file(file_type))), 3600)

    def _file(self, file_type: str) -> Path:
        return self._folder / f"{file_type}.gguf"

    def _run(self, what: str, command: tuple[str, ...]) -> processes.Finished:
        settings = self._settings
        if settings.patience_s > 0 and not processes.wait_until_quiet(settings.quiet_percent,
                                                                      settings.patience_s):
            print("the machine did not become quiet; measuring all the same", file=sys.stderr)
        print(what, file=sys.stderr)
        return processes.run(command, settings.timeout_s)

    def _measure_ours(self, number: int, weights: str) -> list[Sample]:
        settings = self._settings
        shape = settings.sizes.kind if settings.sizes == KINDS[settings.sizes.kind] \
            else str(self._config)
        done = self._run(f"round {number}: {OURS} {weights}", (
            settings.xcomposer, "bench", "--random", shape, *VARIANTS[weights][0], "--json",
            "--quiet", "--no-picture", "--threads", str(settings.threads),
            "--prompt-tokens", ",".join(map(str, settings.prompt_tokens)),
            "--context", str(settings.context), "--new-tokens", str(settings.new_tokens + 1),
            "--repeat", str(settings.repeat)))
        self.ours = parse_ours(done.output)
        mine = our_samples(self.ours, number, weights, done.foreign_percent)
        self.samples += mine
        return mine

    def _measure_peer(self, mine: list[Sample], file_type: str) -> None:
        import peer_file
        settings = self._settings
        worker = Path(__file__).with_name("llama_worker.py")
        done = self._run(f"round {mine[0].round}: {PEER} {file_type}", (
            settings.peer_python, str(worker), "--gguf", str(self._file(file_type)),
            "--threads", str(settings.threads),
            "--prompt-tokens", ",".join(map(str, settings.prompt_tokens)),
            "--context", str(settings.context), "--new-tokens", str(settings.new_tokens),
            "--repeat", str(settings.repeat)))
        report = parse_peer(done.output)
        self.peer.update(version=report["version"], system=report.get("system", ""))
        middle = settings.context + (settings.new_tokens + 1) / 2

        def token_bytes(figure: str) -> float:
            keys = middle if figure.startswith("decode") else 0  # as ours count
            return peer_file.bytes_per_token(settings.sizes, file_type, keys)

        self.samples += peer_samples(report, mine, file_type, token_bytes, done.foreign_percent)


def measure(settings: Settings, work: Path | None = None,
            keep: Callable[[dict], None] = lambda _: None) -> dict:
    """Everything that the report needs, as JSON. `keep` is given what there is after each round,
    since a later one may fail."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        run = Run(settings, Path(folder))
        run.all(lambda: keep(_result(settings, run)))
    return _result(settings, run)


def _result(settings: Settings, run: Run) -> dict:
    return {"machine": run.ours["machine"], "version": run.ours["version"],
            "commit": run.ours["commit"], "shape": dataclasses.asdict(settings.sizes),
            "threads": settings.threads, "context": settings.context,
            "rounds": settings.rounds, "repeat": settings.repeat,
            "quiet_percent": settings.quiet_percent, "peer": run.peer,
            "samples": [dataclasses.asdict(sample) for sample in run.samples]}
