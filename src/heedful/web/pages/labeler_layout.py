"""The layout of every labeler's page."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from heedful.feedback import projects, work
from heedful.web.security.access import Member, Now
from heedful.web.text import vocabulary


def here(member: Member) -> str:
    return f"{member.root}/work/{member.project}"


def layout(db: Session, member: Member, now: Now, at: str) -> dict[str, Any]:
    """The context of every labeler's page."""
    settings = projects.settings(db, member.project_id)
    return {
        "root": member.root,
        "here": here(member),
        "api": f"{member.root}/api/projects/{member.project}",
        "member": member,
        "at": at,
        "settings": settings,
        "work_kinds": [(kind, vocabulary.KINDS[kind]) for kind in vocabulary.KINDS if kind in settings.kinds],
        "today": _today(db, member, settings, now),
    }


def _today(db: Session, member: Member, settings: projects.ProjectSettings, now: Now) -> str:
    if not settings.show_progress:
        return ""
    done = work.progress(db, member.project_id, member.person.id, now, days=1).today
    return f"{done} of {settings.daily_goal} today" if settings.daily_goal else f"{done} today"
