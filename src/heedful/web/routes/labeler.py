"""The labeler's pages."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/work/{project}", include_in_schema=False)
