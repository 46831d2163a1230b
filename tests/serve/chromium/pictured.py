"""The pages of a server of models, with something on them: keys, what is kept, a chat, and two answers side by side."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from collection.served import exchange
from heedful.collection import react
from heedful.collection import store as collected
from heedful.feedback import keys
from serve.chromium.table import Table
from serve.playground.scripted import Play
from web.browser.place import Server
from web.browser.used import ANSWER, ASKED, BETTER

NAMES = ("Bela", "Cleo", "Dora", "Emil", "Fay", "Gus")
ADDRESS = "https://models.example.org"
QUESTION = "Explain why the sky is blue, to a child."
LONG = """\
Light from the sun looks white, but it is a mix of **all colours**. When it meets the air, the tiny molecules bounce \
some of it around.

1. *Short waves* (blue) bounce much more than long ones (red).
2. So blue light reaches your eyes from every side of the sky.

> At sunset the light travels further through the air, and most of the blue is gone.

| colour | wavelength |
| --- | --- |
| blue | 450 nm |
| red | 700 nm |
"""
SHORT = (
    "The sky is blue because the air scatters blue light more than red light. Imagine a pinball machine: the blue "
    "balls bounce off every pin, and the red ones roll straight through."
)


def open_server(folder: Path) -> tuple[Play, Server]:
    play = Play(folder, "demo", "sft-2")
    server = Server.of(play.app)
    play.app.state.settings = play.app.state.settings.model_copy(update={"base_url": ADDRESS})  # what pages tell
    return play, server


def table(play: Play, server: Server, browser: Browser, *, path: str = "/") -> Table:
    """Somebody new, who agreed and has sent something, on a page of the server."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    found = Table(play, server, context)
    play.models["demo"].says, play.models["sft-2"].says = LONG, SHORT
    found.sit(name=next(iter(NAMES[len(play.ids) - 2 :]), None))
    with play.store.writing() as db:
        person, now = play.ids[found.name], datetime.now(UTC)
        keys.new(db, person, "garden bot", now, consent=play.collection.config.version)
        for number, (_, text) in enumerate(ASKED[:3]):
            told = {"messages": [{"role": "user", "content": text}], "answers": [ANSWER], "finish": ["stop"]}
            one = exchange(f"chatcmpl-{found.name}-{number}", found.name, key_id=None, started=now, **told)
            collected.add(db, one, now)
        react.thumb(db, f"chatcmpl-{found.name}-0", found.name, True, ["helpful"], now=now)
        react.edit(db, f"chatcmpl-{found.name}-0", found.name, BETTER, now=now)
    found.page.goto(f"{server.address}{path}")
    return found


def _chat(play: Play, server: Server, browser: Browser) -> Page:
    found = table(play, server, browser)
    found.ask(QUESTION)
    expect(found.page.locator("[data-writing]")).to_have_count(0)
    return found.page


def _one_message(play: Play, server: Server, browser: Browser) -> Page:
    play.models["demo"].one_message = True
    page = _chat(play, server, browser)
    play.models["demo"].one_message = False
    page.get_by_label("Your message").fill("Why is the sunset red?")
    return page


def _side_by_side(play: Play, server: Server, browser: Browser) -> Page:
    found = table(play, server, browser)
    found.page.get_by_role("button", name="Side by side").click()
    found.ask(QUESTION)
    expect(found.page.get_by_role("button", name="Tie")).to_be_visible()
    return found.page


SERVED: dict[str, Callable[[Play, Server, Browser], Page]] = {
    "keys": lambda *place: table(*place, path="/keys").page,
    "kept": lambda *place: table(*place, path="/kept").page,
    "chat": _chat,
    "one_message": _one_message,
    "side_by_side": _side_by_side,
}
