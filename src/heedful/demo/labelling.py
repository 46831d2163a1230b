"""`heedful label`: start the labelling app. `--demo` adds a project from the made-up world. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from fastapi import FastAPI
from sqlalchemy.orm import Session

from heedful.config import UserError, build
from heedful.data import formats
from heedful.data.records import Completions
from heedful.feedback import items, people, projects
from heedful.feedback.schema import Project
from heedful.feedback.store import Store
from heedful.sandbox import mistakes, prompts
from heedful.sandbox.world import make_world
from heedful.web.app import check_root, create_app
from heedful.web.first_account import first_account
from heedful.web.new_project import create_project
from heedful.web.serve import NO_PROXIES, address_of, behind_proxy, serve
from heedful.web.settings import WebSettings, checked_address

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
    """Serve until a signal comes. `say` gets the address, and links that work once."""
    address = settings.pop("url")
    if address is not None:
        try:
            address = checked_address(address)
            check_root(WebSettings(base_url=address))
        except UserError as error:
            raise UserError(f"--url {error}") from None
    checked = build(WebSettings, settings, source="the options")

    def app(port: int) -> FastAPI:
        store = Store.open(db, create=new_password is None)  # not before the port is ours
        web = checked.model_copy(update={"base_url": address or address_of(host, port)})
        served = create_app(store, web)
        folder = settings["folder"] if demo else None
        if address is not None and proxies is None and behind_proxy(address, port):
            say(NO_PROXIES)
        for line in welcome(store, web.base_url, folder, datetime.now(UTC), new_password):
            say(line)
        return served

    serve(app, host, port, proxies=proxies)


def welcome(store: Store, address: str, demo: Path | None, now: datetime, new_password: str | None = None) -> list[str]:
    """The lines shown at the start: the address, and the links that the first people need.

    `demo`: make a project to try, with answers from this folder. `new_password`: the person who forgot their password.
    """
    lines = [f"heedful is at {address}. Press Ctrl-C to stop it."]
    with store.writing() as db:
        if demo is not None:
            project = projects.by_name(db, NAME)
            if project is None:
                project, source = fill(db, now, demo)
                lines.append(f"The project '{TITLE}' is ready to try, with {source}.")
            _, token = people.invite(db, project.id, "labeler", now, by=None, hours=24, note="demo")
            lines.append(f"Rank answers as a labeler (this link works once): {address}/join/{token}")
        lines += first_account(db, address, now)
        if new_password is not None:
            person = people.person_named(db, new_password)
            if person is None:
                raise UserError(f"--new-password {new_password}: no such person. The page People lists all names.")
            people.audit(db, None, "password link", f"person {person.id}", now=now)
            _, token = people.new_token(db, person.id, "password", now, days=1)
            lines.append(f"Set a new password for {person.name} (this link works once): {address}/password/{token}")
    return lines


def fill(db: Session, now: datetime, folder: Path, seed: int = 1) -> tuple[Project, str]:
    """Make the project `demo`. Returns it and words for the source of its answers.

    The answers are those that a finished `make demo` sampled in `folder/demo`. Without one the world makes up good and
    bad answers.
    """
    project = create_project(db, NAME, TITLE, now, by=None, settings=SETTINGS)
    rows, source, told = sampled(folder), "SFT model of the demo", f"answers of the SFT model in {folder / 'demo'}"
    if not rows:
        rows, source = made_up(RANKINGS, seed), "made up"
        told = f"made-up answers, because {folder / 'demo'} has no finished demo (make demo)"
    Random(seed).shuffle(rows)
    asked = list(prompts.prompts(make_world(seed), DEMONSTRATIONS, seed=seed + 1))
    items.add(db, project.id, "ranking", rows[:RANKINGS], now, by=None, source=source)
    items.add(db, project.id, "demonstration", asked, now, by=None, source="made up")
    return project, told


def sampled(folder: Path) -> list[Completions]:
    """The answers of the SFT model of a finished demo. Empty without one: a finished demo has a report."""
    if not (folder / "demo" / "report.html").exists():
        return []
    found = sorted((folder / "demo" / "world").glob("ranked_prompts_[4-9]_sampled.jsonl"))
    rows = [row for path in found for row in formats.read(path, Completions)]
    return [row.model_copy(update={"token_ids": None, "scores": None}) for row in rows]


def made_up(count: int, seed: int = 1) -> list[Completions]:
    """Prompts of the world, each with K = 4 to 6 answers such as a half-trained model gives."""
    world, rng = make_world(seed), Random(f"labelling {seed}")
    rows = []
    for number, prompt in enumerate(prompts.prompts(world, count, seed=seed)):
        answers = mistakes.mixture(world, prompt.prompt, 4 + number % 3, rng)
        rows.append(Completions.model_validate({**prompt.row(), "completions": answers}))
    return rows
