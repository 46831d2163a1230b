"""The steps of a round in their order. Each one resumes, or is skipped with a reason.

A step ends when state.json says so. A step that was interrupted runs again: what it had finished stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.data import formats
from heedful.data.reading import sources
from heedful.data.reading.streams import USUAL
from heedful.data.records import Completions
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store
from heedful.files import Lock
from heedful.rounds import choose, compare, gate, people, promotions, redo, report, state, train
from heedful.rounds.state import OVER, ROUNDS, STEPS, Round, Waiting
from heedful.runs.manifest import check_there, model_path

StepFacts = dict[str, Any]
JUDGED = "the judge of the plan decides"


class Skip(Exception):
    """A step has nothing to do. The text says why."""


def run(
    folder: Path, store: Store, db: str, say: Callable[[str], Any], *, skip: dict[str, str] | None = None,
    again: tuple[str, str, str] | None = None, consent: str | None = None,
) -> Round:  # fmt: skip
    """Go on with the round under way, or begin one. Returns it when all its steps are over.

    `skip`: reasons by step. `again`: (step, reason, who), takes the last round up again from a step. Raises Waiting
    where people or prompts are due.
    """
    (folder / ROUNDS).mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / ROUNDS / ".lock", f"{folder}: another `heedful round run` is at work here. Wait for its end")
    try:
        one = redo.begin(store, folder, *again) if again is not None else state.current(folder, db)
        if not one.steps:
            _check_inputs(one)
        one.write()
        redo.log(store, one)
        if keys := state.changed(one):
            say(
                f"round.toml has changed ({', '.join(keys)}). Round {one.number} keeps its plan, the next one takes it"
                + redo.advice(one, keys)
            )
        for step, reason in (skip or {}).items():
            skip_step(one, step, reason)
        for step in STEPS:
            if one.steps.get(step, {}).get("status") not in OVER:
                _do(one, step, Steps(one, store, consent), say)
        return one
    finally:
        lock.release()


def _check_inputs(one: Round) -> None:
    """Raise UserError for a model or file of the plan that is not there. A step that reads it may be days away."""
    plan = one.plan
    models = [("serving", plan.serving), ("sft", plan.sft), *(("others", ref) for ref in plan.others)]
    data = {key: getattr(plan, key) for key in ("demonstrations", "pretrain_data", "tax_data")}
    for key, ref in [*models, *data.items()]:
        try:
            if key in data and ref is not None:
                next(sources.find(ref).rows(USUAL), None)
            elif key not in data and "://" not in ref:
                check_there(model_path(ref))
        except UserError as error:
            raise UserError(f"{one.folder / state.PLAN}: {key}: {error}") from None


def skip_step(one: Round, step: str, reason: str) -> None:
    """Mark a step that has not ended as skipped. Raises UserError."""
    if step not in STEPS:
        raise UserError(f"--skip {step}: no such step. Steps are {', '.join(STEPS)}")
    if not reason.strip():
        raise UserError(f"--skip {step}: give a reason, as in --skip {step}='the labels are enough'")
    if one.steps.get(step, {}).get("status") == "done":
        raise UserError(f"--skip {step}: round {one.number} has done it already")
    one.note(step, "skipped", reason=reason.strip())


def _do(one: Round, step: str, steps: Steps, say: Callable[[str], Any]) -> None:
    one.note(step, "running")
    try:
        facts = getattr(steps, step)()
    except Waiting as waiting:
        one.note(step, "waiting", what=str(waiting))
        raise
    except Skip as skipped:
        one.note(step, "skipped", reason=str(skipped))
        say(f"round {one.number}: {step} skipped, {skipped}")
    else:
        one.note(step, "done", facts=facts)
        say(f"round {one.number}: {step} done")


class Steps:
    """What each step does. Every method returns facts for state.json, raises Waiting, or Skip with a reason."""

    def __init__(self, one: Round, store: Store, consent: str | None) -> None:
        self.one, self.store, self.consent = one, store, consent

    def prompts(self) -> StepFacts:
        with self.store.reading() as db:
            found = choose.fresh(db, self.one)
        formats.write(self.one.path / choose.PROMPTS, found)
        return {"prompts": len(found), "users": len({prompt.user for prompt in found})}

    def sample(self) -> StepFacts:
        return train.sample(self.one)

    def queue(self) -> StepFacts:
        self._needs("sample")
        exchanges = people.exchanges_of(self.one.path / choose.PROMPTS)
        rows = formats.read(str(self.one.path / train.RANKED), Completions)
        return people.queue(self.store, self.one, rows, exchanges)

    def labels(self) -> StepFacts:
        self._needs("queue")
        return people.wait(self.store, self.one.plan.project, self.one.source, self.one.plan.labels)

    def freeze(self) -> StepFacts:
        filters = Filters(records="comparison")  # of all rounds
        return people.freeze(self.store, self.one.plan.project, filters, self.one.place("rankings"))

    def reward(self) -> StepFacts:
        return train.reward(self.one)

    def ppo(self) -> StepFacts:
        return train.ppo(self.one)

    def compare(self) -> StepFacts:
        self._needs("ppo")
        if alarms := compare.alarms_of(self.one, self.one.facts("ppo")["results"]):
            raise Skip(f"no prompt of held-out users is spent: {'; '.join(alarms)}")
        path = self.one.place(choose.GATE)
        if not path.is_file():
            with self.store.reading() as db:
                chosen = choose.for_gate(db, self.one)
            formats.write(path, chosen)
        return compare.compare(self.store, self.one, self.consent)

    def votes(self) -> StepFacts:
        self._needs("compare")
        plan = self.one.plan
        if plan.judge is not None:
            raise Skip(JUDGED)
        facts = people.wait(self.store, plan.gate_project, self.one.gate_source, 1.0)
        filters = Filters(
            records="comparison", roles=("held_out",), purposes=("evaluate",), sources=(self.one.gate_source,)
        )  # fmt: skip
        return facts | people.freeze(self.store, plan.gate_project, filters, self.one.place(compare.VOTES))

    def evaluate(self) -> StepFacts:
        self._needs("compare")
        return compare.evaluated(self.one)

    def gate(self) -> StepFacts:
        one, plan = self.one, self.one.plan
        if one.is_skipped("ppo"):
            raise Skip("there is no candidate")
        if one.is_skipped("evaluate"):
            seen = gate.Evidence(None, alarms=compare.alarms_of(one, one.facts("ppo")["results"]))
        else:
            seen = compare.evidence(one)
        verdict = gate.decide(plan.gate, one.gate_prompts, seen)
        return verdict.row() | {"evidence": compare.shown(seen)}

    def promote(self) -> StepFacts:
        one, verdict = self.one, self.one.facts("gate")
        if verdict.get("outcome") != "promote":
            raise Skip(f"the gate says {verdict.get('outcome', 'nothing')}")
        if one.plan.promote == "ask":
            raise Skip("the plan leaves it to `heedful round promote`")
        return promotions.promote(self.store, one, who=None, reason=None)

    def report(self) -> StepFacts:
        return report.write(self.store, self.one)

    def _needs(self, step: str) -> None:
        if self.one.is_skipped(step):
            raise Skip(f"{step} was skipped")
