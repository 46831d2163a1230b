"""How often users agree with labelers about the same two answers. Read it before a reward learns from users."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.data import formats
from heedful.data.records import Choice
from heedful.feedback import readings
from heedful.feedback.columns import digest
from heedful.feedback.judgements import PAYLOADS, completions
from heedful.feedback.quality.types import preferences
from heedful.feedback.schema import WORK, Item
from heedful.feedback.store import Store

BATCH = 500


@dataclass(frozen=True)
class UserAgreement:
    """Pairs of a user's and a labeler's judgement of the same two answers, of which neither is a tie."""

    agree: int
    pairs: int
    ties: int
    """Pairs of judgements of which one or both is a tie."""

    def line(self) -> str:
        """A line for people."""
        if not self.pairs:
            return "labelers judged none of these answers, so nothing says whether they agree with users"
        share = f"{100 * self.agree / self.pairs:.0f} %"
        tied = f" ({self.ties} more with a tie)" if self.ties else ""
        return f"users and labelers prefer the same answer in {self.agree} of {self.pairs} cases, {share}{tied}"


def with_labelers(db: Session, choices: Sequence[Choice]) -> UserAgreement:
    """Compare users' choices with the rankings and choices of labelers in all projects."""
    judged = _judged(db, {digest(choice.row()["prompt"]) for choice in choices})
    agree = pairs = ties = 0
    for choice in choices:
        side = {"a": 1, "b": -1, "tie": 0}[choice.preferred]
        for other in judged[digest(choice.row()["prompt"]), choice.a.text, choice.b.text]:
            if side and other:
                agree, pairs = agree + (side == other), pairs + 1
            else:
                ties += 1
    return UserAgreement(agree, pairs, ties)


def _judged(db: Session, prompts: set[str]) -> dict[tuple[str, str, str], list[int]]:
    """Labelers' preferences by prompt, first and second text: 1 for the first, -1 for the second, 0 for a tie."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    names = sorted(prompts)
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        for project_id in db.scalars(sa.select(Item.project_id).where(Item.prompt_sha256.in_(some)).distinct()).all():
            chosen = readings.standing(project_id, ("ranking", "choice"), WORK)
            for row in db.execute(chosen.where(Item.prompt_sha256.in_(some))):
                _add(found, row)
    return found


def _add(found: dict[tuple[str, str, str], list[int]], row: Any) -> None:
    texts = completions(PAYLOADS[row.kind].model_validate(row.payload))
    for (first, second), side in preferences(readings.ranking(row.kind, row.content)).items():
        found[row.prompt_sha256, texts[first], texts[second]].append(side)
        found[row.prompt_sha256, texts[second], texts[first]].append(-side)


def of_snapshot(store: Store, path: Path) -> str:
    """How often the choices of a snapshot agree with labelers, as a line for people."""
    with store.reading() as db:
        return with_labelers(db, formats.read(path, Choice)).line()
