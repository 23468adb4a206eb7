"""The two reports: report.json with everything, report.md to be read. Both after every part."""

from __future__ import annotations

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

from . import goals, sources
from .goals import GOALS

PEER = "peer."


class Report:
    def __init__(self, folder: Path, about: dict[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self._json = folder / "report.json"
        self._markdown = folder / "report.md"
        self.content: dict[str, Any] = {
            "format": 1, "started": datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec="seconds"),
            "finished": False, **about, "parts": [], "figures": {}}
        self.fault = ""  # why the files are not those of the last part
        self._write()

    def add(self, part: dict[str, Any], figures: dict[str, dict[str, Any]]) -> None:
        self.content["parts"].append(part)
        self.content["figures"].update(figures)
        self.save()

    def finish(self, seconds: float) -> None:
        self.content["finished"] = True
        self.content["seconds"] = round(seconds, 1)
        self.save()

    def save(self) -> None:
        """A full disk, or what cannot be shown, costs neither the run nor what it had: all of it is
        written again with the next part."""
        try:
            self._write()
            self.fault = ""
        except Exception as error:  # pylint: disable=broad-except
            self.fault = repr(error)

    def _write(self) -> None:
        """Each file is whole at any moment: a run that is killed leaves the last one."""
        _replace(self._json, json.dumps(_finite(self.content), indent=1))
        _replace(self._markdown, markdown(self.content))


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(beside, path)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def markdown(content: dict[str, Any]) -> str:
    figures = content["figures"]
    sections = [_head(content), _parts(content["parts"]), _limits(figures),
                _goals(figures, content), _work(figures), _peers(figures), _products(figures),
                _golden(content["parts"]), _troubles(content["parts"], figures)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |"
              for row in rows]
    return "\n".join(lines)


def _head(content: dict[str, Any]) -> str:
    machine = content.get("machine", {})
    cards = machine.get("cards") or []
    used = [content["card"]] if content.get("card") else cards
    card = "; ".join(", ".join(c.get(k, "") for k in ("name", "memory.total", "power.limit",
                                                      "driver_version")) for c in used)
    card = card or _card_name(content) or machine.get("nvidia_smi", "unknown")
    if content.get("card") and len(cards) > 1:
        card += f" ({content['device']}, nvidia-smi's {content['card']['index']} of {len(cards)})"
    version, commit = content.get("version", "unknown"), content.get("commit", "")
    programs = str(content.get("programs", ""))
    if commit:
        programs += f", built from {commit}"
    if sources.differ(version, commit):
        programs += f": **other sources than {version}**"
    state = f"{content['seconds']} s" if content["finished"] else "NOT FINISHED"
    lines = ["# GPU check", "",
             f"{content['started']}, {state}, version {version}.", "",
             f"* card: {card}",
             f"* host: {machine.get('processor', 'unknown')}, {machine.get('cores')} cores, Linux "
             f"{machine.get('kernel')}",
             f"* programs: {programs}"]
    return "\n".join(lines)


def _parts(parts: list[dict[str, Any]]) -> str:
    rows = [[p["name"], p["title"], p["state"], f"{p['seconds']:.1f}", p["reason"][:300]]
            for p in parts]
    return "## Parts\n\n" + _table(["part", "what", "state", "s", ""], rows)


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _range(figure: dict[str, Any]) -> str:
    if not {"least", "most", "runs"} <= figure.keys():
        return ""
    return f"{_time(figure['least'])} - {_time(figure['most'])}, {figure['runs']}"


def _rate(figure: dict[str, Any]) -> str:
    flops = goals.rate(figure, "flops")
    if flops:
        return f"{flops / 1e12:.0f} TFLOP/s"
    moved = goals.rate(figure, "bytes")
    return f"{moved / 1e9:.0f} GB/s" if moved else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _limits(figures: dict) -> str:
    names = [n for n in figures if n.startswith(("memory.", "host.", "launch."))]
    names += [goals.GEMM] if goals.GEMM in figures else []
    rows = [[n, _time(figures[n]["seconds"]), _rate(figures[n]), figures[n].get("note", "")]
            for n in names]
    if not rows:
        return ""
    text = "## Limits of this card\n\n" + _table(["figure", "time", "rate", ""], rows)
    memory, gemm = goals.memory_limit(figures), goals.gemm_limit(figures)
    if memory:
        text += f"\n\nThe memory's rate is {memory / 1e9:.0f} GB/s"
        text += f", the products' {gemm / 1e12:.0f} TFLOP/s." if gemm else "."
    return text


def _card_name(content: dict[str, Any]) -> str:
    """The device that measured; reports of one card have no `card` of their own."""
    measured = (part.get("details", {}).get("device") for part in content["parts"])
    named = next((line.get("device", "") for line in measured if line), "")
    cards = [content.get("card") or {}, *(content.get("machine", {}).get("cards") or [])]
    return str(named) or next((card["name"] for card in cards if card.get("name")), "")


def _goals(figures: dict, content: dict[str, Any]) -> str:
    rows = []
    card = _card_name(content)
    for goal in GOALS:
        value, holds = goals.judge(goal, figures)
        as_ms = "ms" in goal.kind
        bound = f"{goal.bound:g} ms" if as_ms else _percent(goal.bound)
        sign = ">=" if "least" in goal.kind else "<="
        verdict = ""
        if value is None:
            shown = "not measured"
        else:
            shown = f"{value:.2f} ms" if as_ms else _percent(value)
            if goal.card and goal.card not in card:
                verdict = "not judged: another card"
            elif goal.judged:
                verdict = "holds" if holds else "**misses**"
        of_card = f" (an {goal.card}'s)" if goal.card else ""
        rows.append([goal.row, goal.what, shown, f"{sign} {bound}{of_card}" if goal.judged else "",
                     verdict])
    rows += [[row, what, "not measured", "", ""] for row, what in goals.ELSEWHERE.items()]
    return "## Goals\n\n" + _table(["row", "what", "measured", "goal", ""], rows)


def _work(figures: dict) -> str:
    names = [n for n in figures
             if n.startswith(("decode.", "prefill.", "vision.", "ttft.", "engine.", "part."))]
    rows = [[n, _time(figures[n]["seconds"]), _range(figures[n]), _rate(figures[n]),
             _percent(goals.share(n, figures))] for n in names]
    if not rows:
        return ""
    return "## The model\n\n" + _table(["figure", "median", "range, runs", "rate", "of the limit"],
                                       rows)


def _peers(figures: dict) -> str:
    rows = []
    for name, figure in figures.items():
        if not name.startswith(PEER):
            continue
        own = figures.get(figure.get("beside", ""))
        ratio = f"{figure['seconds'] / own['seconds']:.2f}" if own else ""
        ours = _time(own["seconds"]) if own else ""
        rows.append([name, _time(figure["seconds"]), figure.get("beside", ""), ours, ratio,
                     figure.get("note", "")])
    if not rows:
        return ""
    header = ["peer", "its time", "beside", "our time", "its / ours", ""]
    return "## Peers on the same card\n\n" + _table(header, rows)


def _products(figures: dict) -> str:
    names = sorted(n.removesuffix(".best") for n in figures
                   if n.startswith("gemm.") and n.endswith(".best"))
    rows = []
    for name in names:
        best, first = figures[name + ".best"], figures.get(name + ".first")
        rows.append([name.removeprefix("gemm."), _rate(best), _rate(first) if first else "",
                     _percent(goals.share(name + ".best", figures))])
    if not rows:
        return ""
    return ("## cuBLASLt at the model's shapes (rows x outputs x inputs)\n\n"
            + _table(["shape", "best algorithm", "heuristic's first", "best over 8192"], rows))


def _golden(parts: list[dict[str, Any]]) -> str:
    part = next((p for p in parts if p["name"] == "goldens"), None)
    cases = (part or {}).get("details", {}).get("cases") or {}
    rows = []
    for name, case in cases.items():
        taps = case.get("taps", {})
        worst = max(taps.items(), key=lambda t: t[1]["relative_to_rms"], default=None)
        shown = f"{worst[0]} {worst[1]['relative_to_rms']:.2e}" if worst else ""
        rows.append([name, case["state"], shown, case["reason"][:200]])
    if not rows:
        return ""
    return "## Goldens\n\n" + _table(["case", "state", "largest difference over rms", ""], rows)


def _troubles(parts: list[dict[str, Any]], figures: dict) -> str:
    lines = [f"* {name} is above its limit: the limit or the figure is wrong"
             for name in goals.beaten(figures)]
    for part in parts:
        details = part.get("details", {})
        for kind in ("failed", "hung", "skipped"):
            entries = details.get(kind)
            for name, why in (entries.items() if isinstance(entries, dict) else ()):
                lines.append(f"* {part['name']}: {kind} {name}: {' '.join(str(why).split())[:300]}")
        if details.get("never_ran"):
            lines.append(f"* {part['name']}: never ran: {', '.join(details['never_ran'])}")
        if details.get("rubbish_lines"):
            lines.append(f"* {part['name']}: {details['rubbish_lines']} lines could not be read")
        if details.get("trace"):
            lines.append(f"* {part['name']}: {details['trace']}")
    return "## What failed and what was left out\n\n" + "\n".join(lines[:120]) if lines else ""
