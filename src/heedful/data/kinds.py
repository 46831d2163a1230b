"""The kinds of records, by the names that commands use. The first row of a file tells its kind."""

from __future__ import annotations

from pathlib import Path

from heedful.config import UserError
from heedful.data import formats
from heedful.data.public_shapes import to_native
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record, Text

KINDS: dict[str, type[Record]] = {
    "texts": Text,
    "prompts": Prompt,
    "demonstrations": Demonstration,
    "completions": Completions,
    "comparisons": Comparison,
    "choices": Choice,
}
# field -> the kind of rows that have it. The first match counts.
_TELLING = {
    "preferred": "choices",
    "ranking": "comparisons",
    "completions": "completions",
    "completion": "demonstrations",
    "prompt": "prompts",
    "text": "texts",
}


def kind_of(path: str | Path) -> str:
    """The key in KINDS for the rows of a file, by its first well-formed row. Knows the public shapes too."""
    row = next((row for _, row in formats.rows(formats.data_file(path)) if isinstance(row, dict)), None)
    if row is None:
        return "prompts"  # reading the file will tell what is wrong with it
    try:
        fields = set(to_native(row, Completions))
    except ValueError:
        fields = set(row)
    for field, kind in _TELLING.items():
        if field in fields:
            return kind
    shown = ", ".join(sorted(fields)) or "none"
    raise UserError(
        f"{path}: unknown kind of rows (fields: {shown}). docs/data-formats.md lists the fields of each kind."
    )
