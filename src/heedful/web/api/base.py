"""The bases of what the API takes and returns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from heedful.config import refuse_truth

MOST_NESTED = 50  # levels of lists and objects


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class Body(BaseModel):
    """Base of what is sent. A field that does not exist is an error, and so is a value that JSON cannot hold."""

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

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for a number."""
        refuse_truth(cls.model_fields.get(info.field_name or ""), value)
        return value


class Out(BaseModel):
    """Base of what is returned."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)
