"""The comparisons of `heedful round demo`. Each branches off the plain rounds, changes one thing, and trains again.

The truth judges. A win rate is that of the plain way over the changed one, on the same test prompts.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.collection import agreement, react
from heedful.configs.round import RoundConfig
from heedful.data import formats
from heedful.data.records import Choice
from heedful.demo.records import Demo
from heedful.feedback import projects
from heedful.feedback import snapshots as frozen
from heedful.feedback.snapshots import Filters
from heedful.files import read_json, write_json
from heedful.reproduce.parts import Figures, Folders
from heedful.reproduce.rounds import place as places
from heedful.reproduce.rounds import servers
from heedful.reproduce.rounds.crew import Lead
from heedful.reproduce.rounds.measure import NEW, OLD, Measured, reward_accuracy
from heedful.reproduce.rounds.place import CHECKPOINTS, LEAD, PROJECT, ProjectFolder
from heedful.reproduce.rounds.service import QUEUED, SERVER, SeedService, policy
from heedful.rounds import choose, machine, state, train
from heedful.rounds.state import ROUNDS, Round
from heedful.runs.manifest import Manifest, manifest_path

NEAR = 1.15
"""KLs of two policies count as equal within this factor."""
STEEPEST = 8.0
"""No coefficient of a try is more than this factor from that of the try before."""
LOOK_EVERY = 25
"""Labels between two looks of the lead at the alerts."""
TINY = 0.01
"""The least KL that counts, in nats."""
CARELESS = "brief-0"
TURNS_CARELESS = 2
"""The round in which this labeler turns careless."""


@dataclass(frozen=True)
class Branch:
    """What a comparison works with: the service, its folder, and those of the parts before."""

    one: SeedService
    folder: Path
    before: Folders
    tries: int = 1
    """How many KL coefficients a comparison at equal KL may try."""

    @property
    def demo(self) -> Demo:
        return self.one.demo(self.before["start"])

    def at(self, number: int) -> Path:
        """The folder of a plain round."""
        return policy(self.before, number).parent

    def plain(self, number: int) -> Any:
        """What the plain candidate of a round answers."""
        return self.measured(self.before[f"round-{number}"]).model("policy", policy(self.before, number))

    def measured(self, folder: Path) -> Measured:
        return Measured(self.demo, folder, self.one.users.new_topics)

    def round(self, name: str, number: int, **changes: Any) -> Round:
        """A round of a branch with the prompts of the plain rounds and a changed plan. It has no other files yet."""
        plan = state.read(self.at(number).parent.parent, number).plan
        ppo = {**plan.ppo, **changes.pop("ppo", {})}
        changed = RoundConfig.model_validate({**plan.model_dump(exclude_unset=True), **changes, "ppo": ppo})
        for earlier in range(1, number + 1):
            there = self.folder / name / ROUNDS / f"{earlier:03d}"
            there.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.at(earlier) / choose.PROMPTS, there / choose.PROMPTS)
        return Round(self.folder / name, number, changed, plan.gate.prompts or 0, "")

    def borrow(self, one: Round, name: str, number: int) -> None:
        """Copy a run or a snapshot of a plain round into a branch, without checkpoints."""
        copied(self.at(number) / name, one.path / name)

    def against_plain(self, number: int, name: str, run: Path) -> Figures:
        """The plain candidate of a round over a policy of this branch, and what both are like."""
        measured = self.measured(self.folder)
        mine, plain = measured.model(name, run), self.plain(number)
        return {
            "wins": measured.over(plain, mine), "plain": measured.summary(plain), "changed": measured.summary(mine),
        }  # fmt: skip

    def at_equal_kl(self, name: str, number: int, reward: Callable[[Round], Any]) -> Figures:
        """Compare the plain candidate of a round with the same PPO on another reward, at the KL of the plain one.

        The first KL coefficient is that of the plain round. `reward` puts the reward model into a round.
        """
        target = self._kl(state.read(self.at(number).parent.parent, number))
        first = Manifest.read(manifest_path(self.at(number) / "ppo")).config["kl_coef"]
        tried: list[tuple[float, float, Path]] = []
        while len(tried) < self.tries:
            coef = next_coef([(coef, kl) for coef, kl, _ in tried], target) if tried else first
            one = self.round(f"{name}-{len(tried) + 1}", number, ppo={"kl_coef": coef})
            reward(one)
            kl = train.ppo(one)["results"]["kl"]
            tried.append((coef, kl, one.path / "ppo"))
            if max(kl / target, target / max(kl, TINY)) <= NEAR:
                break
        nearest = min(tried, key=lambda one: abs(math.log(max(one[1], TINY) / target)))
        found = self.against_plain(number, "policy", nearest[2])
        return {**found, "kl_coefs": [first, nearest[0]], "tried": [[coef, kl] for coef, kl, _ in tried]}

    @staticmethod
    def _kl(one: Round) -> float:
        return max(float(one.facts("ppo")["results"]["kl"]), TINY)


def next_coef(tried: Sequence[tuple[float, float]], target: float) -> float:
    """The KL coefficient that should give the KL `target`, from (coefficient, KL) of the tries before.

    Along the straight line through the last two tries on logarithmic axes. With one try, or with two that say nothing,
    the KL is taken as inverse to the coefficient.
    """
    (coef, kl), slope = tried[-1], -1.0
    if len(tried) > 1 and tried[-2][0] != coef and kl > 0 < tried[-2][1]:
        slope = min(math.log(kl / tried[-2][1]) / math.log(coef / tried[-2][0]), -1 / 4)
    factor = (target / max(kl, TINY)) ** (1 / slope)
    return float(coef * min(max(factor, 1 / STEEPEST), STEEPEST))


def frozen_reward(branch: Branch) -> Figures:
    """The last round without a fresh reward model: that of the first round, at equal KL."""
    return branch.at_equal_kl("frozen", branch.one.rounds, lambda one: branch.borrow(one, "reward", 1))


def from_last(branch: Branch) -> Figures:
    """Each policy begins at the one of the round before, with the KL from the first SFT model."""
    last = branch.one.rounds
    before = policy(branch.before, 1)
    for number in range(2, last + 1):
        one = branch.round("last", number, start="last", serving=str(before))
        branch.borrow(one, "reward", number)
        train.ppo(one)
        before = one.path / "ppo"
    return branch.against_plain(last, "policy", before)


def topics(branch: Branch) -> Figures:
    """The last round's new topics, before and after it."""
    last = branch.one.rounds
    measured, after = branch.measured(branch.folder), branch.plain(last)
    start = branch.measured(branch.before["start"]).model("sft", branch.demo.run_at("sft"))
    before = branch.plain(last - 1) if last > 1 else start
    return {
        "wins": measured.over(after, before), "before": measured.summary(before)["utility"],
        "after": measured.summary(after)["utility"], "topics": branch.one.users.new_topics, "on": [OLD, NEW],
    }  # fmt: skip


