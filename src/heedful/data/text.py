"""Text for people to read: names of fields as words."""

from __future__ import annotations


def as_words(name: str) -> str:
    """The name of a field or metric as words: `fails_instruction` becomes `fails instruction`, `a/b` becomes `a: b`."""
    return name.replace("_", " ").replace("/", ": ")
