"""The layout of every labeler's page."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from heedful.feedback import assignment, people, projects, work
from heedful.web.security.access import Member, Now
from heedful.web.text import vocabulary


def here(member: Member) -> str:
    return f"{member.root}/work/{member.project}"


def layout(db: Session, member: Member, now: Now, at: str) -> dict[str, Any]:
    """The context of every labeler's page."""
    settings = projects.settings(db, member.project_id)
    left = _waiting(db, member, settings, now)
    shown = {kind for kind in settings.kinds if left.get(kind) or kind == at} or set(settings.kinds)
    return {
        "root": member.root,
        "here": here(member),
        "api": f"{member.root}/api/projects/{member.project}",
        "member": member,
        "at": at,
        "settings": settings,
        "work_kinds": [(kind, vocabulary.KINDS[kind]) for kind in vocabulary.KINDS if kind in shown],
        "today": _today(db, member, settings, now, left.get(at)),
    }


def _waiting(db: Session, member: Member, settings: projects.ProjectSettings, now: Now) -> dict[str, int]:
    joined = people.membership(db, member.project_id, member.person.id)
    found = assignment.waiting(db, joined, settings, now) if joined is not None else {}
    return {str(kind): number for kind, number in found.items()}


def _today(db: Session, member: Member, settings: projects.ProjectSettings, now: Now, left: int | None) -> str:
    """What the labeler has done today, and how much there is left of the kind of work that they do."""
    if not settings.show_progress:
        return ""
    done = work.progress(db, member.project_id, member.person.id, now, days=1).today
    words = f"{done} of {settings.daily_goal} today" if settings.daily_goal else f"{done} today"
    if left is None:
        return words
    return f"{words} · {left}{'+' if left >= assignment.MOST_COUNTED else ''} left"
