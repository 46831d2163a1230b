"""Each chart of a page as a picture and as a table next to the page: an SVG that stands alone, and a CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from heedful.data.text import visible
from heedful.files import write_text
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
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{2 * width:g}" height="{2 * height + 44:g}" '
        f'viewBox="0 -22 {width:g} {height + 22:g}"{attributes}>\n<style>\n{style}</style>\n'
        f'<text class="end" x="0" y="-8">{title}</text>{body}</svg>\n'
    )


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


def write(folder: Path, charts: Sequence[Chart]) -> list[Path]:
    """Write NN-title.svg and NN-title.csv for each chart, and delete those of an earlier page. Returns the paths."""
    earlier = {path for path in folder.glob("[0-9][0-9][0-9]-*") if path.suffix in (".svg", ".csv")}
    made = []
    for number, chart in enumerate(charts, 1):
        drawn = picture(chart)
        if drawn is not None:
            folder.mkdir(exist_ok=True)
            slug = re.sub(r"[^a-z0-9]+", "-", chart.title.lower()).strip("-")[:60] or "chart"
            for suffix, text in ((".svg", drawn), (".csv", table(chart))):
                made.append(folder / f"{number:03d}-{slug}{suffix}")
                write_text(made[-1], text)
    for path in earlier - set(made):
        path.unlink()
    return made


def _escaped(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
