"""`heedful label`: the labelling app started, and filled from the made-up world for a newcomer; without torch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from fastapi import FastAPI
from sqlalchemy.orm import Session

from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people, projects
from heedful.feedback.schema import Project
from heedful.feedback.store import Store
from heedful.sandbox import mistakes, prompts
from heedful.sandbox.world import make_world
from heedful.web.app import create_app
from heedful.web.founding import found
from heedful.web.serve import serve
from heedful.web.settings import WebSettings

NAME, TITLE = "demo", "The demo's small world"
RANKINGS, DEMONSTRATIONS = 120, 40
SETTINGS = {"gold_share": 0.0, "attention_share": 0.0}


def run(
    db: str,
    host: str,
    port: int,
    settings: dict[str, Any],
    *,
    proxies: str | None,
    demo: bool,
    say: Callable[[str], Any],
) -> None:
    """Serve until a signal comes. `say` gets the lines that tell where, and links that work once."""
    store = Store.open(db)
    address = settings.pop("url")

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1") else host
        web = WebSettings(base_url=(address or f"http://{shown}:{port}").rstrip("/"), **settings)
        server.append(create_app(store, web))
        for line in welcome(store, web.base_url, settings["folder"] if demo else None, datetime.now(UTC)):
            say(line)

    server: list[FastAPI] = []
    serve(lambda: server[0], host, port, proxies=proxies, ready=ready)


def welcome(store: Store, address: str, demo: Path | None, now: datetime) -> list[str]:
    """What a person reads at the start: the address, and the links that the first people need. `demo`: the folder of a
    project to try, made where it is not there.
    """
    lines = [f"heedful is at {address}. Ctrl-C ends it."]
    with store.writing() as db:
        if not people.has_admin(db):
            _, token = people.invite(db, None, "lead", now, by=None, hours=24)
            lines.append(f"Make the first account, which leads everything (works once): {address}/join/{token}")
        if demo is not None:
            project = fill(db, now, demo)
            _, token = people.invite(db, project.id, "labeler", now, by=None, hours=24, note="demo")
            lines.append(f"Rank answers as a labeler (works once): {address}/join/{token}")
    return lines


def fill(db: Session, now: datetime, folder: Path | None = None, seed: int = 1) -> Project:
    """The project `demo`, made where it is not there: completions that a finished `heedful demo` sampled in `folder`,
    or else answers that the world makes up, good ones and bad ones.
    """
    project = projects.by_name(db, NAME)
    if project is not None:
        return project
    project = found(db, NAME, TITLE, now, by=None, settings=SETTINGS)
    rows, source = sampled(folder), "the demo's SFT model"
    if not rows:
        rows, source = made_up(RANKINGS, seed), "made up"
    Random(seed).shuffle(rows)
    world = make_world(seed)
    asked = list(prompts.prompts(world, DEMONSTRATIONS, seed=seed + 1))
    items.add(db, project.id, "ranking", rows[:RANKINGS], now, by=None, source=source)
    items.add(db, project.id, "demonstration", asked, now, by=None, source="made up")
    return project


def sampled(folder: Path | None) -> list[Completions]:
    """What the demo's model answered; nothing where there is no finished demo."""
    found = sorted(folder.rglob("ranked_prompts_[4-9]_sampled.jsonl")) if folder is not None else []
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
