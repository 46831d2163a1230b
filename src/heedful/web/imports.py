"""Files that become items: checked for kind and size before anything is stored."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, TypeVar

from pydantic import Field

from heedful.config import Config, Seed, UserError
from heedful.data import curation, formats
from heedful.data.curation import CurationConfig, CurationReport
from heedful.data.kinds import kind_of
from heedful.data.reading.streams import FileLimits
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record
from heedful.data.shapes import mapping
from heedful.data.text import rows_told
from heedful.feedback import head_to_head, items
from heedful.feedback.items import MOST_COMPLETIONS
from heedful.feedback.judgements import Versus
from heedful.feedback.schema import Kind, Purpose
from heedful.feedback.store import Store
from heedful.web import uploads

IMPORTED: dict[str, tuple[type[Prompt], Kind]] = {
    "prompts": (Prompt, "demonstration"),
    "completions": (Completions, "ranking"),
    "comparisons": (Comparison, "ranking"),
    "demonstrations": (Demonstration, "demonstration"),
    "choices": (Choice, "choice"),
    "versus": (Versus, "choice"),
}
"""Kinds of rows that people work on, and the work. `versus` are choices that nobody has made yet."""
LIMITS = FileLimits(unpacked=1_000_000_000, ratio=0, rows=1_000_000)
NAMES = {
    "prompt": ("prompt", "question", "instruction", "query", "request", "input", "text", "message", "task"),
    "completion": ("completion", "answer", "response", "output", "reply"),
    "id": ("id",),
    "user": ("user", "user_id"),
    "source": ("source",),
    "use_case": ("use_case", "category"),
}
"""Usual names of fields, for a first guess at what a file holds."""
USUAL_NAMES = {name for names in NAMES.values() for name in names}
NAME = re.compile(r"[\w .-]{1,40}")
"""What the names in the first line of a table look like."""
EVERY_SPLIT = ["train", "valid", "test"]
MOST_REASONS = 5
R = TypeVar("R", bound=Record)


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


class ReadingOptions(Config):
    """How the rows of a file are read."""

    kind: str | None = Field(None, max_length=40)
    """Kind of the rows, where the first does not tell."""
    map: list[Annotated[str, Field(max_length=500)]] = []
    """What a field of the file is, as `prompt=question`. Without it heedful goes by the names of the fields."""
    skip_bad: bool = False
    """Leave out rows that cannot be read."""

    @property
    def given(self) -> list[str]:
        """The mapping without its empty entries."""
        return [one for one in self.map if one.strip()]


@dataclass(frozen=True)
class Received:
    """A file under the name that its sender gave it."""

    name: str
    content: IO[bytes]


@dataclass(frozen=True)
class ImportedRows:
    """The rows of a file, and their kind: a key of IMPORTED."""

    name: str
    kind: str
    rows: list[Prompt]
    left_out: list[str] = field(default_factory=list)
    """What of the file is not among the rows, and why."""

    @property
    def work(self) -> Kind:
        """The kind of work they become."""
        return IMPORTED[self.kind][1]


@contextmanager
def on_disk(folder: Path, file: Received) -> Iterator[Path]:
    """Keeps a file in a folder of its own while it is read. UserError for an ending not in `formats.READABLE`."""
    name = name_of(file)
    ending = max((ending for ending in formats.READABLE if name.lower().endswith(ending)), key=len, default=None)
    if ending is None:
        raise UserError(f"{name}: cannot read this kind of file. Give {', '.join(formats.READABLE)}")
    with uploads.place(folder) as place:
        path = place / f"rows{ending}"
        file.content.seek(0)  # a preview reads it twice
        with open(path, "wb") as written:
            shutil.copyfileobj(file.content, written)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from None


def read(folder: Path, files: Sequence[Received], text_chars: int, how: ReadingOptions) -> ImportedRows:
    """The rows of a file. Two files of answers become head-to-head items (D8), paired by prompt.

    UserError names row and field of what is malformed or too large.
    """
    if len(files) == 1:
        with on_disk(folder, files[0]) as path:
            return read_path(path, name_of(files[0]), text_chars, how)
    names = [name_of(file) for file in files]
    sides, left_out = [], []
    for file, name in zip(files, names, strict=True):
        with on_disk(folder, file) as path:
            answers, bad = _answers(path, name, how)
        sides.append(answers)
        left_out += bad
    paired = head_to_head.pair(*sides)
    rows: list[Prompt] = list(paired.pairs)
    name = " against ".join(names)
    _check_sizes(rows, text_chars, name)
    return ImportedRows(name, "versus", rows, [*left_out, *paired.left_out(names)])


def read_path(path: Path, name: str, text_chars: int, how: ReadingOptions) -> ImportedRows:
    """The rows of a file on the disk, by the name that its sender gave it."""
    fields = mapping.parse(how.given)
    kind = how.kind or kind_of(path, fields, limits=LIMITS)
    if kind not in IMPORTED:
        raise UserError(f"{name}: holds {kind}. People work on {', '.join(IMPORTED)}")
    rows, left_out = _rows(path, name, IMPORTED[kind][0], how)
    _check_sizes(rows, text_chars, name)
    return ImportedRows(name, kind, rows, left_out)


def _rows(path: Path, name: str, record_type: type[R], how: ReadingOptions) -> tuple[list[R], list[str]]:
    """The rows of a file, and lines about those that are left out."""
    reasons: Counter[str] = Counter()
    given = mapping.parse(how.given)
    rows = formats.read(path, record_type, given=given, limits=LIMITS, skip_bad=how.skip_bad, left_out=reasons)
    lines = [
        f"{name}: {rows_told(count)} left out: {reason.rstrip('.')}"
        for reason, count in reasons.most_common(MOST_REASONS)
    ]
    if more := reasons.total() - sum(count for _, count in reasons.most_common(MOST_REASONS)):
        lines.append(f"{name}: {more:,} more left out, for other reasons")
    return rows, lines


def _answers(path: Path, name: str, how: ReadingOptions) -> tuple[list[Completions], list[str]]:
    """The rows of one of two files of answers. A demonstration is an answer as well."""
    kind = how.kind or kind_of(path, mapping.parse(how.given), limits=LIMITS)
    if kind in ("completions", "comparisons"):
        return _rows(path, name, Completions, how)
    if kind != "demonstrations":
        raise UserError(f"{name}: holds {kind}. Two files are compared by their answers: give completions")
    rows, left_out = _rows(path, name, Demonstration, how)
    made = [{**row.row(), "completions": [row.completion]} for row in rows]
    return [
        Completions.model_validate({key: row[key] for key in row if key in Completions.model_fields}) for row in made
    ], left_out


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
        raise UserError("curation leaves nothing of this file. Look at its preview")
    given = options.model_dump(include={"purpose", "priority", "wanted"}) | {"source": options.source or None}
    with store.writing() as db:
        return items.add(db, project_id, IMPORTED[kind][1], chosen, now, by=person_id, **given)


def pasted(text: str, form: str = "") -> Received:
    """A pasted text as a file: JSON, a table with a line of names, or a prompt on each line."""
    return Received(f"pasted text.{form or _form(text)}", BytesIO(text.encode("utf-8", "surrogatepass")))


def _form(text: str) -> str:
    """What a pasted text looks like, as the ending of a file."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if lines[0].lstrip().startswith(("{", "[")):
        return "json" if text.lstrip().startswith("[") else "jsonl"
    for ending, sign in (("tsv", "\t"), ("csv", ",")):
        names = [name.strip(' "').lower() for name in lines[0].split(sign)]
        if len(names) > 1 and len(lines) > 1 and all(map(NAME.fullmatch, names)) and USUAL_NAMES & set(names):
            return ending
    return "txt"


def name_of(file: Received) -> str:
    """The name of a file without its folders."""
    return Path(file.name.replace("\\", "/")).name or "upload.jsonl"


def _check_sizes(rows: Sequence[Record], text_chars: int, name: str) -> None:
    """UserError for the first row with a text that is too long or too many completions."""
    for number, row in enumerate(rows, 1):
        for where, text in _texts(row):
            if len(text) > text_chars:
                raise UserError(
                    f"{name}: row {number}: field '{where}': {len(text):,} characters. At most {text_chars:,} are"
                    " allowed: cut the text, leave the row out, or start the server with a larger --text-chars"
                )
        if isinstance(row, Completions) and len(row.completions) > MOST_COMPLETIONS:
            found = f"{len(row.completions)} completions. At most {MOST_COMPLETIONS} are shown at once"
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
