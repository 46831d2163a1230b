"""The paper's claims in the sandbox: the demo on several seeds, a negative control, medians beside what is asked for.

    python benchmarks/claims.py --out build/claims --seeds 1 2 3

Goes on where it was interrupted. The control is the same reward training and PPO from rankings whose places were dealt
anew.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from heedful.demo import data, loop
from heedful.demo.measure import CLOSED, Examiner
from heedful.demo.records import BASE, PPO, PROMPTED, PTX, SFT, Demo, DemoOutcome
from heedful.files import write_json
from heedful.maths.statistics import repeats
from heedful.report.tables import flag_change, flag_rate, head_to_head
from heedful.sandbox import labelers, truth
from heedful.sandbox.world import make_world

Figures = dict[str, float]


class Claim(NamedTuple):
    name: str
    figure: Callable[[Figures], float]
    holds: Callable[[float], bool]
    asked: str


def _below_0(x: float) -> bool:
    return x < 0


def _control(found: Figures) -> float:
    return found.get("control_over_sft", math.nan)


CLAIMS = (
    Claim("SFT beats the prompted base", lambda f: f["sft_over_prompted"], lambda x: x >= 0.70, "at least 70 %"),
    Claim("demonstrations' utility less SFT's", lambda f: f["demonstrations"] - f["sft"], lambda x: x > 0, "above 0"),
    Claim("labelers agree, pairwise", lambda f: f["agreement"], lambda x: 0.71 <= x <= 0.75, "73 ± 2 %"),
    Claim("labelers less reward model", lambda f: f["agreement"] - f["rm_labels"], lambda x: x <= 0.04, "at most 0.04"),
    Claim("PPO beats SFT", lambda f: f["ppo_over_sft"], lambda x: x >= 0.70, "at least 70 %"),
    Claim("PPO's sequence KL, nats", lambda f: f["ppo_kl"], lambda x: x < 10, "under 10"),
    Claim("PPO over best of 4, low end", lambda f: f["ppo_over_best_of_4_low"], lambda x: x > 0.5, "above 50 %"),
    Claim(
        "control (shuffled) over SFT", lambda f: f.get("control_over_sft", math.nan), lambda x: x < 0.70, "under 70 %"
    ),
    Claim("tax of PPO, nats a token", lambda f: f["ppo_tax"], lambda x: x >= 0.1, "at least 0.1"),
    Claim("tax that ptx gives back", lambda f: 1 - f["ptx_tax"] / f["ppo_tax"], lambda x: x >= 0.5, "at least half"),
    Claim("PPO less PPO-ptx", lambda f: f["ppo_over_sft"] - f["ptx_over_sft"], lambda x: abs(x) <= 0.05, "within 0.05"),
    Claim(
        "inappropriate, less base's", lambda f: f["inappropriate_ppo"] - f["inappropriate_base"], _below_0, "below 0"
    ),
    Claim("hallucinated, less base's", lambda f: f["hallucination_ppo"] - f["hallucination_base"], _below_0, "below 0"),
    Claim("SFT fails", lambda f: f["fails_instruction_sft"], lambda x: x <= 0.35, "at most 35 %"),
    Claim("PPO fails", lambda f: f["fails_instruction_ppo"], lambda x: x <= 0.20, "at most 20 %"),
    Claim(
        "closed hallucinations, PPO-ptx less prompted base, high end",
        lambda f: f["closed_ptx_less_prompted_high"],
        _below_0,
        "below 0",
    ),
    Claim("minutes", lambda f: f["minutes"], lambda x: x <= 5, "at most 5"),
)


def figures(out: Path, seed: int, controlled: bool, **how: Any) -> Figures:
    """Run the demo of one seed and, if it is `controlled`, its control; all figures by name."""
    outcome = loop.run(out, seed=seed, **how)
    demo = loop.opened(out, seed, **how)
    minutes = sum(demo.seconds.values()) / 60
    r, users = outcome.results, outcome.users
    best_of_4 = outcome.wins(r[PPO], outcome.best_of[4])
    found = {
        "sft_over_prompted": outcome.wins(r[SFT], r[PROMPTED]).rate,
        "demonstrations": outcome.demonstrations_utility,
        **{name.lower().replace("-", "_"): statistics.fmean(r[name].utilities) for name in (BASE, SFT, PPO, PTX)},
        "agreement": outcome.quality.agreement,
        "rm_labels": outcome.quality.labels.rate,
        "rm_truth": outcome.quality.truth.rate,
        "ppo_over_sft": outcome.wins(r[PPO], r[SFT]).rate,
        "ptx_over_sft": outcome.wins(r[PTX], r[SFT]).rate,
        "ppo_kl": float(r[PPO].kl or 0.0),
        "ppo_over_best_of_4": best_of_4.rate,
        "ppo_over_best_of_4_low": best_of_4.low,
        "ppo_tax": float(r[PPO].corpus_loss or 0) - float(r[SFT].corpus_loss or 0),
        "ptx_tax": float(r[PTX].corpus_loss or 0) - float(r[SFT].corpus_loss or 0),
        "minutes": minutes,
    }
    for flag in ("fails_instruction", "inappropriate", "hallucination", CLOSED):
        for name in (BASE, PROMPTED, SFT, PPO, PTX):
            rate = flag_rate(r[name], flag, users)
            found[f"{flag}_{name.lower().replace('-', '_').replace(' ', '_')}"] = rate.mean if rate is not None else 0.0
    for flag in ("inappropriate", "hallucination", CLOSED):
        change = flag_change(r[SFT], r[PPO], flag, users)
        if change is not None:
            found |= {
                f"{flag}_change": change.mean,
                f"{flag}_change_low": change.low,
                f"{flag}_change_high": change.high,
            }
    invented = flag_change(r[PROMPTED], r[PTX], CLOSED, users)
    if invented is not None:
        found |= {"closed_ptx_less_prompted": invented.mean, "closed_ptx_less_prompted_high": invented.high}
    return found | (control(demo, outcome) if controlled else {})


def control(demo: Demo, outcome: DemoOutcome) -> Figures:
    """PPO on a reward model from shuffled rankings."""
    world = make_world(demo.seed)
    sampled = loop.sampled(demo, "ranked_prompts")
    good = labelers.good_ones(data.people(world, demo.files, sampled))
    data.rank(world, sampled, demo.files.shuffled_rankings, good, shuffled=True)
    loop.train_reward(demo, "reward_shuffled", demo.files.shuffled_rankings)
    loop.train_policy(demo, "ppo_shuffled", "reward_shuffled")
    ask = Examiner(truth.world(demo.seed), demo.files, demo.evaluation, demo.seed)
    result = ask.model("PPO, shuffled", demo.run_at("ppo_shuffled"), demo.run_at("sft"))
    return {"control_over_sft": head_to_head(result, outcome.results[SFT], outcome.users).rate}


def table(by_seed: dict[int, Figures]) -> str:
    rows = [("claim", *(f"seed {seed}" for seed in by_seed), "median", "mean ± s.e.", "asked", "")]
    for claim in CLAIMS:
        values = [claim.figure(found) for found in by_seed.values()]
        median = statistics.median([value for value in values if not math.isnan(value)] or [math.nan])
        verdict = "not run" if math.isnan(median) else "holds" if claim.holds(median) else "MISSED"
        mean, error, _ = repeats([value for value in values if not math.isnan(value)] or [math.nan])
        spread = f"{mean:.3f}" + (f" ± {error:.3f}" if error is not None else "")
        rows.append((claim.name, *(f"{value:.3f}" for value in values), f"{median:.3f}", spread, claim.asked, verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/claims"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--control", type=int, nargs="*", help="seeds to run the control on; default all")
    parser.add_argument("--from-scratch", action="store_true", help="pretrain in each world")
    parser.add_argument("--base", type=Path, help="another base model")
    options = parser.parse_args()
    how = {"from_scratch": options.from_scratch, **({"base_model": options.base} if options.base else {})}
    by_seed: dict[int, Figures] = {}
    controls = options.seeds if options.control is None else options.control
    for seed in options.seeds:
        by_seed[seed] = figures(options.out / f"seed-{seed}", seed, seed in controls, **how)
        write_json(options.out / "claims.json", by_seed)
        print(json.dumps(by_seed[seed], indent=1))
    print(f"\n{table(by_seed)}")


if __name__ == "__main__":
    main()
