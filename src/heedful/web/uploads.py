"""Files on their way in: kept from the preview to the import, checked for kind and size before anything is stored."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from heedful.config import UserError
from heedful.data import formats
from heedful.data.kinds import kind_of
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record
from heedful.feedback import items
from heedful.feedback.items import MOST_COMPLETIONS
from heedful.feedback.judgements import Versus

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
IMPORTED: dict[str, type[Prompt]] = {
    "prompts": Prompt,
    "completions": Completions,
    "comparisons": Comparison,
    "demonstrations": Demonstration,
    "choices": Choice,
    "versus": Versus,
}
"""Kinds of rows that people work on; `versus` are choices that nobody has made yet."""
MOST_UNPACKED = 1_000_000_000  # bytes of a .gz
KEPT_SECONDS = 24 * 3600.0
TOKEN = re.compile(r"[\w-]{16,64}\Z")


@dataclass(frozen=True)
class Upload:
    """A file that came in, under the name that its sender gave it."""

    token: str
    name: str
    path: Path


def keep(folder: Path, name: str, content: IO[bytes]) -> Upload:
    """Put a file aside; forgotten ones go. UserError for a file of another kind than ENDINGS."""
    name = Path(name.replace("\\", "/")).name or "upload.jsonl"
    ending = next((ending for ending in reversed(ENDINGS) if name.endswith(ending)), None)
    if ending is None:
        raise UserError(f"{name}: cannot read this kind of file; give {', '.join(ENDINGS)}")
    _clean(folder)
    token = secrets.token_urlsafe(18)
    place = folder / token
    place.mkdir(parents=True)
    (place / "name").write_text(name, encoding="utf-8")
    path = place / f"rows{ending}"
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file)
    if ending == ".jsonl.gz":
        _check_unpacked(path, name)
    return Upload(token, name, path)


def kept(folder: Path, token: str) -> Upload:
    """The file that `keep` put aside; UserError where it is gone."""
    place = folder / token
    if not TOKEN.match(token) or not (place / "name").is_file():
        raise UserError("the file is no longer here; choose it once more")
    path = next(place.glob("rows*"))
    return Upload(token, (place / "name").read_text(encoding="utf-8"), path)


def drop(upload: Upload) -> None:
    shutil.rmtree(upload.path.parent, ignore_errors=True)


def records(upload: Upload, text_chars: int, kind: str | None = None) -> tuple[str, list[Prompt]]:
    """(kind, rows) of a file; UserError naming row and field for what is malformed or too large."""
    try:
        kind = kind or kind_of(upload.path)
        if kind not in IMPORTED:
            raise UserError(f"{upload.name}: holds {kind}; people work on {', '.join(IMPORTED)}")
        rows: list[Prompt] = list(formats.read(upload.path, IMPORTED[kind]))
    except UserError as error:
        raise UserError(str(error).replace(str(upload.path), upload.name)) from None
    check_sizes(rows, text_chars, upload.name)
    return kind, rows


def against(folder: Path, one: Upload, other: Upload) -> Upload:
    """Two files of answers as one of head-to-head items (D8), paired by prompt."""
    rows = items.versus(*(formats.read(upload.path, Completions) for upload in (one, other)))
    content = "".join(json.dumps(row.row(), ensure_ascii=False) + "\n" for row in rows)
    paired = keep(folder, f"{one.name} against {other.name}.jsonl", BytesIO(content.encode("utf-8")))
    drop(one)
    drop(other)
    return paired


def check_sizes(rows: Sequence[Record], text_chars: int, name: str) -> None:
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
        turns = [row.prompt] if isinstance(row.prompt, str) else [turn.content for turn in row.prompt]
        yield from (("prompt", turn) for turn in turns)
    if isinstance(row, Demonstration):
        yield "completion", row.completion
    if isinstance(row, Completions):
        yield from ((f"completions.{k}", text) for k, text in enumerate(row.completions))
    if isinstance(row, Choice | Versus):
        yield from (("a.text", row.a.text), ("b.text", row.b.text))


def _check_unpacked(path: Path, name: str) -> None:
    """A small file can unpack to more than there is memory."""
    import gzip
    import zlib

    size = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                size += len(block)
                if size > MOST_UNPACKED:
                    raise UserError(f"{name}: unpacks to more than {MOST_UNPACKED:,} bytes; send it in parts")
    except (OSError, EOFError, zlib.error):
        return  # whoever reads it says what is wrong


def _clean(folder: Path) -> None:
    if folder.is_dir():
        for place in folder.iterdir():
            if place.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(place, ignore_errors=True)
