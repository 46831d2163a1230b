"""Parts of pages that the API returns to scripts: a task, the acknowledgement of a submission, an import's preview."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from heedful.data.shapes.mapping import TARGETS
from heedful.feedback import people, work
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.schema import Kind
from heedful.web.import_preview import USED_HERE, Look, columns
from heedful.web.imports import ImportOptions
from heedful.web.pages import task_view
from heedful.web.pages.labeler_layout import here, layout
from heedful.web.pages.render import environment
from heedful.web.sampling.jobs import Job
from heedful.web.security.access import Member, Now
from heedful.web.text import sanitise

LONGEST_CELL = 400  # characters of a text in a table


def task(
    db: Session, member: Member, now: Now, found: work.Task | work.Nothing, kind: Kind | None = None
) -> HTMLResponse:
    """A task, or why there is none."""
    context = task_context(db, member, now, found, kind)
    return _rendered(context["fragment"], context)


def task_context(
    db: Session, member: Member, now: Now, found: work.Task | work.Nothing, kind: Kind | None = None
) -> dict[str, Any]:
    """The context of `labeler/task.html`. `fragment` is the template of the task in it."""
    if isinstance(found, work.Task):
        shown = layout(db, member, now, found.kind)
        lasts = (found.expires - now).total_seconds()
        task = task_view.view(found, shown["here"], shown["settings"], lasts, _spent_before(db, member, found))
        return shown | {"task": task, "fragment": f"labeler/{found.kind}.html"}
    shown = layout(db, member, now, kind or "")
    empty = task_view.empty(found, kind or shown["settings"].kinds[0])
    return shown | {"empty": empty, "why": found.why, "fragment": "labeler/empty.html"}


def done(db: Session, member: Member, now: Now, done: work.Done) -> HTMLResponse:
    """How much was done today, and what a practice or gold item answers back."""
    agreed = people.has_consented(db, member.project_id, member.person.id)
    past = work.history(db, member.project_id, member.person.id, before=done.event + 1, limit=1)[0]
    shown = layout(db, member, now, past.kind) | {"feedback": done.feedback, "agreed": agreed}
    if done.feedback is not None:
        shown["task"] = task_view.past_view(past, here(member), shown["settings"])
    return _rendered("labeler/done.html", shown)


def import_preview(found: Look, options: ImportOptions) -> HTMLResponse:
    """What a file would become, its fields with a choice of their meaning, and what curation does to it."""
    names, cells = columns(found.chosen)
    shown = [[sanitise.as_html(cell[:LONGEST_CELL]) for cell in row] for row in cells]
    context = {"found": found, "options": options, "names": names, "rows": shown, "targets": TARGETS, "used": USED_HERE}
    return _rendered("lead/import_preview.html", context)


def rubric_preview(settings: ProjectSettings) -> HTMLResponse:
    """What labelers see of a rubric."""
    context = {"settings": settings, "rubric": settings.rubric, "task": task_view.example()}
    return _rendered("lead/rubric_preview.html", context)


def sampling_jobs(member: Member, jobs: Sequence[Job]) -> HTMLResponse:
    """The jobs of sampling as they are now."""
    api = f"{member.root}/api/projects/{member.project}"
    return _rendered(
        "lead/sampling_jobs.html", {"jobs": jobs, "api": api, "leads": member.role == "lead", "member": member}
    )


def _spent_before(db: Session, member: Member, task: work.Task) -> float:
    """Seconds of the judgement that was taken back: the new one begins there."""
    if task.corrects is None:
        return 0
    (past,) = work.history(db, member.project_id, member.person.id, before=task.corrects + 1, limit=1)
    return past.seconds or 0


def _rendered(template: str, context: dict[str, Any]) -> HTMLResponse:
    return HTMLResponse(environment.get_template(template).render(**context))
