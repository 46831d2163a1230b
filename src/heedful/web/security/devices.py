"""Cookies: the session's, and the one that names the accounts that have signed in on a browser before.

The second is no key to anything. Whoever shows it has to know the password, too, but other people's wrong passwords do
not make them wait.
"""

from __future__ import annotations

from fastapi import Request, Response

from heedful.web.settings import WebSettings

DAYS = 400  # browsers keep no cookie for longer
MOST = 8  # accounts of one browser


def set_cookie(request: Request, response: Response, name: str, value: str, days: int) -> None:
    """Set a cookie that no script reads and no other site sends."""
    settings: WebSettings = request.app.state.settings
    response.set_cookie(
        name,
        value,
        max_age=days * 86400,
        path=settings.root or "/",
        httponly=True,
        samesite="lax",
        secure=settings.secure,
    )


def secrets(request: Request) -> list[str]:
    """What the browser shows of the accounts that signed in on it, the newest first."""
    return request.cookies.get(_name(request), "").split(".")[:MOST]


def remember(request: Request, response: Response, secret: str) -> None:
    """Add an account to those of the browser."""
    value = ".".join([secret, *filter(None, secrets(request))][:MOST])
    set_cookie(request, response, _name(request), value, DAYS)


def _name(request: Request) -> str:
    return f"{request.app.state.cookie}_device"
