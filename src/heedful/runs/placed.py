"""`serving.json` in a project folder: the checkpoints that were put in place of those on the server's command line.

{"models": {"demo": {"path": "runs/ppo-3"}}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.files import read_json, write_json

NAME = "serving.json"


def read(folder: Path) -> dict[str, str]:
    """The paths by the names of the models. Empty without the file. Raises UserError."""
    path = folder / NAME
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        found = {name: one["path"] for name, one in models.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: not as {{"models": {{"NAME": {{"path": "RUN"}}}}}} ({error})') from None
    if not all(isinstance(one, str) and one for one in found.values()):
        raise UserError(f"{path}: a path is not a text")
    return found


def place(folder: Path, name: str, path: str, **more: Any) -> None:
    """Put a checkpoint in place, for a server that runs and for the next one. `more`: who, when and why."""
    models = read_json(folder / NAME)["models"] if read(folder) else {}
    write_json(folder / NAME, {"models": {**models, name: {"path": path, **more}}})
