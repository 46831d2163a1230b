"""A new project with its default guide and consent text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from heedful.feedback import people, projects
from heedful.feedback.schema import Project
from heedful.web.text import defaults


def create_project(
    db: Session, name: str, title: str | None, now: datetime, *, by: int | None, settings: dict[str, Any] | None = None
) -> Project:
    """Creates a project with guide and consent text. `by` becomes its lead. UserError for a bad or taken name."""
    project = projects.create(db, name, now, title=title, settings=settings)
    projects.write_instruction(db, project.id, "guide", defaults.GUIDE, now, by=by)
    projects.write_instruction(db, project.id, "consent", defaults.CONSENT, now, by=by)
    if by is not None:
        people.join(db, project.id, by, "lead", now)
    people.audit(db, by, "create project", project.name, project_id=project.id, now=now)
    return project
