"""Several reward models in one run: an ensemble, or a cross-validation over labelers (R6).

Each model is a run of its own in RUN/members or RUN/folds, so that the whole resumes after an interruption.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs.reward import RewardConfig
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.learning.examples import Ranked
from heedful.learning.rankings import Rankings, divided
from heedful.maths.statistics import repeats
from heedful.runs.run import Run
from heedful.training.stage_run import StageRun, open_stage

Results = dict[str, Any]
ALONE = {"members": 1, "folds": 0, "fold_seeds": 1}
PAPER = {"new_labelers": "69.6 ± 0.9 %", "known_labelers": "72.4 ± 0.4 %"}
"""Figures of the paper (R6)."""


TrainOne = Callable[..., Path]
"""`reward.train_one`, which is above this module: (config, out, read, resume) trains one model."""


def train(config: RewardConfig, out: Path, train_one: TrainOne, *, resume: bool = False) -> Path:
    """Train the models with `train_one` and write what they have in common into the manifest of `out`."""
    if config.members > 1 and config.folds:
        raise UserError("members and folds exclude each other. Train the ensemble and the folds in two runs")
    groups = labeler_groups(config) if config.folds else []
    files = {"data": config.data, "eval_data": config.eval_data, "demonstrations": config.demonstrations}
    with open_stage("reward", config, out, models={"model": config.model}, files=files, resume=resume) as s:
        try:
            results = _folds(config, s, groups, train_one) if groups else _members(config, s, train_one)
        finally:
            if s.run is not None and any((out / name).is_dir() for name in ("members", "folds")):
                s.run.fresh = False  # something is done, so that the run can go on from here
        if s.run is not None:
            s.run.set_status("finished", results=results)
        s.ranks.wait()
    return out


def _members(config: RewardConfig, s: StageRun, train_one: TrainOne) -> Results:
    """Train the members of an ensemble on the same rankings, each with its seed."""

    def read(_: RewardConfig, *how: Any) -> Rankings:
        return divided(config, *how)  # split by the seed of the ensemble

    paths = []
    for number in range(config.members):
        path = s.out / "members" / str(number + 1)
        own = config.model_copy(update=ALONE | {"seed": config.seed + number})
        train_one(own, path, read, resume=(path / "manifest.json").exists())
        paths.append(path)
    found = [Run.open(path).manifest.results for path in paths]
    rates = [one["valid"]["accuracy"]["rate"] for one in found if "valid" in one]
    names = ",".join(str(path) for path in paths)
    accuracy = {"members_accuracy": [round(rate, 4) for rate in rates]} if rates else {}
    return {"members": len(paths), "reward": f"min({names})", **accuracy}


def labeler_groups(config: RewardConfig) -> list[list[str]]:
    """The labelers in `folds` groups with about equally many rankings: the next largest goes to the smallest group.

    Raises UserError if there are fewer labelers than folds.
    """
    if config.folds == 1:
        raise UserError("folds = 1 leaves nobody to train on. Take 2 or more")
    if config.eval_data is not None:
        raise UserError("folds hold out labelers of the training rankings. Leave eval_data out")
    if config.valid_fraction == 0:
        raise UserError("folds compare with known labelers on held-out prompts. Set valid_fraction above 0")
    rows = formats.read(config.data, Comparison)
    counts = Counter(row.labeler for row in rows if row.labeler is not None)
    if len(counts) < config.folds:
        who = f"{len(counts)} labeler{'s' if len(counts) != 1 else ''}"
        raise UserError(
            f"{config.data}: names {who} for {config.folds} folds. Lower folds, or collect rankings of more labelers"
        )
    groups: list[list[str]] = [[] for _ in range(config.folds)]
    sizes = [0] * config.folds
    for labeler, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(labeler)
        sizes[smallest] += count
    return groups


def without(rows: Rankings, left_out: Sequence[str], where: str) -> Rankings:
    """The rows of a fold: training and validation without these labelers, whose other rankings are `new_labelers`.

    New labelers are measured on prompts that nobody ranked in training. Rankings without a labeler are not used.
    """

    def known(part: list[Ranked]) -> list[Ranked]:
        return [row for row in part if row.record.labeler is not None and row.record.labeler not in left_out]

    training, validation = known(rows.training), known(rows.validation)
    seen = {repr(row.record.prompt) for row in training}
    theirs = [row for row in (*rows.training, *rows.validation) if row.record.labeler in left_out]
    new = [row for row in theirs if repr(row.record.prompt) not in seen]
    for name, part in (("training", training), ("known labelers", validation), ("new labelers", new)):
        if not part:
            raise UserError(
                f"{where}: no ranking is left for {name} in the fold without {', '.join(left_out[:5])}. "
                "Take fewer folds, a larger valid_fraction or more prompts"
            )
    return dataclasses.replace(rows, training=training, validation=validation, new_labelers=new)


def _folds(config: RewardConfig, s: StageRun, groups: list[list[str]], train_one: TrainOne) -> Results:
    """Train on all labelers but one group, for each group and seed, and measure on both."""
    found: list[Results] = []
    for seed in range(config.seed, config.seed + config.fold_seeds):
        for number, left_out in enumerate(groups, 1):
            path = s.out / "folds" / f"seed-{seed}-fold-{number}"
            own = config.model_copy(update=ALONE | {"seed": seed, "groups": _groups_of(config, left_out)})
            if not _measured(path):
                read = partial(_read_fold, config, left_out)
                train_one(own, path, read, resume=(path / "manifest.json").exists())
            results = Run.open(path).manifest.results
            if s.ranks.main:  # figures are all that is needed
                for name in ("model", "checkpoints"):
                    shutil.rmtree(path / name, ignore_errors=True)
            s.ranks.wait()
            rates = {name: results[name]["accuracy"]["rate"] for name in ("new_labelers", "valid")}
            found.append({"fold": number, "seed": seed, "new": rates["new_labelers"], "known": rates["valid"]})
    return summary(found, groups)


def _read_fold(whole: RewardConfig, left_out: Sequence[str], _: RewardConfig, *how: Any) -> Rankings:
    """The rows of a fold, split by the seed of the whole run, so that all seeds measure the same rankings."""
    return without(divided(whole, *how), left_out, whole.data)


def _measured(path: Path) -> bool:
    return (path / "manifest.json").exists() and Run.open(path).manifest.status == "finished"


def _groups_of(config: RewardConfig, left_out: Sequence[str]) -> dict[str, float]:
    """The weights of the groups that the other labelers belong to."""
    if not config.groups:
        return {}
    rows = formats.read(config.data, Comparison)
    there = {row.group for row in rows if row.labeler not in (None, *left_out)}
    return {name: weight for name, weight in config.groups.items() if name in there}


def summary(found: Sequence[Results], groups: Sequence[Sequence[str]]) -> Results:
    """Mean and standard error over the folds, each the mean of its seeds, next to the paper's (R6)."""
    results: Results = {"folds": len(groups), "seeds": len(found) // len(groups)}
    for name, key in (("new_labelers", "new"), ("known_labelers", "known")):
        means = []
        for number in range(1, len(groups) + 1):
            own = [one[key] for one in found if one["fold"] == number]
            means.append(sum(own) / len(own))
        over = repeats(means)
        results[name] = f"{100 * over.mean:.1f} ± {100 * (over.error or 0.0):.1f} % (paper {PAPER[name]})"
        results[f"{name}_mean"], results[f"{name}_error"] = over.mean, over.error
    return results | {"labelers": [list(group) for group in groups], "runs": list(found)}
