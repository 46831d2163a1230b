"""From an application to a running server."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from heedful.config import UserError


def serve(app: Callable[[int], FastAPI], host: str, port: int, *, proxies: str | None) -> None:
    """Serve until a signal comes. `app(port)` is called when the port is taken. Port 0: any free one.

    `proxies`: addresses whose X-Forwarded-For and -Proto are trusted, in uvicorn's notation. None trusts no proxy.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        app(listening.getsockname()[1]),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=proxies is not None,
        forwarded_allow_ips=proxies or "",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        if not 0 <= port < 2**16:  # create_server would leave its socket open
            raise OverflowError("port must be 0-65535.")
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{host}:{port}: {why}; choose another --host or --port") from None
