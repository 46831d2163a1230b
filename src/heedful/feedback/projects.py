"""Projects: settings, and versions of the guide and the consent text."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field, field_validator
from sqlalchemy.orm import Session

from heedful.config import Config, Share, UserError, build
from heedful.feedback import informative
from heedful.feedback.quality.alerts import AlertCutoffs
from heedful.feedback.quality.screening import ScreeningCutoffs
from heedful.feedback.rubric import Rubric
from heedful.feedback.schema import (
    KINDS,
    SHARED,
    Event,
    Instruction,
    InstructionKind,
    Item,
    LabelingKind,
    Phase,
    Project,
)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "o", "æ": "ae", "đ": "d", "ł": "l", "þ": "th"})


Characters = Annotated[int, Field(ge=1, le=1_000_000)]


class ProjectSettings(Config):
    """Settings of a project. A lead may change them while people work."""

    kinds: tuple[LabelingKind, ...] = KINDS
    """Kinds of work that labelers get."""
    rate_first: bool = True
    """Rate each completion alone (D9) before ranking all (D10)."""
    rubric: Rubric = Rubric()
    """What labelers are asked."""
    markdown: bool = False
    """Show a preview of a demonstration as Markdown."""
    rich_text: bool = False
    """Show prompts and answers as Markdown, with code and formulas. Labelers can switch to the plain text."""
    demonstration_chars: tuple[Characters, Characters] = (1, 20_000)
    """Fewest and most characters of a demonstration."""
    policy: informative.Policy = "random"
    """Order of items of equal priority: at random, or the most informative first (`informative.py`)."""
    double_share: Share = 0.2
    """Share of items that `copies` labelers judge, to measure their agreement."""
    copies: int = Field(2, ge=2, le=9)
    """Number of labelers who judge a doubled item."""
    gold_share: Share = 0.05
    """Share of tasks with a known answer, mixed in unmarked."""
    attention_share: Share = 0.01
    """Share of tasks that only check attention."""
    labelers_evaluate: bool = True
    """Give evaluation items to labelers, too. Held-out labelers get nothing else."""
    lease_minutes: int = Field(120, ge=1, le=43_200)
    """Minutes after which an item may go to another labeler. Saving a draft starts the time again."""
    most_skips: int = Field(3, ge=1, le=100)
    """Number of skips after which an item is put on hold for a lead."""
    first_phase: Phase = "work"
    """First phase of new labelers: screening, practice or work."""
    show_progress: bool = True
    """Show labelers how much they did."""
    daily_goal: int = Field(0, ge=0, le=10_000)
    """Judgements a day that a labeler aims at, shown on their page. 0: no goal."""
    show_gold: bool = False
    """Show the known answer of a gold item after its submission."""
    show_agreement: bool = False
    """Show labelers their agreement with others."""
    screening: ScreeningCutoffs = ScreeningCutoffs()
    alerts: AlertCutoffs = AlertCutoffs()

    @field_validator("demonstration_chars")
    @classmethod
    def _in_order(cls, chars: tuple[int, int]) -> tuple[int, int]:
        if chars[0] > chars[1]:
            raise ValueError(f"{chars[0]:,} is more than {chars[1]:,}. Give the fewest characters first")
        return chars


def create(
    db: Session, name: str, now: datetime, *, title: str | None = None, settings: dict[str, Any] | None = None
) -> Project:
    """Create a project. UserError if the name is taken or does not fit an address, or if a setting is wrong."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r}: not a project's name. Use a-z, 0-9 and -, at most 60 characters")
    if by_name(db, name) is not None:
        raise UserError(f"{name}: there is a project of this name. Choose another")
    resolved = build(ProjectSettings, settings or {}, source="settings")
    title = title if title is not None and title.strip() else name
    project = Project(name=name, title=title[:200], settings=resolved.model_dump(mode="json"), created=now)
    db.add(project)
    db.flush()
    return project


def name_of(db: Session, title: str) -> str:
    """A free name for a project of this title: "Tee & Gärten" becomes `tee-gaerten`, or `tee-gaerten-2`."""
    plain = unicodedata.normalize("NFKD", title.casefold().translate(_LETTERS)).encode("ascii", "ignore").decode()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].rstrip("-") or "project"
    name, number = base, 1
    while by_name(db, name) is not None:
        number += 1
        name = f"{base}-{number}"
    return name


def by_name(db: Session, name: str) -> Project | None:
    return db.scalar(sa.select(Project).where(Project.name == name))


