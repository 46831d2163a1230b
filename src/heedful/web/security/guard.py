"""ASGI middleware: request size limit, same-origin check for writes, security headers.

Pure ASGI, so that a request costs microseconds. A write needs no token in its form: browsers say where it comes from
(Sec-Fetch-Site, Origin), and what does not say so is no browser and has no cookie to abuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MB = 1_000_000
MOST_PARTS = 200_000  # lists and objects of a request, or brackets in its texts. Millions take seconds to parse
PORTS = {"http": 80, "https": 443}
FOREIGN = (
    "This write does not come from a page of this server. If a proxy is in front of it, start heedful with --url and"
    " the address that people type."
)
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with a form, which the check of origins has to refuse
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """The outermost middleware: limits, same origin, headers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_mb: float,
        upload_mb: float,
        uploads: re.Pattern[str] | None,
        address: str,
        refuse: Callable[[Request, int, str], Response],
    ) -> None:
        """`uploads`: method and path of requests that carry files, which nothing parses as JSON.

        `address`: as people type it. Its path is taken off what a proxy passes on. `refuse` makes a refusal.
        """
        self.app, self.refuse = app, refuse
        self.address, self.root = address, urlsplit(address).path
        self.body, self.upload, self.uploads = int(body_mb * MB), int(upload_mb * MB), uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = self._below_root(scope)
        headers = Headers(scope=scope)
        is_file = self.uploads is not None and self.uploads.fullmatch(f"{scope['method']} {scope['path']}") is not None
        limit = self.upload if is_file else self.body
        length = headers.get("content-length", "0")
        sending = self._with_headers(scope, send)
        if not length.isdigit() or int(length) > limit:
            await self.refuse(Request(scope), 413, _too_large(limit))(scope, receive, sending)
        elif scope["method"] not in SAFE_METHODS and not is_same_origin(headers, self.address):
            await self.refuse(Request(scope), 403, FOREIGN)(scope, receive, sending)
        else:
            await self.app(scope, _limited(receive, limit, parts=not is_file), sending)

    def _below_root(self, scope: Scope) -> Scope:
        """The request as if this server had the whole host. Some proxies take the path off, others leave it on."""
        path: str = scope["path"]
        if self.root and f"{path}/".startswith(f"{self.root}/"):
            path = path.removeprefix(self.root)
        path = path.rstrip("/") or "/"  # a redirect would lead to the host and the path that the proxy asked for
        return scope if path == scope["path"] else {**scope, "path": path, "raw_path": path.encode()}

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if self.address.startswith("https://"):
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        return sending


def is_same_origin(headers: Headers, address: str = "") -> bool:
    """Whether a write comes from a page of this server, or from a script that shows a token of its own.

    The origin is the server's if it is that of `address`, which people type, or names the host that was asked. A proxy
    may send another host on, and browsers leave out a scheme's own port.
    """
    if headers.get("authorization", "").lower().startswith("bearer "):
        return True  # no browser adds it by itself
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return site is not None
    found = _origin(origin)
    asked = f"{found[0]}://{headers.get('host', '')}" if found else ""
    return found is not None and found in (_origin(address), _origin(asked))


def _origin(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an address. None if it is not one."""
    try:
        parts = urlsplit(address)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


class TooLarge(HTTPException):
    """More came than the header promised, or than is allowed. FastAPI passes on no other exception of a body."""

    def __init__(self, words: str) -> None:
        super().__init__(413, words)


def _limited(receive: Receive, limit: int, *, parts: bool) -> Receive:
    """Counts what comes in pieces, where no length was named. `parts`: also lists and objects."""
    got = found = 0

    async def receiving() -> Message:
        nonlocal got, found
        message = await receive()
        body: bytes = message.get("body", b"")
        got += len(body)
        if got > limit:
            raise TooLarge(_too_large(limit))
        found += body.count(b"[") + body.count(b"{") if parts else 0
        if found > MOST_PARTS:
            raise TooLarge(f"More than {MOST_PARTS:,} lists and objects in one request. Send less at a time.")
        return message

    return receiving


def _too_large(limit: int) -> str:
    return f"Larger than the {limit / MB:g} MB that are allowed here. Send less at a time."
