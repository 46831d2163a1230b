"""The commands about prompts of users: curate them, and forget a user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from heedful import terminal
from heedful.commands.base import AS_JSON, DATA, OVERWRITE, SERVE, command, option
from heedful.errors import UserError
from heedful.headings import INPUT, RUN


@command(
    "curate", DATA, option("--prompts", metavar="FILE", help="Prompts to curate, into --out.", panel=INPUT),
    option("--folder", type=Path, metavar="DIR", panel=INPUT, help="Folder of `heedful serve`: curate what its users "
            "sent, into the queue of --project."),
    option("--project", metavar="NAME", help="Project whose queue is filled, if there are several.", panel=INPUT),
    option("--db", metavar="DB", help="Another database than heedful.db in the folder.", panel=INPUT),
    option("--out", type=Path, metavar="FILE", help="New file: .jsonl, .jsonl.gz or .parquet.", panel=RUN),
    OVERWRITE, AS_JSON, config="heedful.collection.settings:QueueConfig",
)  # fmt: skip
def _curate(
    settings: Any, prompts: str | None, out: Path | None, overwrite: bool, as_json: bool, **queue: Any
) -> None:  # fmt: skip
    """Deduplicate prompts, split them by user and remove personal data.

    The steps follow the paper: repeats by their shared prefix, a limit for each user, a split by user, and no personal
    data in the training split. With --folder, the prompts of users who agreed enter a project's queue. There, personal
    data is hidden, all splits but `train` are held out, and leads see and reverse each decision.
    """
    from heedful.collection import commands
    from heedful.data import curation, formats
    from heedful.data.records import Prompt

    if commands.is_of_folder(settings, prompts, out, overwrite, **queue):
        where, results = commands.into_queue(settings, **queue)
        return terminal.show(where, results, as_json)
    assert prompts is not None
    assert out is not None
    terminal.check_free(out, overwrite)
    kept, account = curation.curate(formats.read(prompts, Prompt), settings)
    curation.warn_of_empty(account)
    formats.write(out, kept)
    results = account.model_dump(exclude={"settings"})
    if not as_json:
        results["removed"] = {step.name: f"{step.removed} of {step.before}: {step.why}" for step in account.steps}
        del results["steps"]
    terminal.show(str(out), results, as_json)


@command(
    "forget", SERVE,
    option("--user", metavar="NAME", help="Account, or ACCOUNT/USER for a user whom a program names."),
    option("--older-than", type=click.IntRange(1, 36_500), metavar="DAYS", help="Delete what is older, of all users. A "
           "server does it by itself."),
    option("--folder", type=Path, default=Path("."), metavar="DIR", help="Project folder, with runs and the database "
            "heedful.db."),
    option("--db", metavar="DB", help="Another database: a SQLite file or a postgresql:// URL."), AS_JSON,
)  # fmt: skip
def _forget(user: str | None, older_than: int | None, folder: Path, db: str | None, as_json: bool) -> None:
    """Delete what is kept of a user of served models, or what is too old.

    Prompts, answers, thumbs, edits, picks, items of the queue and snapshots that no run has read are gone. The command
    lists the snapshots and runs that hold some all the same. The account stays. With --older-than, items that a labeler
    has judged stay, and so do snapshots. Chats of the playground go, too.
    """
    from datetime import UTC, datetime

    from heedful.collection import forget, retention
    from heedful.feedback.store import Store

    if (user is None) == (older_than is None):
        raise UserError("give --user NAME, or --older-than DAYS")
    store, now = Store.open(db or folder / "heedful.db", create=False), datetime.now(UTC)
    if older_than is not None:
        gone: Any = retention.sweep(store, older_than, [folder], now)
    else:
        gone = forget.forget(store, str(user), [folder], now, by=None)
    print(json.dumps(gone.row(), ensure_ascii=False) if as_json else "\n".join(gone.lines()))
