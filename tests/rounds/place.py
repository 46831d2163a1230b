"""A project folder for rounds: a tiny world, users who sent prompts, labelers, and held-out labelers."""

from __future__ import annotations

import shutil
from collections.abc import Container
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collection.served import exchange, keep, open_store
from heedful.collection import curation
from heedful.collection.settings import QueueConfig
from heedful.feedback import people, projects, work
from heedful.feedback.store import Store
from heedful.rounds import machine
from heedful.rounds.state import PLAN, Round

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
USERS = [f"user{i}" for i in range(26)]


def letters(prompts: list[Any], completions: list[str]) -> list[float]:
    """A judge: how many of the characters are a vowel."""
    return [sum(map(text.count, "aeiou")) / max(1, len(text)) for text in completions]


class Place:
    """The folder, its store, and what people do there."""

    def __init__(self, folder: Path, root: Path, template: Path | None = None, **plan: Any) -> None:
        self.folder, self.root, self.said = folder, root, [""]
        self.db = str(folder / "heedful.db")
        if template is not None:
            shutil.copyfile(template, self.db)
            self.store = Store.open(self.db)
            with self.store.reading() as db:
                project, labeler = projects.by_name(db, "tea"), people.person_named(db, "labeler")
            assert project is not None
            assert labeler is not None
            self.project, self.labeler = project.id, labeler.id
            self.plan(**plan)
            return
        self.store = open_store(folder, *USERS)
        with self.store.writing() as db:
            project = projects.by_name(db, "tea")
            assert project is not None
            self.project = project.id
            self.labeler = people.add_person(db, "labeler", None, NOW).id
            people.join(db, self.project, self.labeler, "labeler", NOW)
            projects.change_settings(db, self.project, {"rate_first": False, "attention_share": 0.0})
        self.plan(**plan)

    def plan(self, **changed: Any) -> None:
        """Write round.toml."""
        judge = changed.pop("judge", f"{__name__}:letters")
        gate = {"prompts": 12, "unrated": "allow", "length": "off", **changed.pop("gate", {})}
        top = {
            "project": "tea", "serving": str(self.root / "policy"), "sft": str(self.root / "policy"), "prompts": 12,
            "k": 3, **({"judge": judge} if judge else {}), **changed,
        }  # fmt: skip
        lines = [f"{name} = {_toml(value)}" for name, value in top.items()]
        lines += ["[generation]", "max_new_tokens = 8", "[gate]", *(f"{k} = {_toml(v)}" for k, v in gate.items())]
        lines += ["[reward]", "batch = 4", "epochs = 1", "preflight = 'off'"]
        lines += ["[ppo]", "episodes = 8", "rollout_batch = 8", "minibatch = 4", "ptx_coef = 0", "ema_decay = 0"]
        lines += ["[ppo.optimiser]", "lr = 0.02", "warmup = 0"]  # far enough that every answer changes
        (self.folder / PLAN).write_text("\n".join(lines) + "\n")

    def send(self, per_user: int = 1, start: int = 0) -> None:
        """Every user sends prompts, and curation sees them. More than half of the users are held out."""
        rows = [
            exchange(
                f"x{start + turn}-{user}", user, key_id=None,
                messages=[{"role": "user", "content": f"{start + turn} {user} asks for a poem about the river"}],
            )
            for turn in range(per_user)
            for user in USERS
        ]  # fmt: skip
        keep(self.store, *rows)
        config = QueueConfig(fractions={"train": 0.3, "test": 0.7}, prefix_length=30)
        curation.curate(self.store, self.project, config, NOW, by=None)

    def label(
        self, project: str = "tea", person: int | None = None, most: int = 1000, prefer: Container[str] = ()
    ) -> int:
        """A labeler ranks what the queue has. First come preferred texts, but for the first task."""
        done = 0
        while done < most:
            with self.store.writing() as db:
                number = projects.by_name(db, project).id  # type: ignore[union-attr]
                task = work.next_task(db, number, person or self.labeler, NOW, kind="ranking")
            if not isinstance(task, work.Task):
                return done
            order = sorted(range(len(task.completions)), key=lambda i: (task.completions[i] in prefer) == (done == 0))
            answer: dict[str, Any] = {"ranking": [[i] for i in order]}
            if project != "tea":
                answer["ratings"] = [{"overall": 4, "violent": False}] * len(task.completions)
            with self.store.writing() as db:
                work.submit(
                    db, person or self.labeler, task.lease, answer, NOW, idempotency_key=f"{project} {task.lease}",
                    seconds=30.0,
                )  # fmt: skip
            done += 1
        return done

    def run(self, **how: Any) -> Round:
        return machine.run(self.folder, self.store, self.db, self.said.append, **how)


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
