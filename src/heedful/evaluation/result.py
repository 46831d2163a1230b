"""The type of what evaluations return and write: JSON, with the keys that the pages of the docs name."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]
