"""Settings of a server. Everything about a project is in the database."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from heedful.config import Config, Count, UserError

_ADDRESS = re.compile(r"https?://[^/?#@\s]+(?:/[\w.~-]+)*/*", re.ASCII | re.IGNORECASE)


def checked_address(address: str) -> str:
    """The address of a server without a slash at its end. UserError if people could not type it into a browser."""
    address = address.strip()
    if _ADDRESS.fullmatch(address) is None:
        raise UserError(
            f"{address}: not the address of a server. Write https://HOST or https://HOST/PATH, where the path has"
            " letters, digits and - _ . ~ only"
        )
    return address.rstrip("/")


class WebSettings(Config):
    """Settings of one server."""

    base_url: str = "http://127.0.0.1:8000"
    """The address that people type: links are made of it, and https makes cookies secure. Its path, if it has one, is
    the part of the proxy's addresses below which this server is found."""
    folder: Path = Path(".")
    """The project folder: runs to sample from, snapshots, backups."""
    session_days: int = Field(14, ge=1, le=36_500)
    body_mb: float = Field(2.0, gt=0, le=10_000)
    """Largest request in megabytes, except imports."""
    upload_mb: float = Field(64.0, gt=0, le=100_000)
    """The most of an import, in megabytes."""
    text_chars: Count = 500_000
    """The most characters of one imported prompt or completion."""
    login_tries: Count = 8
    """Wrong passwords in a row, of one name or one address, before both have to wait."""

    @field_validator("base_url")
    @classmethod
    def _checked(cls, address: str) -> str:
        return checked_address(address)

    @property
    def root(self) -> str:
        """The path below which a proxy serves this server, such as "/label". Else ""."""
        return urlsplit(self.base_url).path

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def is_local(self) -> bool:
        """Whether links lead to this machine only."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    @property
    def uploads(self) -> Path:
        """Where files wait between their preview and their import."""
        return self.folder / ".uploads"
