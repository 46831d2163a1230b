"""Which prompts of users a round and its gate take: curated ones that no earlier round or gate has used.

Only text that its user agreed to keep is in the store. Curation has hidden personal data and drawn the split of users.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.collection.round_files import CHOSEN, SENT, pattern
from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.evaluation.answers import key
from heedful.feedback import projects
from heedful.feedback.collected import Decision, Exchange, ServedUser, Split
from heedful.maths.statistics import FEWEST
from heedful.rounds.state import ROUNDS, Round, Waiting

PROMPTS, GATE = CHOSEN


def fresh(db: Session, one: Round) -> list[Prompt]:
    """The oldest fresh prompts of training users, as many as the plan says. Raises Waiting."""
    wanted, found = one.plan.prompts, list(_unused(db, one, "train"))
    if len(found) < wanted:
        raise Waiting(f"{len(found):,} of {wanted:,} fresh prompts")
    return found[:wanted]


def for_gate(db: Session, one: Round) -> list[Prompt]:
    """Prompts of held-out users, as many as the gate needs. Users take turns. Raises Waiting."""
    wanted, by_user = one.gate_prompts, defaultdict(list)
    for prompt in _unused(db, one, "held_out"):
        by_user[prompt.user].append(prompt)
    count = sum(map(len, by_user.values()))
    if count < wanted:
        raise Waiting(
            f"{count:,} of {wanted:,} prompts of held-out users, so the gate is undecided. "
            f"About {wanted - count:,} more"
        )
    if len(by_user) < FEWEST:
        raise Waiting(f"{len(by_user)} of {FEWEST} held-out users, so the gate is undecided")
    turns = (prompts[turn] for turn in range(count) for prompts in by_user.values() if turn < len(prompts))
    return [prompt for prompt, _ in zip(turns, range(wanted), strict=False)]


def used(folder: Path) -> tuple[set[str], set[str]]:
    """Exchanges in rounds and gates so far, and the keys of their prompts."""
    paths = [path for name in CHOSEN for path in sorted((folder / ROUNDS).glob(f"*/{pattern(name)}"))]
    rows = [row for path in paths for row in formats.read(str(path), Prompt)]
    exchanges = {str(told["exchange"]) for row in rows if "exchange" in (told := row.model_extra or {})}
    return exchanges, {key(row.prompt) for row in rows}


def _unused(db: Session, one: Round, split: Split) -> Iterator[Prompt]:
    project = projects.by_name(db, one.plan.project)
    if project is None:
        raise UserError(f"project = {one.plan.project!r}: not in {one.db}. Name a project of the labelling app")
    exchanges, texts = used(one.folder)
    chosen = sa.select(Exchange).join(ServedUser, ServedUser.id == Exchange.user_id).where(ServedUser.split == split)
    for exchange in db.scalars(chosen.order_by(Exchange.started, Exchange.id)):
        made = _decisions(db, project.id, exchange.id)
        prompt = _record(exchange, made, split, one.source if split == "train" else one.gate_source)
        if exchange.id in exchanges or prompt is None or key(prompt.prompt) in texts:
            continue
        texts.add(key(prompt.prompt))
        yield prompt


def _decisions(db: Session, project_id: int, exchange_id: str) -> Sequence[Decision]:
    chosen = sa.select(Decision).where(Decision.project_id == project_id, Decision.exchange_id == exchange_id)
    return db.scalars(chosen).all()


def _record(exchange: Exchange, made: Sequence[Decision], split: Split, source: str) -> Prompt | None:
    """The prompt as curation made it, or None: curation leaves it out, or has not seen it."""
    standing: dict[str, Decision] = {one.step: one for one in made if one.reversed is None}
    if any(one.drops and not (one.step == "split" and split == "held_out") for one in standing.values()):
        return None
    if not any(one.step == "personal" for one in made):
        return None
    hidden: Any = standing["personal"].result["prompt"] if "personal" in standing else exchange.prompt
    told = {"prompt": hidden, "user": f"user-{exchange.user_id}", "split": split, "source": source}
    for name in ("language", "use_case"):
        told |= {name: standing[name].outcome} if name in standing else {}
    return Prompt.model_validate({**told, "exchange": exchange.id, SENT: exchange.started.isoformat()})
