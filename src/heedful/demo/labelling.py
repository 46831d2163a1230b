"""`heedful label`: the labelling app started, and filled from the made-up world for a newcomer; without torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from fastapi import FastAPI
from sqlalchemy.orm import Session

from heedful.config import UserError, build
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people, projects
from heedful.feedback.schema import Project
from heedful.feedback.store import Store
from heedful.sandbox import mistakes, prompts
from heedful.sandbox.world import make_world
from heedful.web.app import create_app
from heedful.web.new_project import found
from heedful.web.serve import serve
from heedful.web.settings import WebSettings

NAME, TITLE = "demo", "The demo's small world"
RANKINGS, DEMONSTRATIONS = 120, 40
SETTINGS = {"kinds": ["ranking", "demonstration"], "gold_share": 0.0, "attention_share": 0.0}


def run(
    db: str,
    host: str,
    port: int,
    settings: dict[str, Any],
    *,
    proxies: str | None,
    demo: bool,
    new_password: str | None,
    say: Callable[[str], Any],
) -> None:
    """Serve until a signal comes. `say` gets the lines that tell where, and links that work once."""
    address = settings.pop("url")
    if address is not None and not re.match(r"https?://[^/\s]", address):
        raise UserError(f"--url {address}: no address that links can be made of; begin it with http:// or https://")
    checked = build(WebSettings, settings, source="the options")

    def ready(port: int) -> None:
        store = Store.open(db, create=new_password is None)  # here, when the port is ours: a mistake makes no database
        shown = f"[{host}]" if ":" in host else "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1") else host
        web = checked.model_copy(update={"base_url": (address or f"http://{shown}:{port}").rstrip("/")})
        server.append(create_app(store, web))
        folder = settings["folder"] if demo else None
        for line in welcome(store, web.base_url, folder, datetime.now(UTC), new_password):
            say(line)

    server: list[FastAPI] = []
    serve(lambda: server[0], host, port, proxies=proxies, ready=ready)


def welcome(store: Store, address: str, demo: Path | None, now: datetime, new_password: str | None = None) -> list[str]:
    """What a person reads at the start: the address, and the links that the first people need. `demo`: the folder of a
    project to try, made where it is not there. `new_password`: whose password is forgotten.
    """
    lines = [f"heedful is at {address}. Ctrl-C ends it."]
    with store.writing() as db:
        if demo is not None:
            project = projects.by_name(db, NAME)
            if project is None:
                project, source = fill(db, now, demo)
                lines.append(f"The project '{TITLE}' is there to try, with {source}.")
            _, token = people.invite(db, project.id, "labeler", now, by=None, hours=24, note="demo")
            lines.append(f"To rank as a labeler (a link that works once): {address}/join/{token}")
        if not people.has_admin(db):
            _, token = people.invite(db, None, "lead", now, by=None, hours=24)
            lines.append(f"To lead, make the first account (a link that works once): {address}/join/{token}")
        if new_password is not None:
            person = people.person_named(db, new_password)
            if person is None:
                raise UserError(f"--new-password {new_password}: nobody has this name; names are on the page People")
            people.audit(db, None, "password link", f"person {person.id}", now=now)
            _, token = people.new_token(db, person.id, "password", now, days=1)
            lines.append(f"{person.name}'s new password (a link that works once): {address}/password/{token}")
    return lines


def fill(db: Session, now: datetime, folder: Path, seed: int = 1) -> tuple[Project, str]:
    """(the project `demo`, where its answers come from): completions that a finished `make demo` sampled in
    `folder/demo`, or else answers that the world makes up, good ones and bad ones.
    """
    project = found(db, NAME, TITLE, now, by=None, settings=SETTINGS)
    rows, source, told = sampled(folder), "SFT model of the demo", f"answers of the SFT model in {folder / 'demo'}"
    if not rows:
        rows, source = made_up(RANKINGS, seed), "made up"
        told = f"made-up answers, since {folder / 'demo'} holds no finished demo (make demo)"
    Random(seed).shuffle(rows)
    asked = list(prompts.prompts(make_world(seed), DEMONSTRATIONS, seed=seed + 1))
    items.add(db, project.id, "ranking", rows[:RANKINGS], now, by=None, source=source)
    items.add(db, project.id, "demonstration", asked, now, by=None, source="made up")
    return project, told


def sampled(folder: Path) -> list[Completions]:
    """What the SFT model of a demo answered; nothing where none is finished, which its report shows."""
    if not (folder / "demo" / "report.html").exists():
        return []
    found = sorted((folder / "demo" / "world").glob("ranked_prompts_[4-9]_sampled.jsonl"))
    rows = [row for path in found for row in formats.read(path, Completions)]
    return [Completions.model_validate(_plain(row)) for row in rows]


def made_up(count: int, seed: int = 1) -> list[Completions]:
    """Prompts of the world with K = 4 to 6 answers as a half-trained model gives them."""
    world, rng = make_world(seed), Random(f"labelling {seed}")
    rows = []
    for number, prompt in enumerate(prompts.prompts(world, count, seed=seed)):
        answers = mistakes.mixture(world, prompt.prompt, 4 + number % 3, rng)
        rows.append(Completions.model_validate({**prompt.row(), "completions": answers}))
    return rows


def _plain(row: Prompt) -> dict[str, object]:
    return {key: value for key, value in row.row().items() if key not in ("token_ids", "scores")}
