"""Answers of endpoints on this machine's disk: one file for each request, named by its hash. No key is among them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.config import UserError, refused
from heedful.endpoints.replies import EndpointAnswer
from heedful.files import write_json

FOLDER = "HEEDFUL_CACHE"


def folder() -> Path:
    """Where answers are kept: HEEDFUL_CACHE, else a folder of heedful in the user's cache folder."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    home = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "heedful"


class Cache:
    """Answers by their request."""

    def __init__(self) -> None:
        self._folder = folder() / "answers"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{refused(error, self._folder)}, or name another folder in {FOLDER}") from None

    def get(self, url: str, body: dict[str, Any]) -> EndpointAnswer | None:
        """The answer to a request, or None. A damaged file counts as none."""
        try:
            return EndpointAnswer(**json.loads(self._path(url, body).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, url: str, body: dict[str, Any], answer: EndpointAnswer) -> None:
        path = self._path(url, body)
        try:
            path.parent.mkdir(exist_ok=True)
            write_json(path, asdict(answer))
        except OSError as error:
            raise UserError(f"{refused(error, self._folder)}, or name another folder in {FOLDER}") from None

    def _path(self, url: str, body: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps([url, body], sort_keys=True).encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest}.json"
