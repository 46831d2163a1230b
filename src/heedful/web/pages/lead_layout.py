"""What all pages of leads share: navigation, and the line that says what was just done."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

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
SAID = {
    "paused": "Paused: no more work is given out until you resume it.",
    "resumed": "Work is given out again.",
    "changed": "Changed.",
    "left": "Out of the project; the work done stays.",
    "revoked": "The link no longer works.",
    "saved": "Saved.",
    "unchanged": "Nothing was different, so nothing was saved.",
    "held": "The item is not given out until you release it.",
    "released": "The item is given out again.",
    "gold": "A copy with this answer is mixed in for everybody.",
    "redacted": "The texts are gone. The events and their hashes stay.",
    "asked": "The requests are in the queue.",
    "frozen": "Frozen.",
    "started": "The model is sampling. This page says when it is done.",
    "queued": "The completions are in the queue.",
    "rated": "Rated.",
    "scored": "The scores are taken in.",
}
Text = Annotated[str, Form(max_length=300_000)]


def here(member: Member) -> str:
    return f"/lead/{member.project}"


def lead_page(
    request: Request, member: Member, template: str, active: str, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page under `/lead/PROJECT`; `?said=KEY` after an action shows its line of SAID."""
    notice = SAID.get(request.query_params.get("said", ""), "")
    shared = {"member": member, "here": here(member), "navigation": NAVIGATION, "active": active, "notice": notice}
    shared["spent"] = spent
    leads = member.role == "lead"
    return page(request, f"lead/{template}.html", status, **{**shared, "leads": leads, "problem": "", **context})


def done(member: Member, address: str, said: str) -> RedirectResponse:
    """Back to a page, which says what was done."""
    assert said in SAID
    place, mark, rest = address.partition("#")
    joint = "&" if "?" in place else "?"
    return RedirectResponse(f"{here(member)}{place}{joint}said={said}{mark}{rest}", 303)
