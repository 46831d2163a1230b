"""PPO with sampling ahead (`ahead` = 1) and without, in the made-up world: does the win rate stay in its interval?

    python benchmarks/ahead.py --out build/ahead                 # about 25 minutes on two cores, by estimate
    python benchmarks/ahead.py --out build/ahead --seeds 1       # one world
    python benchmarks/ahead.py --out build/ahead-quick --quick   # a minute, and the figures mean nothing

For each seed it makes the models of the demo up to the reward model, then runs PPO twice from the same models. The
truth of the world compares the answers to its test prompts with those of the SFT model. Each part is listed with its
minutes first and leaves a small JSON in OUT/seed-N/parts. The same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful import terminal
from heedful.demo import base, data, loop
from heedful.demo.measure import Examiner
from heedful.demo.settings import read
from heedful.maths.statistics import ends, win_rate
from heedful.report.tables import head_to_head
from heedful.reproduce.parts import Figures, Folders, Ledger, Part
from heedful.runs.run import metrics
from heedful.sandbox import truth

AHEAD = (0, 1)
MINUTES = {"models": 4.0, "ppo": 1.0, "judge": 1.0}
LOGGED = ("mismatch/difference", "mismatch/kl", "mismatch/capped", "mismatch/effective", "mismatch/age")


def parts(seed: int, quick: bool) -> list[Part]:
    """The parts of one world."""
    toml = files("heedful.reproduce") / "reproduce_quick.toml"
    changes = tomllib.loads(toml.read_text("utf-8")) if quick else {}
    if quick:
        changes["ppo"] |= {"episodes": 64}
    facts = {name: own for name, own in read(changes=changes).items() if "seconds" not in name}
    facts["base"] = base.record()["weights_sha256"]
    models = Part("models", MINUTES["models"], seed, facts, partial(_models, seed, changes))
    runs = [
        Part(f"ppo-{ahead}", MINUTES["ppo"], seed, {"ahead": ahead}, partial(_ppo, seed, changes, ahead), (models,))
        for ahead in AHEAD
    ]
    return [models, *runs, Part("judge", MINUTES["judge"], seed, {}, partial(_judge, seed, changes), (models, *runs))]


def _models(seed: int, changes: dict[str, Any], folder: Path, _: Folders) -> Figures:
    """World, base model, SFT, rankings and reward model, as the demo makes them."""
    demo = loop.opened(folder / "demo", seed, changes=changes)
    world = demo.step("world", lambda: data.make(demo.seed, demo.files, demo.sizes, demo.base))
    demo.step("base model", lambda: loop.start_from_base(demo))
    demo.step("SFT", lambda: loop.train_sft(demo, "base", "sft"))
    demo.step("answers to rank", lambda: loop.sample_to_rank(demo))
    demo.step("rankings", lambda: loop.rank(demo, world))
    demo.step("reward model", lambda: loop.train_reward(demo, "reward", demo.files.rankings))
    return {}


def _ppo(seed: int, changes: dict[str, Any], ahead: int, folder: Path, before: Folders) -> Figures:
    """One run of PPO."""
    demo = loop.opened(before["models"] / "demo", seed, changes=changes)
    loop.train_policy(demo, f"ppo_{ahead}", "reward", ahead=ahead)
    rows = metrics(demo.run_at(f"ppo_{ahead}"))
    logged = {name: fmean(row[name] for row in rows if name in row) for name in LOGGED if name in rows[-1]}
    return {"kl": rows[-1]["kl"], "score": rows[-1]["score"], **logged}


def _judge(seed: int, changes: dict[str, Any], folder: Path, before: Folders) -> Figures:
    """Compare both policies with the SFT model on the test prompts, by the truth. 1 is a win, a half is a tie."""
    demo = loop.opened(before["models"] / "demo", seed, changes=changes)
    ask, sft = Examiner(truth.world(seed), demo.files, demo.evaluation, seed), demo.run_at("sft")
    found = {name: ask.model(name, demo.run_at(name), sft) for name in ("sft", *(f"ppo_{one}" for one in AHEAD))}
    users = [prompt.user for prompt in ask.prompts]
    return {
        str(one): {
            "wins": head_to_head(found[f"ppo_{one}"], found["sft"], users)._asdict(),
            "outcomes": [
                float(mine > theirs) + 0.5 * (mine == theirs)
                for mine, theirs in zip(found[f"ppo_{one}"].utilities, found["sft"].utilities, strict=True)
            ],
            "users": [f"{seed}/{user}" for user in users], "kl": found[f"ppo_{one}"].kl,
        }
        for one in AHEAD
    }  # fmt: skip


def table(found: dict[int, dict[str, Figures]]) -> list[str]:
    """Win rates over the SFT model for each seed and for all, and the verdict."""
    lines = [f"{'seed':<6}{'ahead = 0':<26}{'ahead = 1':<26}{'KL 0, 1':<14}mismatch KL, capped, effective"]
    for seed, figures in found.items():
        judged, ahead = figures["judge"], figures["ppo-1"]
        cells = [f"{judged[str(one)]['wins']['rate']:.1%} ({ends(judged[str(one)]['wins'])})" for one in AHEAD]
        kl = f"{judged['0']['kl']:.1f}, {judged['1']['kl']:.1f}"
        gap = ", ".join(f"{ahead[f'mismatch/{name}']:.4f}" for name in ("kl", "capped", "effective"))
        lines.append(f"{seed:<6}{cells[0]:<26}{cells[1]:<26}{kl:<14}{gap}")
    pooled = []
    for one in AHEAD:
        own = [figures["judge"][str(one)] for figures in found.values()]
        pooled.append(win_rate([x for run in own for x in run["outcomes"]], [u for run in own for u in run["users"]]))
    without, with_it = pooled
    lines.append(f"{'all':<6}" + "".join(f"{f'{one.rate:.1%} ({ends(one)})':<26}" for one in pooled))
    if without.low is None or without.high is None:
        return [*lines, "too few answers for an interval"]
    inside = without.low <= with_it.rate <= without.high
    return [*lines, f"ahead = 1 is {'within' if inside else 'OUTSIDE'} the interval of ahead = 0"]


def main(given: Sequence[str] | None = None) -> None:
    """Run what is due and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args(given)
    found = {}
    with terminal.guard(chosen.out, interrupted=f"{chosen.out}: interrupted. Run the same command again to continue"):
        for seed in chosen.seeds:
            folder = chosen.out / f"seed-{seed}"
            ledger = Ledger(folder, folder / "parts")
            found[seed] = ledger.run(parts(seed, chosen.quick), terminal.say)
        print("\n".join(table(found)))


if __name__ == "__main__":
    main()
