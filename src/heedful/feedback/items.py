"""Items of work: from files or records into the queue, and what a lead does with them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from heedful.data.curation import CurationConfig, CurationReport
from heedful.data.records import Completions, Prompt, Record
from heedful.feedback.schema import Item, Kind, Purpose


@dataclass(frozen=True)
class Added:
    """What an import did: items made, and rows left out because the project holds them already."""

    items: int
    known: int
    refs: tuple[str, ...]


def add(
    db: Session,
    project_id: int,
    kind: Kind,
    records: Sequence[Record],
    now: datetime,
    *,
    by: int | None,
    purpose: Purpose = "train",
    source: str | None = None,
    priority: int = 0,
    wanted: int | None = None,
    gold: Sequence[dict[str, Any]] | None = None,
    explanations: Sequence[str | None] | None = None,
) -> Added:
    """Put records into the queue: `Prompt` for demonstrations, `Completions` (K >= 2) for rankings, `Versus` (or
    `Choice`, whose preference becomes the known answer) for choices, `Request` for prompts. A `Comparison` is
    `Completions` with a known answer.

    `wanted` labelers judge each; None: one, or as many as the project doubles. `gold`: the known answer of each, a
    judgement in indices, needed for gold, attention, screening and practice. The same payload is not added twice for
    one kind and purpose (prompt requests aside). UserError for a record that cannot be worked on.
    """
    raise NotImplementedError


def versus(a: Sequence[Completions], b: Sequence[Completions]) -> list[Record]:
    """Head-to-head items (D8) of two files of answers, paired by prompt; the first completion of each counts."""
    raise NotImplementedError


def ask_for_prompts(
    db: Session, project_id: int, form: str, count: int, now: datetime, *, by: int | None, **about: Any
) -> Added:
    """`count` items that each ask for one prompt (D1); `about`: use_case, about."""
    raise NotImplementedError


def preview(prompts: Sequence[Prompt], config: CurationConfig | None = None) -> tuple[list[Prompt], CurationReport]:
    """What curation would keep, and why not the rest."""
    raise NotImplementedError


def import_scores(db: Session, project_id: int, path: str | Path, name: str | None = None) -> int:
    """Take in a file of `heedful score` (completions with `scores`) as those of reward model `name` (by default the
    file's stem); returns how many items it scored. Items are matched by prompt and completions.
    """
    raise NotImplementedError


def by_ref(db: Session, project_id: int, ref: str) -> Item | None:
    raise NotImplementedError


def listing(
    db: Session,
    project_id: int,
    *,
    kind: Kind | None = None,
    purpose: Purpose | None = None,
    open: bool | None = None,
    held: bool | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Item]:
    """The newest first, payloads loaded; `before` an id, to turn the page."""
    raise NotImplementedError


def counts(db: Session, project_id: int) -> list[tuple[Kind, Purpose, bool, int]]:
    """(kind, purpose, whether open, items)."""
    raise NotImplementedError


def prioritise(db: Session, project_id: int, refs: Sequence[str], priority: int) -> None:
    raise NotImplementedError


def want(db: Session, project_id: int, refs: Sequence[str], wanted: int) -> None:
    """Ask for so many labelers on each of these items."""
    raise NotImplementedError


def set_gold(
    db: Session,
    project_id: int,
    ref: str,
    purpose: Purpose,
    answer: dict[str, Any],
    explanation: str | None,
    now: datetime,
    *,
    by: int,
) -> Item:
    """A copy of an item, with a known answer in indices, for everybody to judge once."""
    raise NotImplementedError


def hold(db: Session, project_id: int, ref: str, why: str | None, now: datetime, *, by: int | None) -> None:
    """Stop giving an item out, or (`why` None) give it out again."""
    raise NotImplementedError


def redact(db: Session, project_id: int, ref: str, why: str, now: datetime, *, by: int) -> None:
    """Take an item's texts out for good, with those of all judgements of it; their events and hashes stay."""
    raise NotImplementedError
