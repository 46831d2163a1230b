"""The lead's page of users: what curation decided about their prompts, and their edits."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.collection import curation, detectors, edits
from heedful.data.records import Prompt, as_text
from heedful.feedback.collected import CurationStep
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsReader, Stored
from heedful.web.text import sanitise

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
PAGE = 30
EXCERPT = 300  # characters
MOST_EDITS = 20


@router.get("/users")
def users(
    request: Request,
    member: AsReader,
    store: Stored,
    step: str = "",
    outcome: str = "",
    before: str = "",
    all: str = "",
) -> Response:
    """Decisions with counts, and edits that wait for a lead. Without a step or `all`, those that changed something."""
    changed = not step and not all
    chosen: CurationStep | None = step if step in get_args(CurationStep) else None  # type: ignore[assignment]
    last = int(before) if before.isdecimal() and len(before) < 18 else None
    with store.reading() as db:
        found = curation.listing(
            db, member.project_id, step=chosen, outcome=outcome or None, before=last, limit=PAGE + 1, changed=changed
        )  # fmt: skip
        told = curation.counts(db, member.project_id)
        hidden = curation.masked(db, member.project_id, [exchange.id for _, exchange in found])
        waiting = edits.pending(db, member.project_id, detectors.usual(), limit=MOST_EDITS + 1)
    rows = [
        (one, _excerpt(hidden.get(exchange.id)), _excerpt(exchange.prompt) if one.step == "personal" else "")
        for one, exchange in found[:PAGE]
    ]
    return lead_page(
        request,
        "users",
        counts=told,
        rows=rows,
        step=step,
        outcome=outcome,
        changed=changed,
        next=rows[-1][0].id if len(found) > PAGE else None,
        edits=[(one, _words(one.prompt)) for one in waiting[:MOST_EDITS]],
        more_edits=len(waiting) > MOST_EDITS,
    )


def _words(prompt: object) -> str:
    return as_text(Prompt.model_validate({"prompt": prompt}).prompt)


def _excerpt(prompt: object) -> str:
    if prompt is None:
        return ""
    text = " ".join(_words(prompt)[-2 * EXCERPT :].split())  # of a chat, the end is what was asked
    return str(sanitise.plain(text[-EXCERPT:]))
