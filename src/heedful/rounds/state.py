"""The state of a round, in rounds/NNN/state.json. Every change writes the file whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.collection.round_files import GATE
from heedful.config import UserError, build, load
from heedful.configs.round import RoundConfig
from heedful.files import read_json, write_json
from heedful.rounds.gate import planned

PLAN, STATE, ROUNDS = "round.toml", "state.json", "rounds"
HISTORY = "promotions.jsonl"
STEPS = (
    "prompts", "sample", "queue", "labels", "freeze", "reward", "ppo", "compare", "votes", "evaluate", "gate",
    "promote", "report",
)  # fmt: skip
OVER = ("done", "skipped")


class Waiting(Exception):
    """People or prompts are due. The text says how many there are, and how many are needed."""


@dataclass
class Round:
    """One turn of the loop. `steps`: what is known of each step that has begun."""

    folder: Path
    """The project folder."""
    number: int
    plan: RoundConfig
    gate_prompts: int
    """Prompts of the gate, fixed when the round began."""
    db: str
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Other names of what the round makes, where it was taken up again: {"ppo": "ppo-2"}."""
    redone: list[dict[str, Any]] = field(default_factory=list)
    """What was done again, the oldest first: step, who, when, why, and what changed in the plan."""

    @property
    def path(self) -> Path:
        return self.folder / ROUNDS / f"{self.number:03d}"

    @property
    def source(self) -> str:
        """Source of the round's items in the labelling project."""
        return f"round-{self.number:03d}"

    @property
    def gate_source(self) -> str:
        """Source of the items of its gate."""
        return self.source + Path(self.names.get(GATE, GATE)).stem.removeprefix("gate")

    @property
    def is_over(self) -> bool:
        return all(self.steps.get(step, {}).get("status") in OVER for step in STEPS)

    def facts(self, step: str) -> dict[str, Any]:
        """What a step has found out. Empty before its end."""
        found: dict[str, Any] = self.steps.get(step, {}).get("facts", {})
        return found

    def is_skipped(self, step: str) -> bool:
        return self.steps.get(step, {}).get("status") == "skipped"

    def note(self, step: str, status: str, **more: Any) -> None:
        """Write the status of a step to the disk."""
        self.steps[step] = {"status": status, "when": datetime.now(UTC).isoformat(timespec="seconds"), **more}
        self.write()

    def write(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(
            self.path / STATE,
            {
                "round": self.number, "gate_prompts": self.gate_prompts, "steps": self.steps,
                "plan": self.plan.model_dump(mode="json"), "db": self.db, "names": self.names, "redone": self.redone,
            },
        )  # fmt: skip

    def place(self, name: str) -> Path:
        """Where the round has a file or folder."""
        return self.path / self.names.get(name, name)

    def latest(self, name: str) -> Path:
        """A folder or file of this round, or of the newest earlier round that has it. Raises UserError."""
        for number in range(self.number, 0, -1):
            found = (self if number == self.number else _earlier(self, number)).place(name)
            if found.exists():
                return found
        raise UserError(f"{self.place(name)}: no round has it. Run the step that makes it, and do not skip it")


def _earlier(one: Round, number: int) -> Round:
    """An earlier round. One without a state has its files at their usual names."""
    there = (one.folder / ROUNDS / f"{number:03d}" / STATE).is_file()
    return read(one.folder, number) if there else Round(one.folder, number, one.plan, one.gate_prompts, one.db)


def plan_of(folder: Path) -> RoundConfig:
    """The plan in the project folder. Raises UserError."""
    return load(RoundConfig, folder / PLAN)


def numbers(folder: Path) -> list[int]:
    """The rounds that have begun."""
    found = (path.parent.name for path in (folder / ROUNDS).glob(f"[0-9]*/{STATE}"))
    return sorted(int(name) for name in found if name.isdecimal())  # not of a copy such as 001-old


def read(folder: Path, number: int) -> Round:
    """A round that has begun. Raises UserError."""
    path = folder / ROUNDS / f"{number:03d}" / STATE
    if not path.is_file():
        raise UserError(f"{path}: no such round. `heedful round status` lists them")
    kept = read_json(path)
    if not _is_whole(kept):
        raise UserError(f"{path}: damaged (it is not the state of a round). Restore a copy of it")
    plan = build(RoundConfig, kept["plan"], str(path))
    more = {name: kept[name] for name in ("names", "redone") if name in kept}  # older rounds have neither
    return Round(folder, number, plan, kept["gate_prompts"], kept["db"], kept["steps"], **more)


def _is_whole(kept: Any) -> bool:
    """Whether a state has what `Round.write` writes."""
    kinds = {"plan": dict, "gate_prompts": int, "db": str, "steps": dict}
    if not isinstance(kept, dict) or not all(isinstance(kept.get(name), kind) for name, kind in kinds.items()):
        return False
    if not isinstance(kept.get("names", {}), dict) or not isinstance(kept.get("redone", []), list):
        return False
    steps = kept["steps"].values()
    return all(isinstance(one, dict) and isinstance(one.get("facts", {}), dict) and "status" in one for one in steps)


def current(folder: Path, db: str) -> Round:
    """The round that is under way, or a new one. Raises UserError."""
    known = numbers(folder)
    if known and not (last := read(folder, known[-1])).is_over:
        return last
    plan = plan_of(folder)
    return Round(folder, (known[-1] if known else 0) + 1, plan, planned(plan.gate), db)


def changed(one: Round) -> list[str]:
    """Settings of round.toml that differ from the plan of the round."""
    if not (one.folder / PLAN).is_file():
        return []
    now, then = plan_of(one.folder).model_dump(mode="json"), one.plan.model_dump(mode="json")
    return [key for key in now if now[key] != then[key]]


def redone(entry: dict[str, Any]) -> str:
    """What was done again, in words."""
    other = f", with other settings for {' and '.join(entry['changed'])}" if entry["changed"] else ""
    return f"by {entry['who']} from the step {entry['step']} on{other}: {entry['why']}"
