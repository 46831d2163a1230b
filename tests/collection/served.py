"""What a server hands to the collection, and a store with accounts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.collection import store as collected
from heedful.collection.settings import CollectionConfig
from heedful.feedback import people, projects
from heedful.feedback.store import Store
from heedful.serve.types import ServedExchange

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CONFIG = CollectionConfig()


def exchange(id: str = "chatcmpl-1", user: str = "ada", **changed: Any) -> ServedExchange:
    given: dict[str, Any] = {
        "id": id, "user": user, "key_id": 1, "consent": CONFIG.version, "model": "demo", "upstream": False,
        "messages": [{"role": "user", "content": f"Why is {id} blue?"}], "prompt": None,
        "answers": [f"Because of {id}.", "I do not know."], "finish": ["stop", "length"],
        "settings": {"temperature": 0.7}, "started": START, "seconds": 1.5,
    }  # fmt: skip
    return ServedExchange(**{**given, **changed})


def open_store(folder: Path, *names: str) -> Store:
    """A store with accounts and the project `tea`, which `lea` leads."""
    store = Store.open(folder / "heedful.db")
    with store.writing() as db:
        lead = people.add_person(db, "lea", None, START, admin=True).id
        project = projects.create(db, "tea", START, settings={"double_share": 0.0, "gold_share": 0.0}).id
        people.join(db, project, lead, "lead", START)
        for name in names:
            people.add_person(db, name, None, START)
    return store


def keep(store: Store, *exchanges: ServedExchange, now: datetime = START) -> list[str | None]:
    with store.writing() as db:
        return [collected.add(db, one, now) for one in exchanges]