def careless(branch: Branch) -> Figures:
    """A labeler turns careless in the second round: their alerts are ignored, or a lead heeds them."""
    if branch.one.rounds < TURNS_CARELESS:
        return {"left_out": f"there is no round {TURNS_CARELESS}"}
    ignored = _with_careless(branch, "ignored", heeded=False)
    heeded = _with_careless(branch, "heeded", heeded=True)
    measured = branch.measured(branch.folder)
    both = [measured.model(name, branch.folder / name) for name in ("heeded", "ignored")]
    return {"labeler": CARELESS, "ignored": ignored, "heeded": heeded, "wins": measured.over(*both)}


def _with_careless(branch: Branch, name: str, *, heeded: bool) -> Figures:
    """The second round from its labels on, with a careless labeler, until the policy is trained."""
    source = branch.before[f"round-{TURNS_CARELESS}"] / QUEUED
    place = ProjectFolder(branch.folder / name)
    places.copy(source, place, range(1, TURNS_CARELESS + 1))
    with closing(place.store()) as store:
        one = state.read(place.folder, TURNS_CARELESS)
        if not one.is_over:
            with servers.labelling(place.folder) as app:
                paused = _label(branch, place, app, heeded=heeded)
            write_json(place.folder / "paused.json", paused)
            skip = {"compare": "the truth compares"}
            one = machine.run(place.folder, store, place.db, branch.one.say, skip=skip)
    found = branch.against_plain(TURNS_CARELESS, name, one.path / "ppo")
    accuracy, paused = reward_accuracy(one.facts("reward")["results"]), read_json(place.folder / "paused.json")
    return {**found, "paused": paused, "labels": one.facts("labels"), "reward_accuracy": accuracy}


def _label(branch: Branch, place: ProjectFolder, app: str, *, heeded: bool) -> dict[str, Any]:
    """All label, and one of them in haste. Returns whom the lead paused."""
    tokens = place.secrets["tokens"]
    lead = Lead(app, PROJECT, tokens[LEAD])
    crew = branch.one.crew(branch.before["start"], tokens, "careless")
    crew.label(app, PROJECT, careless=CARELESS, every=LOOK_EVERY, look=lead.look if heeded else None)
    lead.close()
    return lead.paused


def thumbs(branch: Branch) -> Figures:
    """The reward of the last round learns from users' thumbs in place of rankings, at equal KL."""
    last = branch.one.rounds
    first = branch.round("thumbs", last)
    with closing(ProjectFolder(branch.before[f"round-{last}"] / SERVER).store()) as store:
        snapshot = first.path / "rankings"
        if not snapshot.exists():
            with store.reading() as db:
                served = projects.by_name(db, react.PROJECT)
            assert served is not None
            filters = Filters(records="thumb", as_choices=True)
            frozen.freeze(store, served.id, snapshot, filters, datetime.now(UTC), by=None)
        agreed = agreement.of_snapshot(store, snapshot)
    train.reward(first)
    found = branch.at_equal_kl("thumbs", last, lambda one: copied(first.path / "reward", one.path / "reward"))
    return {**found, "choices": len(formats.read(str(snapshot), Choice)), "agreement": agreed}


def copied(run: Path, target: Path) -> None:
    """Copy a run or a snapshot without checkpoints, unless an earlier call has."""
    if not target.exists():
        shutil.copytree(
            run, target.with_name(target.name + ".part"), ignore=shutil.ignore_patterns(CHECKPOINTS), dirs_exist_ok=True
        )
        target.with_name(target.name + ".part").rename(target)


TRIES = 4
EQUAL_KL = {"frozen", "thumbs"}
COMPARISONS: dict[str, tuple[float, Callable[[Branch], Figures]]] = {
    "frozen": (8.0, frozen_reward), "last": (5.0, from_last), "topics": (0.1, topics), "careless": (8.0, careless),
    "thumbs": (10.0, thumbs),
}  # fmt: skip
"""Estimated minutes on two cores and the work of each comparison, by the name that `--only` takes."""
