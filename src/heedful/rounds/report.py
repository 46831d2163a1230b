"""The report of a round, rounds/NNN/report.md: what was decided on which figures, what it cost, and the model card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from heedful.data.text import counted, visible
from heedful.feedback import readings
from heedful.feedback.store import Store
from heedful.files import write_text
from heedful.report import card
from heedful.rounds.people import project_of
from heedful.rounds.state import STEPS, Round, redone
from heedful.runs.listing import duration, found_under

REPORT = "report.md"


def write(store: Store, one: Round) -> dict[str, Any]:
    """Write the report, and the card of the candidate into its model/. Returns the cost."""
    with store.reading() as db:
        cost = spent(db, one)
    write_text(one.path / REPORT, "\n".join(_lines(one, cost)) + "\n")
    facts: dict[str, Any] = {"report": str(one.path / REPORT), **cost}
    run, evaluation = one.place("ppo"), one.place("evaluation")
    if (run / "model").is_dir():
        facts["card"] = str(card.write(run, evaluations=[evaluation] if evaluation.is_dir() else []))
    return facts


def spent(db: Session, one: Round) -> dict[str, Any]:
    """Labels, hours of labelers, and hours of computing of a round."""
    labels, seconds = 0, 0.0
    names = [(one.plan.project, "train"), (one.plan.gate_project, "evaluate")]
    for name, purpose in names:
        if purpose == "evaluate" and (one.plan.judge is not None or not one.facts("compare")):
            continue
        chosen = readings.standing(project_of(db, name).id, ("ranking",), (purpose,))  # type: ignore[arg-type]
        found = [row for row in db.execute(chosen) if row.source == one.source or is_again(row.source, one)]
        labels += len(found)
        seconds += sum(row.seconds or 0.0 for row in found)
    computed = sum(artifact.manifest.seconds for artifact in found_under([one.path]))
    return {"labels": labels, "labeler_seconds": round(seconds, 1), "compute_seconds": round(computed, 1)}


def is_again(source: str | None, one: Round) -> bool:
    """Whether items are those of a gate of the round that was done again."""
    return source is not None and source.startswith(f"{one.source}-")


def _lines(one: Round, cost: dict[str, Any]) -> Iterator[str]:
    verdict, seen = one.facts("gate"), one.facts("evaluate")
    yield f"# Round {one.number}\n"
    yield f"**{visible(str(verdict.get('outcome', 'not decided'))).capitalize()}**"
    yield from (f"- {visible(reason)}" for reason in verdict.get("reasons", []))
    entry = one.facts("promote")
    if entry:
        path, before = visible(entry["path"]), visible(entry["previous"])
        yield f"\n{path} is served as {visible(entry['model'])}, in place of {before}."
    yield f"\n## Measured\n\nThe gate decides on {one.gate_prompts:,} prompts of held-out users.\n"
    if win := seen.get("win"):
        ends = f", {win['low']:.1%} to {win['high']:.1%}" if win["low"] is not None else ""
        yield f"- win rate over the served model: {win['rate']:.1%}{ends} ({counted(win['n'], 'prompts')})"
    for name, flag in (seen.get("flags") or {}).items():
        yield f"- {visible(name)}: {100 * flag['mean']:+.1f} points ({counted(flag['n'], 'prompts')})"
    if seen.get("tax") is not None:
        yield f"- tax: {seen['tax']:+.3f} nats a token"
    if seen.get("length") is not None:
        yield f"- length: {seen['length']:.2f} times that of the served model"
    if one.redone:
        yield "\n## Done again\n"
        yield from (f"- {visible(told)}" for told in map(redone, one.redone))
    yield "\n## Cost\n"
    yield f"- {counted(cost['labels'], 'labels')}, {duration(cost['labeler_seconds'])} of labelers' time"
    yield f"- {duration(cost['compute_seconds'])} of computing"
    yield "\n## Steps\n\n| step | | |\n| --- | --- | --- |"
    for step in STEPS[:-1]:
        told = one.steps.get(step, {})
        yield f"| {step} | {told.get('status', 'not begun')} | {visible(told.get('reason', ''))} |"
