"""The report: one HTML file with inline style, inline SVG, no script and no requests.

Text of models is treated as hostile. `plots.svg.environment` escapes every printed string and makes its suspicious
characters visible. docs/report.md says what each figure means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment
from markupsafe import Markup

from heedful.config import UserError, refused
from heedful.data.text import as_words
from heedful.evaluation.quality import Bin
from heedful.files import write_text
from heedful.plots import files as chart_files
from heedful.plots.charts import Chart, Series, whisker
from heedful.plots.svg import STYLE, environment, svg
from heedful.report.side_by_side import LOSS, TIE, WIN, PairTally
from heedful.report.tables import Table

MOST_CHARACTERS = 3000
MOST_SAMPLES = 60


class Fact(NamedTuple):
    """A name and a value: seed, times, machine, versions."""

    name: str
    value: str


class Figure(NamedTuple):
    """A key figure at the top of the page."""

    value: str
    label: str
    note: str = ""


class Estimate(NamedTuple):
    """A share with its interval. A `reference` is what the others are compared with, and drawn paler."""

    name: str
    rate: float
    low: float | None
    high: float | None
    n: int
    reference: bool = False


@dataclass(frozen=True)
class Estimates:
    """Shares on one scale, with a mark at `compare` (0.5 is chance)."""

    title: str
    rows: list[Estimate]
    text: str = ""
    compare: float | None = 0.5


@dataclass(frozen=True)
class Grid:
    """A plain table of texts, its first column the heading of each row. `folded`: the reader opens it."""

    title: str
    heading: list[str]
    rows: list[list[str]]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class SampleAnswer:
    """One model's answer to the prompt of a sample."""

    model: str
    text: str
    score: float | None = None
    flags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SampleView:
    """A prompt and the answers of the models, side by side."""

    prompt: str
    answers: list[SampleAnswer]
    use_case: str | None = None
    outcome: str | None = None
    """How the first model of `Report.tally` did against the second here."""
    disputed: bool = False
    """Whether judges disagree here."""

    def marked(self, shown: tuple[str, ...] = ()) -> bool:
        """Whether a reader should look here: an answer of the models `shown` (empty: all) has a flag, or judges
        disagree.
        """
        return self.disputed or any(one.flags for one in self.answers if not shown or one.model in shown)

    def best(self, shown: Sequence[str] = ()) -> float | None:
        """The highest score, if the answers differ. With `shown`: of these models."""
        answers = (answer for answer in self.answers if not shown or answer.model in shown)
        scores = [answer.score for answer in answers if answer.score is not None]
        return max(scores) if len(set(scores)) > 1 else None

    def columns(self, shown: Sequence[str] = ()) -> int:
        """Columns of answers if there is room: one row of up to six answers, else two rows.

        With `shown`: of the answers of these models.
        """
        count = sum(not shown or answer.model in shown for answer in self.answers)
        return max(1, count if count <= 6 else -(-count // 2))


@dataclass(frozen=True)
class Group:
    """Charts under one heading. `more` are folded."""

    title: str
    charts: list[Chart]
    more: list[Chart] = field(default_factory=list)


@dataclass(frozen=True)
class RunFacts:
    """A run in the appendix, from its manifest."""

    name: str
    stage: str
    facts: list[Fact]
    config: list[Fact] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """The content of a page. Every part except the title may be empty. The page then leaves it out."""

    title: str
    story: str = ""
    """Plain text. An empty line starts a new paragraph."""
    figures: list[Figure] = field(default_factory=list)
    table: Table | None = None
    table_note: str = ""
    grids: list[Grid] = field(default_factory=list)
    """Tables of comparisons."""
    signs: list[str] = field(default_factory=list)
    """Failure signs and warnings."""
    checks: list[Grid] = field(default_factory=list)
    """What was checked before the runs began."""
    lineage: list[Grid] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quality: list[Estimates] = field(default_factory=list)
    calibration: list[Bin] = field(default_factory=list)
    samples: list[SampleView] = field(default_factory=list)
    tally: PairTally | None = None
    """Counts over all prompts, which `samples` are drawn from."""
    samples_note: str = ""
    """The rule by which `samples` were drawn."""
    shown: tuple[str, ...] = ()
    """The models whose answers are shown. The page has a switch for the others. Empty: all."""
    score_name: str = "gold utility"
    facts: list[Fact] = field(default_factory=list)
    runs: list[RunFacts] = field(default_factory=list)

    def charts(self) -> list[Chart]:
        """Every chart of the page, in its order."""
        found = [chart for group in self.groups for chart in (*group.charts, *group.more)]
        return [*found, *([_calibration_chart(self.calibration)] if self.calibration else [])]


def write(out: str | Path, report: Report) -> Path:
    """Write the page, whole or not at all, and return its path. Raises UserError if it cannot be written.

    Each chart is also an SVG and a CSV in the folder NAME_files next to NAME.html.
    """
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        charts = out.with_name(f"{out.stem}_files")
        chart_files.write(charts, report.charts(), lambda: write_text(out, html(report)))
    except OSError as error:
        raise UserError(refused(error, out)) from None
    return out


def check_replaceable(out: Path) -> None:
    """Raises UserError unless `out` ends in .html and is new or an earlier page."""
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"{out}: the report is an HTML page. Name it .html")
    if out.is_file() and not out.read_bytes()[:99].lstrip().lower().startswith(b"<!doctype html>"):
        raise UserError(f"{out}: already exists and is not an HTML page. Choose another --out")


def html(report: Report) -> str:
    """The page as text."""
    samples = report.samples[:MOST_SAMPLES]
    use_cases = list(dict.fromkeys(sample.use_case for sample in samples if sample.use_case))
    calibrated = svg(_calibration_chart(report.calibration)) if report.calibration else ""
    outcomes = [one for one in (WIN, TIE, LOSS) if any(sample.outcome == one for sample in samples)]
    has_more = bool(report.shown) and any(a.model not in report.shown for sample in samples for a in sample.answers)
    context = {
        "samples": samples, "use_cases": use_cases, "calibrated": calibrated, "outcomes": outcomes,
        "has_more": has_more, "has_marked": 0 < sum(sample.marked(report.shown) for sample in samples) < len(samples),
        "contents": _contents(report, calibrated),
    }  # fmt: skip
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", report.story) if part.strip()]
    return _templates().get_template("report.html").render(report=report, paragraphs=paragraphs, **context)


def _contents(report: Report, calibrated: str) -> list[tuple[str, str]]:
    """(anchor, name) of each part that the page has."""
    parts = [
        ("table", "Models", report.table is not None),
        ("comparison", "Comparison", bool(report.grids)),
        ("checks", "Checks before the start", bool(report.checks)),
        ("signs", "Signs", bool(report.signs)),
        *((f"group-{i}", group.title, True) for i, group in enumerate(report.groups)),
        ("quality", "Reward model", bool(report.quality or calibrated)),
        ("samples", "Answers", bool(report.samples)),
        ("lineage", "Lineage", bool(report.lineage)),
        ("facts", "How this was made", bool(report.facts or report.runs)),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]


def cut(text: str, limit: int = MOST_CHARACTERS) -> str:
    """The beginning of a long text, with the number of characters that are left out."""
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit:,} characters more]"


