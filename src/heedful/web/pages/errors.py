"""Error responses: JSON for the API, a page for everything else."""

from __future__ import annotations

from http import HTTPStatus
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
    401: "Sign in first",
    403: "Not allowed for this account",
    404: "Page not found",
    405: "Method not allowed",
    409: "Somebody else was faster",
    413: "Too large",
    422: "Invalid request",
    429: "Too many attempts",
}
REFUSALS = {
    "unknown": 404, "lost": 409, "done": 409, "nothing_to_undo": 409, "paused": 403, "archived": 403, "no_role": 403,
}  # fmt: skip
"""Status of the codes of `feedback.work.Refused`; every other code is 400."""
MEANINGS = {
    403: "Your role in this project does not include this. A lead can change your role.",
    404: "The address is wrong, or the page is gone, or it belongs to a project that you are not in.",
    405: "This address does not accept this method.",
}


def answer(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None
) -> Response:
    """An error as JSON (`code` for programs) or as a page."""
    if is_api_path(request.url.path):
        return JSONResponse({"error": message, **({"code": code} if code else {})}, status, headers=headers)
    response = render.page(request, "error.html", status, title=WORDS.get(status, "An error"), message=message)
    response.headers.update(headers or {})
    return response


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, error: NotSignedIn) -> Response:
        if is_api_path(request.url.path):
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
        standard = HTTPStatus(error.status_code).phrase
        message = MEANINGS.get(error.status_code, standard) if told in ("", standard) else told
        return answer(request, error.status_code, message, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, _first(list(error.errors())))


def _first(problems: list[dict[str, Any]]) -> str:
    """The first problem of a request as one line, without the value that was sent."""
    problem = problems[0]
    where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the request'}: {str(problem['msg']).removeprefix('Value error, ')}"
