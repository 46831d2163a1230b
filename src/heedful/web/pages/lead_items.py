"""The lead's pages of items: import, the list, and each item's history."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field, ValidationInfo, field_validator

from heedful.collection import react
from heedful.config import IN_ADDRESS
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.feedback import differing, events, projects, readings, search
from heedful.feedback.judgements import PAYLOADS, PromptRequest, completions
from heedful.feedback.rubric import Rubric
from heedful.feedback.schema import KINDS, PURPOSES, REACTIONS, Item
from heedful.web.imports import ImportOptions
from heedful.web.pages import item_view
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsLead, AsReader, Settings, Stored, item_of

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
PAGE = 50
CHOSEN: tuple[Literal["source", "use_case"], ...] = ("source", "use_case")  # filters with the values that items have


@router.get("/import")
def import_page(request: Request, member: AsLead, settings: Settings) -> Response:
    """The form for a file."""
    endings = sorted({f".{ending.rpartition('.')[2]}" for ending in formats.READABLE})  # browsers know no double ones
    return lead_page(request, "import", settings=settings, options=ImportOptions(), endings=endings)


class ItemsQuery(search.ItemFilters):
    """What the address of the list says."""

    model_config = IN_ADDRESS

    order: search.ItemOrder = "newest"
    page: int = Field(1, ge=1, le=1_000_000)

    @field_validator("order", "page", mode="before")
    @classmethod
    def _usual(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value in ("", None) else value

    @property
    def given(self) -> dict[str, str]:
        """The filters that are set."""
        named = search.ItemFilters.model_fields
        return {name: str(value) for name in named if (value := getattr(self, name)) is not None}

    def address(self, page: int) -> str:
        """The query of another page of the same list."""
        order = {"order": self.order} if self.order != "newest" else {}
        return urlencode({**self.given, **order, **({"page": page} if page > 1 else {})})


@router.get("/items")
def listing(request: Request, member: AsReader, store: Stored, asked: Annotated[ItemsQuery, Query()]) -> Response:
    """The items that pass the filters, page by page."""
    with store.reading() as db:
        filters = search.ItemFilters(**asked.given)
        total = search.count(db, member.project_id, filters)
        pages = max(1, -(-total // PAGE))
        page = min(asked.page, pages)
        found = search.listing(db, member.project_id, filters, order=asked.order, offset=PAGE * (page - 1), limit=PAGE)
        settings = projects.settings(db, member.project_id)
        offered: dict[str, list[str]] = {name: search.choices(db, member.project_id, name) for name in CHOSEN}
    return lead_page(
        request,
        "items",
        rows=[(item, item_view.beginning(item), _flags(item, settings.rubric)) for item in found],
        asked=asked,
        total=total,
        first=PAGE * (page - 1) + 1,
        page=page,
        pages=pages,
        kinds=(*KINDS, *(REACTIONS if member.project == react.PROJECT else ())),
        purposes=(*PURPOSES, *(("use",) if member.project == react.PROJECT else ())),
        offered=offered,
        flags=[(flag.name, flag.short) for flag in settings.rubric.asked()],
    )


@router.get("/items/{ref}")
def item(request: Request, member: AsReader, store: Stored, ref: str) -> Response:
    """An item, its history, and what a lead can change."""
    with store.reading() as db:
        found = item_of(db, member, ref)
        told = events.of_item(db, found.id)
        # of a redacted item, only the history is left
        payload = None if found.redacted else PAYLOADS[found.kind].model_validate(found.payload)
        judged = readings.judgements(db, member.project_id, purposes=PURPOSES, item_id=found.id)
        return lead_page(
            request,
            "item",
            item=found,
            prompt=payload.prompt if isinstance(payload, Prompt) else "",
            asks=payload if isinstance(payload, PromptRequest) else None,
            answers=_answers(found, completions(payload)) if payload else [],
            told=told,
            matrix=item_view.matrix(found, told, judged, completions(payload) if payload else []),
            standing=sum(one.stands for one in told),
            gold=found.gold,
            explanation=found.explanation,
            rubric=projects.settings(db, member.project_id).rubric,
        )


def _flags(item: Item, rubric: Rubric) -> list[str]:
    """The flags that labelers set, in words."""
    names = [name for name in item.flags.split("|") if name]
    set_ = {name: name != differing.CONSTRAINT for name in names if name != differing.NONE_ACCEPTABLE}
    return rubric.said(set_) + (["none acceptable"] if differing.NONE_ACCEPTABLE in names else [])


def _answers(item: Item, texts: list[str]) -> list[dict[str, Any]]:
    """Completions in the item's own order, with model and scores."""
    payload = item.payload
    models = payload.get("models") or [payload.get(side, {}).get("model") for side in ("a", "b") if side in payload]
    return [
        {
            "text": text,
            "model": models[k] if k < len(models) else None,
            "scores": {name: values[k] for name, values in (item.scores or {}).items()},
        }
        for k, text in enumerate(texts)
    ]
