"""The API of items: import, queue, history, known answers, redaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from heedful.config import IN_ADDRESS, UserError
from heedful.feedback import events, items, search
from heedful.feedback.schema import Item
from heedful.feedback.send_back import send_back
from heedful.web import import_preview, imports
from heedful.web.api import item_records, records
from heedful.web.imports import ImportOptions, ReadingOptions, Received
from heedful.web.pages import fragments
from heedful.web.sampling import redaction
from heedful.web.security.access import AsLead, AsReader, Id, Member, Now, Settings, Stored, WantsHtml, item_of

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])
MOST_PASTED = 64 * 1024 * 1024  # bytes of a pasted text
ROWS: dict[str, Any] = {"type": "string"}
FILES: dict[str, Any] = {
    "type": "object",
    "properties": {**{name: {"type": "string", "format": "binary"} for name in ("file", "baseline")}, "text": ROWS},
}
BODY = {
    "requestBody": {
        "content": {"application/x-ndjson": {"schema": ROWS}, "multipart/form-data": {"schema": FILES}},
        "required": True,
    }
}


async def received(
    request: Request,
    file: Annotated[str, Query(max_length=200, description="Its name: the ending tells the format.")] = "rows.jsonl",
    text_is: str = "",
) -> AsyncIterator[list[Received]]:
    """The body as one file, or the parts `file` and `baseline` of a form, or its part `text`."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        yield [Received(file, BytesIO(await request.body()))]
        return
    async with request.form(max_part_size=MOST_PASTED) as form:
        sent = [(name, one) for name, one in form.multi_items() if isinstance(one, UploadFile) and one.filename]
        for name, _ in sent:
            if name not in ("file", "baseline"):
                raise UserError(f"{name}: no such part. Call the file 'file', and a second one 'baseline'.")
        parts = sorted(sent, key=lambda one: one[0] != "file")
        files = [Received(one.filename or "", one.file) for _, one in parts]
        text = form.get("text")
        if isinstance(text, str) and text.strip():
            if files:
                raise UserError("There are a file and a pasted text. Remove one of them.")
            files = [imports.pasted(text, text_is)]
        if not files:
            raise UserError("Choose a file or paste a text first.")
        if len(files) > 2:
            raise UserError(f"There are {len(files)} files. Give one, or two files of answers to the same prompts.")
        if parts and parts[0][0] != "file":
            raise UserError("There is a second file but no first. Choose the other file of answers too.")
        yield files


Files = Annotated[list[Received], Depends(received)]


class ImportQuery(ImportOptions, ReadingOptions):
    """How a file becomes items, as the address says it."""

    model_config = IN_ADDRESS

    text_is: Literal["", "txt", "csv", "tsv", "jsonl"] = ""
    """What a pasted `text` is. Empty: as it looks."""
    file: str = Field("rows.jsonl", max_length=200)
    """Its name: the ending tells the format."""


Options = Annotated[ImportQuery, Query()]


@router.post("/items", openapi_extra=BODY)
def import_items(
    member: AsLead, store: Stored, settings: Settings, now: Now, files: Files, options: Options
) -> records.Imported:
    """Import a file or pasted text. Two files of answers become head-to-head items."""
    found = imports.read(settings.uploads, files, settings.text_chars, options)
    added = imports.add_rows(store, member.project_id, member.person.id, found.kind, found.rows, options, now)
    return records.Imported(**asdict(added), left_out=found.left_out)


@router.post("/items/preview", openapi_extra=BODY, response_model=records.ImportPreview)
def preview(
    member: AsLead, settings: Settings, files: Files, options: Options, html: WantsHtml
) -> records.ImportPreview | Response:
    """What an import would add, which fields it uses, and what curation would leave out. Nothing is stored."""
    found = import_preview.look(settings.uploads, files, settings.text_chars, options, options)
    if html:
        return fragments.import_preview(found, options)
    told = found.told.row() if found.told else {}
    return records.ImportPreview(
        **{name: told[name] for name in ("shapes", "unused", "refused", "refused_rows", "unjudged") if name in told},
        problem=found.problem,
        kind=found.rows.kind if found.rows else None,
        items=len(found.chosen),
        map=found.mapped,
        guessed=found.guessed,
        fields=told.get("fields", {}),
        left_out=found.rows.left_out if found.rows else [],
        first=[row.row() for row in found.chosen[: import_preview.FIRST_ROWS]],
        curation=found.report,
    )


@router.post("/prompt-requests")
def ask_for_prompts(member: AsLead, store: Stored, now: Now, body: records.PromptRequests) -> items.Added:
    """Add items that each ask a labeler for one prompt (D1)."""
    given = {"use_case": body.use_case, "about": body.about}
    with store.writing() as db:
        return items.ask_for_prompts(db, member.project_id, body.form, body.count, now, by=member.person.id, **given)


