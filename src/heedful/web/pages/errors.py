"""What goes wrong on the way to a route, and how pages and the JSON API say it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from heedful.config import UserError
from heedful.feedback.work import Refused
from heedful.web.pages import render
from heedful.web.security.access import NotSignedIn, is_api_path
from heedful.web.security.guard import TooLarge

WORDS = {
    400: "That did not work",
    401: "Please sign in",
    403: "Not for this account",
    404: "Nothing is here",
    405: "Not like this",
    409: "Somebody was faster",
    413: "Too large",
    422: "Something is missing",
    429: "Too many tries",
}
REFUSALS = {
    "unknown": 404, "lost": 409, "done": 409, "nothing_to_undo": 409, "paused": 403, "archived": 403, "no_role": 403,
}  # fmt: skip
"""Codes of `feedback.work.Refused` that are no fault in what was sent."""
MEANINGS = {
    403: "Your role in this project does not include this page. Its lead can change that.",
    404: "The address is wrong, or what was here is gone, or it belongs to a project that you are not in.",
    405: "This address is asked for in another way.",
}


def wants_json(request: Request) -> bool:
    """Programs of the API, and the scripts of our own pages."""
    return is_api_path(request.url.path) or request.headers.get("accept") == "application/json"


def answer(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None
) -> Response:
    """An error as the asker understands it: JSON (`code` for programs) or a page."""
    if wants_json(request):
        return JSONResponse({"error": message, **({"code": code} if code else {})}, status, headers=headers)
    response = render.page(request, "error.html", status, title=WORDS.get(status, "An error"), message=message)
    response.headers.update(headers or {})
    return response


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, error: NotSignedIn) -> Response:
        if wants_json(request):
            return answer(request, 401, "no valid token or session", {"WWW-Authenticate": "Bearer"})
        there = f"?next={quote(request.url.path)}" if request.method == "GET" and request.url.path != "/" else ""
        return RedirectResponse(f"/login{there}", 303)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        code = error.code if isinstance(error, Refused) else None
        return answer(request, REFUSALS.get(code or "", 400), str(error), code=code)

    @app.exception_handler(TooLarge)
    async def too_large(request: Request, error: TooLarge) -> Response:
        return answer(request, 413, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = error.detail if error.detail != WORDS.get(error.status_code) else ""
        standard = _standard(error.status_code)
        message = MEANINGS.get(error.status_code, standard) if told in ("", standard) else told
        return answer(request, error.status_code, message, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, _first(list(error.errors())))


def _standard(status: int) -> str:
    from http import HTTPStatus

    return HTTPStatus(status).phrase


def _first(problems: list[dict[str, Any]]) -> str:
    """The first problem of a request as one line; what was sent is not repeated."""
    problem = problems[0]
    where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the request'}: {str(problem['msg']).removeprefix('Value error, ')}"
