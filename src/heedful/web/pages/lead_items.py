"""The lead's queue: import with its preview, items, and each item's whole history."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, UploadFile
from fastapi.responses import Response
from sqlalchemy.orm import Session

from heedful.config import UserError, build
from heedful.data.records import Prompt, as_text
from heedful.feedback import events, items, readings
from heedful.feedback.judgements import PAYLOADS, completions
from heedful.feedback.quality import combine
from heedful.feedback.schema import KINDS, PURPOSES, Item, Kind, Purpose
from heedful.web import actions, uploads
from heedful.web.api.work import task_fields
from heedful.web.pages.lead_layout import Text, done, lead_page
from heedful.web.security.access import AsLead, AsReader, Member, Now, Settings, Stored
from heedful.web.text import sanitise

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
PAGE = 40
SHOWN = 8  # rows of a preview
EXCERPT = 220  # characters


@router.get("/import")
def import_page(request: Request, member: AsLead, settings: Settings) -> Response:
    return lead_page(request, member, "import", "/items", step="choose", settings=settings, how=actions.Import())


@router.post("/import")
def import_file(
    request: Request,
    member: AsLead,
    store: Stored,
    settings: Settings,
    now: Now,
    do: Annotated[str, Form()],
    file: UploadFile | None = None,
    baseline: UploadFile | None = None,
    token: Text = "",
    kind: Text = "",
    purpose: Text = "train",
    source: Text = "",
    priority: Annotated[int, Form()] = 0,
    wanted: Text = "",
    curate: Text = "",
    prefix_length: Annotated[int, Form()] = 100,
    prompts_per_user: Annotated[int, Form()] = 200,
) -> Response:
    """`do`: preview (the file is kept aside) or import (by the token of the preview)."""
    given = {
        "purpose": purpose,
        "source": source or None,
        "priority": priority,
        "wanted": wanted.strip() or None,
        "curate": bool(curate),
        "prefix_length": prefix_length,
        "prompts_per_user": prompts_per_user,
    }
    how, fallback = actions.Import(), {"step": "choose", "settings": settings}
    try:
        how = build(actions.Import, given, "the form")
        upload, kind = _upload(settings, file, baseline, token, kind)
        kind, rows = uploads.records(upload, settings.text_chars, kind or None)
        if do == "import":
            added = actions.add_rows(store, member, kind, rows, how, now)
            uploads.drop(upload)
            return lead_page(request, member, "import", "/items", step="done", settings=settings, how=how, added=added)
        chosen, report = actions.curated(rows, how)
    except UserError as error:
        return lead_page(request, member, "import", "/items", 400, how=how, problem=str(error), **fallback)
    return lead_page(
        request,
        member,
        "import",
        "/items",
        step="preview",
        settings=settings,
        how=how,
        upload=upload,
        kind=kind,
        count=len(rows),
        report=report,
        kept=len(chosen),
        becomes=actions.KIND_OF_FILE[kind],
        rows=[_row(row) for row in (chosen if how.curate else rows)[:SHOWN]],
    )


def _upload(
    settings: Settings, file: UploadFile | None, baseline: UploadFile | None, token: str, kind: str
) -> tuple[uploads.Upload, str]:
    """The uploaded file, kept aside, and the kind of its rows: by the token of a preview, or a new one."""
    if token:
        return uploads.kept(settings.uploads, token), kind
    if file is None or not file.filename:
        raise UserError("Choose a file first.")
    upload = uploads.keep(settings.uploads, file.filename, file.file)
    if baseline is not None and baseline.filename:
        other = uploads.keep(settings.uploads, baseline.filename, baseline.file)
        return uploads.against(settings.uploads, upload, other), "versus"
    return upload, kind


@router.post("/ask")
def ask(
    member: AsLead,
    store: Stored,
    now: Now,
    form: Annotated[str, Form(pattern="^(plain|few_shot|user_based)$")],
    count: Annotated[int, Form(ge=1, le=10_000)],
    use_case: Text = "",
    about: Text = "",
) -> Response:
    """Items that each ask for one prompt (D1)."""
    with store.writing() as db:
        by, topic = member.person.id, about or None
        items.ask_for_prompts(db, member.project_id, form, count, now, by=by, use_case=use_case or None, about=topic)
    return done(member, "/items?kind=prompt", "asked")


@router.post("/scores/import")
def scores(
    member: AsLead, store: Stored, settings: Settings, file: UploadFile, name: Annotated[str, Form(max_length=100)] = ""
) -> Response:
    """A file of `heedful score`, for what to label next."""
    upload = uploads.keep(settings.uploads, file.filename or "scores.jsonl", file.file)
    try:
        scored = items.read_scores(upload.path)
        with store.writing() as db:
            items.import_scores(db, member.project_id, scored, name or upload.name.partition(".")[0])
    finally:
        uploads.drop(upload)
    return done(member, "/items?kind=ranking", "scored")


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
    chosen_kind: Kind | None = kind if kind in KINDS else None
    chosen_purpose: Purpose | None = purpose if purpose in PURPOSES else None
    with store.reading() as db:
        last = _item(db, member, before).id if before else None
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
        member,
        "items",
        "/items",
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
    with store.reading() as db:
        found = _item(db, member, ref)
        told = events.of_item(db, found.id)
        # of a redacted item nothing is left but what happened to it
        payload = None if found.redacted else PAYLOADS[found.kind].model_validate(found.payload)
        judged = readings.judgements(db, member.project_id, purposes=PURPOSES, item_id=found.id)
        return lead_page(
            request,
            member,
            "item",
            "/items",
            item=found,
            prompt=payload.prompt if isinstance(payload, Prompt) else "",
            about=task_fields(payload)[1] if payload else None,
            answers=_answers(found, completions(payload)) if payload else [],
            told=told,
            standing=sum(one.stands for one in told),
            combined=combine.of_item(judged),
            gold=found.gold,
            explanation=found.explanation,
        )


@router.post("/items/{ref}")
def change(
    member: AsLead,
    store: Stored,
    now: Now,
    ref: str,
    do: Annotated[str, Form()],
    why: Text = "",
    priority: Annotated[int, Form(ge=-1000, le=1000)] = 0,
    wanted: Annotated[int, Form(ge=0, le=100)] = 0,
    event: Annotated[int, Form()] = 0,
    purpose: Text = "gold",
    answer: Text = "",
    explanation: Text = "",
) -> Response:
    """`do`: queue (priority, wanted), hold, release, gold, redact, redact-event."""
    by, place = member.person.id, f"/items/{ref}"
    with store.writing() as db:
        _item(db, member, ref)
        match do:
            case "queue":
                items.prioritise(db, member.project_id, [ref], priority)
                if wanted:
                    items.want(db, member.project_id, [ref], wanted)
                return done(member, place, "changed")
            case "hold" | "release":
                items.hold(db, member.project_id, ref, (why[:200] or "held") if do == "hold" else None, now, by=by)
                return done(member, place, "held" if do == "hold" else "released")
            case "gold":
                chosen: Any = purpose if purpose in PURPOSES else "gold"
                judgement = _known_answer(answer)
                made = items.set_gold(
                    db, member.project_id, ref, chosen, judgement, explanation.strip() or None, now, by=by
                )
                return done(member, f"/items/{made}", "gold")
            case "redact" if why.strip():
                items.redact(db, member.project_id, ref, why[:200], now, by=by)
                return done(member, place, "redacted")
            case "redact-event" if why.strip():
                events.redact(db, member.project_id, event, why[:200], now, by=by)
                return done(member, place, "redacted")
    raise UserError("Say why the texts are taken out; it is kept in the log.")


def _item(db: Session, member: Member, ref: str) -> Item:
    found = items.by_ref(db, member.project_id, ref)
    if found is None:
        raise HTTPException(404)
    return found


def _row(row: Prompt) -> dict[str, Any]:
    texts = list(getattr(row, "completions", [])) or [getattr(row, "completion", "")]
    return {
        "prompt": sanitise.as_html(as_text(row.prompt)[:1000]),
        "split": row.split,
        "answers": len([t for t in texts if t]),
    }


def _excerpt(item: Item) -> str:
    prompt = item.payload.get("prompt")
    if prompt is None:
        return " ".join(str(part) for part in (item.payload.get("form"), item.payload.get("use_case")) if part)
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return str(sanitise.plain(" ".join(text[: 2 * EXCERPT].split())[:EXCERPT]))


def _answers(item: Item, texts: list[str]) -> list[dict[str, Any]]:
    """Completions in the item's own order, with what leads may know of them."""
    payload = item.payload
    models = payload.get("models") or [payload.get(side, {}).get("model") for side in ("a", "b") if side in payload]
    scores = [{name: values[k] for name, values in (item.scores or {}).items()} for k in range(len(texts))]
    return [
        {
            "text": sanitise.as_html(text),
            "cut": sanitise.is_cut(text),
            "model": models[k] if k < len(models) else None,
            "scores": scores[k],
        }
        for k, text in enumerate(texts)
    ]


def _known_answer(text: str) -> dict[str, Any]:
    """A ranking as people write it, `2 > 1 = 3`; a choice `a`, `b` or `tie`; else JSON."""
    text = text.strip()
    if text in ("a", "b", "tie"):
        return {"preferred": text}
    if text.startswith("{"):
        try:
            answer = json.loads(text)
        except ValueError:
            raise UserError("The known answer is not JSON.") from None
        return dict(answer)
    try:
        return {"ranking": [[int(one) - 1 for one in tier.split("=")] for tier in text.split(">")]}
    except ValueError:
        raise UserError("Write the known answer as 2 > 1 = 3: numbers of the answers, the best first.") from None
