"""Error responses: JSON for the API, a page for everything else."""

from __future__ import annotations

import errno
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from heedful.config import UserError, plain
from heedful.feedback.store import StoreBusy
from heedful.feedback.work import Refused
from heedful.web.incidents import Incidents
from heedful.web.pages import render
from heedful.web.security.access import NotSignedIn, is_api_path, root_of
from heedful.web.security.guard import HEADERS
from heedful.web.security.passwords import Busy

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
    500: "An error in heedful",
    503: "Not available right now",
}
REFUSALS = {
    "unknown": 404, "lost": 409, "done": 409, "nothing_to_undo": 409, "paused": 403, "archived": 403, "no_role": 403,
    "consent": 403,
}  # fmt: skip
"""Status of the codes of `feedback.work.Refused`. Every other code is 400."""
MEANINGS = {
    403: "Your role in this project does not include this. A lead can change your role.",
    404: "The address is wrong, or the page is gone, or it belongs to a project that you are not in.",
    405: "This address does not accept this method.",
    500: "An error in heedful spoiled this request. The server's log has the details. Nothing of it was saved.",
}
AWAY = "The database does not answer right now. Nothing was saved. Try again in a moment."
FULL = "The server's disk is full or cannot be written. Nothing was saved. Tell the person who runs it."
DAMAGED = "The server's database is damaged. Nothing was saved. Tell the person who runs it: they can restore a backup."
BUSY = "Many people sign in at the moment. Try again in a few seconds."
OTHER = "another account is signed in on this browser"
AGAIN = {"Retry-After": "5"}  # seconds
OURS = (IntegrityError, DataError, ProgrammingError)
"""Errors of a database that answers: a mistake of heedful."""
MISTAKES = ("syntax error", "no such table", "no such column", "no such function")
"""What SQLite says of a wrong statement, as if it were away."""
SIGNS = {"full": FULL, "readonly": FULL, "disk I/O": FULL, "malformed": DAMAGED, "not a database": DAMAGED}
"""Words in the reasons of a database, and what they mean."""
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def answer(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None
) -> Response:
    """An error as JSON (`code` for programs) or as a page."""
    if is_api_path(request.url.path):
        return JSONResponse({"error": message, **({"code": code} if code else {})}, status, headers=headers)
    response = render.page(request, "error.html", status, title=WORDS.get(status, "An error"), message=message)
    response.headers.update(headers or {})
    return response


Responder = Callable[..., Response]
"""Makes a response from the arguments of `answer`."""


def install(app: FastAPI, answer: Responder = answer) -> None:
    """Register the handlers. `answer` makes their responses."""

    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, error: NotSignedIn) -> Response:
        if is_api_path(request.url.path):
            words, code = (OTHER, "other_person") if error.other else ("no valid token or session", None)
            return answer(request, 401, words, {"WWW-Authenticate": "Bearer"}, code)
        root, path = root_of(request), request.url.path
        there = f"?next={quote(root + path)}" if request.method == "GET" and path != "/" else ""
        return RedirectResponse(f"{root}/login{there}", 303)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        code = error.code if isinstance(error, Refused) else None
        return answer(request, REFUSALS.get(code or "", 400), str(error), code=code)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = error.detail if error.detail != WORDS.get(error.status_code) else ""
        standard = HTTPStatus(error.status_code).phrase
        message = MEANINGS.get(error.status_code, standard) if told in ("", standard) else told
        return answer(request, error.status_code, message, dict(error.headers or {}))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return answer(request, 503, BUSY, AGAIN)

    @app.exception_handler(StoreBusy)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(DBAPIError)
    async def away(request: Request, error: Exception) -> Response:
        reason = " ".join(str(getattr(error, "orig", error)).split())[:300]
        if isinstance(error, OURS) or any(sign in reason for sign in MISTAKES):
            raise error
        _note(request, reason)
        words = next((words for sign, words in SIGNS.items() if sign in reason), AWAY)
        return answer(request, 503, words, AGAIN)

    @app.exception_handler(OSError)
    async def unwritable(request: Request, error: OSError) -> Response:
        if error.errno not in UNWRITABLE:
            raise error
        _note(request, str(error.strerror))
        return answer(request, 503, FULL, AGAIN)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        response = answer(request, 500, MEANINGS[500])
        response.headers.update(HEADERS)  # this is sent outside of the middleware that adds them
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, _first(list(error.errors())))


def _note(request: Request, reason: str) -> None:
    """One line in the log for all requests that are refused while database or disk are away."""
    incidents: Incidents = request.app.state.incidents
    incidents.note(reason, f"Requests are refused with 503: {reason}. The line is not repeated while this goes on.")


def _first(problems: list[dict[str, Any]]) -> str:
    """The first problem of a request as one line, without the value that was sent."""
    problem = problems[0]
    where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the request'}: {plain(str(problem['msg']).removeprefix('Value error, '))}"
