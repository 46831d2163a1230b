"""`heedful curate`: which of its two forms is meant, and the one that fills a queue."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.collection import curation
from heedful.collection.settings import OF_FILE, OF_QUEUE, QueueConfig
from heedful.config import UserError
from heedful.feedback import projects
from heedful.feedback.store import Store


def is_of_folder(
    settings: QueueConfig, prompts: str | None, out: Path | None, overwrite: bool, *, folder: Path | None,
    project: str | None, db: str | None,
) -> bool:  # fmt: skip
    """Whether what a server collected is meant, and not a file. UserError for options of the other form."""
    if (prompts is None) == (folder is None):
        raise UserError("give --prompts and a file, or --folder and the folder of a server")
    if folder is not None:
        _refuse({"--out": out, "--overwrite": overwrite or None}, settings, OF_FILE, "--prompts")
        return True
    _refuse({"--project": project, "--db": db}, settings, OF_QUEUE, "--folder")
    if out is None:
        raise UserError("--out is missing. See --help")
    return False


def into_queue(
    settings: QueueConfig, *, folder: Path, project: str | None, db: str | None
) -> tuple[str, dict[str, Any]]:
    """Curate what was collected into the queue of a project. Returns the place and the results."""
    store = Store.open(db or folder / "heedful.db", create=False)
    with store.reading() as session:
        named = projects.the_one(session, project)
    done = curation.curate(store, named.id, settings, datetime.now(UTC), by=None)
    results = {"prompts": done.exchanges, "queued": done.queued, "decisions": done.decisions}
    return f"project {named.name}", results


def _refuse(options: dict[str, Any], settings: QueueConfig, names: tuple[str, ...], of: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    given += [f"--{name.replace('_', '-')}" for name in names if name in settings.model_fields_set]
    if given:
        raise UserError(f"{given[0]}: only with {of}. Leave it out")