def whole_intervals(text: str) -> str:
    """The text with spaces inside of intervals that do not break, so that a cell breaks in front of them.

    >>> whole_intervals("0.2 (0.1 to 0.3)")
    '0.2 (0.1\xa0to\xa00.3)'
    """
    return re.sub(r"\([^()]* to [^()]*\)", lambda found: found[0].replace(" ", "\xa0"), text)


def scale(values: Sequence[float | None]) -> tuple[float, float]:
    """A range in steps of 0.1 that holds all shares, so that their intervals are drawn on one scale."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    return max(0.0, int(low * 10 - 1e-9) / 10), min(1.0, (int(high * 10 - 1e-9) + 1) / 10)


@cache
def _templates() -> Environment:
    found = environment("heedful.report")
    found.filters |= {"cut": cut, "as_words": as_words, "place": _place, "whole_intervals": whole_intervals}
    found.globals |= {"svg": svg, "scale": scale, "chart_style": Markup(STYLE)}
    return found


def _place(value: float, limits: tuple[float, float]) -> str:
    """The position of a share between limits, as a CSS percentage."""
    low, high = limits
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}%"


def _calibration_chart(bins: Sequence[Bin]) -> Chart:
    series = Series(
        "observed",
        [item.predicted for item in bins],
        [item.observed.mean for item in bins],
        style="points",
        intervals=[whisker(item.observed) for item in bins],
    )
    caption = "On the line the reward model is as sure as it should be. Below it, it is too sure."
    return Chart(
        "Calibration", "right, share of pairs", "predicted by σ(score difference)", [series], caption, diagonal=True
    )
