"""Settings of a server. Everything about a project is in the database."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from heedful.config import Config, Count


class WebSettings(Config):
    """Settings of one server."""

    base_url: str = "http://127.0.0.1:8000"
    """The address that people type: links are made of it, and https makes cookies secure."""
    folder: Path = Path(".")
    """The project folder: runs to sample from, snapshots, backups."""
    session_days: Count = 14
    body_mb: float = Field(2.0, gt=0)
    """Largest request in megabytes, except imports."""
    upload_mb: float = Field(64.0, gt=0)
    """The most of an import, in megabytes."""
    text_chars: Count = 500_000
    """The most characters of one imported prompt or completion."""
    login_tries: Count = 8
    """Wrong passwords in a row, of one name or one address, before both have to wait."""

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https://")

    @property
    def uploads(self) -> Path:
        """Where files wait between their preview and their import."""
        return self.folder / ".uploads"
