"""The lead's pages of agreement, snapshots, instructions, settings and log."""

from __future__ import annotations

import json
from typing import get_args

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from heedful.feedback import people, projects, snapshots
from heedful.feedback.rubric import D9, PRESETS
from heedful.feedback.schema import KINDS, PHASES, PURPOSES, ROLES, InstructionKind
from heedful.plots.charts import day_and_month, rates
from heedful.plots.svg import svg
from heedful.web import dashboard
from heedful.web.pages import item_view, task_view
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsLead, AsReader, Id, Settings, Stored
from heedful.web.text.changes import changes

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
LOG_PAGE = 100
OPPOSED = 15  # items on which two groups are opposed
TABS = {
    "project": "Project",
    "work": "Work",
    "rubric": "Rubric",
    "assignment": "Assignment",
    "labelers": "What labelers see",
    "screening": "Screening",
    "alerts": "Alerts",
}
"""Parts of the settings, by the end of their address."""


@router.get("/quality")
def quality(request: Request, member: AsReader, store: Stored) -> Response:
    """Agreement between labelers, known answers, alerts."""
    found = dashboard.agreement_of(request, store, member.project_id)
    with store.reading() as db:
        settings = projects.settings(db, member.project_id)
        ids = {person.name: person.id for _, person in people.members(db, member.project_id)}
        opposed = item_view.beginnings(db, member.project_id, [split.item for split in found.opposed[:OPPOSED]])
    weeks = [(day_and_month(week), one.rate) for week, one in found.weeks if one.rate]
    labelers = [(name, rate) for name, rate in found.labelers.items() if rate]
    return lead_page(
        request,
        "quality",
        found=found,
        ids=ids,
        beginnings=opposed,
        most_opposed=OPPOSED,
        over_time=svg(rates("Same preference, by week", weeks, joined=True)),
        by_labeler=svg(rates("Each labeler with the others", labelers)),
        rubric=settings.rubric,
        double_share=settings.double_share,
        copies=settings.copies,
    )


@router.get("/snapshots")
def snapshot_list(request: Request, member: AsReader, store: Stored, settings: Settings) -> Response:
    """The snapshots, and a form for a new one."""
    with store.reading() as db:
        frozen = snapshots.listing(db, member.project_id)
        groups = sorted({one.group for one, _ in people.members(db, member.project_id) if one.group})
    return lead_page(
        request,
        "snapshots",
        frozen=frozen,
        groups=groups,
        kinds=get_args(snapshots.RecordKind),
        roles=ROLES,
        purposes=PURPOSES,
        where=settings.folder / "snapshots" / member.project,
    )


@router.get("/instructions")
def instructions(
    request: Request, member: AsReader, store: Stored, kind: InstructionKind = "guide", version: Id | None = None
) -> Response:
    """The guide or the consent text, with a form for a new version. Or an older version and what changed since."""
    with store.reading() as db:
        versions = projects.instructions(db, member.project_id, kind)
        names = {person.id: person.name for _, person in people.members(db, member.project_id)}
    shown = next((one for one in versions if one.version == version), versions[0] if versions else None)
    if version is not None and (shown is None or shown.version != version):
        raise HTTPException(404)
    return lead_page(
        request,
        "instructions",
        kind=kind,
        versions=versions,
        shown=shown,
        names=names,
        difference=changes(shown.text, versions[0].text) if shown is not None and shown is not versions[0] else [],
        current=shown is None or shown is versions[0],
    )


@router.get("/settings/rubric")
def rubric_page(request: Request, member: AsLead, store: Stored) -> Response:
    """What labelers are asked, with a preview of their page."""
    with store.reading() as db:
        settings = projects.settings(db, member.project_id)
    presets = {words: json.dumps(values) for words, values in PRESETS.values()}
    shown = {"settings": settings, "rubric": settings.rubric, "task": task_view.example()}
    shown["tabs"] = TABS
    return lead_page(request, "rubric", paper=D9.values(), presets=presets, **shown)


@router.get("/settings")
@router.get("/settings/{tab}")
def settings_page(request: Request, member: AsLead, store: Stored, tab: str = "project") -> Response:
    """The settings of the project, one part at a time."""
    if tab not in TABS:
        raise HTTPException(404)
    with store.reading() as db:
        settings = projects.settings(db, member.project_id)
    return lead_page(request, "settings", settings=settings, kinds=KINDS, phases=PHASES, tabs=TABS, tab=tab)


@router.get("/log")
def log(request: Request, member: AsReader, store: Stored, before: Id | None = None) -> Response:
    """What leads and the command line did."""
    with store.reading() as db:
        leads = member.role == "lead"
        entries = dashboard.log(db, member.project_id, leads=leads, before=before, limit=LOG_PAGE + 1)
        names = {person.id: person.name for _, person in people.members(db, member.project_id)}
    older = entries[LOG_PAGE - 1].id if len(entries) > LOG_PAGE else None
    return lead_page(request, "log", entries=entries[:LOG_PAGE], names=names, older=older)
