"""The tiny world of the stages' tests."""

from __future__ import annotations

from stages.conftest import files

__all__ = ["files"]
