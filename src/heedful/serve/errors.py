"""Error responses of a server of models: in OpenAI's shape below /v1, else those of the web app."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from heedful.serve.callers import NO_KEY
from heedful.serve.types import ApiError
from heedful.web.pages import errors
from heedful.web.security.access import session_cookie

CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
OF_CLIENTS = ("/models", "/chat/completions", "/completions", "/embeddings", "/responses")
"""What clients of OpenAI's API ask for. Without /v1 in front nothing is there."""


def is_openai_path(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def refusal(error: ApiError) -> Response:
    """An error as a response."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body, error.status, headers=headers)


def answer(
    request: Request, status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None
) -> Response:
    """An error as JSON in the shape that the client expects, or as a page."""
    path = request.url.path
    if path in OF_CLIENTS:  # a client whose base_url lacks the end
        words = f"There is no {path} here. The API is below /v1: base_url ends with /v1."
        return refusal(ApiError(404, words, code=CODES[404]))
    if not is_openai_path(path):
        return errors.answer(request, status, message, headers, code)
    if status == 403 and not session_cookie(request):  # a program without a key, or with another scheme than Bearer
        return refusal(ApiError(401, NO_KEY, code="invalid_api_key"))
    if status in (404, 405) and message == errors.MEANINGS[status]:
        message = (
            f"There is no {request.method} {request.url.path[:200]} here. GET /v1/openapi.json names what there is."
        )
    response = refusal(ApiError(status, message, code=code or CODES.get(status)))
    response.headers.update(headers or {})
    return response


def install(app: FastAPI) -> None:
    """Register the handlers."""
    errors.install(app, answer)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        if not is_openai_path(request.url.path):
            return errors.answer(request, error.status, error.message, code=error.code)
        return refusal(error)
