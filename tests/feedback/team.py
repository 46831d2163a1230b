"""A project with people and items, for tests of what they do with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from heedful.data.records import Completions, Prompt, Record
from heedful.feedback import items, people, projects, work
from heedful.feedback.schema import Base, Item, Kind, Purpose, Role
from heedful.feedback.store import Store

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "double_share": 0.0, "gold_share": 0.0, "attention_share": 0.0, "rate_first": False, "lease_minutes": 60,
}  # fmt: skip


def empty(store: Store) -> None:
    """Take everything out; ids begin anew."""
    with store.writing() as db:
        if store.is_sqlite:
            for table in reversed(Base.metadata.sorted_tables):
                db.execute(sa.delete(table))
        else:
            tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
            db.execute(sa.text(f"truncate {tables} restart identity"))


class Team:
    """Project `tea`; nothing is doubled or mixed in unless `settings` say so. Time stands still until `wait`."""

    def __init__(self, store: Store, *labelers: str, **settings: Any) -> None:
        self.store, self.now = store, START
        self._keys = itertools.count()
        self.ids: dict[str, int] = {}
        with store.writing() as db:
            self.project = projects.create(db, "tea", START, settings=PLAIN | settings).id
        for name in labelers:
            self.join(name)

    def join(self, name: str, role: Role = "labeler", group: str | None = None, phase: Any = None) -> int:
        with self.store.writing() as db:
            self.ids[name] = people.add_person(db, name, None, self.now).id
            people.join(db, self.project, self.ids[name], role, self.now, group, phase)
        return self.ids[name]

    def wait(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def add(self, kind: Kind, records: Sequence[Record], purpose: Purpose = "train", **options: Any) -> tuple[str, ...]:
        with self.store.writing() as db:
            return items.add(
                db, self.project, kind, records, self.now, by=None, purpose=purpose, **options
            ).refs  # fmt: skip

    def rankings(self, count: int, K: int = 3, start: int = 0, **options: Any) -> tuple[str, ...]:
        rows = [
            Completions(prompt=f"Q{i}?", completions=[f"{i}.{k}" for k in range(K)], models=[f"m{k}" for k in range(K)])
            for i in range(start, start + count)
        ]
        return self.add("ranking", rows, **options)

    def gold_rankings(self, count: int, purpose: Purpose = "gold", **options: Any) -> tuple[str, ...]:
        rows = [Completions(prompt=f"{purpose} {i}?", completions=["right", "wrong", "silly"]) for i in range(count)]
        return self.add("ranking", rows, purpose, gold=[{"ranking": [[0], [1], [2]]}] * count, **options)

    def prompts(self, count: int, **options: Any) -> tuple[str, ...]:
        return self.add("demonstration", [Prompt(prompt=f"Write {i}.") for i in range(count)], **options)

    def next(self, name: str, **options: Any) -> work.Task | work.Nothing:
        with self.store.writing() as db:
            return work.next_task(db, self.project, self.ids[name], self.now, **options)

    def task(self, name: str, **options: Any) -> work.Task:
        found = self.next(name, **options)
        assert isinstance(found, work.Task), found
        return found

    def submit(
        self, name: str, task: work.Task, answer: Any = None, key: str | None = None, **options: Any
    ) -> work.Done:
        """By default the completions one below the other as they are shown."""
        answer = answer or self.answer(task)
        key = key or f"key {next(self._keys)}"
        with self.store.writing() as db:
            return work.submit(db, self.ids[name], task.lease, answer, self.now, idempotency_key=key, **options)

    def answer(self, task: work.Task) -> dict[str, Any]:
        if task.kind == "ranking":
            return {"ranking": [[place] for place in range(len(task.completions))]}
        return {
            "demonstration": {"completion": "I wrote this."},
            "choice": {"preferred": "a"},
            "prompt": {"prompt": "Tell me about tea."},
        }[task.kind]

    def work(self, name: str, count: int = 1, kind: Kind | None = None, **options: Any) -> list[work.Done]:
        return [self.submit(name, self.task(name, kind=kind), **options) for _ in range(count)]

    def skip(self, name: str, task: work.Task, key: str | None = None) -> int:
        key = key or f"key {next(self._keys)}"
        with self.store.writing() as db:
            return work.skip(db, self.ids[name], task.lease, "unclear", self.now, idempotency_key=key)

    def undo(self, name: str, event: int | None = None, **options: Any) -> work.Task:
        with self.store.writing() as db:
            return work.undo(db, self.project, self.ids[name], self.now, event, **options)

    def settle(self, **changes: Any) -> None:
        with self.store.writing() as db:
            projects.change_settings(db, self.project, changes)

    def item(self, ref: str) -> Item:
        with self.store.reading() as db:
            found = items.by_ref(db, self.project, ref)
        assert found is not None
        return found

    def rows(self, *columns: Any, where: Any = True) -> list[Any]:
        """Straight from the tables, in the order of the first column."""
        with self.store.reading() as db:
            return list(db.execute(sa.select(*columns).where(where).order_by(columns[0])))
