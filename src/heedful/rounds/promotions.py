"""Promotion and rollback. serving.json is the truth, and promotions.jsonl in the rounds' folder is its history.

An entry of the history: what was put in place, what was there before, who did it, when, why, and on which figures.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heedful.config import UserError
from heedful.configs.round import RoundConfig
from heedful.feedback import lineage, people
from heedful.feedback.schema import Audit
from heedful.feedback.store import Store
from heedful.files import append_rows, read_json, rows_of
from heedful.rounds.state import HISTORY, ROUNDS, Round
from heedful.runs import placed

GATE = "the gate"
Entry = dict[str, Any]


def serving(folder: Path, plan: RoundConfig) -> str:
    """The model that is served: the promoted one, or that of the plan."""
    return placed.read(folder).get(plan.model, plan.serving)


def history(folder: Path) -> list[Entry]:
    """All promotions and rollbacks, the oldest first. One that a crash has kept out of the file is added to it."""
    path = folder / ROUNDS / HISTORY
    found = rows_of(path)
    known = {one["id"] for one in found}
    kept = read_json(folder / placed.NAME)["models"] if placed.read(folder) else {}
    missing = [one["entry"] for one in kept.values() if "entry" in one and one["entry"]["id"] not in known]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_rows(path, missing)
    return found + missing


def promote(store: Store, one: Round, *, who: str | None, reason: str | None) -> Entry:
    """Put the candidate of a round in place. Without a pass of its gate that needs a name and a reason."""
    run, verdict = one.place("ppo"), one.facts("gate")
    if not (run / "model").is_dir():
        raise UserError(f"{run}: has no finished model. Run the round first")
    passed = verdict.get("outcome") == "promote"
    if not passed and not (who and who.strip() and reason and reason.strip()):
        why = "; ".join(verdict.get("reasons", [])) or "its gate has not decided"
        raise UserError(f"round {one.number} did not pass its gate ({why}). An override needs --who and --reason")
    before = serving(one.folder, one.plan)
    path = str(run.resolve())
    if before == path:
        _log(store, history(one.folder))  # what a crash may have kept out of the lineage
        return next(entry for entry in reversed(history(one.folder)) if entry["path"] == path)
    told = {"round": one.number, "figures": verdict, "override": not passed}
    return _place(store, one, "promote", path, before, who or GATE, reason or "it passed the gate", **told)


def rollback(store: Store, one: Round, *, who: str, reason: str | None) -> Entry:
    """Put back what was served before the promotion of what is served now."""
    now = serving(one.folder, one.plan)
    name = one.plan.model
    made = [entry for entry in history(one.folder) if entry["model"] == name]
    was = next((entry for entry in reversed(made) if entry["action"] == "promote" and entry["path"] == now), None)
    if was is None:
        raise UserError(f"{now}: was not promoted by a round, so nothing is to be rolled back")
    return _place(store, one, "rollback", was["previous"], now, who, reason or "no reason given", round=was["round"])


def _place(store: Store, one: Round, action: str, path: str, before: str, who: str, why: str, **more: Any) -> Entry:
    """Replace serving.json, which is the one step that counts. Then write the history and the audit log."""
    history(one.folder)
    entry = {
        "id": secrets.token_hex(8), "action": action, "model": one.plan.model, "path": path, "previous": before,
        "who": who, "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why, **more,
    }  # fmt: skip
    placed.place(one.folder, one.plan.model, path, entry=entry)
    _log(store, history(one.folder))
    return entry


def _log(store: Store, entries: Sequence[Entry]) -> None:
    """Add the entries that the audit log lacks. The lineage of a run reads them there."""
    with store.writing() as db:
        chosen = sa.select(Audit.detail).where(Audit.action.in_(lineage.PLACED))
        known = {detail.get("id") for detail in db.scalars(chosen)}
        for entry in entries:
            if entry["id"] not in known:
                now = datetime.fromisoformat(entry["when"])
                people.audit(db, None, entry["action"], entry["model"], entry, now=now)
