"""Files that exist for one request only, in `.uploads/` of the project folder."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_in_use: set[Path] = set()
_lock = threading.Lock()


@contextmanager
def place(folder: Path) -> Iterator[Path]:
    """A new folder below `folder`, which is deleted at the end. Only this account of the machine may read it."""
    with _lock:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder))
        _in_use.add(made)
    try:
        yield made
    finally:
        with _lock:
            shutil.rmtree(made, ignore_errors=True)
            _in_use.discard(made)


def clean(folder: Path) -> None:
    """Delete what killed servers and earlier versions left. What a request uses stays."""
    with _lock:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                if path not in _in_use:
                    shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
