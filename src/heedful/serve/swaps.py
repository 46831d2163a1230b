"""Swap models while the server runs: it follows `serving.json` (`runs.placed`), and takes a change within a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from heedful.config import UserError
from heedful.runs import placed
from heedful.serve.types import Backend

LOOK_SECONDS = 0.5
log = logging.getLogger("heedful.serve")


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
            for name, path in (await run_in_threadpool(placed.read, folder)).items():
                model = models.get(name)
                if model is not None and model.state().get("path") not in ("", path):
                    await model.swap(path)
        except (UserError, OSError, RuntimeError, MemoryError) as error:
            log.error("A checkpoint was not put in place: %s", error)


def _state(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = (folder / placed.NAME).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
