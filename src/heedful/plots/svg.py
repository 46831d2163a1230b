"""Charts as SVG: one template and one style sheet for the app and the report."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heedful.data.text import visible
from heedful.plots.charts import Chart
from heedful.plots.layout import draw

STYLE = (Path(__file__).parent / "templates" / "charts.css").read_text(encoding="utf-8")
"""The page that includes it defines `color-scheme`, `--paper`, `--quiet` and `--line`."""


def svg(chart: Chart | None) -> Markup:
    """A `<figure class="chart">`, or nothing for a chart without a finite point. Names in it may be hostile text."""
    drawing = draw(chart) if chart else None
    return Markup(_figure().render(chart=chart, d=drawing)) if drawing else Markup("")


def environment(package: str) -> Environment:
    """Jinja for the templates of a package: text is escaped, and suspicious characters become visible."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _figure() -> Any:
    return environment("heedful.plots").get_template("chart.html")


def _printed(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
