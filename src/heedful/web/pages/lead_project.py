"""The lead's agreement page, snapshots, sampling, instructions, settings and log."""

from __future__ import annotations

import difflib
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import FileResponse, Response
from starlette.datastructures import FormData

from heedful.config import UserError, build
from heedful.data import formats
from heedful.data.kinds import KINDS as RECORD_KINDS
from heedful.feedback import people, projects, snapshots
from heedful.feedback.schema import KINDS, PHASES, PURPOSES, ROLES, Instruction
from heedful.plots.charts import Rate, rates
from heedful.plots.svg import svg
from heedful.web import actions, sampling
from heedful.web.actions import MOST_SAMPLED
from heedful.web.dashboard import Agreements
from heedful.web.pages.lead_layout import Text, done, lead_page
from heedful.web.sampling import Sampler
from heedful.web.security.access import AsLead, AsReader, Id, Now, Settings, Stored

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
InstructionKind = Literal["guide", "consent"]
LOG_PAGE = 100
YES_OR_NO = ("rate_first", "markdown", "labelers_evaluate", "show_progress", "show_gold", "show_agreement")
SHARES = ("double_share", "gold_share", "attention_share")
SNAPSHOT_FILES = ("records.jsonl", "manifest.json", "pairs.jsonl")


async def sent_form(request: Request) -> FormData:
    return await request.form()


SentForm = Annotated[FormData, Depends(sent_form)]


@router.get("/quality")
def quality(request: Request, member: AsReader, store: Stored) -> Response:
    agreements: Agreements = request.app.state.agreements
    with store.reading() as db:
        found = agreements.of(db, member.project_id)
        settings = projects.settings(db, member.project_id)
        ids = {person.name: person.id for _, person in people.members(db, member.project_id)}
    weeks = [
        Rate(f"{week.day} {week:%b}", one.rate.mean, one.rate.low, one.rate.high, one.rate.n)
        for week, one in found.weeks
        if one.rate
    ]
    labelers = [Rate(name, rate.mean, rate.low, rate.high, rate.n) for name, rate in found.labelers.items() if rate]
    return lead_page(
        request,
        member,
        "quality",
        "/quality",
        found=found,
        ids=ids,
        over_time=svg(rates("Same preference, by week", weeks, joined=True)),
        by_labeler=svg(rates("Each labeler with the others", labelers)),
        double_share=settings.double_share,
        copies=settings.copies,
    )


@router.get("/snapshots")
def snapshot_list(request: Request, member: AsReader, store: Stored, settings: Settings) -> Response:
    with store.reading() as db:
        frozen = snapshots.listing(db, member.project_id)
        groups = sorted({one.group for one, _ in people.members(db, member.project_id) if one.group})
    return lead_page(
        request,
        member,
        "snapshots",
        "/snapshots",
        frozen=frozen,
        groups=groups,
        kinds=get_args(snapshots.Records),
        roles=ROLES,
        purposes=PURPOSES,
        where=settings.folder / "snapshots" / member.project,
    )


@router.post("/snapshots")
def freeze(
    member: AsLead,
    store: Stored,
    settings: Settings,
    now: Now,
    name: Text,
    records: Text,
    since: Text = "",
    until: Text = "",
    labelers: Text = "",
    sources: Text = "",
    groups: Annotated[list[str] | None, Form()] = None,
    roles: Annotated[list[str] | None, Form()] = None,
    purposes: Annotated[list[str] | None, Form()] = None,
    least_agreement: Text = "",
    least_judgements: Annotated[int, Form(ge=1)] = 1,
) -> Response:
    given: dict[str, Any] = {
        "records": records,
        "since": _day(since),
        "until": _day(until),
        "labelers": _names(labelers),
        "sources": _names(sources),
        "groups": tuple(groups or ()),
        "least_agreement": _finite(least_agreement, "least agreement") / 100 if least_agreement else None,
        "least_judgements": least_judgements,
    }
    given |= {"roles": tuple(roles)} if roles else {}
    given |= {"purposes": tuple(purposes)} if purposes else {}
    filters = build(snapshots.Filters, given, "the form")
    actions.freeze(store, member, settings, name.strip(), filters, now)
    return done(member, "/snapshots", "frozen")


