"""Reward models: on labelers who gave no training data, and from fewer rankings. Does accuracy predict PPO's gain?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from heedful.configs.reward import RewardConfig
from heedful.demo import loop
from heedful.demo.records import PPO, SFT, Demo
from heedful.demo.settings import DemoSettings
from heedful.files import write_text
from heedful.reproduce import sizes, workbench
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.runs.run import Run
from heedful.stages import reward

MINUTES = {"rm-folds": 10.0, "rm-labels": 9.0}


def parts(
    seed: int,
    start: Part,
    judged: Part,
    settings: DemoSettings,
    changes: DemoSettings,
    minutes: dict[str, float],
    home: str,
) -> list[Part]:
    """A cross-validation over labelers, and reward models of several numbers of rankings with their PPO."""
    folds = {"fold_seeds": 1, **{name: settings["rm"][name] for name in ("folds", "valid_fraction")}}
    counts = settings["rm"]["labels"]
    return [
        Part("rm-folds", minutes["rm-folds"], seed, folds, partial(_folds, seed, changes, folds), (start,), home),
        Part(
            "rm-labels", minutes["rm-labels"], seed, {"labels": counts}, partial(_labels, seed, changes, counts),
            (start, judged), home,
        ),
    ]  # fmt: skip


def _folds(seed: int, changes: DemoSettings, folds: dict[str, Any], folder: Path, before: Folders) -> Figures:
    """Accuracy on labelers who were left out, and on new prompts of those who were not (R6)."""
    demo = workbench.opened(before, seed, changes)
    config = demo.config(RewardConfig, "reward", model=demo.ref("sft"), data=demo.files.rankings, **folds)
    reward.train(config, folder / "folds", resume=True)
    results = Run.open(folder / "folds").manifest.results
    return {name: results[name] for name in ("folds", "new_labelers_mean", "known_labelers_mean", "runs")}


def _labels(seed: int, changes: DemoSettings, counts: list[int], folder: Path, before: Folders) -> Figures:
    """Reward models that learn from the first rankings, and PPO against each."""
    demo, middle = workbench.opened(before, seed, changes), sizes.results(before["judged"])
    users = workbench.users(demo)
    lines = Path(demo.files.rankings).read_text("utf-8").splitlines(keepends=True)
    workbench.together([partial(_reward, demo, folder, lines[:count], count) for count in counts])
    runs: dict[str, dict[str, Any]] = {f"ppo-{count}": {"reward": str(folder / f"reward-{count}")} for count in counts}
    trained = workbench.trained_and_measured(demo, folder, runs)
    found = [
        (count, folder / f"reward-{count}", trained[f"ppo-{count}"]) for count in counts
    ] + [(len(lines), demo.run_at("reward"), middle[PPO])]  # fmt: skip
    return {
        "runs": [
            {"labels": min(count, len(lines)), "accuracy": workbench.accuracy(model), "kl": policy.kl,
             "win": workbench.wins(policy, middle[SFT], users)}
            for count, model, policy in found
        ],
    }  # fmt: skip


def _reward(demo: Demo, folder: Path, lines: list[str], count: int) -> None:
    data = folder / f"rankings-{count}.jsonl"
    write_text(data, "".join(lines))
    train_reward(demo, data, folder / f"reward-{count}")


def train_reward(demo: Demo, rankings: Path, out: Path) -> None:
    """Train a reward model from the SFT model on a file of rankings."""
    loop.train_reward(demo, str(out.resolve()), str(rankings))
