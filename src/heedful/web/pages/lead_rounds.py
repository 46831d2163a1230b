"""The lead's page of rounds: the state of each one, the figures of its gate, and who promoted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.data.text import counted
from heedful.feedback.rubric import D9
from heedful.files import rows_of
from heedful.rounds import state
from heedful.rounds.state import HISTORY, ROUNDS, STEPS, Round
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsReader, Settings

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
VERDICTS = {"promote": "passed its gate", "keep": "did not pass its gate", "undecided": "has an undecided gate"}
DOES = {
    "prompts": "chooses fresh prompts of training users", "sample": "lets the models write answers",
    "queue": "puts the answers into the project", "labels": "waits for labelers",
    "freeze": "makes one snapshot of all rankings", "reward": "trains a reward model", "ppo": "trains a policy",
    "compare": "lets candidate and served model answer prompts of held-out users",
    "votes": "waits for held-out labelers", "evaluate": "measures win rate, flags, tax and length",
    "gate": "decides", "promote": "puts the candidate behind the server", "report": "writes the report",
}  # fmt: skip
"""What each step does, where there is nothing else to say about it."""
Move = dict[str, Any]


@dataclass(frozen=True)
class RoundFigure:
    """A figure that the gate read. `ends`: of its interval, in words."""

    name: str
    value: str
    ends: str = ""


@dataclass(frozen=True)
class ShownRound:
    """A round as the page shows it."""

    number: int
    says: str
    """Its verdict, or what it waits for."""
    reasons: Sequence[str]
    steps: Sequence[tuple[str, str, str]]
    """Step, status and remark."""
    figures: Sequence[RoundFigure]
    moves: Sequence[Move]
    """Promotions and rollbacks, the oldest first, with `when` as a time."""
    gate_prompts: int
    is_over: bool
    may_be_promoted: bool
    redone: Sequence[str]
    """What was done again, in words."""


@router.get("/rounds")
def rounds_page(request: Request, member: AsReader, settings: Settings) -> Response:
    """The rounds of the server's folder that this project labels or judges, the newest first."""
    known = [state.read(settings.folder, number) for number in state.numbers(settings.folder)]
    mine = [one for one in known if member.project in (one.plan.project, one.plan.gate_project)]
    moves = rows_of(settings.folder / ROUNDS / HISTORY) if mine else []
    return lead_page(request, "rounds", rounds=[shown(one, moves) for one in reversed(mine)], folder=settings.folder)


def shown(one: Round, history: Sequence[Move]) -> ShownRound:
    """What the page shows of a round. `history`: all promotions and rollbacks."""
    verdict, moves = one.facts("gate"), [entry for entry in history if entry.get("round") == one.number]
    return ShownRound(
        one.number, _says(one), verdict.get("reasons", []), list(_steps(one)), list(figures(one.facts("evaluate"))),
        [{**entry, "when": datetime.fromisoformat(entry["when"])} for entry in moves], one.gate_prompts, one.is_over,
        one.is_over and not any(entry["action"] == "promote" for entry in moves) and not one.is_skipped("ppo"),
        [state.redone(entry) for entry in one.redone],
    )  # fmt: skip


def figures(seen: dict[str, Any]) -> Iterator[RoundFigure]:
    """The evidence of a gate, each with its interval where it has one."""
    if win := seen.get("win"):
        yield RoundFigure(
            f"Win rate over the served model, {counted(win['n'], 'prompts')}", f"{100 * win['rate']:.1f} %",
            "no interval" if win["low"] is None else f"{100 * win['low']:.1f} to {100 * win['high']:.1f}",
        )  # fmt: skip
    for name, flag in (seen.get("flags") or {}).items():
        words = D9[name].words if name in D9 else name
        low, high = flag["low"], flag["high"]
        ends = "no interval" if low is None else f"{_signed(100 * low, 1)} to {_signed(100 * high, 1)}"
        yield RoundFigure(f"{words}, change in points", _signed(100 * flag["mean"], 1), ends)
    if seen.get("tax") is not None:
        yield RoundFigure("Alignment tax, nats a token", _signed(seen["tax"], 3))
    if seen.get("length") is not None:
        yield RoundFigure("Length, times that of the served model", f"{seen['length']:.2f}")


def _says(one: Round) -> str:
    outcome = one.facts("gate").get("outcome")
    if outcome is not None:
        return VERDICTS[outcome]
    if one.is_over:
        return "is over without a candidate"
    for told in one.steps.values():
        if told["status"] == "waiting":
            return f"waits: {told['what']}"
    return "is under way"


def _steps(one: Round) -> Iterator[tuple[str, str, str]]:
    for step in STEPS:
        told = one.steps.get(step, {})
        yield step, told.get("status", "not begun"), told.get("what") or told.get("reason") or DOES[step]


def _signed(value: float, digits: int) -> str:
    return f"{value + 0.0:+.{digits}f}".replace("-", "−")
