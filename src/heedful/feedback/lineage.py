"""From a run back to the judgements that shaped it, and from a labeler forward to snapshots and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Shaped:
    """One judgement behind a run; `through` names the runs and the snapshot between them."""

    event: int
    hash: str
    project: str
    labeler: str
    kind: str
    when: datetime
    snapshot: str
    through: tuple[str, ...]


def of_run(db: Session, run: str | Path, runs: Sequence[str | Path] = ()) -> list[Shaped]:
    """The judgements behind a run, a checkpoint or a model folder; parents are found by their paths, or by id in
    the folders of `runs`.
    """
    raise NotImplementedError


def of_labeler(db: Session, name: str, runs: Sequence[str | Path] = ()) -> dict[str, Any]:
    """{"labeler", "snapshots": [...], "runs": [...]}: where her work went."""
    raise NotImplementedError
