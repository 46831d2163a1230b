"""Where the answers of an online algorithm are sampled: in the trainer's process, or by inference servers."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from heedful.config import Config


class EngineConfig(Config):
    """Where answers are sampled while the policy learns."""

    kind: Literal["local", "vllm", "sglang"] = "local"
    """local = in this process. The others are servers that run already, at `urls`."""
    urls: list[str] = []
    """Address of a server, such as http://localhost:8000. Repeat the option for more. Rows are spread over all."""
    sync: Literal["file", "group", "adapter"] = "file"
    """How servers get the policy's weights: all as a file, or through a process group (vllm), or with LoRA the adapter
    alone.
    """
    shared_dir: str | None = None
    """Folder for these files, which servers can read under the same path. none = the folder for temporary files. On one
    machine, /dev/shm is fastest.
    """
    timeout: float = Field(default=600, gt=0, le=86_400)
    """Seconds after which a call of a server has failed."""
    tolerance: float | None = Field(default=None, gt=0, le=1e6)
    """Largest mean difference between log-probs of server and trainer after weights were loaded, in nats a token.
    none = 0.001 in float32 and 0.1 in bfloat16.
    """
    sleep: bool = False
    """Whether servers leave the GPU's memory to the trainer while it learns, so that both share GPUs. vllm only."""

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if not _is_address(url):
                raise ValueError(f"{url!r} is no address of a server. Write it as http://HOST:PORT")
        return urls


def _is_address(url: str) -> bool:
    try:
        at = urlsplit(url)
        return at.scheme in ("http", "https") and bool(at.hostname) and (at.port is None or at.port > 0)
    except ValueError:  # a port that is none
        return False