@router.post("/scores", openapi_extra=BODY)
def import_scores(
    member: AsLead,
    store: Stored,
    settings: Settings,
    files: Files,
    name: Annotated[str, Query(max_length=100, description="Of the reward model. Empty: the file's.")] = "",
) -> records.Scored:
    """Import a file of `heedful score`. Returns how many items it scored."""
    if len(files) > 1:
        raise UserError("There are two files. Give the scores of one reward model at a time.")
    with imports.on_disk(settings.uploads, files[0]) as path:
        scored = items.read_scores(path, imports.LIMITS)
    with store.writing() as db:
        given = name or files[0].name.partition(".")[0]
        return records.Scored(items=items.import_scores(db, member.project_id, scored, given))


@router.get("/items")
def list_items(
    member: AsReader, store: Stored, query: Annotated[item_records.ItemQuery, Query()]
) -> list[item_records.Item]:
    """The items that pass the filters, newest first or in another order."""
    with store.reading() as db:
        before = item_of(db, member, query.before).id if query.before else None
        listed = search.listing(
            db, member.project_id, query, order=query.order, before=before, offset=query.offset, limit=query.limit
        )
        return [item_records.Item.model_validate(item) for item in listed]


@router.patch("/items")
def change_items(member: AsLead, store: Stored, now: Now, body: item_records.ItemsChange) -> item_records.Changed:
    """Change the priority or the number of labelers of many items, hold them back or release them."""
    which = body.refs if body.matching is None else body.matching
    assert which is not None
    with store.writing() as db:
        return item_records.Changed(items=_change(db, member, now, which, body))


@router.get("/items/{ref}")
def item(member: AsReader, store: Stored, ref: str) -> item_records.ItemHistory:
    """An item and its history."""
    with store.reading() as db:
        return _history(db, item_of(db, member, ref))


@router.patch("/items/{ref}")
def change_item(
    member: AsLead, store: Stored, now: Now, ref: str, body: item_records.ItemChange
) -> item_records.ItemHistory:
    """Change the priority or the number of labelers, hold the item back or release it."""
    with store.writing() as db:
        item_of(db, member, ref)
        _change(db, member, now, ref, body)
        db.flush()
        db.expire_all()
        return _history(db, item_of(db, member, ref))


@router.post("/items/{ref}/gold", status_code=201)
def make_gold(member: AsLead, store: Stored, now: Now, ref: str, body: item_records.Gold) -> item_records.Item:
    """Copy an item, with a known answer, for every labeler to judge once. Returns the copy."""
    with store.writing() as db:
        item_of(db, member, ref)
        answer, by = body.answer, member.person.id
        made = items.set_gold(db, member.project_id, ref, body.purpose, answer, body.explanation, now, by=by)
        return item_records.Item.model_validate(item_of(db, member, made))


@router.post("/events/{event}/send-back", status_code=201)
def send_event_back(
    member: AsLead, store: Stored, now: Now, event: Id, body: item_records.Note
) -> item_records.SentBack:
    """Send a judgement back to its labeler with a note. It no longer counts, and stays in the history."""
    with store.writing() as db:
        sent = send_back(db, member.project_id, event, body.note, now, by=member.person.id)
        return item_records.SentBack(event=sent)


@router.post("/items/{ref}/redact", status_code=204)
def redact_item(request: Request, member: AsLead, store: Stored, now: Now, ref: str, body: records.Why) -> None:
    """Delete the texts of an item and of all its judgements, also from sampling jobs. Events and hashes stay."""
    with store.writing() as db:
        prompt = item_of(db, member, ref).payload.get("prompt")
        items.redact(db, member.project_id, ref, body.why, now, by=member.person.id)
    redaction.forget(request.app.state.sampler, member.project, [prompt])
    store.scrub()


@router.post("/events/{event}/redact", status_code=204)
def redact_event(member: AsLead, store: Stored, now: Now, event: Id, body: records.Why) -> None:
    """Delete the content of one judgement. The event and its hash stay."""
    with store.writing() as db:
        events.redact(db, member.project_id, event, body.why, now, by=member.person.id)
    store.scrub()


def _change(db: Session, member: Member, now: datetime, which: items.Which, body: item_records.ItemChange) -> int:
    by = member.person.id
    return items.change(
        db, member.project_id, which, now, by=by, priority=body.priority, wanted=body.wanted, held=body.held
    )


def _history(db: Session, item: Item) -> item_records.ItemHistory:
    told = [
        item_records.Event(
            event=one.event.id,
            labeler=one.labeler,
            group=one.group,
            stands=one.stands,
            **{name: getattr(one.event, name) for name in item_records.Event.model_fields if hasattr(one.event, name)},
        )
        for one in events.of_item(db, item.id)
    ]
    shown = item_records.Item.model_validate(item)
    return item_records.ItemHistory(item=shown, gold=item.gold, scores=item.scores, events=told)
