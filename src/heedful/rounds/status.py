"""What is known of the rounds of a folder, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heedful.rounds import promotions, state
from heedful.rounds.state import STEPS, Round
from heedful.runs import placed


def row(folder: Path) -> dict[str, Any]:
    """JSON-able."""
    rounds = [state.read(folder, number) for number in state.numbers(folder)]
    return {
        "serving": placed.read(folder),
        "rounds": [
            {"round": one.number, "steps": one.steps, "gate_prompts": one.gate_prompts, "redone": one.redone}
            for one in rounds
        ],
        "promotions": promotions.history(folder),
    }


def lines(folder: Path) -> Iterator[str]:
    """Lines for people, the newest round last."""
    known = state.numbers(folder)
    if not known:
        yield f"{folder}: no round has begun"
    for number in known:
        yield from _of_round(state.read(folder, number))
    for entry in promotions.history(folder):
        what = f"{entry['action']}: {entry['model']} is {entry['path']}"
        yield f"{entry['when']}  {what}, by {entry['who']}: {entry['why']}"


def _of_round(one: Round) -> Iterator[str]:
    yield f"round {one.number}"
    for entry in one.redone:
        yield f"  done again {state.redone(entry)} ({entry['when']})"
    width = max(map(len, STEPS))
    for step in STEPS:
        told = one.steps.get(step, {})
        why = told.get("what") or told.get("reason") or ""
        if step == "gate" and told.get("facts"):
            why = f"{told['facts']['outcome']}: {'; '.join(told['facts']['reasons'])}"
        yield f"  {step:<{width}}  {told.get('status', ''):<8} {why}".rstrip()
