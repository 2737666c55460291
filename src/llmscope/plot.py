"""A chart as a file: HTML with the drawing in it, or PNG by matplotlib where that is installed."""

import html
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmscope.analyze import Analysis

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT, MARGIN = 1200, 420, 60
MOST_POINTS = 2_400  # drawn: above, the lowest and highest of each stretch


class CannotPlot(ValueError):
    """The file's kind is not known, or what draws it is missing; one sentence."""


def draw(analysis: Analysis, path: Path) -> None:
    """Write the chart. Raises CannotPlot."""
    kind = path.suffix.lower()
    if kind == ".html":
        path.write_text(page(analysis), encoding="utf-8")
    elif kind == ".png":
        _png(analysis, path)
    else:
        raise CannotPlot(f"--plot writes .html or .png (it is {path.name!r})")


def _lines(analysis: Analysis) -> tuple[Floats, list[tuple[str, Floats]]]:
    """The plotted values and the lines, in the unit that is shown."""
    panel = analysis.chart.main
    unit = np.exp if analysis.scale == "log" and analysis.options.chart == "points" else np.asarray
    return unit(panel.statistic), [
        ("centre", unit(panel.centre)),
        ("UCL", unit(panel.ucl)),
        ("LCL", unit(panel.lcl)),
    ]


def _thinned(values: Floats) -> npt.NDArray[np.int64]:
    """Rows that are drawn: all, or the lowest and highest of each stretch."""
    n = len(values)
    if n <= MOST_POINTS:
        return np.arange(n)
    edges = np.linspace(0, n, MOST_POINTS // 2 + 1).astype(int)
    filled = np.where(np.isnan(values), np.nanmedian(values), values)
    rows = [
        start + part(filled[start:stop]) for start, stop in pairwise(edges) for part in (np.argmin, np.argmax)
    ]
    return np.unique(np.array(rows))


def page(analysis: Analysis) -> str:
    """A page that needs nothing else: the chart as SVG, the violations as a table."""
    values, lines = _lines(analysis)
    rows = _thinned(values)
    shown = np.concatenate([values[rows], *(line[rows] for _, line in lines)])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    pad = 0.05 * (high - low or 1.0)
    low, high = low - pad, high + pad
    last = max(1, len(values) - 1)

    def x(row: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * row / last

    def y(value: float) -> float:
        return HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * (value - low) / (high - low)

    def path(line: Floats) -> str:
        parts, pen = [], "M"
        for row in rows.tolist():
            if np.isnan(line[row]):
                pen = "M"
                continue
            parts.append(f"{pen}{x(row):.1f},{y(float(line[row])):.1f}")
            pen = "L"
        return "".join(parts)

    drawn = [f'<path class="{name}" d="{path(line)}"><title>{name}</title></path>' for name, line in lines]
    drawn.append(f'<path class="values" d="{path(values)}"/>')
    drawn += [
        f'<circle class="hit" cx="{x(row):.1f}" cy="{y(float(values[row])):.1f}" r="3">'
        f"<title>{rule} at row {row}</title></circle>"
        for rule, hits in analysis.hits.items()
        for row in hits[:500]
        if row < len(values) and not np.isnan(values[row])
    ]
    labels = [
        f'<text x="{WIDTH - MARGIN + 6}" y="{y(float(line[rows[-1]])) + 4:.1f}">{name} {line[rows[-1]]:.4g}</text>'
        for name, line in lines
        if not np.isnan(line[rows[-1]])
    ]
    alarms = "".join(
        f"<li>{html.escape(a.detector)} {a.direction}: change at row {a.change_id}, opened at {a.opened_id}, "
        f"{a.size_percent:+.0f} % ({a.size_low:.0f} to {a.size_high:.0f}), {a.state}</li>"
        for a in analysis.alarms
    )
    table = "".join(
        f"<tr><td>{v.rule}</td><td>{v.side}</td><td>{v.pattern_start}</td><td>{v.first_signal}</td>"
        f"<td>{v.last_signal}</td><td>{v.count}</td><td>{v.peak_z:.2f}</td></tr>"
        for v in analysis.violations[:500]
    )
    warnings = "".join(f"<li>{html.escape(w)}</li>" for w in analysis.warnings)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Control chart</title>
<style>
:root {{ color-scheme: light dark; font: 14px system-ui, sans-serif }}
body {{ margin: 1.5rem; max-width: {WIDTH}px }}
svg {{ width: 100%; height: auto }} svg text {{ font-size: 12px; fill: currentColor }}
path {{ fill: none; stroke-width: 1.2 }} .values {{ stroke: #3b7dd8 }} .centre {{ stroke: #2e8b57 }}
.UCL, .LCL {{ stroke: #c0504d; stroke-dasharray: 6 4 }} .hit {{ fill: #d9480f }}
td, th {{ padding: .15rem .8rem .15rem 0; text-align: left }}
</style>
<h1>{html.escape(analysis.options.chart)} chart</h1>
<svg viewBox="0 0 {WIDTH + 60} {HEIGHT}" role="img" aria-label="Control chart">{"".join(drawn)}{"".join(labels)}</svg>
<h2>Alarms</h2><ul>{alarms or "<li>none</li>"}</ul>
<h2>Violations</h2>
<table><tr><th>rule</th><th>side</th><th>pattern from</th><th>first</th><th>last</th><th>count</th><th>peak z</th></tr>
{table}</table>
<ul>{warnings}</ul>
</html>
"""


def _png(analysis: Analysis, path: Path) -> None:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise CannotPlot('PNG needs matplotlib: pip install "llmscope[plot]", or write .html') from None
    values, lines = _lines(analysis)
    rows = _thinned(values)
    figure, axes = pyplot.subplots(figsize=(12, 4.2), dpi=120)
    axes.plot(rows, values[rows], linewidth=0.8, color="#3b7dd8")
    for name, line in lines:
        axes.plot(
            rows, line[rows], linewidth=1.0, label=name, color="#2e8b57" if name == "centre" else "#c0504d"
        )
    hits = sorted({row for found in analysis.hits.values() for row in found if row < len(values)})
    axes.plot(hits, values[hits], "o", markersize=3, color="#d9480f")
    axes.set_xlabel("row")
    axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
