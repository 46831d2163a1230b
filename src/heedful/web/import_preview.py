"""What a file would become, before anything is stored: its fields, the first rows, and what is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.data.curation import CurationReport
from heedful.data.explain import Explanation, explain
from heedful.data.records import Prompt, as_text
from heedful.data.shapes import mapping
from heedful.data.shapes.mapping import TARGETS
from heedful.feedback import items
from heedful.web import imports
from heedful.web.imports import IMPORTED, LIMITS, NAMES, ImportedRows, ImportOptions, ReadingOptions, Received

FIRST_ROWS = 6
USED_HERE = tuple(name for name in TARGETS if name not in ("text", "label"))
"""What a field can become in the app."""
SEVERAL = re.compile(r"(answer|response|completion|output|reply)s?[ _-]?([a-i]|\d)")
REMEDY = re.compile(r"\s*Name (the fields|them)\b.*--map.*$", re.DOTALL)

MAP = re.compile(r"^--map:? |, as in --map.*$")


@dataclass(frozen=True)
class ImportField:
    """One field of a file."""

    name: str
    example: str
    target: str
    """What it becomes by a mapping. Empty: what the shape says."""
    unused: bool


@dataclass(frozen=True)
class Look:
    """What a file would become. It can be imported if there are `rows` and no `problem`."""

    name: str
    problem: str = ""
    fields: list[ImportField] = field(default_factory=list)
    mapped: list[str] = field(default_factory=list)
    """The mapping that was used, as TARGET=FIELD."""
    guessed: bool = False
    """The mapping is a guess from the names of the fields."""
    told: Explanation | None = None
    rows: ImportedRows | None = None
    chosen: Sequence[Prompt] = ()
    """The rows that an import would add."""
    report: CurationReport | None = None


def look(folder: Path, files: Sequence[Received], text_chars: int, how: ReadingOptions, options: ImportOptions) -> Look:
    """Read a file, or two files of answers, without storing anything. UserError if it cannot be opened."""
    seen = [_look_at(folder, file, how) for file in files]
    for one in seen:
        if one.problem or (one.told is not None and one.told.refused_rows and not how.skip_bad):
            return one
    found = next((one for one in seen if one.mapped), Look("") if len(files) > 1 else seen[0])
    reading = how.model_copy(update={"map": found.mapped})
    return _with_rows(found, imports.read(folder, files, text_chars, reading), options)


def _look_at(folder: Path, file: Received, how: ReadingOptions) -> Look:
    """One file: its fields and what they are, without its rows."""
    name = imports.name_of(file)
    with imports.on_disk(folder, file) as path:
        told, mapped, guessed = _explained(path, how)
        problem = REMEDY.sub("", told.problem).replace(str(path), name)
    if not problem and told.kind not in IMPORTED:
        problem = f"{name}: holds {told.kind}. People work on {', '.join(IMPORTED)}."
    targets = {one.partition("=")[2].partition(":")[0]: one.partition("=")[0] for one in mapped}
    unused = {name for name in told.unused if not mapped or name not in targets}
    fields = [ImportField(name, told.fields[name], targets.get(name, ""), name in unused) for name in told.fields]
    return Look(name, problem, fields, mapped, guessed, told)


def _explained(path: Path, how: ReadingOptions) -> tuple[Explanation, list[str], bool]:
    """The explanation of a file by the mapping that is given, or else by a guess if its shape is unknown."""
    given = how.given
    try:
        mapping.parse(given)
    except UserError as error:  # a part of a mapping, while the lead is at it
        told = explain(path, kind=how.kind, first=0, limits=LIMITS)
        told.problem, told.kind, told.refused_rows = MAP.sub("", str(error)), "", 0
        return told, given, False
    told = explain(path, given, how.kind, first=FIRST_ROWS, limits=LIMITS)
    unknown = told.unknown or told.kind == "texts"
    if given or how.kind or not unknown:
        return told, given, False
    guess = guessed(list(told.fields))
    if not guess:
        return told, given, False
    try:
        return explain(path, guess, first=FIRST_ROWS, limits=LIMITS), guess, True
    except UserError:  # the names mislead
        return told, given, False


def guessed(fields: list[str]) -> list[str]:
    """A mapping from the names of fields, as TARGET=FIELD. Empty without a prompt."""
    by_name = {name.strip().lower(): name for name in fields}
    found = {
        target: next((by_name[name] for name in names if name in by_name), None) for target, names in NAMES.items()
    }
    if found["prompt"] is None:
        return []
    several = [name for name in fields if SEVERAL.fullmatch(name.strip().lower())]
    if len(several) > 1:
        found["completion"] = None
    targets = {target for target, name in found.items() if name is not None}
    _, used = mapping.made_by(targets | ({"completions"} if len(several) > 1 else set()))
    mapped = [f"{target}={found[target]}" for target in NAMES if target in targets & (used | mapping.NAMED)]
    return mapped + ([f"completions={name}" for name in several] if len(several) > 1 else [])


def _with_rows(found: Look, rows: ImportedRows, options: ImportOptions) -> Look:
    kept, report = imports.curated(rows.rows, options)
    chosen = kept if options.curate else rows.rows
    more: dict[str, Any] = {"name": rows.name}
    try:
        items.check(rows.work, chosen, options.purpose)
    except UserError as error:
        more["problem"] = f"{rows.name}: {error}"
    else:
        more |= {"rows": rows, "chosen": chosen, "report": report}
    return Look(**{name: getattr(found, name) for name in ("problem", "fields", "mapped", "guessed", "told")} | more)


def columns(rows: Sequence[Prompt]) -> tuple[list[str], list[list[str]]]:
    """The first rows as a table: names of columns, and cells of text."""
    cells = [_cells(row) for row in rows[:FIRST_ROWS]]
    names = list(dict.fromkeys(name for row in cells for name in row))
    return names, [[row.get(name, "") for name in names] for row in cells]


def _cells(row: Prompt) -> dict[str, str]:
    found = {"prompt": as_text(row.prompt)}
    for name, value in row.row().items():
        if name in ("completions",):
            found |= {f"answer {k}": text for k, text in enumerate(value, 1)}
        elif name in ("a", "b"):
            found[f"answer {name}"] = value["text"]
        elif name == "completion":
            found["answer"] = value
        elif name == "ranking":
            found["best first"] = " > ".join(" = ".join(str(k + 1) for k in tier) for tier in value)
        elif name in ("preferred", "id", "user", "source", "use_case", "split", "labeler", "group"):
            found[name.replace("_", " ")] = str(value)
    return found
