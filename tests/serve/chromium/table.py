"""A page of the playground on which somebody is signed in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect

from heedful.feedback import people
from serve.playground.scripted import Play
from web.browser.place import Server


class Table:
    def __init__(self, play: Play, server: Server, context: BrowserContext) -> None:
        self.play, self.server, self.context = play, server, context
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self._note(said.type, said.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:
            self.problems.append(text)

    def sit(self, agrees: bool = True, path: str = "/", name: str | None = None) -> Page:
        """Somebody new opens the page."""
        number = len(self.play.ids)
        self.name = name or f"person-{number}"
        with self.play.store.writing() as db:
            self.play.ids[self.name] = people.add_person(db, self.name, None, datetime.now(UTC)).id
        if agrees:
            self.play.agree(self.name)
        secret = self.play.session(self.name)
        self.context.add_cookies([{"name": self.play.app.state.cookie, "value": secret, "url": self.server.address}])
        self.page.goto(f"{self.server.address}{path}")
        return self.page

    def ask(self, text: str) -> None:
        self.page.get_by_label("Your message").fill(text)
        self.page.keyboard.press("Enter")

    def answer(self, place: int = -1) -> Locator:
        """The words of an answer."""
        found = self.page.locator(".answer .body > :first-child")
        return found.last if place == -1 else found.nth(place)

    def answers(self, text: str) -> None:
        """The newest answer has ended, and is this text."""
        expect(self.page.locator("[data-writing]")).to_have_count(0)
        expect(self.answer()).to_have_text(text)

    def keys(self, *keys: str) -> None:
        """Press keys, outside of the text."""
        if self.page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            self.page.keyboard.press("Escape")
        for key in keys:
            self.page.keyboard.press(key)

    def kept(self) -> list[Any]:
        """What the collection keeps of this person."""
        from heedful.collection.store import of_user

        with self.play.store.reading() as db:
            return of_user(db, self.name)

    def kept_reactions(self) -> list[Any]:
        return [reaction for one in self.kept() for reaction in one.reactions]
