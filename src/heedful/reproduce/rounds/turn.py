"""One round of a simulated service: the real steps of `heedful round run`, and what is due in between.

Where the round waits for prompts, users send some and curation sees them. Where it waits for people, labelers work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heedful.collection import curation
from heedful.collection.settings import QueueConfig
from heedful.config import UserError, build
from heedful.configs.round import RoundConfig
from heedful.feedback import people, projects
from heedful.feedback.collected import Exchange, ServedUser
from heedful.feedback.store import Store
from heedful.files import read_json, write_json
from heedful.reproduce.rounds import servers
from heedful.reproduce.rounds.crew import Crew
from heedful.reproduce.rounds.place import GATE, PROJECT, ProjectFolder
from heedful.reproduce.rounds.users import Crowd, User
from heedful.rounds import machine, state
from heedful.rounds.state import Round, Waiting
from heedful.web.text import defaults

TRAFFIC = "traffic.json"
MOST_BATCHES = 40
"""Of a round. More mean that curation leaves nearly everything out."""


@dataclass
class LoopTurn:
    """A round in a folder. `queued` is called once, before anybody labels."""

    place: ProjectFolder
    number: int
    sft: Path
    crowd: Crowd
    crew: Crew
    held_out: Crew
    batch: int
    """Prompts that users send at a time."""
    fractions: dict[str, float]
    """Of the users in each split."""
    new_topics: bool
    queued: Callable[[Round], None]
    say: Callable[[str], Any]
    _address: str = ""
    """Of the server of models, which starts when it is needed."""
    _serving: Callable[[], str] = str

    def run(self) -> Round:
        """Turn the loop once, or go on where an earlier call stopped."""
        with closing(self.place.store()) as store, ExitStack() as stack:
            known = state.numbers(self.place.folder)
            if self.number in known and (there := state.read(self.place.folder, self.number)).is_over:
                return there
            app = stack.enter_context(servers.labelling(self.place.folder))
            self._serving = lambda: stack.enter_context(servers.serving(self.place.folder, self.sft))
            if self.number not in known:
                self._send(store, state.plan_of(self.place.folder))
            while True:
                try:
                    return machine.run(
                        self.place.folder, store, self.place.db, self.say, consent=defaults.CONSENT
                    )  # fmt: skip
                except Waiting as waiting:
                    self.say(f"round {self.number}: {waiting}")
                    self._what_is_due(store, app)

    def _what_is_due(self, store: Store, app: str) -> None:
        one = state.read(self.place.folder, self.number)
        step = next(name for name, told in one.steps.items() if told["status"] == "waiting")
        if step == "labels":
            self.queued(one)
        if step in ("labels", "votes"):
            crew, project = (self.crew, PROJECT) if step == "labels" else (self.held_out, GATE)
            if not crew.label(app, project):
                raise UserError(f"{self.place.folder}: round {self.number} waits, and no labeler has work left")
        else:
            self._send(store, one.plan)

    def _send(self, store: Store, plan: RoundConfig) -> None:
        """Users send a batch of prompts, and curation sees what was kept."""
        path = self.place.folder / TRAFFIC
        sent: dict[str, dict[str, int]] = read_json(path) if path.exists() else {}
        mine = [name for name in sent if name.startswith(f"{self.number}-")]
        if len(mine) >= MOST_BATCHES:
            raise UserError(f"{self.place.folder}: round {self.number} waits for prompts after {len(mine)} batches")
        name = f"{self.number}-{len(mine) + 1}"
        generation = plan.generation
        settings = {"max_tokens": generation.max_new_tokens, "temperature": generation.temperature}
        self._address = self._address or self._serving()
        counts = self.crowd.send(self._address, self.batch, settings, name, new_topics=self.new_topics)
        with store.reading() as db:
            project = projects.by_name(db, PROJECT)
        assert project is not None
        config = build(QueueConfig, {"fractions": self.fractions, "seed": self.crowd.world.seed}, "fractions")
        done = curation.curate(store, project.id, config, datetime.now(UTC), by=None)
        write_json(path, {**sent, name: {**counts, "curated": done.exchanges, "queued": done.queued}})


def spent(folder: Path, number: int) -> dict[str, int]:
    """What users did in a round, counted."""
    path = folder / TRAFFIC
    sent = read_json(path) if path.exists() else {}
    total: Counter[str] = Counter()
    for name, counts in sent.items():
        if name.startswith(f"{number}-"):
            total.update(counts)
    return dict(sorted(total.items()))


def kept_of_refusing(store: Store, users: list[User]) -> int:
    """Number of stored exchanges of users who refuse. It must be 0."""
    with store.reading() as db:
        names = [user.name for user in users if user.refuses]
        ids = [person.id for name in names if (person := people.person_named(db, name)) is not None]
        chosen = sa.select(sa.func.count()).select_from(Exchange).join(ServedUser, ServedUser.id == Exchange.user_id)
        return db.scalar(chosen.where(ServedUser.person_id.in_(ids))) or 0
