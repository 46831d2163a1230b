"""The layout of every lead's page."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from heedful.web.pages.render import page
from heedful.web.security.access import Member

NAVIGATION = (
    ("", "Overview"),
    ("/people", "People"),
    ("/items", "Items"),
    ("/users", "Users"),
    ("/quality", "Agreement"),
    ("/snapshots", "Snapshots"),
    ("/sampling", "Sampling"),
    ("/rounds", "Rounds"),
    ("/instructions", "Instructions"),
    ("/settings", "Settings"),
    ("/log", "Log"),
)


def lead_page(request: Request, template: str, **context: Any) -> HTMLResponse:
    """A page under `/lead/PROJECT`, for the member whom the route admitted."""
    member: Member = request.state.member
    section = "/items" if template == "import" else request.url.path.removeprefix(f"/lead/{member.project}")
    shared: dict[str, Any] = {
        "member": member,
        "leads": member.role == "lead",
        "here": f"{member.root}/lead/{member.project}",
        "api": f"{member.root}/api/projects/{member.project}",
        "navigation": NAVIGATION,
        "active": next(place for place, _ in reversed(NAVIGATION) if section.startswith(place)),
    }
    return page(request, f"lead/{template}.html", **shared, **context)
