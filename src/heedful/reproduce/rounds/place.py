"""The project folder of a simulated service: accounts, keys, projects, the plan of its rounds, and copies of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.collection.settings import CollectionConfig
from heedful.config import build
from heedful.configs.round import RoundConfig
from heedful.demo.records import Demo
from heedful.feedback import backup, final, keys, people, projects
from heedful.feedback.schema import Role
from heedful.feedback.store import Store
from heedful.files import read_json, write_json, write_text
from heedful.reproduce.rounds.servers import MODEL
from heedful.reproduce.rounds.users import User
from heedful.rounds.state import PLAN, ROUNDS
from heedful.runs import placed
from heedful.sandbox.labelers import Labeler
from heedful.web.new_project import create_project
from heedful.web.text import defaults

PROJECT, GATE, LEAD = "service", "gate", "lead"
DB, SECRETS = "heedful.db", "secrets.json"
RUBRIC = {"flags": ["satisfies_constraint", "fails_instruction", "inappropriate", "hallucination"]}
"""The flags of D9 whose truth this world knows."""
SHARED: dict[str, Any] = {"gold_share": 0.0, "attention_share": 0.0, "rubric": RUBRIC}
CHECKPOINTS, COPIED = "checkpoints", "copied.json"


@dataclass(frozen=True)
class ProjectFolder:
    """A project folder. `secrets`: the keys of users, and the tokens of labelers and the lead, by name."""

    folder: Path

    @property
    def db(self) -> str:
        return str(self.folder / DB)

    @property
    def secrets(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = read_json(self.folder / SECRETS)
        return found

    def store(self) -> Store:
        return Store.open(self.db, create=False)


def create(folder: Path, users: Sequence[User], hired: Sequence[Labeler], double: float) -> ProjectFolder:
    """A folder with an account and a key for each user, two projects, and their labelers. `double`: see `double_share`.

    Held-out labelers work in the project of the gate alone.
    """
    now, consent = datetime.now(UTC), CollectionConfig().version
    folder.mkdir(parents=True, exist_ok=True)
    own: dict[str, str] = {}
    tokens: dict[str, str] = {}
    with closing(Store.open(folder / DB)) as store, store.writing() as db:
        lead = people.add_person(db, LEAD, None, now, admin=True)
        tokens[LEAD] = people.new_token(db, lead.id, "api", now)[1]
        settings = {**SHARED, "kinds": ["ranking"], "double_share": double}
        work = create_project(db, PROJECT, "What our users ask", now, by=lead.id, settings=settings)
        guide, form = final.FORMS["quality"]
        rubric = {**form["rubric"], **RUBRIC}
        settings = {**form, **SHARED, "rubric": rubric, "double_share": 0.0}
        judged = projects.create(db, GATE, now, title="Final evaluation", settings=settings)
        projects.write_instruction(db, judged.id, "guide", guide, now, by=lead.id)
        projects.write_instruction(db, judged.id, "consent", defaults.CONSENT, now, by=lead.id)
        people.join(db, judged.id, lead.id, "lead", now)
        for one in hired:
            person = people.add_person(db, one.name, None, now)
            held_out = one.group == "held_out"
            role: Role = "held_out" if held_out else "labeler"
            people.join(db, judged.id if held_out else work.id, person.id, role, now, group=one.group)
            tokens[one.name] = people.new_token(db, person.id, "api", now)[1]
        for user in users:
            account = people.add_person(db, user.name, None, now)
            agreed = None if user.refuses == "key" else consent
            own[user.name] = keys.new(db, account.id, "program", now, consent=agreed)[1]
    write_json(folder / SECRETS, {"keys": own, "tokens": tokens})
    return ProjectFolder(folder)


def plan(demo: Demo, settings: dict[str, Any]) -> RoundConfig:
    """The plan of the rounds in the world of a demo. `settings`: those of the section [round]."""
    files = demo.files
    ppo = {**demo.settings["ppo"], **demo.settings["ppo_ptx"]}
    return build(
        RoundConfig,
        {
            "project": PROJECT, "gate_project": GATE, "model": MODEL, "serving": demo.ref("sft"),
            "sft": demo.ref("sft"), "demonstrations": files.demonstrations, "pretrain_data": files.corpus,
            "tax_data": files.corpus_held_out, "seed": demo.seed, "generation": demo.generation,
            "reward": demo.settings["reward"], "ppo": ppo, **settings,
        },
        "rounds.toml, [round]",
    )  # fmt: skip


def write_plan(folder: Path, config: RoundConfig) -> None:
    """Write round.toml."""
    write_text(folder / PLAN, "\n".join(_toml(config.model_dump(mode="json", exclude_unset=True))) + "\n")


def copy(source: Path, target: ProjectFolder, rounds: Sequence[int]) -> None:
    """Copy database, plan and some rounds of a folder into a new one, without checkpoints.

    A copy that an earlier call has finished stays.
    """
    if (target.folder / COPIED).exists():
        return
    shutil.rmtree(target.folder, ignore_errors=True)
    target.folder.mkdir(parents=True)
    with closing(Store.open(source / DB, create=False)) as store:
        backup.backup(store, target.folder / DB)
    for name in (PLAN, SECRETS, placed.NAME, f"{ROUNDS}/promotions.jsonl"):
        if (source / name).exists():
            (target.folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target.folder / name)
    for number in rounds:
        of = f"{ROUNDS}/{number:03d}"
        shutil.copytree(source / of, target.folder / of, ignore=shutil.ignore_patterns(CHECKPOINTS))
    write_json(target.folder / COPIED, {"from": str(source)})


def _toml(values: dict[str, Any], section: str = "") -> list[str]:
    """Settings as lines of TOML. What is None is left out."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{section}{name}]", *_toml(value, f"{section}{name}.")]
    return lines
