"""The API of what users of served models sent: curation's decisions, and edits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from heedful.collection import curation, detectors, edits
from heedful.feedback.collected import CurationStep
from heedful.web.api.base import Body, Out
from heedful.web.security.access import AsLead, AsReader, Id, Now, Stored

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])


class Decision(Out):
    id: int
    exchange_id: str
    user: str
    """A number in place of a name."""
    step: str
    outcome: str
    drops: bool
    """Whether it keeps the prompt out of the queue."""
    why: str
    when: datetime
    reversed: datetime | None
    prompt: Any
    """With personal data hidden."""


class Decisions(Out):
    counts: list[dict[str, Any]]
    decisions: list[Decision]


class EditDecision(Body):
    accept: bool


@router.get("/decisions")
def decisions(
    member: AsReader,
    store: Stored,
    step: CurationStep | None = None,
    outcome: Annotated[str | None, Query(max_length=40)] = None,
    before: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Decisions:
    """What curation decided about users' prompts, with counts, newest first."""
    with store.reading() as db:
        found = curation.listing(db, member.project_id, step=step, outcome=outcome, before=before, limit=limit)
        told = curation.counts(db, member.project_id)
        hidden = curation.masked(db, member.project_id, [exchange.id for _, exchange in found])
    names = ("step", "outcome", "drops", "decisions", "reversed")
    return Decisions(
        counts=[dict(zip(names, row, strict=True)) for row in told],
        decisions=[_decision(one, hidden.get(exchange.id)) for one, exchange in found],
    )


@router.post("/decisions/{decision_id}/reverse", status_code=204)
def reverse(member: AsLead, store: Stored, now: Now, decision_id: Id) -> None:
    """Reverse a decision of curation."""
    with store.writing() as db:
        curation.reverse(db, member.project_id, decision_id, now, by=member.person.id)


@router.post("/decisions/{decision_id}/restore", status_code=204)
def restore(member: AsLead, store: Stored, now: Now, decision_id: Id) -> None:
    """Let a reversed decision stand again."""
    with store.writing() as db:
        curation.reverse(db, member.project_id, decision_id, now, by=member.person.id, back=True)


@router.post("/edits/{exchange_id}", status_code=204)
def decide_edit(member: AsLead, store: Stored, now: Now, exchange_id: str, body: EditDecision) -> None:
    """Accept a user's edit as a demonstration, or decline it."""
    with store.writing() as db:
        edits.decide(
            db, member.project_id, exchange_id, body.accept, now, by=member.person.id, find=detectors.usual()
        )  # fmt: skip


def _decision(one: Any, prompt: Any) -> Decision:
    fields = ("id", "exchange_id", "step", "outcome", "drops", "why", "when", "reversed")
    return Decision(
        **{name: getattr(one, name) for name in fields}, user=f"user-{one.user_id}", prompt=prompt
    )  # fmt: skip