@router.get("/snapshots/{snapshot_id}/{file}")
def snapshot_file(member: AsReader, store: Stored, settings: Settings, snapshot_id: Id, file: str) -> Response:
    """Rows and manifest as they were frozen; `pairs.jsonl`: the rows for other trainers."""
    if file not in SNAPSHOT_FILES:
        raise HTTPException(404)
    with store.reading() as db:
        frozen = actions.snapshot(db, member, snapshot_id)
    if file != "pairs.jsonl":
        path = actions.snapshot_file(frozen, file)
    else:
        kind = next(kind for kind, record in RECORD_KINDS.items() if record.__name__.lower() == frozen.records)
        rows = formats.read(actions.snapshot_file(frozen, "records.jsonl"), RECORD_KINDS[kind])
        path = settings.uploads / f"pairs-{frozen.sha256}.jsonl"
        formats.write(path, list(formats.to_public(rows)))
    named = f"{member.project}-{snapshot_id}-{file}"
    return FileResponse(path, filename=named, media_type="application/octet-stream")


@router.get("/sampling")
def sampling_page(request: Request, member: AsReader, store: Stored, settings: Settings) -> Response:
    sampler: Sampler = request.app.state.sampler
    with store.reading() as db:
        known = len(actions.prompts(db, member, MOST_SAMPLED))
    return lead_page(
        request,
        member,
        "sampling",
        "/sampling",
        missing=sampling.missing(),
        models=sampling.models(settings.folder),
        folder=settings.folder.resolve(),
        jobs=sampler.jobs(member.project),
        known=known,
    )


@router.post("/sampling")
def start_sampling(
    request: Request,
    member: AsLead,
    store: Stored,
    now: Now,
    model: Text,
    k: Annotated[int, Form(ge=2, le=9)] = 4,
    count: Annotated[int, Form(ge=1, le=MOST_SAMPLED)] = 100,
    seed: Annotated[int, Form(ge=0, lt=2**31)] = 0,
    max_new_tokens: Annotated[int, Form(ge=1, le=8192)] = 128,
) -> Response:
    options = {"k": k, "seed": seed, "max_new_tokens": max_new_tokens}
    actions.sample(store, request.app.state.sampler, member, now, model=model, count=count, **options)
    return done(member, "/sampling", "started")


@router.post("/sampling/{number}/queue")
def queue_samples(request: Request, member: AsLead, store: Stored, now: Now, number: Id) -> Response:
    """What was sampled, as rankings to be made."""
    actions.queue_samples(store, request.app.state.sampler, member, number, now)
    return done(member, "/sampling", "queued")


@router.get("/instructions")
def instructions(
    request: Request, member: AsReader, store: Stored, kind: InstructionKind = "guide", version: Id | None = None
) -> Response:
    with store.reading() as db:
        versions = projects.instructions(db, member.project_id, kind)
        names = {person.id: person.name for _, person in people.members(db, member.project_id)}
    shown = next((one for one in versions if one.version == version), versions[0] if versions else None)
    if version is not None and (shown is None or shown.version != version):
        raise HTTPException(404)
    return lead_page(
        request,
        member,
        "instructions",
        "/instructions",
        kind=kind,
        versions=versions,
        shown=shown,
        names=names,
        difference=_difference(versions, shown) if shown is not None and shown is not versions[0] else [],
        current=shown is None or shown is versions[0],
    )


