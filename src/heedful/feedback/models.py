"""Models as labelers: accounts that are marked as models, what they get to judge, and how far they agree with people.

A model never counts as a person. Its judgements fill no queue and enter no measure of people's work. A snapshot takes
them only if it is asked to. The name of its account ends with a mark, so that every page and every row shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.config import UserError
from heedful.feedback import names, people, readings
from heedful.feedback.assignment import FINISHED
from heedful.feedback.columns import printable
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.quality.types import preferences
from heedful.feedback.schema import WORK, Assignment, Item, Kind, Membership, Person
from heedful.maths.statistics import Interval, ends, rate_interval

JUDGED: tuple[Kind, ...] = ("ranking", "choice")
"""What models judge. Demonstrations and prompts are people's."""


@dataclass(frozen=True)
class ModelAgreement:
    """How often a model prefers the answer that people prefer. Each pair of answers and person counts, without ties."""

    name: str
    model: str
    rate: Interval | None
    """With its interval over items. None: people judged none of the same pairs of answers."""
    items: int
    ties: int
    """Pairs of answers that the model or the person ties."""

    def line(self) -> str:
        """A line for people."""
        if self.rate is None:
            return f"{self.name}: people judged none of the same answers"
        tied = f", {self.ties} more with a tie" if self.ties else ""
        return (
            f"{self.name} and people prefer the same answer in {self.rate.mean:.1%} of {self.rate.n} cases "
            f"({ends(self.rate)}) on {self.items} items{tied}"
        )


def add(
    db: Session, project_id: int, name: str, model: str, now: datetime, *, by: int | None
) -> tuple[Person, int, str]:
    """Create the account of a model in a project. Returns the account, and the number and the secret of its token."""
    name = f"{name.strip().removesuffix(names.MODEL).strip()} {names.MODEL}"
    model = " ".join(printable(model, 500).split())
    if not model:
        raise UserError("model: name the model that will judge, as its endpoint does")
    name = names.checked(name, of_model=True)
    others = list(db.scalars(sa.select(Person.name).where(Person.deleted.is_(None))))
    if names.look_alike(name, others):
        raise UserError(f"{name}: this name is taken, or looks like another one. Choose another")
    person = Person(name=name, password_hash=None, admin=False, created=now, model=model)
    db.add(person)
    db.flush()
    people.join(db, project_id, person.id, "labeler", now, phase="work")
    people.audit(db, by, "add model", f"person {person.id}", {"model": model}, project_id, now=now)
    token, secret = people.new_token(db, person.id, "api", now, name="heedful labeler")
    return person, token.id, secret


def is_model(db: Session, person_id: int) -> bool:
    """Whether an account is a model's."""
    return db.get_one(Person, person_id).model is not None


def choose(
    db: Session, member: Membership, kinds: Sequence[Kind], settings: ProjectSettings, now: datetime
) -> Item | None:
    """The next item for a model: of the training items of its kinds, those first that people have judged.

    So its agreement with people is known early. It does not matter whether people still judge the item.
    """
    had = sa.exists().where(
        Assignment.item_id == Item.id, Assignment.person_id == member.person_id,
        (Assignment.expires > now) | Assignment.state.in_(FINISHED),
    )  # fmt: skip
    chosen = sa.select(Item).where(
        Item.project_id == member.project_id, Item.purpose == "train", Item.kind.in_([*set(kinds) & set(JUDGED)]),
        Item.held.is_(None), Item.redacted.is_(None), ~had,
    )  # fmt: skip
    order = (Item.priority.desc(), Item.taken.desc(), Item.rank, Item.id)
    return db.scalar(chosen.order_by(*order).limit(1).options(undefer(Item.payload)))


def agreement(db: Session, project_id: int) -> list[ModelAgreement]:
    """How far each model of a project agrees with people, by the name of its account."""
    said: dict[int, list[tuple[str | None, dict[tuple[int, int], int]]]] = defaultdict(list)
    accounts: dict[str, str] = {}
    for row in db.execute(readings.standing(project_id, JUDGED, WORK, "both")):
        name = row.labeler if row.model is not None else None
        said[row.item_id].append((name, preferences(readings.ranking(row.kind, row.content))))
        accounts |= {row.labeler: row.model} if row.model is not None else {}
    return [_of_model(name, accounts[name], said) for name in sorted(accounts)]


def _of_model(
    name: str, model: str, said: dict[int, list[tuple[str | None, dict[tuple[int, int], int]]]]
) -> ModelAgreement:
    outcomes: list[float] = []
    items: list[int] = []
    ties = 0
    for item, judged in said.items():
        ours = [sides for by, sides in judged if by == name]
        for sides in (one for by, one in judged if by is None and ours):
            for pair, side in sides.items():
                if side and ours[0][pair]:
                    outcomes.append(float(side == ours[0][pair]))
                    items.append(item)
                else:
                    ties += 1
    return ModelAgreement(name, model, rate_interval(outcomes, items) if outcomes else None, len(set(items)), ties)
