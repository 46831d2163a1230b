"""The parts that experiments in the made-up world begin with: the world with its SFT model and rankings."""

from __future__ import annotations

import tomllib
from pathlib import Path

from heedful.demo import base, data, loop
from heedful.demo.measure import Examiner
from heedful.demo.records import Demo
from heedful.demo.settings import DemoSettings
from heedful.demo.settings import read as demo_settings
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.sandbox import truth

WORLD = "world"
BASE = Path(__file__).with_name("base")
"""The base model of the middle size. Like those of other sizes it has read 5.5 million tokens, less than the demo's."""
PLANS = ("plan", "bodies")
"""Sections that say what to do with the models, not how to train them."""


def settings_of(name: str, *, quick: bool) -> DemoSettings:
    """The settings of an experiment by section: its TOML file, and what its quick one changes.

    `plan` and `bodies` of the quick file replace those of the other.
    """
    folder = Path(__file__).parent
    layers = [tomllib.loads((folder / f"{name}{end}.toml").read_text("utf-8")) for end in ("", "_quick")[: 1 + quick]]
    merged: DemoSettings = {}
    for layer in layers:
        for section, values in layer.items():
            merged[section] = values if section in PLANS else {**merged.get(section, {}), **values}
    return merged


def world(seed: int, settings: DemoSettings, minutes: float, home: str = "") -> Part:
    """The world with its files, the SFT model, and rankings of its answers."""
    changes = {name: values for name, values in settings.items() if name not in PLANS}
    resolved = demo_settings(changes=changes)
    kept: DemoSettings = {name: resolved[name] for name in ("sizes", "sft", "sample", "generation") if name in resolved}
    kept["base"] = base.record(BASE)["weights_sha256"]

    def work(folder: Path, _: Folders) -> Figures:
        demo = loop.opened(folder, seed, base_model=BASE, changes=changes)
        made = data.make(seed, demo.files, demo.sizes, demo.base)
        loop.start_from_base(demo)
        loop.train_sft(demo, "base", "sft")
        loop.sample_to_rank(demo)
        loop.rank(demo, made)
        return {"rankings": len(Path(demo.files.rankings).read_text("utf-8").splitlines())}

    return Part(WORLD, minutes, seed, kept, work, home=home)


def opened(before: Folders, seed: int, settings: DemoSettings) -> Demo:
    """The demo in the folder of the part `world`."""
    changes = {name: values for name, values in settings.items() if name not in PLANS}
    return loop.opened(before[WORLD], seed, base_model=BASE, changes=changes)


def examiner(demo: Demo) -> Examiner:
    """What measures a policy on the test prompts, by the truth."""
    return Examiner(truth.world(demo.seed), demo.files, demo.evaluation, demo.seed)
