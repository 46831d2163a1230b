"""`heedful reproduce`: figures of the paper in the made-up world, by its truth. Each is made of parts that resume."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.demo import base, loop
from heedful.demo.settings import DemoSettings
from heedful.demo.settings import read as demo_settings
from heedful.reproduce import (
    baselines,
    cost,
    ensembles,
    labels,
    overoptimisation,
    public,
    sizes,
    tastes,
    tax,
    workbench,
    world,
)
from heedful.reproduce.parts import Figures, Folders, Ledger, Part
from heedful.reproduce.sizes import MODELS

PARTS_OF = {
    "fig1": ("fig1", "sizes"), "fig3": ("fig3",), "fig4": ("fig4",), "tax": ("tax-ptx", "tax-kl"),
    "rm": ("rm-folds", "rm-labels"), "groups": ("groups",), "public": ("public",), "cost": ("cost",),
    "baselines": ("baselines-labels", "baselines-compute"),
}  # fmt: skip
"""The parts of each figure. They run what they need before them."""
OVEROPT, ENSEMBLES = "overopt", "ensembles"
FIGURES = (*PARTS_OF, OVEROPT, ENSEMBLES)
SEEDS = (1, 2, 3)
FEWER = {OVEROPT: (1,), ENSEMBLES: (1,)}
"""Figures that run on fewer seeds, unless seeds are given: all together would take more than ten hours."""
MINUTES = {
    "fig1": 9.0, "cost": 0.5, **sizes.MINUTES, **tax.MINUTES, **labels.MINUTES, **tastes.MINUTES, **public.MINUTES,
    **baselines.MINUTES,
}  # fmt: skip
QUICK = 0.1
EXPERIMENTS = "experiments"


def plan(seeds: Sequence[int], only: Sequence[str], *, quick: bool) -> list[Part]:
    """The parts of the chosen figures, all by default, for some seeds. Without seeds each figure has its own.

    Raises UserError for a figure that is unknown and for a seed that is named twice.
    """
    for name in only:
        if name not in FIGURES:
            raise UserError(f"--only {name}: no such figure. Choose from {', '.join(FIGURES)}")
    if len(set(seeds)) < len(seeds):
        raise UserError("--seeds names a seed twice. Name each once")
    found = []
    for seed in seeds or SEEDS:
        chosen = [name for name in only or FIGURES if seeds or seed in FEWER.get(name, SEEDS)]
        wanted = {part for name in chosen if name in PARTS_OF for part in PARTS_OF[name]}
        found += [part for part in models(seed, quick=quick) if part.name in wanted]
        if OVEROPT in chosen:
            found += overoptimisation.parts(seed, quick=quick, home=f"{OVEROPT}-{seed}")
        if ENSEMBLES in chosen:
            homes = {"home": f"{ENSEMBLES}-{seed}", "shared": f"{OVEROPT}-{seed}"}
            found += ensembles.parts(seed, quick=quick, **homes)
    return found


def shown(ledger: Ledger, parts: Sequence[Part], seeds: Sequence[int], *, quick: bool) -> list[Part]:
    """What the page shows: the parts of this call, those of a call without options, and others with a record."""
    every = plan(seeds if quick else sorted({*SEEDS, *seeds}), (), quick=quick)
    usual = plan(seeds if quick else (), (), quick=quick)
    others = [part for part in every if ledger.record(part) is not None]
    return list({part.place: part for part in (*parts, *usual, *others)}.values())


def ledger(out: Path, docs: Path) -> Ledger:
    """Where parts work, and where their records are."""
    return Ledger(out, docs / "reproduce" / "parts")


def models(seed: int, *, quick: bool) -> list[Part]:
    """All parts of a seed that begin with the models of the demo."""
    path = Path(__file__).with_name("reproduce_quick.toml")
    changes = tomllib.loads(path.read_text("utf-8")) if quick else {}
    settings, resolved = world.settings_of(EXPERIMENTS, quick=quick), demo_settings(changes=changes)
    minutes = dict.fromkeys((*MINUTES, "base-small-1", "base-small-2"), QUICK) if quick else MINUTES
    home, start = f"models-{seed}", _start(seed, resolved, changes, minutes)
    found = [start, Part("cost", minutes["cost"], seed, {}, partial(_cost, seed, changes), (start,), home)]
    found += sizes.parts(seed, start, settings, changes, minutes, home)
    judged = next(part for part in found if part.name == "judged")
    found += tax.parts(seed, start, judged, settings, resolved, changes, minutes, home)
    found += labels.parts(seed, start, judged, settings, changes, minutes, home)
    found += [
        tastes.part(seed, start, judged, settings, changes, minutes, home),
        public.part(seed, start, judged, changes, minutes, home),
    ]
    first = start if seed == baselines.FIRST else _start(baselines.FIRST, resolved, changes, minutes)
    choices = baselines.chosen(first, settings, changes, minutes, first.home)
    return found + baselines.parts(seed, start, judged, choices, changes, minutes, home)


def _start(seed: int, resolved: DemoSettings, changes: DemoSettings, minutes: dict[str, float]) -> Part:
    """The models of the demo."""
    facts = {name: own for name, own in resolved.items() if "seconds" not in name}
    facts["base"] = base.record(world.BASE)["weights_sha256"]
    return Part(
        workbench.START, minutes["fig1"], seed, facts, partial(_fig1, seed, changes), home=f"models-{seed}"
    )  # fmt: skip


def _fig1(seed: int, changes: dict[str, Any], folder: Path, _: Folders) -> Figures:
    """Train the models of the demo, and compare every two of them on the test prompts."""
    found = loop.run(folder / "demo", seed=seed, base_model=world.BASE, changes=changes)
    results = {name: found.results[name] for name in MODELS}
    return {
        "wins": {f"{a} over {b}": found.wins(results[a], results[b])._asdict() for b, a in combinations(MODELS, 2)},
        "kl": {name: one.kl for name, one in results.items()},
        "corpus_loss": {name: one.corpus_loss for name, one in results.items()},
    }


def _cost(seed: int, changes: dict[str, Any], folder: Path, before: Folders) -> Figures:
    """FLOPs of each stage of the demo (E7), and labels."""
    return cost.stages(workbench.opened(before, seed, changes))
