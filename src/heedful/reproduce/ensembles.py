"""Over-optimisation of ensembles of reward models, with clean rankings and with flipped ones (Coste et al. 2023).

The members learn from all rankings. They differ in their head and in the order of the data. World, answers and the
body of the members are those of `heedful overoptimisation`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from torch import tensor

from heedful.config import build
from heedful.configs.reward import RewardConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Comparison, Completions
from heedful.demo.settings import DemoSettings
from heedful.demo.settings import read as demo_settings
from heedful.files import read_json
from heedful.inference import score
from heedful.maths.overoptimisation import best_of_n_means, peak_shift
from heedful.maths.statistics import mean_interval
from heedful.models import load
from heedful.reproduce import overoptimisation, world
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.rewards.specs import ensemble_of
from heedful.runs.run import Run
from heedful.stages import reward

NAME = "ensembles"
CLEAN, FLIPPED = "clean", "flipped"
ONE, MEAN, WORST, WEIGHTED = "one", "mean", "worst", "weighted"
KINDS = (ONE, MEAN, WORST, WEIGHTED)
MINUTES = {"members": 5.0, "best-of-n": 0.5, "climb": 4.0}
"""Estimates on two cores."""


def parts(seed: int, *, quick: bool = False, home: str = "", shared: str = "") -> list[Part]:
    """The members on both kinds of rankings, best of n for all rewards, and PPO for each.

    `home`: the folder of this group of parts. `shared`: that of the parts of `heedful overoptimisation`.
    """
    base, own = (world.settings_of(name, quick=quick) for name in (overoptimisation.NAME, NAME))
    resolved = demo_settings(changes={name: one for name, one in base.items() if name not in world.PLANS})
    plan, minutes = own["plan"], {name: overoptimisation.QUICK if quick else one for name, one in MINUTES.items()}
    before = {part.name: part for part in overoptimisation.parts(seed, quick=quick, home=shared)}
    start, answers, body = before[world.WORLD], before["answers"], before[f"body-{plan['size']}"]
    learned = {}
    for labels, share in ((CLEAN, 0.0), (FLIPPED, plan["flipped"])):
        facts = {"flipped": share, "members": plan["members"], "size": plan["size"], "reward": resolved["reward"]}
        work = partial(_members, seed, base, body.name, plan["members"], share)
        learned[labels] = Part(
            f"members-{labels}", minutes["members"], seed, facts, work, (start, answers, body), home
        )  # fmt: skip
    facts = {"doubt": plan["doubt"], "kinds": list(KINDS)}
    work = partial(_best_of_n, seed, plan["doubt"])
    found = [*learned.values(), Part(
        "best-of-n", minutes["best-of-n"], seed, facts, work, (answers, *learned.values()), home,
    )]  # fmt: skip
    for labels, kind in own["climbs"]["order"]:
        facts = {"kind": kind, "rungs": plan["rungs"], "ppo": resolved["ppo"]}
        facts |= {"doubt": plan["doubt"]} if kind == WEIGHTED else {}
        work = partial(_climb, seed, base, plan, learned[labels].name, kind)
        found.append(
            Part(f"climb-{labels}-{kind}", minutes["climb"], seed, facts, work, (start, learned[labels]), home)
        )
    return found


def spec(kind: str, members: list[str], doubt: float) -> str:
    """The name of a reward, as commands take it.

    >>> spec("weighted", ["runs/a", "runs/b"], 0.5)
    'mean-0.5*std(runs/a,runs/b)'
    """
    call = {MEAN: "mean", WORST: "min", WEIGHTED: f"mean-{doubt:g}*std"}
    return members[0] if kind == ONE else f"{call[kind]}({','.join(members)})"


def turned(rows: list[Comparison], share: float, seed: int) -> list[Comparison]:
    """The rankings, of which a share chosen at random is turned round. So each pair is flipped with that chance."""
    chosen = set(Random(f"turned {seed}").sample(range(len(rows)), round(share * len(rows))))
    return [row.model_copy(update={"ranking": row.ranking[::-1]}) if i in chosen else row for i, row in enumerate(rows)]


def _members(
    seed: int, settings: DemoSettings, body: str, count: int, share: float, folder: Path, before: Folders
) -> Figures:
    """Train the members, and let each score the answers that best of n chooses from."""
    demo, rankings = world.opened(before, seed, settings), folder / "rankings.jsonl"
    rows = formats.read(demo.files.rankings, Comparison)
    formats.write(str(rankings), turned(rows, share, seed))
    config = demo.config(
        RewardConfig, "reward", model=str(before[body] / "sft"), data=str(rankings), members=count,
        eval_data=demo.files.valid_rankings, demonstrations=demo.files.demonstrations,
    )  # fmt: skip
    reward.train(config, folder / "reward", resume=True)
    members = _of(folder, count)
    asked = {"reward": members, "data": str(before["answers"] / "answers.jsonl")}
    score.run(build(ScoreConfig, asked, "score"), folder / "scored.jsonl", resume=True)
    return {
        "members": count, "rankings": len(rows), "turned": round(share * len(rows)),
        "accuracy": [Run.open(one).manifest.results["valid"]["accuracy"]["rate"] for one in members],
        "parameters": load.load_reward(members[0])[0].num_parameters(),
    }  # fmt: skip


def _of(folder: Path, count: int) -> list[str]:
    """The reward models of a part."""
    return [str(folder / "reward" / "members" / str(number)) for number in range(1, count + 1)]


def _best_of_n(seed: int, doubt: float, folder: Path, before: Folders) -> Figures:
    """Best of n under every reward, all from the same answers, and each ensemble less one reward model by prompt."""
    kept = read_json(before["answers"] / "gold.json")
    gold, users = np.array(kept["gold"]), kept["users"]
    clusters = None if None in users else users
    ns, d = overoptimisation.distances(gold.shape[1])
    gains: dict[str, dict[str, Any]] = {}
    curves: Figures = {}
    for labels in (CLEAN, FLIPPED):
        scores = _scores(before[f"members-{labels}"] / "scored.jsonl")
        gains[labels], curves[labels] = {}, {}
        for kind in KINDS:
            means, rising = chosen(kind, scores, gold, ns, doubt)
            gains[labels][kind] = own = means - means[:, :1]
            curves[labels][kind] = overoptimisation.curve(
                d, own, rising - rising[:, :1], "best_of_n", users, seed
            )  # fmt: skip
    over = {labels: {kind: own[kind] - own[ONE] for kind in KINDS if kind != ONE} for labels, own in gains.items()}

    def shift(labels: str, kind: str) -> Figures | None:
        found = peak_shift(d, gains[labels][ONE], gains[labels][kind], clusters, seed=seed)
        return None if found is None else found._asdict()

    return {
        "n": ns, "curves": curves,
        "over_one": {labels: {kind: [mean_interval(column, clusters, seed=seed)._asdict() for column in own.T]
                              for kind, own in kinds.items()} for labels, kinds in over.items()},
        "peak_shift": {labels: {kind: shift(labels, kind) for kind in kinds} for labels, kinds in over.items()},
        "more_flipped": {kind: mean_interval(own[:, -1] - over[CLEAN][kind][:, -1], clusters, seed=seed)._asdict()
                         for kind, own in over[FLIPPED].items()},
    }  # fmt: skip


def chosen(kind: str, scores: Any, gold: Any, ns: list[int], doubt: float) -> tuple[Any, Any]:
    """Expected gold and proxy rewards [P, len(ns)] of the best of n, from scores [M, P, N] of the members.

    `one` is the mean over the members, each as the only reward model.
    """
    if kind == ONE:
        alone = [(best_of_n_means(own, gold, ns), best_of_n_means(own, own, ns)) for own in scores]
        means, rising = (np.mean(each, axis=0) for each in zip(*alone, strict=True))
        return means, rising
    named = ensemble_of(spec(kind, [str(number) for number in range(len(scores))], doubt))
    assert named is not None
    proxy = named.aggregate(tensor(scores)).numpy()
    return best_of_n_means(proxy, gold, ns), best_of_n_means(proxy, proxy, ns)


def _scores(path: Path) -> Any:
    """The scores [M, P, N] of M members for N answers to each of P prompts."""
    rows = [row.row()["score_parts"] for row in formats.read(str(path), Completions)]
    return np.array([[row[name] for row in rows] for name in rows[0]])


def _climb(
    seed: int, settings: DemoSettings, plan: DemoSettings, learned: str, kind: str, folder: Path, before: Folders
) -> Figures:
    """Run PPO without a penalty against one of the rewards. `one` is the first member."""
    demo = world.opened(before, seed, settings)
    rewarded = spec(kind, _of(before[learned], plan["members"]), plan["doubt"])
    return overoptimisation.climbed(demo, rewarded, plan["rungs"], folder)
