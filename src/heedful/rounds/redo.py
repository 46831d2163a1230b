"""Take a round up again from one of its steps, with the plan as round.toml has it now.

What the steps had made stays where it is, so that its lineage stays true. The new attempt writes next to it: ppo-2.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from heedful.config import UserError
from heedful.feedback import items, people, projects
from heedful.feedback.lineage import REDO
from heedful.feedback.schema import Audit
from heedful.feedback.search import ItemFilters
from heedful.feedback.store import Store
from heedful.rounds import compare, promotions, state
from heedful.rounds.choose import GATE
from heedful.rounds.gate import planned
from heedful.rounds.state import STEPS, Round

FIRST = {
    "project": "prompts", "prompts": "prompts", "seed": "sample", "serving": "sample", "model": "sample",
    "others": "sample", "k": "sample", "generation": "sample", "labels": "labels", "sft": "reward",
    "demonstrations": "reward", "reward": "reward", "start": "ppo", "pretrain_data": "ppo", "tax_data": "ppo",
    "ppo": "ppo", "judge": "compare", "gate_project": "compare", "gate": "compare", "promote": "promote",
    "compute": STEPS[-1],
}  # fmt: skip
"""The first step that each setting of the plan decides about. `compute` may change at any time."""
MADE = {
    "freeze": ("rankings",), "reward": ("reward",), "ppo": ("all-prompts.jsonl", "ppo"),
    "compare": (GATE, compare.ANSWERS, compare.VOTES, compare.RESULT),
}  # fmt: skip
"""What a step and those that hang on it write into the folder of the round."""
EARLIEST = "labels"


def begin(store: Store, folder: Path, step: str, reason: str, who: str) -> Round:
    """Forget the last round's steps from `step` on, and take the plan of today for them. Raises UserError."""
    known = state.numbers(folder)
    if not known:
        raise UserError(f"--redo {step}: no round has begun in {folder}. Leave it out")
    one = state.read(folder, known[-1])
    _check(one, step, reason)
    plan = state.plan_of(folder)
    now, then = plan.model_dump(mode="json"), one.plan.model_dump(mode="json")
    changed = {name: {"was": then[name], "now": now[name]} for name in state.changed(one)}
    for name in changed:
        first = FIRST[name]
        if _place(first) < _place(step):
            how = f"redo {first}" if _place(first) >= _place(EARLIEST) else "wait for the next round"
            raise UserError(
                f"--redo {step}: round.toml changes `{name}`, which {first} has used. "
                f"Write {then[name]!r} again, or {how}"
            )
    renamed = dict(_renamed(one, step))
    if GATE in renamed:
        _hold(store, one, f"round {one.number} is done again from {step}")
    entry = {
        "id": secrets.token_hex(8), "action": REDO, "model": one.plan.model, "round": one.number, "step": step,
        "who": who, "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": reason.strip(), "changed": changed,
        "replaced": {str(one.place(name)): str(one.path / new) for name, new in renamed.items()},
        "steps": {name: one.steps[name] for name in STEPS[_place(step) :] if name in one.steps},
    }  # fmt: skip
    if "gate" in changed:
        one.gate_prompts = planned(plan.gate)
    one.plan = plan
    one.names |= renamed
    one.redone.append(entry)
    one.steps = {name: told for name, told in one.steps.items() if _place(name) < _place(step)}
    one.write()
    return one


def log(store: Store, one: Round) -> None:
    """Add what was done again to the audit log, where the lineage of a run reads it. What is there stays."""
    if not one.redone:
        return
    with store.writing() as db:
        known = {detail.get("id") for detail in db.scalars(sa.select(Audit.detail).where(Audit.action == REDO))}
        for entry in one.redone:
            if entry["id"] not in known:
                told = {name: value for name, value in entry.items() if name != "steps"}
                people.audit(db, None, REDO, entry["model"], told, now=datetime.fromisoformat(entry["when"]))


def advice(one: Round, changed: list[str]) -> str:
    """How a round takes up a changed plan, or how it does not."""
    step = min((FIRST[name] for name in changed), key=_place)
    if _place(step) >= _place(EARLIEST):
        return f". To take it now, add --redo {step}='the reason'"
    return "" if "queue" in one.steps else f". To begin this one again with the new plan, delete {one.path}"


def _check(one: Round, step: str, reason: str) -> None:
    named = f"--redo {step}"
    if step not in STEPS:
        raise UserError(f"{named}: no such step. Steps are {', '.join(STEPS)}")
    if not reason.strip():
        raise UserError(f"{named}: give a reason, as in {named}='kl_coef was too small'")
    if _place(step) < _place(EARLIEST):
        how = "labelers have its answers" if "queue" in one.steps else f"delete {one.path} to begin it again"
        raise UserError(f"{named}: a round is taken up again at {EARLIEST} or later: {how}")
    entries = [entry for entry in promotions.history(one.folder) if entry.get("round") == one.number]
    if any(entry["action"] == "promote" for entry in entries):
        raise UserError(f"{named}: round {one.number} was promoted. The next round takes the new plan")
    if _place(step) > _place("compare") and one.facts("gate"):
        raise UserError(f"{named}: the gate decides once. Redo compare, which takes new prompts, or an earlier step")


def _renamed(one: Round, step: str) -> Iterator[tuple[str, str]]:
    """(name, new name) of each file and folder that the steps from `step` on have made."""
    for made, names in MADE.items():
        if _place(made) < _place(step):
            continue
        for name in names:
            if one.place(name).exists():
                path = Path(name)
                numbered = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
                yield name, next(new for new in numbered if not (one.path / new).exists())


def _hold(store: Store, one: Round, why: str) -> None:
    """Hold back the pairs that held-out labelers still have of a comparison that no gate will read."""
    with store.writing() as db:
        project = projects.by_name(db, one.plan.gate_project)
        if project is not None and one.plan.judge is None:
            items.change(
                db, project.id, ItemFilters(source=one.gate_source, state="open"), datetime.now(UTC), by=None, held=why
            )  # fmt: skip


def _place(step: str) -> int:
    return STEPS.index(step)
