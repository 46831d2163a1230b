"""The attacks in miniature, so that they keep working. `make siege` runs more of each."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from siege import __main__ as siege
from siege import table
from siege.places import tracebacks
from siege.table import Outcome, Row, lines
from siege.work import TooLong, Work, limited

TINY = 0.002
FAST = ("routes", "deletion", "fuzz-files", "fuzz-api", "fuzz-configs", "fuzz-commands", "serve-leavers", "serve-fuzz")


def tried(name: str, folder: Path) -> Outcome:
    work = Work(TINY, name)
    siege.ATTACKS[name](folder, work)
    assert work.outcome.tried > 0
    assert work.outcome.done == work.outcome.parts
    return work.outcome


@pytest.mark.medium
@pytest.mark.parametrize("name", [name for name in siege.ATTACKS if name in FAST])
def test_nothing_gets_through(name: str, tmp_path: Path) -> None:
    assert tried(name, tmp_path).failed == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sign-ins", "texts", "full-disk", "away", "serve-full-disk", "serve-kills-sqlite"])
def test_nothing_gets_through_a_server(name: str, tmp_path: Path) -> None:
    failed = tried(name, tmp_path).failed
    assert [line for line in failed if "took more than" not in line] == []  # other tests run beside it


def test_the_table_by_hand() -> None:
    found, quiet = Outcome(seconds=90.0, done=1), Outcome(tried=1234, done=2, parts=7)
    found.add(["one got through"], tried=10)
    found.watched([0.5, 2.5, 0.1], ["status 503"])
    found.watched([0.2], [])
    assert found.failed == [
        "one got through", "a page of somebody else: status 503", "1 pages of somebody else took more than 2 s",
    ]  # fmt: skip
    rows = [Row("a", "full", found, "2026-01-02", ["abc"]), Row("b", "short", quiet, "2026-01-03", ["abc", "def+"])]
    assert lines(rows)[2:] == [
        "| a | full | 10 | 3 | 4, 2.50 s | 1.5 | 2026-01-02, abc |",
        "| b | short, 2 of 7 parts | 1,234 | 0 | – | 0.0 | 2026-01-03, abc def+ |",
    ]
    nobody = Outcome()
    nobody.watched([], [])
    assert nobody.failed == ["nobody else loaded a page"]


def test_a_row_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third part is killed once. What was done before it is not done again."""
    seen: list[int] = []

    def attack(folder: Path, work: Work) -> None:
        for number in work.parts(5):
            seen.append(number)
            if seen == [0, 1, 2]:
                raise KeyboardInterrupt
            work.outcome.add(["bad"] if number == 1 else [])

    monkeypatch.setitem(siege.ATTACKS, "routes", attack)
    with pytest.raises(KeyboardInterrupt):
        siege.run(Row("routes", "full", Outcome()), tmp_path)
    row = table.read(tmp_path, "routes", "full")
    assert row is not None
    assert (row.outcome.done, row.outcome.tried, row.finished) == (2, 2, False)
    siege.run(row, tmp_path)
    assert seen == [0, 1, 2, 2, 3, 4]
    kept = table.read(tmp_path, "routes", "full")
    assert kept == row
    assert (row.outcome.done, row.outcome.tried, row.outcome.failed, row.finished) == (5, 5, ["bad"], True)
    assert len(row.revisions) == 1


def test_it_stops_when_its_time_is_over(tmp_path: Path) -> None:
    work = Work(1.0, until=time.monotonic() - 1)
    assert list(work.parts(3)) == []
    assert work.outcome.parts == 3


def test_a_part_that_does_not_end_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def attack(folder: Path, work: Work) -> None:
        for _ in work.parts(2, longest=0.05):
            time.sleep(60)

    monkeypatch.setitem(siege.ATTACKS, "routes", attack)
    row = Row("routes", "full", Outcome())
    siege.run(row, tmp_path)
    assert row.outcome.failed == [f"the attack itself broke: {TooLong.__name__}: it took more than 0.05 s"]


def test_time_limits_in_each_other() -> None:
    def inner() -> None:
        with pytest.raises(TooLong, match=r"more than 0\.05 s"), limited(0.05):
            time.sleep(60)
        time.sleep(60)

    with pytest.raises(TooLong, match=r"more than 0\.2 s"), limited(0.2):
        inner()


def test_the_page_gets_the_rows_in_which_most_was_tried(tmp_path: Path) -> None:
    for form, name, count in (("full", "a", 5), ("short", "a", 9), ("full", "b", 3)):
        Row(name, form, Outcome(tried=count, done=1)).write(tmp_path)
    rows = table.widest(tmp_path, ["a", "b", "c"])
    assert [(row.attack, row.form) for row in rows] == [("a", "short"), ("b", "full")]
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{table.BEGIN}\nold\n{table.END}\nAfter.\n")
    table.into_page(page, lines(rows))
    text = page.read_text()
    assert text.startswith(f"Before.\n{table.BEGIN}\n\n| attack |")
    assert text.endswith(f" |\n\n{table.END}\nAfter.\n")
    assert "old" not in text


def test_the_page_names_every_attack() -> None:
    page = siege.PAGE.read_text(encoding="utf-8")
    described, _, measured = page.partition(table.BEGIN)
    for name in siege.ATTACKS:
        assert f"`{name}`" in described, name
        assert f"| {name} |" in measured, name


def test_a_traceback_in_a_log_is_found() -> None:
    log = 'Line.\nTraceback (most recent call last):\n  File "x", line 1\nRuntimeError: broken\nLine.\n'
    assert tracebacks(log) == ["a traceback in the server's log: RuntimeError: broken"]
    assert tracebacks("Line.\n") == []


@pytest.mark.medium
def test_a_route_that_lets_somebody_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from siege.attacks import routes

    monkeypatch.setitem(routes.EXPECTED, ("GET", "/api/projects/{project}/history"), set())
    monkeypatch.setitem(routes.HIDDEN, "paused", {"tea"})
    failed = tried("routes", tmp_path).failed
    assert any("/history for paused: let in: 200" in line for line in failed)
    assert any("leaks tea" in line for line in failed)
