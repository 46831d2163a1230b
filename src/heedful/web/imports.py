"""Files that become items: checked for kind and size before anything is stored."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from pydantic import Field

from heedful.config import Config, Seed, UserError
from heedful.data import curation, formats
from heedful.data.curation import CurationConfig, CurationReport
from heedful.data.kinds import kind_of
from heedful.data.reading.streams import Limits
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record
from heedful.feedback import items
from heedful.feedback.items import MOST_COMPLETIONS
from heedful.feedback.judgements import Versus
from heedful.feedback.schema import Kind, Purpose
from heedful.feedback.store import Store

IMPORTED: dict[str, tuple[type[Prompt], Kind]] = {
    "prompts": (Prompt, "demonstration"),
    "completions": (Completions, "ranking"),
    "comparisons": (Comparison, "ranking"),
    "demonstrations": (Demonstration, "demonstration"),
    "choices": (Choice, "choice"),
    "versus": (Versus, "choice"),
}
"""Kinds of rows that people work on, and the work. `versus` are choices that nobody has made yet."""
LIMITS = Limits(unpacked=1_000_000_000, ratio=0, rows=1_000_000)
EVERY_SPLIT = ["train", "valid", "test"]


class ImportOptions(Config):
    """How a file becomes items."""

    purpose: Purpose = "train"
    source: str | None = Field(None, max_length=200)
    priority: int = Field(0, ge=-1000, le=1000)
    wanted: int | None = Field(None, ge=1, le=100)
    curate: bool = False
    """First leave out repeats, prompts beyond a user's share, and personal data (D2)."""
    prefix_length: int = Field(100, ge=1, le=100_000)
    prompts_per_user: int = Field(200, ge=1, le=1_000_000)
    seed: Seed = 0


@dataclass(frozen=True)
class Received:
    """A file under the name that its sender gave it."""

    name: str
    content: IO[bytes]


@dataclass(frozen=True)
class Rows:
    """The rows of a file, and their kind: a key of IMPORTED."""

    name: str
    kind: str
    rows: list[Prompt]

    @property
    def work(self) -> Kind:
        """The kind of work they become."""
        return IMPORTED[self.kind][1]


@contextmanager
def on_disk(folder: Path, file: Received) -> Iterator[Path]:
    """Keeps a file in a folder of its own while it is read. UserError for an ending not in `formats.READABLE`."""
    name = _name(file)
    ending = max((ending for ending in formats.READABLE if name.lower().endswith(ending)), key=len, default=None)
    if ending is None:
        raise UserError(f"{name}: cannot read this kind of file; give {', '.join(formats.READABLE)}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / f"rows{ending}"
        with open(path, "wb") as written:
            shutil.copyfileobj(file.content, written)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from None


def read(folder: Path, files: Sequence[Received], text_chars: int, kind: str | None = None) -> Rows:
    """The rows of a file; two files of answers become head-to-head items (D8), paired by prompt.

    UserError names row and field of what is malformed or too large.
    """
    names = " against ".join(map(_name, files))
    if len(files) == 2:
        with on_disk(folder, files[0]) as one, on_disk(folder, files[1]) as other:
            rows: list[Prompt] = list(
                items.versus(*(formats.read(path, Completions, limits=LIMITS) for path in (one, other)))
            )
        kind = "versus"
    else:
        with on_disk(folder, files[0]) as path:
            kind = kind or kind_of(path, limits=LIMITS)
            if kind not in IMPORTED:
                raise UserError(f"{names}: holds {kind}; people work on {', '.join(IMPORTED)}")
            rows = list(formats.read(path, IMPORTED[kind][0], limits=LIMITS))
    _check_sizes(rows, text_chars, names)
    return Rows(names, kind, rows)


def curated(rows: Sequence[Prompt], options: ImportOptions) -> tuple[list[Prompt], CurationReport]:
    """The rows that curation keeps, and why it leaves out the others. People read every split, so all are searched."""
    given = options.model_dump(include={"prefix_length", "prompts_per_user", "seed"})
    return curation.curate(rows, CurationConfig(personal_data_splits=EVERY_SPLIT, **given))


def add_rows(
    store: Store,
    project_id: int,
    person_id: int,
    kind: str,
    rows: Sequence[Prompt],
    options: ImportOptions,
    now: datetime,
) -> items.Added:
    """Puts rows of a kind (a key of IMPORTED) into the queue."""
    chosen = curated(rows, options)[0] if options.curate else list(rows)  # takes seconds: nobody else waits for it
    if not chosen:
        raise UserError("curation leaves nothing of this file; look at its preview")
    given = options.model_dump(include={"purpose", "priority", "wanted"}) | {"source": options.source or None}
    with store.writing() as db:
        return items.add(db, project_id, IMPORTED[kind][1], chosen, now, by=person_id, **given)


def _name(file: Received) -> str:
    return Path(file.name.replace("\\", "/")).name or "upload.jsonl"


def _check_sizes(rows: Sequence[Record], text_chars: int, name: str) -> None:
    """UserError for the first row with a text that is too long or too many completions."""
    for number, row in enumerate(rows, 1):
        for field, text in _texts(row):
            if len(text) > text_chars:
                raise UserError(
                    f"{name}: row {number}: field '{field}': {len(text):,} characters; at most {text_chars:,} are"
                    " allowed: cut the text, leave the row out, or start the server with a larger --text-chars"
                )
        if isinstance(row, Completions) and len(row.completions) > MOST_COMPLETIONS:
            found = f"{len(row.completions)} completions; at most {MOST_COMPLETIONS} are shown at once"
            raise UserError(f"{name}: row {number}: {found}")


def _texts(row: Record) -> Iterator[tuple[str, str]]:
    if isinstance(row, Prompt):
        turns = [row.prompt] if isinstance(row.prompt, str) else [turn.shown for turn in row.prompt]
        yield from (("prompt", turn) for turn in turns)
    if isinstance(row, Demonstration):
        yield "completion", row.completion
    if isinstance(row, Completions):
        yield from ((f"completions.{k}", text) for k, text in enumerate(row.completions))
    if isinstance(row, Choice | Versus):
        yield from (("a.text", row.a.text), ("b.text", row.b.text))
