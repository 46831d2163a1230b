"""From an application to a running server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from heedful.config import UserError
from heedful.web.connections import OF_AN_ADDRESS, SPARE, UNSENT, Connections, most_files
from heedful.web.incidents import Incidents, Once
from heedful.web.turns import FairTurns

BACKLOG = 128  # connections that wait until they are accepted
UNTRUSTED = (
    "A proxy is in front of this server, and --proxies does not name it. All people seem to come from the proxy's"
    " address, and share its limit of wrong passwords. Start heedful with --proxies and the proxy's address."
)
HERE = ("127.0.0.1", "0.0.0.0", "::1", "::")  # hosts that a browser on this machine reaches as localhost
NO_PROXIES = (
    "--url names a proxy, and --proxies does not. All people will seem to come from one address, and share its limit of"
    " wrong passwords. If there is a proxy, start with --proxies and its address."
)


def address_of(host: str, port: int) -> str:
    """What people on this machine type to reach a server."""
    return f"http://{'localhost' if host in HERE else f'[{host}]' if ':' in host else host}:{port}"


def behind_proxy(address: str, port: int) -> bool:
    """Whether people reach the server at another port, with TLS, or below a path: only a proxy can do that."""
    parts = urlsplit(address)
    return parts.scheme == "https" or bool(parts.path) or (parts.port or 80) != port


def serve(
    app: Callable[[int], FastAPI],
    host: str,
    port: int,
    *,
    proxies: str | None,
    grace: int = 10,
    of_an_address: int = OF_AN_ADDRESS,
    turns: bool = True,
) -> None:
    """Serve until a signal comes. `app(port)` is called when the port is taken. Port 0: any free one.

    `grace`: seconds that requests in progress have at the end. `of_an_address`: connections of one address.
    `turns`: whether addresses take turns when many requests come at once.
    `proxies`: addresses whose X-Forwarded-For and -Proto are trusted, in uvicorn's notation. None trusts no proxy.
    """
    listening = _listen(host, port)
    served = app(listening.getsockname()[1])
    incidents: Incidents = served.state.incidents
    behind = ProxyHeadersMiddleware(FairTurns(served) if turns else served, trusted_hosts=proxies or "")  # type: ignore[arg-type]
    most = most_files() - SPARE
    warn_once()
    config = uvicorn.Config(
        Clients(behind, incidents, trusting=proxies is not None),
        http=Connections(behind.trusted_hosts, incidents, most, of_an_address).protocol(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `behind` does it
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=grace,
    )
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def warn_once() -> None:
    """Let uvicorn and asyncio repeat no warning. asyncio has one for each write to a client that has left."""
    for library in ("uvicorn.error", "asyncio"):
        logging.getLogger(library).addFilter(Once())


class Clients:
    """ASGI middleware: the addresses of clients as people write them, and a line if a proxy is not trusted."""

    def __init__(self, app: Any, incidents: Incidents, *, trusting: bool) -> None:
        self.app, self.incidents, self.trusting = app, incidents, trusting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope.get("client"):  # a socket for both families shows 127.0.0.1 as ::ffff:127.0.0.1
                host, number = scope["client"]
                scope["client"] = (host.removeprefix("::ffff:") if "." in host else host, number)
            if not self.trusting and any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
                self.incidents.note("proxy", UNTRUSTED)
        await self.app(scope, receive, send)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        if not 0 <= port < 2**16:  # create_server would leave its socket open
            raise OverflowError("port must be 0-65535.")
        both = host == "::" and socket.has_dualstack_ipv6()  # all addresses: of IPv4, too
        made = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise UserError(f"{host}:{port}: {why}. Choose another --host or --port") from None
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows. The connections inherit it
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return made