@router.post("/instructions")
def write_instruction(
    member: AsLead, store: Stored, now: Now, kind: Annotated[InstructionKind, Form()], text: Text
) -> Response:
    text = text.replace("\r\n", "\n").strip() + "\n"
    if not text.strip():
        raise UserError("An empty text helps nobody; write something.")
    with store.writing() as db:
        before = projects.instruction(db, member.project_id, kind)
        new = projects.write_instruction(db, member.project_id, kind, text, now, by=member.person.id)
        if before is None or new.version != before.version:
            people.audit(
                db, member.person.id, "instructions", f"{kind} {new.version}", project_id=member.project_id, now=now
            )
    said = "unchanged" if before is not None and new.version == before.version else "saved"
    return done(member, f"/instructions?kind={kind}", said)


@router.get("/settings")
def settings_page(request: Request, member: AsLead, store: Stored) -> Response:
    with store.reading() as db:
        settings = projects.settings(db, member.project_id)
    return lead_page(request, member, "settings", "/settings", settings=settings, kinds=KINDS, phases=PHASES)


@router.post("/settings")
def change_settings(member: AsLead, store: Stored, now: Now, form: SentForm) -> Response:
    """All of the form, or nothing."""
    with store.writing() as db:
        old = projects.settings(db, member.project_id).model_dump(mode="json")
        actions.change_settings(db, member, settings_from(form, old), now)
        actions.change_project(db, member, str(form.get("title", "")), None, now)
    return done(member, "/settings", "saved")


@router.post("/archive")
def archive(member: AsLead, store: Stored, now: Now, do: Annotated[Literal["archive", "reopen"], Form()]) -> Response:
    with store.writing() as db:
        actions.change_project(db, member, None, do == "archive", now)
    return done(member, "/settings", "changed")


@router.get("/log")
def log(request: Request, member: AsReader, store: Stored, before: Id | None = None) -> Response:
    with store.reading() as db:
        entries = people.audit_log(db, member.project_id, before=before, limit=LOG_PAGE + 1)
        names = {person.id: person.name for _, person in people.members(db, member.project_id)}
    older = entries[LOG_PAGE - 1][0].id if len(entries) > LOG_PAGE else None
    return lead_page(request, member, "log", "/log", entries=entries[:LOG_PAGE], names=names, older=older)


def _difference(versions: list[Instruction], shown: Instruction) -> list[tuple[str, str]]:
    """(sign, line) from the version shown to the current one."""
    lines = difflib.ndiff(shown.text.split("\n"), versions[0].text.split("\n"))
    return [(line[0], line[2:]) for line in lines if line[0] in "+-"]


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise UserError(f"{text}: not a date; write it as 2026-01-31") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def settings_from(form: FormData, old: dict[str, Any]) -> dict[str, Any]:
    """Settings as the form has them: shares in percent, boxes that are not ticked absent, `alerts.` and `screening.`
    before the names of cut-offs.
    """
    changes: dict[str, Any] = {name: name in form for name in YES_OR_NO}
    changes["kinds"] = [kind for kind in KINDS if kind in form.getlist("kinds")]
    for name in SHARES:
        changes[name] = _number(form, name) / 100
    for name in ("copies", "lease_minutes", "daily_goal"):
        changes[name] = int(_number(form, name))
    changes["demonstration_chars"] = [int(_number(form, "least_chars")), int(_number(form, "most_chars"))]
    for name in ("policy", "first_phase"):
        changes[name] = str(form.get(name, old[name]))
    for section in ("alerts", "screening"):
        cutoffs = dict(old[section])
        for name, value in cutoffs.items():
            if f"{section}.{name}" in form and not isinstance(value, list):
                number = _number(form, f"{section}.{name}")
                cutoffs[name] = int(number) if isinstance(value, int) else number
        changes[section] = cutoffs
    if "screening.wanted_topics" in form:
        changes["screening"]["wanted_topics"] = list(_names(str(form["screening.wanted_topics"])))
    return changes


def _number(form: FormData, name: str) -> float:
    return _finite(str(form.get(name, "")), name.replace("_", " "))


def _finite(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{what}: give a number")
    return number
