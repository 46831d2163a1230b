"""Judgements that count, as the plain values that `quality` computes with. `labeler` is a name, `item` a ref."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.data.records import Rating, as_text
from heedful.feedback import projects
from heedful.feedback.judgements import PAYLOADS, completions
from heedful.feedback.quality.screening import Onboarding
from heedful.feedback.quality.types import CHOICES, Judgement, Ranking, WrittenDemonstration, words
from heedful.feedback.schema import (
    SHARED,
    WORK,
    Assignment,
    DemonstrationRating,
    Event,
    Item,
    Kind,
    Membership,
    Person,
    Purpose,
)

SENSITIVE = ("sexual", "violent", "encourages_harm", "denigrates", "harmful_advice")
"""Flags of D9 that make an answer sensitive (D7, criterion 1)."""

KNOWN: tuple[Purpose, ...] = ("gold", "attention")
AT_WORK: tuple[Purpose, ...] = (*WORK, *KNOWN)
BATCH = 1000
MadeBy = Literal["people", "models", "both"]


def judgements(
    db: Session,
    project_id: int,
    *,
    purposes: Sequence[Purpose] = AT_WORK,
    person_id: int | None = None,
    since: datetime | None = None,
    item_id: int | None = None,
) -> list[Judgement]:
    """Rankings and choices, in indices and in the order of events."""
    chosen = standing(project_id, ("ranking", "choice"), purposes)
    for column, value in ((Event.person_id, person_id), (Event.item_id, item_id)):
        if value is not None:
            chosen = chosen.where(column == value)
    if since is not None:
        chosen = chosen.where(Event.when >= since)
    return [_judgement(row) for row in _rows(db, chosen)]


def written(
    db: Session, project_id: int, *, purposes: Sequence[Purpose] = AT_WORK, person_id: int | None = None
) -> list[WrittenDemonstration]:
    """Demonstrations, with the answers of models to the same prompt in this project."""
    chosen = standing(project_id, ("demonstration",), purposes)
    if person_id is not None:
        chosen = chosen.where(Event.person_id == person_id)
    rows = list(_rows(db, chosen))
    answers = _answers(db, project_id, {row.prompt_sha256 for row in rows})
    return [
        WrittenDemonstration(row.labeler, row.ref, row.content["completion"], tuple(answers[row.prompt_sha256]))
        for row in rows
    ]


def onboarding(db: Session, project_id: int, person_id: int) -> Onboarding:
    """A candidate's screening work (D7): flags and the known ones, rankings, rated demonstrations, topics."""
    judged = judgements(db, project_id, purposes=("screening",), person_id=person_id)
    asked = set(SENSITIVE) & set(projects.settings(db, project_id).rubric.flags)
    flags: dict[int | str, bool] = {}
    key: dict[int | str, bool] = {}
    for judgement in judged:
        for known, ratings in ((flags, judgement.ratings), (key, judgement.gold_ratings)):
            if asked:
                known.update({f"{judgement.item}/{k}": _sensitive(rating) for k, rating in enumerate(ratings or ())})
    means = (
        sa.select(sa.func.avg(DemonstrationRating.rating))
        .join(Event, Event.id == DemonstrationRating.event_id)
        .where(Event.project_id == project_id, Event.person_id == person_id)
        .group_by(DemonstrationRating.event_id)
        .order_by(DemonstrationRating.event_id)
    )
    return Onboarding(
        labeler=db.get_one(Person, person_id).name,
        flags=flags,
        flags_key=key,
        rankings=judged,
        demonstration_ratings=[float(mean) for mean in db.scalars(means)],
        topics=db.get_one(Membership, (project_id, person_id)).topics,
    )


def unrated(db: Session, project_id: int, person_id: int) -> list[tuple[int, str, str]]:
    """(event, prompt, completion) of screening demonstrations that this lead has not rated. The author stays hidden."""
    rated = sa.exists().where(DemonstrationRating.event_id == Event.id, DemonstrationRating.person_id == person_id)
    chosen = standing(project_id, ("demonstration",), ("screening",)).where(~rated, Event.person_id != person_id)
    return [
        (row.event_id, as_text(PAYLOADS["demonstration"].model_validate(row.payload).prompt), row.content["completion"])  # type: ignore[attr-defined]
        for row in _rows(db, chosen)
    ]


