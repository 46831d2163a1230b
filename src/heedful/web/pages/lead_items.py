"""The lead's pages of items: import, the list, and each item's history."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.data import formats
from heedful.data.records import Prompt
from heedful.feedback import events, items, projects, readings
from heedful.feedback.judgements import PAYLOADS, PromptRequest, completions
from heedful.feedback.quality import combine
from heedful.feedback.schema import KINDS, PURPOSES, Item, Kind, Purpose
from heedful.web.imports import ImportOptions
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsLead, AsReader, Settings, Stored, item_of
from heedful.web.text import sanitise

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
PAGE = 40
EXCERPT = 220  # characters


@router.get("/import")
def import_page(request: Request, member: AsLead, settings: Settings) -> Response:
    """The form for a file."""
    endings = sorted({f".{ending.rpartition('.')[2]}" for ending in formats.READABLE})  # browsers know no double ones
    return lead_page(request, "import", settings=settings, options=ImportOptions(), endings=endings)


@router.get("/items")
def listing(
    request: Request,
    member: AsReader,
    store: Stored,
    kind: str = "",
    purpose: str = "",
    state: str = "",
    before: str = "",
) -> Response:
    """The items, newest first, with filters."""
    chosen_kind: Kind | None = kind if kind in KINDS else None
    chosen_purpose: Purpose | None = purpose if purpose in PURPOSES else None
    with store.reading() as db:
        last = item_of(db, member, before).id if before else None
        found = items.listing(
            db,
            member.project_id,
            kind=chosen_kind,
            purpose=chosen_purpose,
            open={"open": True, "done": False}.get(state),
            held=True if state == "held" else None,
            before=last,
            limit=PAGE + 1,
        )
        rows = [(item, _excerpt(item)) for item in found[:PAGE]]
    return lead_page(
        request,
        "items",
        rows=rows,
        kind=kind,
        purpose=purpose,
        state=state,
        next=rows[-1][0].ref if len(found) > PAGE else "",
        kinds=KINDS,
        purposes=PURPOSES,
    )


@router.get("/items/{ref}")
def item(request: Request, member: AsReader, store: Stored, ref: str) -> Response:
    """An item, its history, and what a lead can change."""
    with store.reading() as db:
        found = item_of(db, member, ref)
        told = events.of_item(db, found.id)
        # of a redacted item, only the history is left
        payload = None if found.redacted else PAYLOADS[found.kind].model_validate(found.payload)
        judged = readings.judgements(db, member.project_id, purposes=PURPOSES, item_id=found.id)
        return lead_page(
            request,
            "item",
            item=found,
            prompt=payload.prompt if isinstance(payload, Prompt) else "",
            asks=payload if isinstance(payload, PromptRequest) else None,
            answers=_answers(found, completions(payload)) if payload else [],
            told=told,
            standing=sum(one.stands for one in told),
            combined=combine.of_item(judged),
            gold=found.gold,
            explanation=found.explanation,
            rubric=projects.settings(db, member.project_id).rubric,
        )


def _excerpt(item: Item) -> str:
    prompt = item.payload.get("prompt")
    if prompt is None:
        return " ".join(str(part) for part in (item.payload.get("form"), item.payload.get("use_case")) if part)
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return str(sanitise.plain(" ".join(text[: 2 * EXCERPT].split())[:EXCERPT]))


def _answers(item: Item, texts: list[str]) -> list[dict[str, Any]]:
    """Completions in the item's own order, with model and scores."""
    payload = item.payload
    models = payload.get("models") or [payload.get(side, {}).get("model") for side in ("a", "b") if side in payload]
    return [
        {
            "text": text,
            "model": models[k] if k < len(models) else None,
            "scores": {name: values[k] for name, values in (item.scores or {}).items()},
        }
        for k, text in enumerate(texts)
    ]
