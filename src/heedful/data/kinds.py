"""The kinds of records by the names that commands use, and the kind of a file judged by its first row."""

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
# The field that tells a kind, the most telling first.
_TELLING = {
    "preferred": "choices",
    "ranking": "comparisons",
    "completions": "completions",
    "completion": "demonstrations",
    "prompt": "prompts",
    "text": "texts",
}


def kind_of(path: str | Path) -> str:
    """The key in KINDS for the rows of a file, public shapes included, by its first well-formed row."""
    row = next((row for _, row in formats.rows(formats.data_file(path)) if isinstance(row, dict)), None)
    if row is None:
        return "prompts"  # whoever reads the file will say what is wrong with it
    try:
        fields = set(to_native(row, Completions))
    except ValueError:
        fields = set(row)
    for field, kind in _TELLING.items():
        if field in fields:
            return kind
    shown = ", ".join(sorted(fields)) or "none"
    raise UserError(
        f"{path}: cannot tell what its rows are (fields: {shown}); docs/data-formats.md lists those of each kind"
    )
