"""What users sent to served models, what curation decided about it, and three rounds that came of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from collection.served import exchange
from heedful.collection import curation, react
from heedful.collection import store as collected
from heedful.collection.settings import QueueConfig
from heedful.configs.round import RoundConfig
from heedful.feedback import people
from heedful.feedback.store import Store
from heedful.files import append_rows
from heedful.rounds.state import HISTORY, ROUNDS, STEPS, Round

ASKED = (
    ("bela", "When may I cut back the roses? The frost is over."),
    ("cleo", "Schreibe einen Satz für ein Schild: Das Tor bleibt zu."),
    ("bela", "Write to anna@example.org that the kettle sings, and that I call at 0171 4960123."),
    ("dora", "List three plants that like shade."),
    ("bela", "When may I cut back the roses? The frost is over."),
    ("emil", "Summarise: slugs fear copper, and the pond is not for wading."),
    ("cleo", "Why do tea leaves sink?"),
)
ANSWER = "In March, before new shoots are longer than a finger."
BETTER = "Cut them in March, before new shoots are longer than a finger. Take the dead wood first."
GATE = {
    "win": {"rate": 0.574, "low": 0.513, "high": 0.634, "n": 259},
    "flags": {"hallucination": {"mean": -0.021, "low": -0.07, "high": 0.028, "n": 259},
              "fails_instruction": {"mean": -0.058, "low": -0.112, "high": -0.004, "n": 259}},
    "tax": 0.042, "length": 1.08, "alarms": [],
}  # fmt: skip


def populate(store: Store, folder: Path, project: int, name: str, start: datetime) -> None:
    """Users, their prompts and an edit. Decisions of curation. Two rounds that are over, and one that waits."""
    with store.writing() as db:
        for user in sorted({user for user, _ in ASKED}):
            people.add_person(db, user, None, start)
        for number, (user, text) in enumerate(ASKED):
            when = start + timedelta(days=number)
            told = {"messages": [{"role": "user", "content": text}], "answers": [ANSWER], "finish": ["stop"]}
            collected.add(db, exchange(f"chatcmpl-{number}", user, key_id=None, started=when, **told), when)
        react.edit(db, "chatcmpl-0", "bela", BETTER, now=start)
    curation.curate(store, project, QueueConfig(fractions={"train": 0.7, "test": 0.3}), start, by=None)
    _rounds(folder, name, start)


def _rounds(folder: Path, name: str, start: datetime) -> None:
    plan = RoundConfig.model_validate({"project": name, "serving": "runs/sft", "sft": "runs/sft", "model": "demo"})
    rounds = [Round(folder, number, plan, 259, str(folder / "heedful.db")) for number in (1, 2, 3)]
    rounds[1].redone.append({
        "id": "again", "step": "ppo", "round": 2, "who": "Ada", "when": start.isoformat(),
        "why": "kl_coef was too small",
        "changed": {"ppo": {"was": {"kl_coef": 0.001}, "now": {"kl_coef": 0.02}}}, "replaced": {}, "steps": {},
    })  # fmt: skip
    for one in rounds[:2]:
        for step in STEPS:
            one.note(step, "done")
        one.note("evaluate", "done", facts=GATE)
    _decided(rounds[0], "promote", "wins 57.4% of 259 prompts, at least 51.3%")
    _decided(rounds[1], "keep", "length: 1.61 times that of the served model")
    rounds[1].note("promote", "skipped", reason="the gate says keep")
    for step in STEPS[:3]:
        rounds[2].note(step, "done")
    rounds[2].note("labels", "waiting", what="212 of 400 labels")
    append_rows(folder / ROUNDS / HISTORY, [{
        "id": "first", "action": "promote", "model": "demo", "path": "server/rounds/001/ppo", "who": "the gate",
        "when": start.isoformat(), "why": "it passed the gate", "round": 1,
    }])  # fmt: skip


def _decided(one: Round, outcome: str, reason: str) -> None:
    facts: dict[str, Any] = {"outcome": outcome, "reasons": [reason], "evidence": GATE}
    one.note("gate", "done", facts=facts)
