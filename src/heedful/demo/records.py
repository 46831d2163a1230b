"""Records of the demo: a run of it (`Demo`), and what it found (`DemoOutcome`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from heedful.config import Config, build
from heedful.demo.base import SHIPPED
from heedful.demo.clock import Clock
from heedful.demo.data import Files, Sizes
from heedful.demo.measure import Evaluation, RewardQuality
from heedful.demo.settings import DemoSettings
from heedful.files import read_json, write_json
from heedful.maths.statistics import WinRate
from heedful.report.tables import ModelResult, head_to_head

T = TypeVar("T")
BASE, PROMPTED, SFT, PPO, PTX, HACKED = "base", "prompted base", "SFT", "PPO", "PPO-ptx", "PPO, fooled"
"""Names of the models in the table."""


@dataclass
class Demo:
    """One run of the demo: its folder, seed and settings, and the seconds of each step.

    `base`: the folder of the base model it starts from, None if it pretrains its own.
    """

    out: Path
    seed: int
    settings: DemoSettings
    base: Path | None = SHIPPED
    files: Files = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = Files(self.out / "world")
        self.sizes = build(Sizes, self.settings["sizes"], "sizes")
        self.evaluation = build(
            Evaluation, {**self.settings["evaluation"], "generation": self.generation}, "evaluation"
        )
        self.timings = self.out / "timings.json"
        if self.timings.exists():
            self.seconds = read_json(self.timings)
        self.clock = Clock(self.settings["seconds"], self.seconds)

    @property
    def generation(self) -> dict[str, Any]:
        """Settings of sampling, for the config of any stage."""
        return dict(self.settings["generation"])

    def config(self, cls: type[Config], section: str, **inputs: Any) -> Any:
        """The config of a stage: the settings of its section, the inputs and the seed."""
        return build(cls, {**self.settings.get(section, {}), **inputs, "seed": self.seed}, f"settings of {section}")

    def step(self, name: str, work: Callable[[], T]) -> T:
        """Do one step and store its seconds. A step that was finished before keeps its time."""
        print(f"\n{self.clock.heading(name)}", flush=True)
        start = time.perf_counter()
        result = work()
        taken = time.perf_counter() - start
        self.clock.done(name, taken)
        if name not in self.seconds or taken > self.seconds[name]:
            self.seconds[name] = round(taken, 2)
            write_json(self.timings, self.seconds)
        return result

    def run_at(self, name: str) -> Path:
        """The directory of a run."""
        return self.out / "runs" / name

    def ref(self, name: str) -> str:
        """A run as a model reference."""
        return str(self.run_at(name))


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo found."""

    results: dict[str, ModelResult]
    users: list[str | None]
    quality: RewardQuality
    best_of: dict[int, ModelResult]
    demonstrations_utility: float

    def wins(self, a: ModelResult, b: ModelResult) -> WinRate:
        """How often `a` beats `b`, with an interval over users."""
        return head_to_head(a, b, self.users)
