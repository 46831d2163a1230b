"""The bases of what the API takes and returns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MOST_NESTED = 50  # levels of lists and objects


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class Body(BaseModel):
    """Base of what is sent: a field that does not exist is an error, and so is what cannot be sent back as JSON."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _sendable(cls, sent: Any) -> Any:
        level = [sent]
        for _ in range(MOST_NESTED):
            if any(isinstance(value, float) and not math.isfinite(value) for value in level):
                raise ValueError("holds NaN or an infinite number, which JSON does not have")
            level = [inner for value in level for inner in _inner(value)]
            if not level:
                return sent
        raise ValueError(f"is nested in more than {MOST_NESTED} levels")


class Out(BaseModel):
    """Base of what is returned."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)
