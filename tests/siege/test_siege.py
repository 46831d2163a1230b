"""The attacks in miniature, so that they keep working. `make siege` runs more of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from siege import __main__ as siege
from siege.places import tracebacks
from siege.table import Outcome, Scale, lines

TINY = Scale(0.002)
FAST = ("routes", "deletion", "fuzz-files", "fuzz-api", "fuzz-configs", "fuzz-commands", "serve-leavers", "serve-fuzz")


@pytest.mark.parametrize("name", [name for name in siege.ATTACKS if name in FAST])
def test_nothing_gets_through(name: str, tmp_path: Path) -> None:
    outcome = siege.ATTACKS[name](tmp_path, TINY)
    assert outcome.tried > 0
    assert outcome.failed == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sign-ins", "full-disk", "away", "serve-full-disk", "serve-kills-sqlite"])
def test_nothing_gets_through_a_server(name: str, tmp_path: Path) -> None:
    outcome = siege.ATTACKS[name](tmp_path, TINY)
    assert outcome.tried > 0
    assert [line for line in outcome.failed if "took more than" not in line] == []  # other tests run beside it


def test_the_table_by_hand() -> None:
    found, quiet = Outcome(seconds=90.0), Outcome(tried=1234)
    found.add(["one got through"], tried=10)
    found.watched([0.5, 2.5, 0.1], ["status 503"])
    assert found.failed == [
        "one got through", "a page of somebody else: status 503", "1 pages of somebody else took more than 2 s",
    ]  # fmt: skip
    assert lines({"a": found, "b": quiet})[2:] == ["| a | 10 | 3 | 3, 2.50 s | 1.5 |", "| b | 1,234 | 0 | – | 0.0 |"]
    nobody = Outcome()
    nobody.watched([], [])
    assert nobody.failed == ["nobody else loaded a page"]


def test_a_traceback_in_a_log_is_found() -> None:
    log = 'Line.\nTraceback (most recent call last):\n  File "x", line 1\nRuntimeError: broken\nLine.\n'
    assert tracebacks(log) == ["a traceback in the server's log: RuntimeError: broken"]
    assert tracebacks("Line.\n") == []


def test_a_route_that_lets_somebody_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from siege.attacks import routes

    monkeypatch.setitem(routes.EXPECTED, ("GET", "/api/projects/{project}/history"), set())
    monkeypatch.setitem(routes.HIDDEN, "paused", {"tea"})
    failed = routes.attack(tmp_path, TINY).failed
    assert any("/history for paused: let in: 200" in line for line in failed)
    assert any("leaks tea" in line for line in failed)
