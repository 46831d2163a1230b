"""Settings of `heedful serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from heedful.config import INPUT, MOST, REST, Config, Length, Share
from heedful.configs.shared import Compute, TemplateArguments


class ServeLimits(Config):
    """What one server, and one key, may do."""

    rows: int = Field(default=64, ge=1, le=100_000)
    """Answers that one model samples at the same time."""
    queue: int = Field(default=256, ge=0, le=1_000_000)
    """Answers that may wait for a model. More are refused with status 503."""
    context: Length = 4096
    """Most tokens of a prompt and its answer together, if the model reads more. This bounds the memory."""
    seconds: float = Field(default=600.0, gt=0, le=1e6)
    """Longest time for a request, with the wait. After it the answer ends with status 504."""
    choices: int = Field(default=64, ge=1, le=100_000)
    """Most answers of one request: `n` times its prompts."""
    requests_a_minute: int = Field(default=120, ge=0, le=MOST)
    """Requests of a key in a minute, unless the key has a limit of its own. 0 = no limit."""
    tokens_a_day: int = Field(default=0, ge=0, le=10**12)
    """Tokens of a key in a day (UTC), unless the key has a quota of its own. 0 = no quota."""
    body_mb: float = Field(default=2.0, gt=0, le=10_000)
    """Largest request, in megabytes."""
    grace: int = Field(default=10, ge=1, le=86_400)
    """Seconds that running answers have when the server stops."""


class Collect(Config):
    """What is kept of the requests of people who agreed."""

    rate: Share = 1.0
    """Share of the requests with consent that are stored, drawn at random. 0 = store nothing and ask for no consent."""
    days: int = Field(default=365, ge=1, le=36_500)
    """Days after which what was stored is deleted."""
    consent: Annotated[Path, "FILE"] | None = None
    """Text that people agree to. Another text needs their consent again. none = heedful's own."""


class ServeConfig(Config):
    panels = {"model": INPUT, "folder": REST}

    model: dict[str, Annotated[str, "NAME=RUN"]] = {}
    """Model that this process samples from, by the name that clients use: a run, a directory or a hub name."""
    upstream: dict[str, Annotated[str, "NAME=URL#MODEL"]] = {}
    """Model of another OpenAI-compatible server, by the name that clients use. The key comes from HEEDFUL_API_KEY."""
    folder: Annotated[Path, "DIR"] = Path(".")
    """Folder of the server: its database heedful.db, and serving.json with the models that were put in place."""
    db: Annotated[str, "DB"] | None = None
    """SQLite file or postgresql:// URL. none = heedful.db in the folder."""
    host: Annotated[str, "HOST"] = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port. 0 takes a free one."""
    url: Annotated[str, "URL"] | None = None
    """Address that people type, with http:// or https://, if a proxy changes it."""
    proxies: Annotated[str, "HOSTS"] | None = None
    """Proxies whose forwarding headers are trusted."""
    policy: Annotated[Path, "FILE"] | None = None
    """Text of what people may use the server for. It is shown where keys are made. none = heedful's own."""
    template: TemplateArguments = {}
    """Arguments of the chat templates, such as enable_thinking=false."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads that compute a model of this process. Each thread of a small model (64 MiB) has a batch of its own. 0 =
    OMP_NUM_THREADS if it is set, else all cores for a small model, and all but one for a larger one.
    """
    limits: ServeLimits = ServeLimits()
    collect: Collect = Collect()
    compute: Compute = Compute()