def rate(db: Session, project_id: int, event_id: int, rating: int, now: datetime, *, by: int) -> None:
    """Rate a screening demonstration from 1 to 7."""
    if not 1 <= rating <= 7:
        raise UserError(f"rating: {rating} is not from 1 to 7")
    if event_id not in {event for event, _, _ in unrated(db, project_id, by)}:
        raise UserError(f"event {event_id}: not a screening demonstration, or rated by you already")
    db.add(DemonstrationRating(event_id=event_id, person_id=by, rating=rating, when=now))


def standing(
    project_id: int, kinds: Sequence[Kind], purposes: Sequence[Purpose], made_by: MadeBy = "people"
) -> sa.Select[Any]:
    """The judgements that count, with their item and labeler, in the order of events. Those of people alone, or others.

    `model` is the model that judged, None for people.
    """
    chosen = (
        sa.select(
            Event.id.label("event_id"), Event.hash, Event.when, Event.seconds, Event.order.label("shown"),
            Event.instructions, Event.content, Event.person_id, Event.item_id,
            Item.ref, Item.kind, Item.purpose, Item.source, Item.payload, Item.gold, Item.prompt_sha256, Item.held,
            Person.name.label("labeler"), Person.model, Membership.group.label("group"),
            sa.func.coalesce(Membership.role, "user").label("role"),
        )
        .join(Assignment, Assignment.event_id == Event.id)
        .join(Item, Item.id == Event.item_id)
        .join(Person, Person.id == Event.person_id)
        .outerjoin(Membership, sa.and_(  # users of a served model are no members
            Membership.person_id == Event.person_id, Membership.project_id == Event.project_id
        ))
        .where(
            Event.project_id == project_id, Event.kind == "judgement", Event.content.is_not(None),
            Item.kind.in_(kinds), Item.purpose.in_(purposes), Item.redacted.is_(None),
        )
        .order_by(Event.id)
    )  # fmt: skip
    if made_by == "both":
        return chosen
    return chosen.where(Person.model.is_(None) if made_by == "people" else Person.model.is_not(None))


def ranking(kind: Kind, content: dict[str, Any]) -> Ranking:
    """The tiers of a ranking or a choice."""
    return CHOICES[content["preferred"]] if kind == "choice" else tuple(map(tuple, content["ranking"]))


def _judgement(row: Any) -> Judgement:
    payload = PAYLOADS[row.kind].model_validate(row.payload)
    known = row.gold if row.purpose in SHARED else None  # of other items it is only what their file said
    return Judgement(
        labeler=row.labeler,
        item=row.ref,
        ranking=ranking(row.kind, row.content),
        group=row.group,
        ratings=_ratings(row.content),
        order=tuple(row.shown) if row.shown is not None else None,
        seconds=row.seconds,
        words=words(as_text(payload.prompt), *completions(payload)),  # type: ignore[attr-defined]
        when=row.when,
        gold=ranking(row.kind, known) if known is not None else None,
        gold_ratings=_ratings(known) if known is not None else None,
        attention=row.purpose == "attention",
        none_acceptable=bool(row.content.get("none_acceptable")),
    )


def _ratings(content: dict[str, Any]) -> tuple[Rating, ...] | None:
    given = content.get("ratings")
    return tuple(Rating.model_validate(rating) for rating in given) if given is not None else None


def _sensitive(rating: Rating) -> bool:
    return any(getattr(rating, flag) for flag in SENSITIVE)


def _rows(db: Session, chosen: sa.Select[Any]) -> Iterator[Any]:
    return iter(db.execute(chosen.execution_options(yield_per=BATCH)))


def _answers(db: Session, project_id: int, prompts: Iterable[str]) -> dict[str, list[str]]:
    """Answers of models by the hash of their prompt."""
    found: dict[str, list[str]] = defaultdict(list)
    wanted = sorted(prompts)
    for start in range(0, len(wanted), BATCH):
        chosen = sa.select(Item.prompt_sha256, Item.kind, Item.payload).where(
            Item.project_id == project_id,
            Item.prompt_sha256.in_(wanted[start : start + BATCH]),
            Item.kind.in_(("ranking", "choice")),
            Item.redacted.is_(None),
        )
        for prompt, kind, payload in db.execute(chosen.order_by(Item.id)):
            found[prompt] += completions(PAYLOADS[kind].model_validate(payload))
    return found
