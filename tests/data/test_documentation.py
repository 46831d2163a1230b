"""docs/data-formats.md shows rows: each must be what it says it is. Its tables follow from the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from heedful.data import export, records
from heedful.data.shapes import mapping, table

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
SHOWN = [
    (kind, line)
    for kind, block in re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize(("kind", "line"), SHOWN)
def test_every_row_shown_is_read_and_written_back(kind: str, line: str) -> None:
    record = getattr(records, kind.capitalize()).model_validate_json(line)
    assert record.row() == json.loads(line)
    assert not record.model_extra


def test_every_record_and_every_field_is_documented() -> None:
    kinds = [records.Text, records.Prompt, records.Demonstration, records.Completions, records.Comparison]
    kinds += [records.Choice, records.Rating]
    assert {kind for kind, _ in SHOWN} == {cls.__name__.lower() for cls in kinds} - {"rating"}
    assert [name for cls in kinds for name in cls.model_fields if f"`{name}`" not in PAGE] == []


KINDS = {"chat": "demonstrations or prompts", "messages": "demonstrations or prompts"}
KINDS["Label Studio"] = "comparisons, or demonstrations"


def shapes() -> str:
    """The rows of the table of shapes."""
    lines = []
    for shape in table.SHAPES:
        kind = shape.kind if isinstance(shape.kind, str) else KINDS[shape.name]
        lines.append(f"| {shape.name} | {shape.fields} | {kind} |\n")
    return "".join(lines)


def targets() -> str:
    """The rows of the table of targets."""
    return "".join(f"| `{name}` | {meaning} |\n" for name, meaning in mapping.TARGETS.items())


def test_every_shape_target_and_form_is_documented() -> None:
    assert shapes() in PAGE
    assert targets() in PAGE
    assert [form for form in export.FORMS if f"| `{form}` |" not in PAGE] == []


def test_every_shape_says_where_its_fields_were_looked_up() -> None:
    assert [shape.name for shape in table.SHAPES if not shape.source] == []
