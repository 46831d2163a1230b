"""Read the sandbox's data files in `language/`: word lists, sentences of texts, and phrasings of prompts."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("language")


@cache
def read(name: str) -> dict[str, Any]:
    """The tables of `language/NAME.toml`, with every list as a tuple. The order is that of the file."""
    return {key: _frozen(value) for key, value in tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")).items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
