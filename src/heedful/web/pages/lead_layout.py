"""The layout of every lead's page."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from heedful.web.pages.labeler_layout import spent
from heedful.web.pages.render import page
from heedful.web.security.access import Member

NAVIGATION = (
    ("", "Overview"),
    ("/people", "People"),
    ("/items", "Items"),
    ("/quality", "Agreement"),
    ("/snapshots", "Snapshots"),
    ("/sampling", "Sampling"),
    ("/instructions", "Instructions"),
    ("/settings", "Settings"),
    ("/log", "Log"),
)


def lead_page(request: Request, member: Member, template: str, active: str, **context: Any) -> HTMLResponse:
    """A page under `/lead/PROJECT`. `active`: its place in the navigation."""
    shared: dict[str, Any] = {
        "member": member,
        "leads": member.role == "lead",
        "here": f"/lead/{member.project}",
        "api": f"/api/projects/{member.project}",
        "navigation": NAVIGATION,
        "active": active,
        "spent": spent,
    }
    return page(request, f"lead/{template}.html", **shared, **context)
