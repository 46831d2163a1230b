"""Named settings for a model and a machine. Each is a TOML file with a section for each command."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from heedful.errors import UserError

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """All presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str, command: str) -> dict[str, Any]:
    """The settings of a preset for a command. Raises UserError if there are none."""
    if name not in names():
        raise UserError(f"--preset {name}: no such preset. Choose from {', '.join(names())}")
    sections = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    if command not in sections:
        raise UserError(f"--preset {name}: has no settings for heedful {command}, only for {', '.join(sections)}")
    return sections[command]
