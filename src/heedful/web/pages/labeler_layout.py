"""The layout of every labeler's page."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from heedful.feedback import people, projects, work
from heedful.web.security.access import Member, Now
from heedful.web.text import sanitise, vocabulary

VOCABULARY: dict[str, Any] = {
    "letters": vocabulary.LETTERS,
    "flags": vocabulary.FLAGS,
    "constraint": vocabulary.CONSTRAINT,
    "qualities": vocabulary.QUALITIES,
    "roles": vocabulary.ROLES,
    "skip_reasons": vocabulary.SKIP_REASONS,
    "use_cases": vocabulary.USE_CASES,
    "prompt_kinds": vocabulary.PROMPT_KINDS,
    "kind_names": vocabulary.KINDS,
    "most_shown": sanitise.MOST_SHOWN,
}


def here(member: Member) -> str:
    return f"/work/{member.project}"


def layout(db: Session, member: Member, now: Now, at: str) -> dict[str, Any]:
    """The context of every labeler's page."""
    settings = projects.settings(db, member.project_id)
    return VOCABULARY | {
        "here": here(member),
        "api": f"/api/projects/{member.project}",
        "member": member,
        "at": at,
        "settings": settings,
        "work_kinds": [(kind, vocabulary.KINDS[kind]) for kind in vocabulary.KINDS if kind in settings.kinds],
        "today": _today(db, member, settings, now),
        "spent": spent,
    }


def _today(db: Session, member: Member, settings: projects.ProjectSettings, now: Now) -> str:
    if not settings.show_progress:
        return ""
    done = work.progress(db, member.project_id, member.person.id, now, days=1).today
    return f"{done} of {settings.daily_goal} today" if settings.daily_goal else f"{done} today"


def must_agree(db: Session, member: Member) -> bool:
    return not people.has_consented(db, member.project_id, member.person.id)


def spent(seconds: float) -> str:
    """A time in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
