"""Means over micro-batches and ranks, and what people see while it runs."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest
import torch

from heedful.training.metrics import Means, Reporter
from heedful.training.parallel import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)


def test_a_mean_is_taken_once_over_all_parts() -> None:
    means = Means()
    means.add({"loss": (torch.tensor(3.0), torch.tensor(1)), "accuracy": (1.0, 2)})
    means.add({"loss": (torch.tensor(3.0), torch.tensor(5))})
    means.largest("ratio_max", torch.tensor(1.5))
    means.largest("ratio_max", torch.tensor(1.25))
    assert means.reduce(ALONE) == {"loss": 1.0, "accuracy": 0.5, "ratio_max": 1.5}  # not (3 + 0.6) / 2


def test_what_was_never_counted_is_left_out() -> None:
    means = Means()
    means.add({"accuracy": (torch.tensor(0.0), torch.tensor(0))})
    assert means.reduce(ALONE) == {}


def test_sums_do_not_lose_small_parts() -> None:
    means = Means()
    means.add({"x": (torch.tensor(2.0**25), 1)})
    for _ in range(100):
        means.add({"x": (torch.tensor(1.0), 0)})
    assert means.reduce(ALONE)["x"] == 2.0**25 + 100


def test_a_metric_carries_no_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    means = Means()
    means.add({"loss": (weight * 2, torch.tensor(1))})
    assert not means._sums["loss"].requires_grad


def test_ranks_that_saw_different_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 had no text; rank 0 the smaller maximum."""
    other = Means()
    other.add({"loss": (1.0, 3)})
    other.largest("ratio_max", torch.tensor(2.0))
    mine = Means()
    mine.add({"loss": (7.0, 1), "ptx_loss": (8.0, 4)})
    mine.largest("ratio_max", torch.tensor(1.0))

    def both(world: Ranks, mine: Any) -> list[Any]:
        return [mine, (other._sums, other._largest)]

    monkeypatch.setattr(Ranks, "gather", both)
    assert mine.reduce(ALONE) == {"loss": 2.0, "ptx_loss": 2.0, "ratio_max": 2.0}


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
