"""A simulated service of one seed: its start with the SFT model, and each of its rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heedful.config import build
from heedful.configs.sample import SampleConfig
from heedful.data import formats
from heedful.data.records import Completions, Demonstration, Prompt
from heedful.demo import base, loop
from heedful.demo.records import Demo
from heedful.demo.settings import DemoSettings
from heedful.files import read_json, write_json
from heedful.inference import sample
from heedful.reproduce import world
from heedful.reproduce.parts import Figures, Folders
from heedful.reproduce.rounds import place as places
from heedful.reproduce.rounds import turn as turns
from heedful.reproduce.rounds.crew import Crew
from heedful.reproduce.rounds.measure import Measured, reward_accuracy
from heedful.reproduce.rounds.place import ProjectFolder
from heedful.reproduce.rounds.users import Asking, Crowd, User, UserConfig, held_apart, make_users
from heedful.rounds import state
from heedful.rounds.state import Round
from heedful.sandbox import corpus, generate, labelers
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World, make_world

SERVER, QUEUED, NOISE = "server", "queued", "noise.json"
PER_TEST_USER = 8
"""Test prompts of a test user."""


@dataclass(frozen=True)
class SeedService:
    """The settings of one seed."""

    seed: int
    rounds: int
    settings: DemoSettings
    say: Callable[[str], Any]

    @property
    def world(self) -> World:
        return make_world(self.seed)

    @property
    def users(self) -> UserConfig:
        return build(UserConfig, self.settings["users"], "rounds.toml, [users]")

    def everybody(self) -> list[User]:
        return make_users(self.seed, self.users)

    def demo(self, folder: Path) -> Demo:
        """The demo in the folder of the start, which holds world and SFT model."""
        changes = {name: own for name, own in self.settings.items() if name not in world.PLANS}
        return loop.opened(folder / "demo", self.seed, base_model=world.BASE, changes=changes)

    def crew(self, start: Path, secrets: dict[str, str], part: str, *, held_out: bool = False) -> Crew:
        """The labelers of the service, or the held-out ones. They agree as often as people did (D12)."""
        hired = _hired(self.world)
        noise = read_json(start / NOISE)["noise"]
        chosen = [who for who in hired if (who.group == "held_out") == held_out]
        named = [replace(who, noise=noise) for who in chosen]
        return Crew(self.world, named, secrets, f"{part} {held_out}")


def start(one: SeedService, folder: Path) -> Figures:
    """World, SFT model, test prompts, and the project folder before its first round."""
    demo, plan = one.demo(folder), one.settings["plan"]
    files, users = demo.files, one.users
    if not Path(files.test_prompts).exists():
        _write_world(one, demo)
    loop.start_from_base(demo)
    loop.train_sft(demo, "base", "sft")
    if not (folder / NOISE).exists():
        _calibrate(one, demo, folder)
    server = folder / SERVER
    if not (server / state.PLAN).exists():
        shutil.rmtree(server, ignore_errors=True)
        place = places.create(server, one.everybody(), _hired(one.world), plan["double"])
        settings = {
            "prompts": plan["prompts"],
            "k": plan["k"],
            "gate": {"prompts": plan["gate_prompts"], "tax": plan["tax"]},
        }
        places.write_plan(place.folder, places.plan(demo, settings))
    measured = Measured(demo, folder, users.new_topics)
    everybody = one.everybody()
    return {
        "users": len(everybody), "refusing": sum(bool(user.refuses) for user in everybody),
        "abusive": sum(user.abusive for user in everybody),
        "sft": measured.summary(measured.model("sft", demo.run_at("sft"))),
    }  # fmt: skip


def turn(one: SeedService, number: int, folder: Path, before: Folders) -> Figures:
    """One plain round, after a copy of the folder of the round before."""
    begin, place = before["start"], ProjectFolder(folder / SERVER)
    source = before[f"round-{number - 1}" if number > 1 else "start"] / SERVER
    places.copy(source, place, range(1, number))
    demo, secrets = one.demo(begin), place.secrets
    found = turns.LoopTurn(
        place, number, demo.run_at("sft"), Crowd(one.world, one.everybody(), secrets["keys"], one.users),
        one.crew(begin, secrets["tokens"], f"round {number}"),
        one.crew(begin, secrets["tokens"], f"round {number}", held_out=True), one.settings["plan"]["batch"],
        one.settings["split"], number == one.rounds, lambda at: _keep_queued(at, folder), one.say,
    ).run()  # fmt: skip
    return _figures(one, demo, found, folder, before)


def policy(before: Folders, number: int) -> Path:
    """The candidate of a round."""
    return before[f"round-{number}"] / SERVER / "rounds" / f"{number:03d}" / "ppo"


def _figures(one: SeedService, demo: Demo, found: Round, folder: Path, before: Folders) -> Figures:
    """What a round found out: its gate, its cost, and its candidate by the truth."""
    measured = Measured(demo, folder, one.users.new_topics)
    mine = measured.model("policy", found.path / "ppo")
    sft = Measured(demo, before["start"], one.users.new_topics).model("sft", demo.run_at("sft"))
    wins = {"SFT": measured.over(mine, sft)}
    if found.number > 1:
        earlier = Measured(demo, before[f"round-{found.number - 1}"], one.users.new_topics)
        wins["the round before"] = measured.over(mine, earlier.model("policy", policy(before, found.number - 1)))
    verdict = found.facts("gate")
    with closing(ProjectFolder(found.folder).store()) as store:
        refused = turns.kept_of_refusing(store, one.everybody())
    report = {name: value for name, value in found.facts("report").items() if name not in ("report", "card")}
    return {
        "gate": {"outcome": verdict["outcome"], "reasons": verdict["reasons"], "win": verdict["evidence"]["win"]},
        "served": found.facts("sample")["models"][0] != str(demo.run_at("sft")), "spent": report,
        "traffic": turns.spent(found.folder, found.number), "stored_of_refusing": refused,
        "prompts": found.facts("prompts")["prompts"], "labels": found.facts("labels"),
        "reward_accuracy": reward_accuracy(found.facts("reward")["results"]),
        "policy": measured.summary(mine), "wins": wins,
    }  # fmt: skip


def _keep_queued(at: Round, folder: Path) -> None:
    """Keep a copy of the folder before anybody labels."""
    places.copy(at.folder, ProjectFolder(folder / QUEUED), range(1, at.number + 1))


def _calibrate(one: SeedService, demo: Demo, folder: Path) -> None:
    """Find the noise at which labelers agree as often as people did (D12), on answers of the SFT model."""
    asked, sampled = folder / "calibration.jsonl", folder / "calibration-answers.jsonl"
    shown = formats.read(demo.files.valid_demonstrations, Demonstration)
    formats.write(asked, [Prompt(prompt=row.prompt) for row in shown])
    config = demo.config(
        SampleConfig, "sample", model=demo.ref("sft"), prompts=str(asked), k=one.settings["plan"]["k"],
        generation=demo.generation,
    )  # fmt: skip
    sample.run(config, sampled, resume=True)
    good = labelers.good_ones(labelers.make_labelers(one.world))
    rows = formats.read(str(sampled), Completions)
    write_json(folder / NOISE, {"noise": labelers.calibrate(one.world, rows, good)[0].noise})


def _hired(world_: World) -> list[Labeler]:
    return [who for who in labelers.make_labelers(world_) if who.group not in ("careless", "first")]


def _write_world(one: SeedService, demo: Demo) -> None:
    """Texts, demonstrations without the new topics, and test prompts with them."""
    files, sizes, plan, users = demo.files, demo.sizes, one.settings["plan"], one.users
    files.folder.mkdir(parents=True, exist_ok=True)
    assert demo.base is not None
    formats.write(files.corpus, base.texts(demo.base, sizes.documents))
    formats.write(files.corpus_held_out, list(corpus.documents(one.world, sizes.held_out_documents)))
    asking = Asking(one.world, users, "demonstrations")
    count = sizes.demonstrations + sizes.valid_demonstrations
    asked: dict[str, Prompt] = {}
    while len(asked) < count:
        task = asking.task(new_topics=False)
        asked.setdefault(task.text, Prompt(prompt=task.text, use_case=task.use_case))
    given, good = list(asked.values()), labelers.good_ones(labelers.make_labelers(one.world))
    shown = generate.demonstrations(one.world, given, good, one.seed)
    formats.write(files.demonstrations, shown[: sizes.demonstrations])
    formats.write(files.valid_demonstrations, shown[sizes.demonstrations :])
    old, new = plan["test_prompts"], plan["new_test_prompts"]
    formats.write(files.test_prompts, held_apart(one.world, users, old, new, max(10, (old + new) // PER_TEST_USER)))
