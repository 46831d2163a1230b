"""`heedful round demo`: the parts of each seed. The rounds come one after another, and comparisons branch off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.demo import base
from heedful.demo.settings import read as demo_settings
from heedful.reproduce import world
from heedful.reproduce.parts import Figures, Folders, Ledger, Part
from heedful.reproduce.rounds import service
from heedful.reproduce.rounds.branches import COMPARISONS, EQUAL_KL, TRIES, Branch
from heedful.reproduce.rounds.service import SeedService

NAME = "rounds"
MINUTES = {"start": 2.0, "round": 6.0}
"""Estimates on two cores."""
QUICK = 0.2
"""Minutes of each part with --quick."""
ROUNDS = "rounds"


def plan(
    out: Path, records: Path, seeds: Sequence[int], rounds: int, only: Sequence[str], say: Callable[[str], Any], *,
    quick: bool,
) -> dict[Ledger, list[Part]]:  # fmt: skip
    """The parts of each seed, by the place of their records.

    `only`: these comparisons alone. The rounds that they need run all the same. UserError for an unknown name and for
    a seed that is named twice.
    """
    known = (ROUNDS, *COMPARISONS)
    for name in only:
        if name not in known:
            raise UserError(f"--only {name}: no such part. Choose from {', '.join(known)}")
    if len(set(seeds)) < len(seeds):
        raise UserError("--seeds names a seed twice. Name each once")
    return {
        Ledger(out / f"seed-{seed}", records / f"seed-{seed}"): parts(seed, rounds, only or known, say, quick=quick)
        for seed in seeds
    }


def parts(seed: int, rounds: int, wanted: Sequence[str], say: Callable[[str], Any], *, quick: bool) -> list[Part]:
    """The start, each round, and the comparisons that are wanted."""
    settings = world.settings_of(NAME, quick=quick)
    minutes = {name: QUICK if quick else own for name, own in MINUTES.items()}
    resolved = demo_settings(changes={name: own for name, own in settings.items() if name not in world.PLANS})
    facts = {
        name: resolved[name] for name in ("sizes", "sft", "generation", "users", "split", "reward", "ppo", "ppo_ptx")
    }  # fmt: skip
    facts |= {"plan": settings["plan"], "base": base.record(world.BASE)["weights_sha256"]}
    one = SeedService(seed, rounds, settings, say)
    start = Part("start", minutes["start"], seed, facts, partial(_start, one))
    found = [start]
    for number in range(1, rounds + 1):
        own = {"round": number, "last": number == rounds}
        found.append(
            Part(f"round-{number}", minutes["round"], seed, own, partial(_round, one, number), tuple(found))
        )  # fmt: skip
    before = tuple(found)
    for name, (own_minutes, _) in COMPARISONS.items():
        if name in wanted:
            about = QUICK if quick else own_minutes
            tries = 1 if quick else TRIES
            own = {"tries": tries} if name in EQUAL_KL else {}
            found.append(Part(name, about, seed, own, partial(_compare, one, name, tries), before))
    return found


def _start(one: SeedService, folder: Path, _: Folders) -> Figures:
    return service.start(one, folder)


def _round(one: SeedService, number: int, folder: Path, before: Folders) -> Figures:
    return service.turn(one, number, folder, before)


def _compare(one: SeedService, name: str, tries: int, folder: Path, before: Folders) -> Figures:
    return COMPARISONS[name][1](Branch(one, folder, before, tries))
