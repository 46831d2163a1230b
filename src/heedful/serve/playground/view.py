"""Turns as the page gets them: with HTML from the one Markdown module, and without the names of compared models.

Call it in a thread: a hostile text takes a third of a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from heedful.feedback.chats import Conversation, Turn
from heedful.serve.playground.records import ChatOut, ChatSettings, TurnOut
from heedful.web.text import markdown, sanitise

MOST_SECONDS = 2.0  # of Markdown in one response. What is left is shown as plain text


def html_of(text: str, *, plain: bool = False) -> tuple[str, bool]:
    """(HTML of a text, whether it is Markdown)."""
    made = None if plain else markdown.rich(text)
    return (str(made), True) if made is not None else (str(sanitise.as_html(text)), False)


def turns(found: Iterable[Turn]) -> list[TurnOut]:
    """Turns for the page."""
    until = time.monotonic() + MOST_SECONDS
    return [_turn(one, plain=time.monotonic() > until) for one in found]


def settings(one: Conversation) -> ChatSettings:
    """The settings of a conversation."""
    return ChatSettings.model_validate(one.settings)


def chat(one: Conversation, found: Iterable[Turn]) -> ChatOut:
    """A conversation for the page."""
    return ChatOut(
        ref=one.ref, title=sanitise.plain(one.title), settings=settings(one), tip=one.tip, turns=turns(found)
    )


def _turn(one: Turn, *, plain: bool) -> TurnOut:
    html, rich = (None, False)
    if one.state != "writing":
        html, rich = html_of(one.text, plain=plain or one.role == "user")
    hidden = one.pair is not None and one.verdict is None
    return TurnOut(
        id=one.id,
        parent=one.parent_id,
        role=one.role,
        text=sanitise.plain(one.text),
        html=html,
        rich=rich,
        state=one.state,
        note=one.note,
        model=None if hidden else one.model,
        pair=one.pair,
        place=one.place,
        verdict=one.verdict,
        thumb=one.thumb,
        edit=one.edit,
    )
