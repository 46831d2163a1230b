"""Progress on standard error: lines, a bar, and nothing that can stop the work."""

from __future__ import annotations

import errno
import io

import pytest

from heedful import terminal
from heedful.runs.progress import Reporter


def test_plain_lines_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    reporter = Reporter("sft", 40, every=10.0)
    for done in range(1, 41):
        clock[0] += 3.0
        reporter.step(done, {"loss": 1 / 3, "valid_loss": 12345.0})
    reporter.say("sft: something to know")
    reporter.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sft 1/40  loss 0.333  valid_loss 1.23e+04"
    assert [line.split()[1] for line in lines[:-1]] == [*(f"{n}/40" for n in range(1, 40, 4)), "40/40"]
    assert lines[-1] == "sft: something to know"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    class Gone(io.StringIO):
        lost = False

        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            if self.lost:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

    gone = Gone()
    monkeypatch.setattr("sys.stderr", gone)
    reporter = Reporter("sft", 2, every=0.0)
    gone.lost = True
    reporter.step(1, {"loss": 1.0})
    reporter.say("hello")
    reporter.step(2, {"loss": 1.0})
    reporter.close()
    assert "hello" not in gone.getvalue()


def test_only_the_main_rank_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("sft", 1, visible=False)
    reporter.step(1, {"loss": 1.0})
    reporter.say("hello")
    reporter.close()
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    reporter = Reporter("ppo", 3)
    reporter.step(2, {"kl": 0.5})
    reporter.say("ppo: [not markup]")
    reporter.close()
    shown = capsys.readouterr().err
    assert "2/3" in shown
    assert "kl 0.5" in shown
    assert "ppo: [not markup]" in shown


def test_a_result_that_begins_with_its_name_is_not_named_twice(capsys: pytest.CaptureFixture[str]) -> None:
    results = {"memory": "memory: weights 6 MiB", "best_step": 3, "gain": {"mean": 0.25}}
    terminal.show("runs/a", results, False)
    assert capsys.readouterr().out.splitlines() == [
        "runs/a", "  memory: weights 6 MiB", "  best step 3", "  gain, mean 0.25",
    ]  # fmt: skip
