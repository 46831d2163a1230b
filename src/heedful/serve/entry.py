"""Sign-in, invitations and accounts: the pages of the labelling app, without its projects."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from heedful.web.pages import entry
from heedful.web.security.access import SignedIn, root_of

router = APIRouter(include_in_schema=False)
for _path, _page in (
    ("/login", entry.login),
    ("/join/{token}", entry.join),
    ("/password/{token}", entry.password),
    ("/account", entry.account),
):
    router.add_api_route(_path, _page, methods=["GET"])


@router.get("/projects")
def projects(request: Request, person: SignedIn) -> Response:
    """Redirects to the start: this server has no projects."""
    return RedirectResponse(f"{root_of(request)}/", 303)
