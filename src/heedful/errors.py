"""The errors that a user sees, and what to do about them. Light, because every command loads them first."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

OWN_LOG = "HEEDFUL_OWN_LOG"
"""A variable that heedful launch sets: the standard error of each process is its own log, so each says its errors."""


class UserError(ValueError):
    """An error that the user can fix. Its message is one line: what, where, remedy. The command exits with code 2."""


class NonFinite(ArithmeticError):
    """A NaN or an infinity. The message names the tensor."""


_FULL = "Free some space, then try again"
_CLOSED = "Choose another path, or change the permissions"
_FILE_FOR_FOLDER = "Choose another path: a file is where a folder is needed"
REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f)",
    errno.ENOENT: "Check the path",
    errno.ENOTDIR: _FILE_FOR_FOLDER,
    errno.EEXIST: _FILE_FOR_FOLDER,
    errno.EISDIR: "Choose another path: a folder is where a file is needed",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
}


def refused(error: OSError, path: str | Path) -> str:
    """One line about an error of the operating system at a path, with the remedy."""
    remedy = REMEDIES.get(error.errno or 0)
    return f"{path}: {error.strerror or error}" + (f". {remedy}" if remedy else "")


def install(extra: str) -> str:
    """The command that adds an extra to this installation, which came from an index, a folder or a repository."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, and seldom needed
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    source: dict[str, Any] = {}
    with contextlib.suppress(PackageNotFoundError):
        source = json.loads(distribution("heedful").read_text("direct_url.json") or "{}")
    url, wanted = source.get("url", ""), f"heedful[{extra}]"
    if "vcs_info" in source:
        return f"pip install '{wanted} @ {source['vcs_info']['vcs']}+{url}'"
    if not url.startswith("file:"):
        return f"pip install '{wanted}'"
    switch = "-e " if source.get("dir_info", {}).get("editable") else ""
    return f"pip install {switch}'{url2pathname(urlsplit(url).path)}[{extra}]'"
