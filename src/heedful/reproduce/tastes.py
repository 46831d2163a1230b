"""Groups of labelers with unlike tastes: whom an average reward serves, and what a reward of their own would give."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from heedful.data import formats
from heedful.data.records import Prompt
from heedful.demo import data, loop
from heedful.demo.records import PPO, SFT, Demo
from heedful.demo.settings import DemoSettings
from heedful.reproduce import labels, sizes, workbench
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.sandbox.labelers import GOOD_GROUPS, Labeler
from heedful.sandbox.world import World, make_world

MINUTES = {"groups": 13.0}
HALF = 0.5
"""Share of the first group in the demo's rankings, which both groups make in turns."""
TENTHS = 10


def part(
    seed: int,
    start: Part,
    judged: Part,
    settings: DemoSettings,
    changes: DemoSettings,
    minutes: dict[str, float],
    home: str,
) -> Part:
    shares = settings["groups"]["brief"]
    work = partial(_groups, seed, changes, shares)
    return Part("groups", minutes["groups"], seed, {"brief": shares}, work, (start, judged), home)


def _groups(seed: int, changes: DemoSettings, shares: list[float], folder: Path, before: Folders) -> Figures:
    """Rank the same answers by groups in other shares, train a reward model and PPO on each, and ask each group."""
    demo, middle = workbench.opened(before, seed, changes), sizes.results(before["judged"])
    workbench.together([partial(_reward, demo, folder, share) for share in shares])
    runs: dict[str, dict[str, Any]] = {f"ppo-{share}": {"reward": str(folder / f"reward-{share}")} for share in shares}
    trained = workbench.trained_and_measured(demo, folder, runs)
    policies = {HALF: middle[PPO], **{share: trained[f"ppo-{share}"] for share in shares}}
    made, prompts = make_world(seed), formats.read(demo.files.test_prompts, Prompt)
    eyes = {group: workbench.crew(demo, made, group, noise=0.0) for group in GOOD_GROUPS}
    return {
        "runs": [
            {
                "brief": share, "kl": policy.kl, "length": sum(policy.lengths) / len(policy.lengths),
                "win": {group: workbench.preferred(made, people, prompts, policy, middle[SFT])
                        for group, people in eyes.items()},
            }
            for share, policy in sorted(policies.items())
        ],
    }  # fmt: skip


def _reward(demo: Demo, folder: Path, share: float) -> None:
    """A reward model from as many rankings as the demo's, of which a share is by labelers who like short answers."""
    made, rankings = make_world(demo.seed), folder / f"rankings-{share}.jsonl"
    data.rank(made, loop.sampled(demo, "ranked_prompts"), str(rankings), turns(demo, made, share))
    labels.train_reward(demo, rankings, folder / f"reward-{share}")


def turns(demo: Demo, made: World, share: float) -> list[Labeler]:
    """The labelers in the order of their turns: of ten turns, ten times the share are of the first group."""
    brief, detailed = (workbench.crew(demo, made, group) for group in GOOD_GROUPS)
    first = round(share * TENTHS)
    return [
        (brief if turn < first else detailed)[person % len(brief if turn < first else detailed)]
        for person in range(len(brief))
        for turn in range(TENTHS)
    ]
