"""The description of the API: OpenAPI for programs, and a page for people.

The page is our own, since the usual ones load scripts from other servers.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from heedful.web.pages.render import page
from heedful.web.security.access import Anyone

router = APIRouter(prefix="/api", include_in_schema=False)
DESCRIPTION = (
    "Scripts can do everything that people do in the browser. Send a token (from your account's page, or from an"
    ' invitation) as `Authorization: Bearer TOKEN`. Errors are `{"error": words}`, some with a `code`. Times are ISO'
    " 8601 in UTC."
)
TITLES = {"account": "Accounts", "work": "Work on items", "lead": "Leading a project"}


@dataclass(frozen=True)
class ApiField:
    name: str
    kind: str
    required: bool
    words: str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    words: str
    parameters: list[ApiField]
    body: list[ApiField]
    body_words: str
    answer: str
    answer_fields: list[ApiField]


@dataclass(frozen=True)
class Described:
    """The description in both forms."""

    openapi: bytes
    groups: dict[str, list[Operation]]


_making = threading.Lock()


def described(app: FastAPI) -> Described:
    """The routes under /api, described once. It takes a second, and FastAPI fails if two threads do it at once."""
    with _making:
        found: Described | None = getattr(app.state, "described", None)
        if found is None:
            made = get_openapi(title="heedful", version="1", description=DESCRIPTION, routes=app.routes)
            made.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
            found = app.state.described = Described(json.dumps(made, separators=(",", ":")).encode(), _groups(made))
        return found


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    return Response(described(request.app).openapi, media_type="application/json")


@router.get("/docs")
def docs(request: Request, person: Anyone) -> Response:
    return page(request, "entry/api.html", groups=described(request.app).groups, description=DESCRIPTION)


def _groups(spec: dict[str, Any]) -> dict[str, list[Operation]]:
    groups: dict[str, list[Operation]] = {TITLES[tag]: [] for tag in TITLES}
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            groups[TITLES[operation["tags"][0]]].append(_operation(spec, method, path, operation))
    return groups


def _operation(spec: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Operation:
    parameters = [
        ApiField(one["name"], _kind(one["schema"]), one["required"], _words(one | one["schema"]))
        for one in operation.get("parameters", [])
        if one["in"] == "query"
    ]
    content = operation.get("requestBody", {}).get("content", {})
    shape = _resolved(spec, content.get("application/json", {}).get("schema", {}))
    status, answer = next((code, one) for code, one in operation["responses"].items() if code.startswith("2"))
    answered = answer.get("content", {}).get("application/json", {}).get("schema", {})
    plain = _resolved(spec, answered.get("items", answered))
    return Operation(
        method.upper(),
        path,
        _words(operation),
        parameters,
        _fields(shape),
        "the file" if "application/x-ndjson" in content else _words(shape),
        "nothing" if status == "204" else _kind(answered),
        _fields(plain),
    )


def _fields(shape: dict[str, Any]) -> list[ApiField]:
    required = shape.get("required", [])
    return [
        ApiField(name, _kind(one), name in required, _words(one)) for name, one in shape.get("properties", {}).items()
    ]


def _resolved(spec: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    reference = shape.get("$ref")
    found: dict[str, Any] = spec["components"]["schemas"][reference.rpartition("/")[2]] if reference else shape
    return found


def _kind(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_kind(one) for one in shape["anyOf"]))
    if "enum" in shape or "const" in shape:
        return " | ".join(str(one) for one in shape.get("enum", [shape.get("const")]))
    if shape.get("type") == "array":
        return f"list of {_kind(shape.get('items', {}))}"
    return {"integer": "whole number", "null": "null", "object": "object"}.get(
        str(shape.get("type")), str(shape.get("format") or shape.get("type") or "any JSON")
    )


def _words(shape: dict[str, Any]) -> str:
    return " ".join(str(shape.get("description", "")).split())
