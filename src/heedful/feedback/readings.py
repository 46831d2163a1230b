"""Standing judgements as the plain values that `quality` computes with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from heedful.feedback.quality.screening import Onboarding
from heedful.feedback.quality.types import Judgement, Written
from heedful.feedback.schema import Purpose


def judgements(
    db: Session,
    project_id: int,
    *,
    purposes: Sequence[Purpose] = ("train", "evaluate", "gold", "attention"),
    person_id: int | None = None,
    since: datetime | None = None,
    item_id: int | None = None,
) -> list[Judgement]:
    """Standing rankings and choices for `quality`, in indices; `labeler` is the name, `item` the ref."""
    raise NotImplementedError


def written(
    db: Session,
    project_id: int,
    *,
    purposes: Sequence[Purpose] = ("train", "evaluate", "gold", "attention"),
    person_id: int | None = None,
) -> list[Written]:
    """Standing demonstrations for `quality`, beside what models answered to the same prompt in this project."""
    raise NotImplementedError


def onboarding(db: Session, project_id: int, person_id: int) -> Onboarding:
    """A candidate's screening work (D7).

    Flags: an answer counts as sensitive where its rating says sexual, violent, encourages_harm, denigrates or
    harmful_advice, compared with the gold ratings. Demonstrations: as rated by leads (`rate`).
    """
    raise NotImplementedError


def unrated(db: Session, project_id: int, person_id: int) -> list[tuple[int, str, str]]:
    """(event, prompt, completion) of screening demonstrations that this lead has not rated; nothing says whose."""
    raise NotImplementedError


def rate(db: Session, project_id: int, event_id: int, rating: int, now: datetime, *, by: int) -> None:
    """Rate a screening demonstration, 1-7."""
    raise NotImplementedError
