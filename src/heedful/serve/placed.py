"""`serving.json` in the folder of a server: the checkpoints that were put in place of those on the command line.

    {"models": {"demo": {"path": "runs/ppo-3"}}}

To promote a checkpoint, replace the file. The server follows within a second. At its start it takes what the
file says.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from heedful.config import UserError
from heedful.files import read_json, write_json
from heedful.serve.types import Backend

NAME = "serving.json"
LOOK_SECONDS = 0.5
log = logging.getLogger("heedful.serve")


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


async def follow(folder: Path, models: Mapping[str, Backend]) -> None:
    """Swap models whenever the file changes. A checkpoint that cannot be loaded is logged, and the old one stays."""
    seen = _state(folder)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = await run_in_threadpool(_state, folder)
        if now == seen:
            continue
        seen = now
        try:
            for name, path in (await run_in_threadpool(read, folder)).items():
                model = models.get(name)
                if model is not None and model.state().get("path") not in ("", path):
                    await model.swap(path)
        except (UserError, OSError, RuntimeError, MemoryError) as error:
            log.error("A checkpoint was not put in place: %s", error)


def _state(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = (folder / NAME).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
