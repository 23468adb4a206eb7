"""Tables and a picture out of the files that `measure` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import figures
from figures import Figure, Row, Spread
from rounds import PEER, Sample

HEAD = """\
# CPU benchmarks

Tables made by `tools/bench_cpu`, text by hand; how to read and to repeat it is in [benchmarking.md](../benchmarking.md).
Both engines computed the same decoder with random weights, in turns, in one run. Medians over the
rounds [least-most]. A share is what the figure had to read or to compute, over its time and over
what the machine could do at most in the same minute.
"""


def samples_of(result: dict) -> list[Sample]:
    return [Sample(**sample) for sample in result["samples"]]


def digits(value: float) -> str:
    """Three that count."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def with_range(values: Spread, scale: float = 1.0) -> str:
    middle = digits(values.median * scale)
    if values.count == 1:
        return middle
    return f"{middle} [{digits(values.least * scale)}-{digits(values.most * scale)}]"


def rate(figure: Figure) -> str:
    unit = "GB/s" if figure.limit == "memory read" else "GFLOP/s" \
        if figure.limit in ("fp32 fma", "bf16 dot") else "GOP/s"
    return f"{digits(figure.rate / 1e9)} {unit}"


def share(figure: Figure) -> str:
    return f"{rate(figure)}, **{figure.percent.median:.0f} %** of {figure.limit}"


def count(figure: Figure) -> str:
    used = figure.rounds - figure.left_out
    return str(used) if not figure.left_out else f"{used} of {figure.rounds}"


def table(rows: Sequence[Row]) -> str:
    lines = ["| figure | weights | tokens/s | rate, share of the limit | rounds | " + PEER +
             " | tokens/s | rate, share of the limit | ratio |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row.ours.figure, row.ours.weights, with_range(row.ours.tokens_per_s),
                 share(row.ours), count(row.ours)]
        if row.peer and row.ratio:
            cells += [row.peer.weights, with_range(row.peer.tokens_per_s), share(row.peer),
                      f"**{digits(row.ratio.median)}** [{digits(row.ratio.least)}-"
                      f"{digits(row.ratio.most)}]"]
        else:
            cells += ["-"] * 4
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def short_commit(result: dict) -> str:
    """What tells runs on one machine apart."""
    return f", commit {result['commit'][:9]}" if result["commit"] else ""


def section(result: dict) -> str:
    """One machine and shape."""
    samples = samples_of(result)
    rows = figures.rows(samples, result["quiet_percent"])
    machine, shape, peer = result["machine"], result["shape"], result["peer"]
    lines = [f"## {machine['processor']}, {result['threads']} threads: {shape['kind']}"
             f"{short_commit(result)}", ""]
    against = f"{PEER} of llama-cpp-python {peer['version']}" if peer.get("version") \
        else f"no peer: {peer['skipped']}"
    commit = f" ({result['commit']})" if result["commit"] else ""
    lines += [f"xcomposer {result['version']}{commit}, {machine['kernels']} kernels; {against}. "
              f"Hidden {shape['hidden']}, {shape['layers']} layers, inner {shape['intermediate']}, "
              f"vocabulary {shape['vocab']}; rounds: {result['rounds']}, runs in each: "
              f"{result['repeat']}.",
              ""]
    limits = figures.limit_spreads(samples)
    lines += ["Limits: " + "; ".join(
        f"{name} {with_range(values, 1e-9)} {'GB/s' if name == 'memory read' else 'G/s'}"
        for name, values in limits.items()) + ".", "", table(rows)]
    for doubt in figures.doubts(rows, result["quiet_percent"]):
        lines.append(f"* **Doubtful.** {doubt}")
    return "\n".join(lines).rstrip() + "\n"


def document(results: Sequence[dict], picture: str) -> str:
    parts = [HEAD]
    if not results:
        parts.append("No result has been recorded yet.\n")
    else:
        parts.append(f"![shares of the limits]({picture})\n")
    return "\n".join([*parts, *(section(result) for result in results)])


# --- the picture -------------------------------------------------------------------------------------

BAR, GAP, LEFT, WIDTH, TOP = 14, 10, 250, 520, 30
COLOURS = {"ours": "#2b6cb0", "peer": "#a0aec0"}


def text_at(x: float, y: float, text: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(text)}</text>'


def bar(y: float, figure: Figure, colour: str) -> str:
    length = WIDTH * min(figure.percent.median, 100) / 100
    label = f"{figure.percent.median:.0f} %  ({digits(figure.tokens_per_s.median)} tokens/s)"
    return (f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>' +
            text_at(LEFT + length + 6, y + BAR - 3, label, 'class="value"'))


def picture(results: Sequence[dict]) -> str:
    """Bars: how much of the nearest limit each engine reached."""
    parts, y = [], float(TOP)
    for result in results:
        rows = figures.rows(samples_of(result), result["quiet_percent"])
        title = f"{result['shape']['kind']} on {result['machine']['processor']}, " \
                f"{result['threads']} threads{short_commit(result)}"
        parts.append(text_at(10, y + 4, title, 'class="title"'))
        y += 18
        for row in rows:
            label = f"{row.ours.figure}, {row.ours.weights}"
            if row.peer:
                label += f" / {row.peer.weights}"
            parts.append(text_at(LEFT - 8, y + BAR - 2, label, 'text-anchor="end"'))
            parts.append(bar(y, row.ours, COLOURS["ours"]))
            y += BAR
            if row.peer:
                parts.append(bar(y, row.peer, COLOURS["peer"]))
                y += BAR
            y += GAP
        y += GAP
    legend = [f'<rect x="{LEFT}" y="8" width="12" height="12" fill="{COLOURS["ours"]}"/>',
              text_at(LEFT + 18, 18, "xcomposer"),
              f'<rect x="{LEFT + 110}" y="8" width="12" height="12" fill="{COLOURS["peer"]}"/>',
              text_at(LEFT + 128, 18, PEER),
              text_at(LEFT + 210, 18,
                      "percent of the nearest limit of the machine; the line is all of it")]
    edge = LEFT + WIDTH
    grid = f'<line x1="{edge}" y1="{TOP}" x2="{edge}" y2="{y:.0f}" stroke="#e53e3e"/>'
    style = ("text{font:12px sans-serif;fill:#1a202c}.title{font-weight:bold}"
             ".value{fill:#4a5568;paint-order:stroke;stroke:#ffffff;stroke-width:2px}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{edge + 190}" height="{y:.0f}">'
            f"<style>{style}</style>" + '<rect width="100%" height="100%" fill="#ffffff"/>' +
            "".join(legend) + grid + "".join(parts) + "</svg>\n")
