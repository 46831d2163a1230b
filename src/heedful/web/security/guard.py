"""ASGI middleware: request size limit, same-origin check for writes, security headers.

Pure ASGI, so that a request costs microseconds. A write needs no token in its form: browsers say where it comes from
(Sec-Fetch-Site, Origin), and what does not say so is no browser and has no cookie to abuse.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MB = 1_000_000
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
        self, app: ASGIApp, *, body_mb: float, upload_mb: float, uploads: tuple[str, ...], secure: bool
    ) -> None:
        self.app, self.secure = app, secure
        self.body, self.upload, self.uploads = int(body_mb * MB), int(upload_mb * MB), uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.upload if scope["path"].endswith(self.uploads) else self.body
        length = headers.get("content-length", "0")
        sending = self._with_headers(scope, send)
        if not length.isdigit() or int(length) > limit:
            await PlainTextResponse(_too_large(limit), 413)(scope, receive, sending)
        elif scope["method"] not in SAFE_METHODS and not is_same_origin(headers):
            await PlainTextResponse("This write does not come from a page of this server.", 403)(
                scope, receive, sending
            )
        else:
            await self.app(scope, _limited(receive, limit), sending)

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if self.secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        return sending


def is_same_origin(headers: Headers) -> bool:
    """Whether a write comes from a page of this server, or from a script that shows a token of its own."""
    if headers.get("authorization", "").lower().startswith("bearer "):
        return True  # no browser adds it by itself
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host")
    return site is not None


class TooLarge(Exception):
    """More came than the header promised, or than is allowed."""


def _limited(receive: Receive, limit: int) -> Receive:
    """Counts what comes in pieces, where no length was named."""
    got = 0

    async def receiving() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > limit:
            raise TooLarge(_too_large(limit))
        return message

    return receiving


def _too_large(limit: int) -> str:
    return f"Larger than the {limit / MB:g} MB that are allowed here; send less at a time."
