"""The settings of a demo: `settings.toml`, and what `from_scratch.toml` and `quick.toml` change."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

DemoSettings = dict[str, Any]
FOLDER = Path(__file__).parent


def read(*, from_scratch: bool = False, quick: bool = False, changes: DemoSettings | None = None) -> DemoSettings:
    """The settings by section. Later files and then `changes` win, setting by setting."""
    names = ["settings", *["from_scratch"] * from_scratch, *["quick"] * quick]
    layers = [tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in names]
    merged: DemoSettings = {}
    for layer in (*layers, changes or {}):
        for section, values in layer.items():
            merged[section] = {**merged.get(section, {}), **values}
    return merged
