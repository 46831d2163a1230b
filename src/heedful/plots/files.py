"""Each chart of a page as a picture and as a table next to the page: an SVG that stands alone, and a CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from heedful.data.text import visible
from heedful.files import scratch, write_text
from heedful.plots.charts import Chart
from heedful.plots.svg import STYLE, svg

PAGE = """\
:root { color-scheme: light dark; --paper: light-dark(#fbfaf7, #15171a); --quiet: light-dark(#666b73, #9ba1a9); \
--line: light-dark(#e2dfd7, #30343a); }
svg { font-family: system-ui, sans-serif; }
"""


def picture(chart: Chart) -> str | None:
    """The chart as an SVG that stands alone, with its title, or None for a chart without a finite point."""
    found = re.search(r"<svg viewBox=\"0 0 ([\d.]+) ([\d.]+)\"(.*)</svg>", str(svg(chart)), re.DOTALL)
    if found is None:
        return None
    width, height, inner = float(found[1]), float(found[2]), found[3]
    attributes, _, body = inner.partition(">")
    style = PAGE + STYLE.replace(".chart > svg", "svg.chart")
    for of_page in ("max-width: 26rem;", "display: block; width: 100%; height: auto; margin-top: 0.4rem;"):
        style = style.replace(of_page, "")
    title = _escaped(f"{chart.title}{f', {chart.unit}' if chart.unit else ''}")
    named, lines = _legend(chart, width, height)
    tall = 22 + height + 16 * lines
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{2 * width:g}" height="{2 * tall:g}" '
        f'viewBox="0 -22 {width:g} {tall:g}"{attributes}>\n<style>\n{style}</style>\n'
        f'<text class="end" x="0" y="-8">{title}</text>{body}{named}</svg>\n'
    )


def _legend(chart: Chart, width: float, height: float) -> tuple[str, int]:
    """A dot and a name for each series without a line, and the rows they need. A line has its name at its end."""
    lined = {series.name for series in chart.series if series.style == "line"}
    names = {series.name: series.colour for series in chart.series if series.name not in lined}
    if len(names) + len(lined) < 2 or not names:
        return "", 0
    drawn, x, line = "", 6.0, 1
    for name, colour in names.items():
        wide = 24 + 6.4 * len(name)
        if x > 6 and x + wide > width:
            x, line = 6.0, line + 1
        y = height + 16 * line - 4
        drawn += f'<circle class="dot c{colour % 6}" cx="{x:g}" cy="{y - 4:g}" r="3.5"/>'
        drawn += f'<text class="tick" x="{x + 8:g}" y="{y:g}">{_escaped(name)}</text>'
        x += wide
    return drawn, line


def table(chart: Chart) -> str:
    """The values of the chart as CSV: a row for each point, with the ends of its interval."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["series", chart.x_label or "x", chart.unit or "y", "low", "high"])
    for series in chart.series:
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            name = chart.names[int(x)] if chart.names else x
            rows.writerow([series.name, name, y, *(series.intervals[place] if series.intervals else ("", ""))])
    for level in chart.levels:
        rows.writerow([level.name, "", level.y, "", ""])
    return out.getvalue()


def write(folder: Path, charts: Sequence[Chart], then: Callable[[], object] | None = None) -> list[Path]:
    """Write NN-title.svg and NN-title.csv for each chart, and delete those of an earlier page. Returns the paths.

    All are written next to the folder first, so that a full disk leaves what was there. `then` runs before they move.
    """
    earlier = {path for path in folder.glob("[0-9][0-9][0-9]-*") if path.suffix in (".svg", ".csv")}
    texts: dict[str, str] = {}
    for number, chart in enumerate(charts, 1):
        drawn = picture(chart)
        if drawn is not None:
            slug = re.sub(r"[^a-z0-9]+", "-", chart.title.lower()).strip("-")[:60] or "chart"
            texts |= {f"{number:03d}-{slug}.svg": drawn, f"{number:03d}-{slug}.csv": table(chart)}
    with scratch(folder) as place:
        if texts:
            place.mkdir()
        for name, text in texts.items():
            write_text(place / name, text)
        if then is not None:
            then()
        if texts:
            folder.mkdir(exist_ok=True)
        for name in texts:
            (place / name).replace(folder / name)
    made = [folder / name for name in texts]
    for path in earlier - set(made):
        path.unlink()
    return made


def _escaped(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
