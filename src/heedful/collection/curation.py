"""From stored exchanges to the labelling queue, one decision a step.

    text      whether labelers can answer it           repeat    shares its first characters with an earlier prompt
    split     by user, for ever                        limit     its user has enough prompts in the queue
    personal  personal data is hidden                  language  of a list, or unknown
    use_case  a suggestion

Every decision is stored with its reason. A lead can reverse each but the split, and the queue follows (`settle`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import Session, undefer

from heedful.collection import detectors, edits, users
from heedful.collection.language import language
from heedful.collection.settings import QueueConfig
from heedful.collection.use_cases import suggest
from heedful.config import UserError, explain
from heedful.data import curation as rules
from heedful.data.records import Prompt
from heedful.data.text import counted
from heedful.feedback import items, people
from heedful.feedback.collected import CurationStep, Decision, Exchange, Origin, ServedUser
from heedful.feedback.schema import Item
from heedful.feedback.store import Store

BATCH = 200
OUT = "left out by curation"
SOURCE = "users"
STEPS: tuple[CurationStep, ...] = ("text", "split", "repeat", "limit", "personal", "language", "use_case", "edit")


@dataclass(frozen=True)
class Curated:
    """What a run of curation did: exchanges, items that entered the queue, and decisions by step and outcome."""

    exchanges: int
    queued: int
    decisions: dict[str, int]


def curate(store: Store, project_id: int, config: QueueConfig, now: datetime, *, by: int | None) -> Curated:
    """Decide about every exchange that this project has not seen, and fill its queue. People can work meanwhile."""
    find = detectors.finders(config.regions, config.detectors)
    language("test", tuple(config.languages), config.confidence)  # what is wrong with the list shows before any work
    counted: Counter[str] = Counter()
    seen = queued = 0
    with store.writing() as db:
        _hash_again(db, config.prefix_length)
    while True:
        with store.writing() as db:
            fresh = _fresh(db, project_id)
            for exchange in fresh:
                made = _decide(db, project_id, exchange, config, find, now)
                db.add_all(made)
                db.flush()
                queued += settle(db, project_id, exchange, now, by=by)
                counted.update(f"{one.step}: {one.outcome}" for one in made)
            seen += len(fresh)
            if not fresh:
                people.audit(db, by, "curate", "queue", {"exchanges": seen, "queued": queued}, project_id, now=now)
                return Curated(seen, queued, dict(sorted(counted.items())))


def reverse(db: Session, project_id: int, decision_id: int, now: datetime, *, by: int, back: bool = False) -> None:
    """Reverse a decision, or (`back`) let it stand again. The queue follows. Logged. UserError if it cannot be."""
    decision = db.get(Decision, decision_id)
    if decision is None or decision.project_id != project_id:
        raise UserError(f"decision {decision_id}: not in this project")
    if decision.step == "split":
        raise UserError("the split of a user stays: what evaluates must never have trained")
    if decision.step == "text":
        raise UserError("labelers cannot answer this prompt")
    if (decision.reversed is None) == back:
        raise UserError("this decision stands already" if back else "this decision is reversed already")
    if decision.step == "edit" and back:
        raise UserError("the edit waits for a decision again. Accept or decline it")
    decision.reversed, decision.reversed_by = (None, None) if back else (now, by)
    db.flush()
    if decision.step == "edit":
        edits.withdraw(db, project_id, decision, now, by=by)
    else:
        known = _is_known(db, decision)
        settle(db, project_id, db.get_one(Exchange, decision.exchange_id), now, by=by)
        if _is_known(db, decision) and (decision.step == "repeat" or not known):
            raise UserError("the queue has this text already")
    action = "restore decision" if back else "reverse decision"
    people.audit(db, by, action, f"decision {decision_id}", {"step": decision.step}, project_id, now=now)


def settle(db: Session, project_id: int, exchange: Exchange, now: datetime, *, by: int | None) -> int:
    """Make the queue fit the decisions about an exchange. Returns how many items entered it."""
    chosen = sa.select(Decision).where(Decision.project_id == project_id, Decision.exchange_id == exchange.id)
    made = {one.step: one for one in db.scalars(chosen)}
    wanted = None if any(one.drops and one.reversed is None for one in made.values()) else _record(exchange, made)
    there = sa.select(Item).join(Origin, Origin.item_id == Item.id)
    there = there.where(Origin.exchange_id == exchange.id, Item.project_id == project_id, Item.redacted.is_(None))
    earlier = list(db.scalars(there.where(Item.kind == "demonstration", Item.source == SOURCE).options(undefer("*"))))
    for item in earlier:
        fits = wanted is not None and item.payload == wanted.row()
        if fits and item.held == OUT:
            items.change(db, project_id, item.ref, now, by=by, held="")
        elif not fits and item.held is None:
            items.change(db, project_id, item.ref, now, by=by, held=OUT)
        wanted = None if fits else wanted
    if wanted is None:
        return 0
    added = items.add(
        db, project_id, "demonstration", [wanted], now, by=by, source=SOURCE, again=bool(earlier), logged=False
    )
    for ref in added.refs:
        item_id = db.scalar(sa.select(Item.id).where(Item.ref == ref))
        db.add(Origin(item_id=item_id, user_id=exchange.user_id, exchange_id=exchange.id, answer=0))
    if not added.refs:
        repeat = made["repeat"]
        repeat.outcome, repeat.drops, repeat.why = "known", True, "the queue has this text already"
        repeat.reversed = repeat.reversed_by = None
    db.flush()
    return len(added.refs)


def _is_known(db: Session, decision: Decision) -> bool:
    """Whether the exchange of a decision is out because the queue has its text from elsewhere."""
    chosen = sa.select(Decision.outcome).where(
        Decision.project_id == decision.project_id, Decision.exchange_id == decision.exchange_id,
        Decision.step == "repeat", Decision.reversed.is_(None),
    )  # fmt: skip
    return db.scalar(chosen) == "known"


def counts(db: Session, project_id: int) -> list[tuple[CurationStep, str, bool, int, int]]:
    """(step, outcome, whether it keeps prompts out, decisions, of these reversed), in the order of the steps."""
    columns = (Decision.step, Decision.outcome, Decision.drops)
    chosen = sa.select(*columns, sa.func.count(), sa.func.count(Decision.reversed)).group_by(*columns)
    found = [
        (row[0], row[1], row[2], row[3], row[4]) for row in db.execute(chosen.where(Decision.project_id == project_id))
    ]
    return sorted(found, key=lambda row: (STEPS.index(row[0]), not row[2], -row[3], row[1]))


def listing(
    db: Session, project_id: int, *, step: CurationStep | None = None, outcome: str | None = None,
    before: int | None = None, limit: int = 50, changed: bool = False,
) -> list[tuple[Decision, Exchange]]:  # fmt: skip
    """Decisions with their exchanges, the newest first. `before`: an id, for the next page.

    `changed`: only those that kept a prompt out or changed its text, those about edits, and those that were reversed.
    The split is left out: nobody can reverse it.
    """
    chosen = sa.select(Decision, Exchange).join(Exchange, Exchange.id == Decision.exchange_id)
    chosen = chosen.where(Decision.project_id == project_id)
    for column, value in ((Decision.step, step), (Decision.outcome, outcome)):
        if value is not None:
            chosen = chosen.where(column == value)
    if changed:
        told = sa.or_(
            Decision.drops, Decision.outcome == "hidden", Decision.step == "edit", Decision.reversed.is_not(None)
        )
        chosen = chosen.where(told, Decision.step != "split")
    if before is not None:
        chosen = chosen.where(Decision.id < before)
    found = db.execute(chosen.order_by(Decision.id.desc()).limit(limit))
    return [(decision, exchange) for decision, exchange in found]


def masked(db: Session, project_id: int, exchange_ids: Sequence[str]) -> dict[str, Any]:
    """The prompts of exchanges with personal data hidden, as labelers see them."""
    chosen = sa.select(Decision.exchange_id, Decision.result).where(
        Decision.project_id == project_id, Decision.step == "personal", Decision.exchange_id.in_(exchange_ids)
    )
    return {name: result["prompt"] for name, result in db.execute(chosen)}


def _fresh(db: Session, project_id: int) -> list[Exchange]:
    """The oldest exchanges that the project has not seen."""
    seen = sa.select(Decision.id).where(Decision.project_id == project_id, Decision.exchange_id == Exchange.id)
    chosen = sa.select(Exchange).where(~seen.exists()).order_by(Exchange.started, Exchange.id).limit(BATCH)
    return list(db.scalars(chosen))


def _decide(
    db: Session, project_id: int, exchange: Exchange, config: QueueConfig, find: Sequence[detectors.Finder],
    now: datetime,
) -> list[Decision]:  # fmt: skip
    made: list[Decision] = []

    def decide(step: CurationStep, outcome: str, why: str, *, drops: bool = False, result: Any = None) -> None:
        shared = {"project_id": project_id, "exchange_id": exchange.id, "user_id": exchange.user_id, "when": now}
        made.append(Decision(**shared, step=step, outcome=outcome, drops=drops, why=why, result=result))

    try:
        prompt = Prompt.model_validate({"prompt": exchange.prompt})
    except ValidationError as error:
        decide("text", "unfit", f"labelers cannot answer it: {explain(error, Prompt)}", drops=True)
        return made
    split = _split(db, exchange.user_id, config, now)
    why = "its user trains" if split == "train" else "its user is held out: their prompts evaluate, and never train"
    decide("split", split, why, drops=split != "train")
    known = _repeats(db, project_id, exchange, prompt, config.prefix_length)
    why = f"shares its first {config.prefix_length} characters with an earlier prompt" if known else "it is new"
    decide("repeat", "repeat" if known else "new", why, drops=known)
    count = _in_queue(db, project_id, exchange.user_id)
    over = not known and split == "train" and count >= config.prompts_per_user
    most = config.prompts_per_user
    why = f"its user has {counted(count, 'prompts')} in the queue, and {most} {'is' if most == 1 else 'are'} the most"
    decide("limit", "over" if over else "within", why, drops=over)
    hidden, kinds = _masked(prompt, find)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    decide(
        "personal", "hidden" if kinds else "none", f"hidden: {told}" if kinds else "no personal data was found",
        result={"prompt": hidden, "found": dict(kinds)},
    )  # fmt: skip
    asked = _asked(prompt)
    name, share = language(asked[-1], tuple(config.languages), config.confidence)
    foreign = bool(config.queue_languages) and name not in config.queue_languages
    decide("language", name, f"confidence {share:.2f}", drops=foreign, result={"confidence": share})
    decide("use_case", suggest(asked[-1], len(asked)), "suggested by its words")
    return made


def _split(db: Session, user_id: int, config: QueueConfig, now: datetime) -> str:
    """The split of a user, drawn if it is new. Every split but `train` is held out."""
    user = db.get_one(ServedUser, user_id)
    if user.split is None:
        name = rules.split_of(f"user\0{users.name_of(db, user_id)}", config.fractions, config.seed)
        user.split = "train" if name == "train" else "held_out"
    return user.split


def _hash_again(db: Session, length: int) -> None:
    """Make the hashes of an earlier run fit another prefix length."""
    chosen = sa.select(Exchange).where(Exchange.prefix.is_not(None), Exchange.prefix.not_like(f"{length}:%"))
    for exchange in db.scalars(chosen.execution_options(yield_per=BATCH)):
        exchange.prefix = _prefix(Prompt.model_validate({"prompt": exchange.prompt}), length)


def _prefix(prompt: Prompt, length: int) -> str:
    text = rules.normal(prompt)[:length]
    return f"{length}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _repeats(db: Session, project_id: int, exchange: Exchange, prompt: Prompt, length: int) -> bool:
    """Whether an earlier exchange of the project begins in the same way. Notes the hash of this one."""
    exchange.prefix = _prefix(prompt, length)
    db.flush()
    chosen = sa.select(Exchange.id).join(Decision, Decision.exchange_id == Exchange.id)
    chosen = chosen.where(Exchange.prefix == exchange.prefix, Decision.project_id == project_id)
    return db.scalar(chosen.where(Exchange.id != exchange.id).limit(1)) is not None


def _in_queue(db: Session, project_id: int, user_id: int) -> int:
    """Number of items that the queue has of a user, without those that curation left out again."""
    chosen = sa.select(sa.func.count()).select_from(Origin).join(Item, Item.id == Origin.item_id)
    chosen = chosen.where(Origin.user_id == user_id, Item.project_id == project_id, Item.source == SOURCE)
    return db.scalar(chosen.where(sa.or_(Item.held.is_(None), Item.held != OUT))) or 0


def _masked(prompt: Prompt, find: Sequence[detectors.Finder]) -> tuple[Any, Counter[str]]:
    """The prompt with personal data hidden in each message, and how much of each kind."""
    if isinstance(prompt.prompt, str):
        return detectors.mask(prompt.prompt, find)
    kinds: Counter[str] = Counter()
    turns = []
    for message in prompt.prompt:
        text, found = detectors.mask(message.text, find)
        turns.append(message.row() | ({"content": text} if message.content is not None else {}))
        kinds += found
    return turns, kinds


def _asked(prompt: Prompt) -> list[str]:
    """What the user said, turn by turn."""
    if isinstance(prompt.prompt, str):
        return [prompt.prompt]
    return [message.text for message in prompt.prompt if message.role == "user"] or [""]


def _record(exchange: Exchange, made: dict[CurationStep, Decision]) -> Prompt:
    """The prompt as it enters the queue. Its user has a number there, and no name."""
    personal, use_case = made["personal"], made["use_case"]
    prompt = personal.result["prompt"] if personal.reversed is None else exchange.prompt
    told = {
        "user": f"user-{exchange.user_id}",
        "split": "train",
        "source": SOURCE,
        "language": made["language"].outcome,
    }
    if use_case.reversed is None:
        told["use_case"] = use_case.outcome
    return Prompt.model_validate({"prompt": prompt, **told})
