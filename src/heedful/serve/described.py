"""OpenAPI of this server's routes, with the bodies that its own models take."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from heedful.serve.requests import Chat, Completion

REF = "#/components/schemas/{model}"
STATUSES = {
    400: "A parameter is wrong or not supported.",
    401: "The key is not valid.",
    403: "The key is suspended, or a page of another site asks.",
    404: "There is no such model.",
    413: "The request is too large.",
    429: "The key has asked too much. Retry-After says how long to wait.",
    503: "The model is away, or too many requests wait.",
    504: "The answer took too long.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def body_of(name: str) -> dict[str, Any]:
    """What a route that reads its body itself says of it."""
    schema = {"$ref": REF.format(model=name)}
    header = {
        "name": "Heedful-Store", "in": "header", "required": False, "schema": {"enum": ["yes", "no"]},
        "description": "no: nothing of this request may be kept.",
    }  # fmt: skip
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "parameters": [header],
    }


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of refusals, in OpenAI's shape."""
    content = {"application/json": {"schema": {"$ref": REF.format(model="OpenAIError")}}}
    return {status: {"description": STATUSES[status], "content": content} for status in statuses}


ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or its events.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
    }
}


def install(app: FastAPI) -> None:
    """Describe the application. The description is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title="heedful serve", version="1", routes=app.routes)
            _, schemas = models_json_schema([(Chat, "validation"), (Completion, "validation")], ref_template=REF)
            components = made.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas["$defs"] | {"OpenAIError": ERROR})
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"key": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