def the_one(db: Session, name: str | None) -> Project:
    """The project of this name, or the only project. UserError lists the names."""
    every = listing(db)
    found = [project for project in every if name is None or project.name == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(project.name for project in every) or "none yet"
    raise UserError(
        f"--project {name}: no such project. There are: {names}" if name else f"give --project. There are: {names}"
    )


def listing(db: Session) -> list[Project]:
    return list(db.scalars(sa.select(Project).order_by(Project.name)))


def settings(db: Session, project_id: int) -> ProjectSettings:
    return ProjectSettings.model_validate(db.get_one(Project, project_id).settings)


def change_settings(db: Session, project_id: int, changes: dict[str, Any]) -> ProjectSettings:
    """Change what is given, and what follows: the order of the queue, and how many labelers each item needs.

    Items that are done or begun open again where they now need more labelers. A number that a lead asked for stays.
    """
    project = lock(db, project_id)
    old, new = changed(db, project_id, changes)
    project.settings = new.model_dump(mode="json")
    if (old.double_share, old.copies) != (new.double_share, new.copies):
        _want(db, project_id, old, new)
    if old.policy != new.policy:
        informative.rerank(db, project_id, new.policy)
    return new


def _want(db: Session, project_id: int, old: ProjectSettings, new: ProjectSettings) -> None:
    """Set how many labelers items need, where no lead set it, and whether they are open."""
    wanted = _drawn(new)
    waits = sa.and_(Item.held.is_(None), Item.redacted.is_(None), Item.taken < wanted)
    db.execute(
        sa.update(Item)
        .where(Item.project_id == project_id, Item.purpose.not_in(SHARED), Item.kind != "prompt")
        .where(Item.wanted == _drawn(old))
        .values(wanted=wanted, open=waits)
        .execution_options(synchronize_session="fetch")
    )


def _drawn(settings: ProjectSettings) -> sa.Case[int]:
    """Number of labelers of an item for which no lead set a number."""
    return sa.case((Item.double_draw < settings.double_share, settings.copies), else_=1)


def changed(db: Session, project_id: int, changes: dict[str, Any]) -> tuple[ProjectSettings, ProjectSettings]:
    """The settings as they are, and as they would be with these changes. UserError if a change is not possible."""
    stored = db.get_one(Project, project_id).settings
    old = ProjectSettings.model_validate(stored)
    given = {name: _over(stored.get(name), value) for name, value in changes.items()}
    new = build(ProjectSettings, stored | given, source="settings")
    if new.rubric.scale != old.rubric.scale and _has_ratings(db, project_id):
        raise UserError(
            f"settings: labelers have rated on a scale of 1 to {old.rubric.scale}, and two scales do not mix. Keep the"
            " number of points, or make another project"
        )
    return old, new


def _over(before: Any, given: Any) -> Any:
    """A section that is given in part changes in this part."""
    return {**before, **given} if isinstance(before, dict) and isinstance(given, dict) else given


def _has_ratings(db: Session, project_id: int) -> bool:
    chosen = sa.select(Event.content).join(Item, Item.id == Event.item_id)
    chosen = chosen.where(Event.project_id == project_id, Event.kind == "judgement", Item.kind == "ranking")
    return any((content or {}).get("ratings") for content in db.scalars(chosen.execution_options(yield_per=500)))


_LOCK = (
    sa.select(Project)
    .where(Project.id == sa.bindparam("project"))
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
_VERSION = sa.select(sa.func.max(Instruction.version)).where(
    Instruction.project_id == sa.bindparam("project"), Instruction.kind == sa.bindparam("kind")
)


def lock(db: Session, project_id: int) -> Project:
    """Lock a project until the end of the transaction, so that it has one chain of events and one queue."""
    project = db.scalar(_LOCK, {"project": project_id})
    assert project is not None
    return project


def archive(db: Session, project_id: int, now: datetime | None) -> None:
    """Archive a project, which then gives no work, or open it again (None)."""
    db.get_one(Project, project_id).archived = now


def write_instruction(
    db: Session, project_id: int, kind: InstructionKind, text: str, now: datetime, *, by: int | None
) -> Instruction:
    """Add a version. An unchanged text adds none."""
    lock(db, project_id)
    last = instruction(db, project_id, kind)
    if last is not None and last.text == text:
        return last
    version = last.version + 1 if last is not None else 1
    new = Instruction(project_id=project_id, kind=kind, version=version, text=text, when=now, person_id=by)
    db.add(new)
    db.flush()
    return new


def instruction(db: Session, project_id: int, kind: InstructionKind) -> Instruction | None:
    """The current version, or None."""
    return db.scalar(_versions(project_id, kind).limit(1))


def version(db: Session, project_id: int, kind: InstructionKind) -> int | None:
    """Number of the current version, or None."""
    return db.scalar(_VERSION, {"project": project_id, "kind": kind})


def instructions(db: Session, project_id: int, kind: InstructionKind) -> list[Instruction]:
    """All versions, the newest first."""
    return list(db.scalars(_versions(project_id, kind)))


def _versions(project_id: int, kind: InstructionKind) -> sa.Select[Instruction]:
    chosen = sa.select(Instruction).where(Instruction.project_id == project_id, Instruction.kind == kind)
    return chosen.order_by(Instruction.version.desc())
