"""A call that stays until it is stopped."""

from __future__ import annotations

import os
import time
from pathlib import Path


def stay(folder: Path, name: str) -> None:
    (folder / name).write_text(str(os.getpid()))
    time.sleep(60)
