"""The page: everything given appears, nothing hostile gets through, nothing is fetched."""

from __future__ import annotations

import errno
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.evaluation.quality import Bin
from heedful.maths.statistics import Interval
from heedful.plots.charts import Chart, Series
from heedful.report.page import (
    Estimate,
    Estimates,
    Fact,
    Figure,
    Group,
    Report,
    RunFacts,
    SampleAnswer,
    SampleView,
    check_replaceable,
    cut,
    html,
    write,
)
from heedful.report.run_report import write_for_runs
from heedful.report.side_by_side import PairTally
from heedful.report.tables import ModelResult, demo_table

HOSTILE = (
    "</script><script>alert(1)</script><img src=//x.y/z onerror=alert(2)> \" ' & {{ 7*7 }} "
    "\0 \u202eback\u202c \ud800 \u200b"
)
ALLOWED = set(
    "html head meta title style body header nav a main section article h1 h2 h3 h4 p div span ul li strong small b i "
    "em input label table thead tbody tr th td figure figcaption svg line path polyline circle text "
    "details summary dl dt dd".split()
)
EXTERNAL = re.compile(r"(?:src|href|url|@import)\s*[=(]?\s*[\"']?\s*(?:https?:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "line", "path", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def full(text: str = "plain") -> Report:
    """A report with `text` in every place that holds text."""
    sft = ModelResult(text, [0.0, 0.0, 1.0], [3, 4, 5], {text: [True, None, False]})
    ppo = ModelResult("PPO", [1.0, 1.0, 1.0], [3, 4, 5], {text: [None, None, None]}, kl=6.125, corpus_loss=1.25)
    line = Series(text, [1, 2], [0.1, 0.9])
    lines, alone = ([line, Series("b", [1], [1.0], 7)], [line])
    return Report(
        text,
        story=f"{text}\n\nsecond",
        figures=[Figure(text, text, text)],
        table=demo_table([sft, ppo], text),
        table_note=text,
        signs=[text],
        groups=[Group(text, [Chart(text, text, text, lines, text)], [Chart(text, text, text, alone)])],
        quality=[Estimates(text, [Estimate(text, 0.7, 0.6, 0.8, 1234, True)], text)],
        calibration=[Bin(0.6, Interval(0.5, 0.4, 0.6, 30)), Bin(0.8, Interval(0.7, 0.6, 0.9, 30))],
        samples=[
            SampleView(text, [SampleAnswer(text, text, 0.25, [text]), SampleAnswer("PPO", "", 0.75)], text, "better"),
            SampleView("q2", []),
        ],
        tally=PairTally.of(text, text, [1.0, 2.0, 0.0], [0.0, 2.0, 1.0]),
        samples_note=text,
        shown=("PPO",),
        score_name=text,
        facts=[Fact(text, text)],
        runs=[RunFacts(text, text, [Fact(text, text)], [Fact(text, text)])],
    )  # fmt: skip


def test_everything_given_is_on_the_page() -> None:
    page = Page(html(full()))
    for shown in ("83.3", "50.0", "6.12", "1.250", "1,234", "0.25", "0.75", "nothing", "second", "Calibration"):
        assert shown in page.text, shown
    assert len([tag for tag in page.named("svg") if tag.get("role") == "img"]) == 3
    assert page.open == []
    labels = [tag["aria-label"] for tag in page.named("svg") if tag.get("role") == "img"]
    assert labels[0] == "plain. plain: 0.1 to 0.9; b: 1 to 1"


def test_every_series_is_drawn_and_named() -> None:
    series = [Series(f"run-{i}", [1, 2, 3], [i, i + 1, i + 2], i) for i in range(8)]
    page = html(Report("t", groups=[Group("g", [Chart("c", "u", "x", series)])]))
    assert len(re.findall(r'<path class="line', page)) == 8
    for i in range(8):
        assert f">run-{i} {i + 2}</text>" in page
        assert f'class="end c{i % 6}"' in page


def test_hostile_text_stays_text() -> None:
    source = html(full(HOSTILE))
    page = Page(source)
    assert {tag for tag, _ in page.tags} <= ALLOWED
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "src"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = [str(tag["href"]) for tag in page.named("a")]
    assert len(links) == 6
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert page.open == []
    assert "{{ 7*7 }}" in page.text
    assert "[U+0000] [U+202E]back[U+202C] \ufffd [U+200B]" in page.text
    assert not re.search("[\0\u202a-\u202e\u200b\ud800-\udfff]", source)
    source.encode("utf-8")


def test_hostile_use_cases_cannot_reach_the_style() -> None:
    report = Report(
        "t", samples=[SampleView("p", [], "x] {} </style><script>"), SampleView("q", [], "chat"), SampleView("r", [])]
    )
    page = Page(html(report))
    assert page.named("script") == []
    assert [tag["data-use"] for tag in page.named("article")] == ["1", "2", "0"]
    assert [tag["id"] for tag in page.named("input")] == ["use-0", "use-1", "use-2"]
    assert '#use-2:checked ~ .samples > :not([data-use="2"])' in html(report)


def test_the_page_asks_nothing_of_anybody() -> None:
    source = html(full())
    assert not EXTERNAL.search(source)
    assert "<script" not in source
    assert "default-src 'none'; style-src 'unsafe-inline'" in {
        tag.get("content") for tag in Page(source).named("meta") if tag.get("http-equiv") == "Content-Security-Policy"
    }
    assert "light-dark(" in source


def test_an_almost_empty_report_is_a_page() -> None:
    page = Page(html(Report("just a title")))
    assert page.named("section") == []
    assert "just a title" in page.text
    assert Page(html(Report("t", groups=[Group("g", [Chart("c", "", "", [])])]))).named("svg") == []


def test_two_models_are_shown_and_a_switch_shows_the_others() -> None:
    answers = [SampleAnswer(name, f"text of {name}") for name in ("base", "SFT", "PPO")]
    source = html(Report("t", samples=[SampleView("p", answers)], shown=("SFT", "PPO")))
    page = Page(source)
    assert [tag["class"] for tag in page.named("div") if (tag.get("class") or "").split()[:1] == ["answer"]] == [
        "answer more", "answer", "answer",
    ]  # fmt: skip
    assert "--few:2;--all:3" in source
    assert [tag["id"] for tag in page.named("input")] == ["all-models"]
    assert "all-models" not in Page(html(Report("t", samples=[SampleView("p", answers)]))).text
    assert Page(html(Report("t", samples=[SampleView("p", answers)]))).named("input") == []


def test_counts_come_first_and_outcomes_can_be_chosen() -> None:
    tally = PairTally.of("PPO", "SFT", [1.0] * 1200 + [0.0] * 400, [0.0] * 1200 + [0.0] * 100 + [1.0] * 300)
    samples = [SampleView("p", [], outcome="better"), SampleView("q", [], outcome="worse")]
    page = Page(html(Report("t", samples=samples, tally=tally)))
    assert "PPO is better than SFT on 1,200 of 1,600 prompts, equal on 100 and worse on 300." in page.text
    assert [tag.get("data-outcome") for tag in page.named("article")] == ["better", "worse"]
    assert [tag["id"] for tag in page.named("input")] == ["outcome-0", "outcome-1", "outcome-2"]


def test_prompts_are_drawn_in_the_shares_of_the_outcomes() -> None:
    """13.2 wins, 4.4 ties and 2.4 losses of 20: the largest remainders, 0.4 and 0.4, of which one is left to give."""
    tally = PairTally.of("a", "b", [1.0] * 33 + [0.0] * 17, [0.0] * 33 + [0.0] * 11 + [1.0] * 6)
    drawn = tally.draw(20, seed=1)
    assert drawn == sorted(set(drawn))
    assert [sum(tally.outcomes[i] == outcome for i in drawn) for outcome in ("better", "equal", "worse")] == [13, 5, 2]
    assert tally.draw(20, seed=1) == drawn
    assert tally.draw(20, seed=2) != drawn
    assert tally.draw(80, seed=1) == list(range(50))
    assert PairTally.of("a", "b", [], []).draw(20, seed=1) == []


def test_long_texts_are_cut_and_many_samples_left_out() -> None:
    assert cut("x" * 10, 4) == "xxxx… [6 characters more]"
    source = html(Report("t", samples=[SampleView("p", [SampleAnswer("m", "y" * 10_000_000)])] * 100))
    assert len(source) < 400_000
    assert source.count("<article") == 60


def test_the_best_answer_is_marked_unless_all_are_equal() -> None:
    def best(*scores: float) -> int:
        answers = [SampleAnswer(str(i), "text", score) for i, score in enumerate(scores)]
        return html(Report("t", samples=[SampleView("p", answers)])).count('class="score best"')

    assert best(0.1, 0.9, 0.5) == 1
    assert best(0.9, 0.9, 0.5) == 2
    assert best(0.5, 0.5) == 0


def test_answers_stand_in_even_rows() -> None:
    columns = [SampleView("p", [SampleAnswer("m", "text")] * count).columns() for count in (0, 1, 6, 7, 8)]
    assert columns == [1, 1, 6, 4, 4]


def test_writing_is_whole_or_an_error(tmp_path: Path) -> None:
    assert (
        write(tmp_path / "deep" / "report.html", Report("t")).read_text(encoding="utf-8").startswith("<!doctype html>")
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/report.html: "):
        write(tmp_path / "file" / "report.html", Report("t"))


def test_a_full_disk_leaves_the_page_and_the_charts_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(value: float) -> Report:
        chart = Chart("Score", "", "step", [Series("a", [0.0, 1.0], [value, 2.0], 0)])
        return Report("t", groups=[Group("Curves", [chart])])

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = write(tmp_path / "report.html", page(1.0))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [path.name for path in sorted(before)] == ["report.html", "001-score.csv", "001-score.svg"]
    for place in ("heedful.report.page", "heedful.plots.files"):  # the page does not fit, or the charts
        monkeypatch.setattr(f"{place}.write_text", full)
        for name in ("report.html", "new.html"):
            with pytest.raises(UserError, match=rf"{name}: No space left on device\. Free some space"):
                write(out.with_name(name), page(3.0))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- from run directories ----------------------------------------------------------------------------------


def run(path: Path, stage: str, rows: list[dict[str, float]], samples: list[dict[str, Any]] = [], **facts: Any) -> Path:  # noqa: B006
    path.mkdir(parents=True)
    manifest = {
        "id": "abc", "stage": stage, "status": "finished", "seed": 3, "created": "2025-01-01T10:00:00+00:00",
        "updated": "2025-01-03T10:00:00+00:00", "seconds": 125.4, "versions": {"torch": "2.13.0"},
        "config": {"optimiser": {"lr": 1.25e-05}},
        "parents": {"policy": {"ref": "runs/sft", "weights_sha256": "0123456789abcdef"}}, "data": {}, **facts,
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i, row in enumerate(rows)))
    (path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return path


def test_runs_of_all_stages_make_one_report(tmp_path: Path) -> None:
    rate = {"rate": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    chat = [{"role": "user", "content": "a chat?"}]
    runs = [
        run(tmp_path / "one" / "ppo", "ppo", [{"score": 1.0, "kl": 0.1, "clipfrac": 0.2}] * 3,
            [{"step": 2, "prompt": "Who?", "completion": HOSTILE, "score": 1.5}],
            results={"signs": ["no end"], "alarm": "gold falls", "kl": 0.1}),
        run(tmp_path / "two" / "ppo", "ppo", [{"score": 2.0, "kl": 0.3}] * 3,
            [{"step": 2, "prompt": "Who?", "completion": "Zenia.", "score": 2.5}], status="interrupted"),
        run(tmp_path / "rm", "reward", [{"loss": 0.7}], results={"valid": {
            "accuracy": rate, "longer_wins": {**rate, "rate": 0.6}, "by_labeler": {"ann": rate}, "by_group": {}}}),
        run(tmp_path / "odd", "my_stage", [{"wonder": 1.0}], [{"step": 0, "prompt": chat, "completion": "yes"}]),
    ]  # fmt: skip
    page = Page(write_for_runs(runs, tmp_path / "report.html").read_text(encoding="utf-8"))
    for shown in (
        "one/ppo", "two/ppo", "one/ppo: no end", "one/ppo: gold falls", "two/ppo: interrupted, not finished",
        "Zenia.", "2 min 5 s",
        "Reward model training · PPO · My stage", "1.25e-05",
        "right on 50.0% of held-out pairs, no better than longer wins (60.0%)", "ann", "clipfrac", "wonder",
        "a chat?", "runs/sft (sha256 0123456789ab…)", "torch 2.13.0", "1 more metric",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert page.named("script") == []
    assert len(page.named("article")) == 2  # both PPO runs answer "Who?" side by side


def test_only_an_earlier_page_is_replaced(tmp_path: Path) -> None:
    data = tmp_path / "precious.jsonl"
    data.write_text("{}")
    with pytest.raises(UserError, match=r"precious\.jsonl: the report is an HTML page. Name it \.html"):
        write_for_runs([tmp_path], data)
    other = tmp_path / "notes.html"
    other.write_text("my notes")
    with pytest.raises(UserError, match=r"notes\.html: already exists and is not an HTML page"):
        write_for_runs([tmp_path], other)
    assert (data.read_text(), other.read_text()) == ("{}", "my notes")
    other.unlink()
    write(other, full())
    check_replaceable(other)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        write_for_runs([tmp_path], tmp_path / "report.html")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json: damaged"):
        write_for_runs([tmp_path], tmp_path / "report.html")
    (tmp_path / "manifest.json").write_text('{"records": "Choice"}')
    with pytest.raises(UserError, match="not the manifest of a run"):
        write_for_runs([tmp_path], tmp_path / "report.html")
    with pytest.raises(UserError, match="no run given"):
        write_for_runs([], tmp_path / "report.html")
