"""Progress, agreement and alerts of a project, for its leads."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from heedful.feedback import derive, items, people, projects, readings
from heedful.feedback.quality import agreement, alerts, gold
from heedful.feedback.quality.groups import OpposedPair, opposed
from heedful.feedback.schema import WORK, Kind, Project, Purpose
from heedful.feedback.store import Store
from heedful.maths.statistics import Interval

DRAWS = 1000  # of a bootstrap: as few as an interval may have (T3)
LEAST_SHARED = 5  # items two labelers share before the pair is shown
KEPT = 8  # projects


FOR_LEADS = {"gold_share", "attention_share", "screening", "alerts"}
"""Settings that would tell labelers how their work is checked."""


@dataclass(frozen=True)
class Logged:
    """An entry of the log, as a member sees it."""

    id: int
    when: datetime
    who: str | None
    action: str
    target: str
    detail: dict[str, Any]


def log(db: Session, project_id: int, *, leads: bool, before: int | None = None, limit: int = 100) -> list[Logged]:
    """The log, newest first. Only `leads` see the settings that tell how work is checked."""
    hidden = set() if leads else FOR_LEADS
    return [
        Logged(
            one.id, one.when, who, one.action, one.target,
            {key: value for key, value in one.detail.items() if key not in hidden},
        )
        for one, who in people.audit_log(db, project_id, before=before, limit=limit)
    ]  # fmt: skip


@dataclass(frozen=True)
class Queue:
    """Items of one kind and purpose."""

    kind: Kind
    purpose: Purpose
    items: int
    open: int


@dataclass(frozen=True)
class Progress:
    """Progress of the project. `daily` has an entry for every day."""

    judgements: int
    today: int
    seconds: float
    queue: list[Queue]
    forecast: dict[Kind, derive.Forecast]
    daily: list[tuple[date, int]]
    by_labeler: dict[str, int]
    last_week: dict[str, int]


def progress(db: Session, project_id: int, now: datetime, *, days: int = 28) -> Progress:
    work = derive.days(db, project_id)
    by_day: Counter[date] = Counter()
    by_labeler: Counter[str] = Counter()
    last_week: Counter[str] = Counter()
    for day in work:
        by_day[day.day] += 0 if day.model else day.judgements
        by_labeler[day.labeler] += day.judgements
        if day.day > now.date() - timedelta(days=7):
            last_week[day.labeler] += day.judgements
    queue: dict[tuple[Kind, Purpose], list[int]] = {}
    for kind, purpose, is_open, count in items.counts(db, project_id):
        total = queue.setdefault((kind, purpose), [0, 0])
        total[0] += count
        total[1] += count if is_open else 0
    dates = [now.date() - timedelta(days=back) for back in reversed(range(days))]
    return Progress(
        judgements=sum(by_day.values()),
        today=by_day[now.date()],
        seconds=sum(day.seconds for day in work if not day.model),
        queue=[Queue(kind, purpose, total, left) for (kind, purpose), (total, left) in sorted(queue.items())],
        forecast=derive.forecast(db, project_id, now),
        daily=[(day, by_day[day]) for day in dates],
        by_labeler=dict(by_labeler),
        last_week=dict(last_week),
    )


@dataclass(frozen=True)
class ProjectAgreement:
    """Of preferences, unless a field says otherwise. See `quality.agreement`."""

    judgements: int
    none_acceptable: int
    """Judgements that find no answer acceptable. They are ties of all answers, or have an order all the same."""
    all: agreement.Summary
    groups: dict[str, agreement.Summary]
    between: list[tuple[str, str, Interval | None]]
    overall: agreement.Summary
    flags: dict[str, Interval | None]
    """Krippendorff's alpha of each flag that the project asks for."""
    weeks: list[tuple[date, agreement.Summary]]
    pairs: list[agreement.LabelerPair]
    labelers: dict[str, Interval | None]
    gold: dict[str, gold.GoldAccuracy]
    opposed: list[OpposedPair]
    alerts: list[alerts.Alert]


class ProjectAgreements:
    """A cache of each project's last result.

    A result is valid until the project has a new event, other cut-offs or a new log entry. Redactions and deletions add
    no event, but a log entry.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[tuple[str, str, int], ProjectAgreement]] = {}
        self._computing = threading.Lock()  # one at a time: it fills a processor

    def of(self, db: Session, project_id: int) -> ProjectAgreement:
        settings = projects.settings(db, project_id)
        cutoffs = settings.alerts
        logged = people.audit_log(db, project_id, limit=1)
        names = settings.rubric.names if settings.rate_first else []
        asked = f"{cutoffs.model_dump_json()} {names}"
        state = (db.get_one(Project, project_id).head, asked, logged[0][0].id if logged else 0)
        with self._computing:
            kept = self._kept.get(project_id)
            if kept is None or kept[0] != state:
                kept = state, compute(db, project_id, cutoffs, names)
                self._kept.pop(project_id, None)
                self._kept[project_id] = kept
                while len(self._kept) > KEPT:
                    del self._kept[next(iter(self._kept))]
        return kept[1]


def agreement_of(request: Request, store: Store, project_id: int) -> ProjectAgreement:
    """The agreement of a project, from the server's cache where nothing has changed."""
    agreements: ProjectAgreements = request.app.state.agreements
    with store.reading() as db:
        return agreements.of(db, project_id)


def compute(db: Session, project_id: int, cutoffs: alerts.AlertCutoffs, flags: list[str]) -> ProjectAgreement:
    plain = readings.judgements(db, project_id, purposes=WORK)
    judged = plain + readings.judgements(db, project_id, purposes=readings.KNOWN)
    table = agreement.preference_table(plain)
    names = sorted({one.group for one in plain if one.group is not None})
    return ProjectAgreement(
        judgements=len(judged),
        none_acceptable=sum(one.none_acceptable for one in judged),
        all=agreement.summary(table, draws=DRAWS),
        groups=agreement.by_group(plain, draws=DRAWS),
        between=[
            (one, other, agreement.between_groups(plain, one, other))
            for i, one in enumerate(names)
            for other in names[i + 1 :]
        ],
        overall=agreement.summary(agreement.overall_table(plain), "ordinal", draws=DRAWS),
        flags={name: agreement.alpha(agreement.flag_table(plain, name), draws=DRAWS) for name in flags},
        weeks=agreement.over_time(plain, draws=DRAWS),
        pairs=agreement.by_pair(table, least_items=LEAST_SHARED, draws=DRAWS),
        labelers=agreement.by_labeler(table),
        gold=gold.accuracy(judged),
        opposed=opposed(plain),
        alerts=alerts.alerts(judged, readings.written(db, project_id), cutoffs),
    )
