"""What the paper says, what we found, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import numpy as np

from heedful.demo.records import BASE, PTX
from heedful.maths.statistics import ends, repeats
from heedful.reproduce.ensembles import CLEAN, FLIPPED, ONE, WEIGHTED, WORST
from heedful.reproduce.overoptimisation_page import measured_peak, with_ends
from heedful.reproduce.paper_figures import MODELS, PAPER_FIG1, PAPER_FIG4, BySeed, flag_rates, over_seeds
from heedful.reproduce.parts import Figures

Found = dict[str, BySeed]
"""Figures of the parts that have run, by part and seed."""
NOT_RUN = "not run"
NEAR = 3.0
"""Points from a rate of the paper that count as the same."""


class Claim(NamedTuple):
    """A row of the table."""

    figure: str
    claim: str
    paper: str
    ours: str
    verdict: str


class Wanted(NamedTuple):
    """A claim, and the part with its figures."""

    figure: str
    claim: str
    paper: str
    part: str
    found: Callable[[BySeed], tuple[str, str]]
    """Our figure in words, and the verdict."""


def claims(found: Found) -> list[Claim]:
    """Each claim of the paper with our figure. Claims whose part has not run say so."""
    rows = []
    for one in WANTED:
        ours, verdict = one.found(found[one.part]) if found.get(one.part) else (NOT_RUN, NOT_RUN)
        rows.append(Claim(one.figure, one.claim, one.paper, ours, verdict))
    return [*rows, _repair(found), *_overopt(found), *_ensembles(found), *(Claim(*row) for row in NEVER)]


def at_least(value: float, paper: float, error: float) -> str:
    """Reached if the value is above the paper's less its error, in percent."""
    return "reached" if value >= paper - error else f"missed by {paper - value:.1f} points"


def _rate(part_of: Callable[[dict], dict], paper: float, error: float) -> Callable[[BySeed], tuple[str, str]]:
    def found(own: BySeed) -> tuple[str, str]:
        rates = [part_of(one) for one in own.values()]
        return over_seeds(rates), at_least(100 * fmean(one["rate"] for one in rates), paper, error)

    return found


def _above_half(pair: str) -> Callable[[BySeed], tuple[str, str]]:
    def found(own: BySeed) -> tuple[str, str]:
        rates = {seed: one["pairs"][pair] for seed, one in own.items()}
        shown = over_seeds(list(rates.values()))
        below = [seed for seed, one in rates.items() if one["low"] is None or one["low"] <= 0.5]
        if not below:
            return shown, "reached, low end above 50 % in every seed"
        worst = rates[below[0]]
        return shown, f"missed: seed {below[0]} has {worst['rate']:.1%} ({ends(worst)})"

    return found


def _near(gaps: Sequence[float]) -> str:
    """Whether no figure is further than `NEAR` points from the paper's. A gap is ours less the paper's."""
    worst = max(gaps, key=abs)
    if abs(worst) <= NEAR:
        return f"reached, within {NEAR:g} points"
    return f"missed by up to {abs(worst):.1f} points, {'above' if worst > 0 else 'below'} the paper"


def _over_sft(name: str) -> Callable[[BySeed], tuple[str, str]]:
    """The win rates of a model over the middle SFT, by size (E2)."""

    def found(own: BySeed) -> tuple[str, str]:
        sizes = list(next(iter(own.values()))["over_sft"])
        ours = [100 * fmean(one["over_sft"][size][name]["rate"] for one in own.values()) for size in sizes]
        paper = [100 * float(rate) for rate in PAPER_FIG1[name].split(" / ")]
        shown = " / ".join(f".{rate:02.0f}" if rate < 99.5 else "1.00" for rate in ours)
        if len(ours) != len(paper):
            return f"{shown} ({', '.join(sizes)})", "not comparable: the paper has three sizes"
        return shown, _near([a - b for a, b in zip(ours, paper, strict=True)])

    return found


def _flagged(flag: str) -> Callable[[BySeed], tuple[str, str]]:
    """The rates of a flag for each model, as the paper's Figure 4 counts them."""

    def found(own: BySeed) -> tuple[str, str]:
        rates = [flag_rates(own, name, lambda one: one["pooled"]).get(flag) for name in MODELS]
        means = [None if one is None else 100 * fmean(rate["rate"] for rate in one) for one in rates]
        shown = " / ".join("–" if mean is None else f"{mean:.0f}" for mean in means) + " %"
        gaps = [mean - paper for mean, paper in zip(means, PAPER_FIG4[flag], strict=True) if mean is not None]
        return shown, _near(gaps) if gaps else "not comparable: nobody could tick it"

    return found


def _closed(own: BySeed) -> tuple[str, str]:
    rates = {
        name: fmean(one["pooled"][name]["closed_hallucination"]["mean"] for one in own.values())
        for name in (PTX, BASE)
        if all(one["pooled"][name]["closed_hallucination"] for one in own.values())
    }
    if len(rates) < 2 or rates[BASE] == 0:
        return "no closed-domain answer to compare", "not comparable"
    share, paper = rates[PTX] / rates[BASE], 21 / 41
    verdict = (
        "reached" if share <= paper + 0.05 else f"missed: {share:.2f} of the base's rate, {paper:.2f} in the paper"
    )
    return f"{100 * rates[PTX]:.1f} against {100 * rates[BASE]:.1f} %", verdict


def _folds(key: str, paper: float, error: float) -> Callable[[BySeed], tuple[str, str]]:
    def found(own: BySeed) -> tuple[str, str]:
        over = repeats([100 * one[f"{key}_labelers_mean"] for one in own.values()])
        shown = f"{over.mean:.1f} %" + (f" ± {over.error:.1f}" if over.error is not None else "")
        return shown, at_least(over.mean, paper, error)

    return found


def _predicts(own: BySeed) -> tuple[str, str]:
    runs = [(run["accuracy"], run["win"]["rate"]) for one in own.values() for run in one["runs"]]
    accuracy, gain = (np.array(column) for column in zip(*runs, strict=True))
    if len(runs) < 3 or accuracy.std() == 0 or gain.std() == 0:
        return "too few points", "no number in the paper"
    r = float(np.corrcoef(accuracy, gain)[0, 1])
    return f"correlation {r:.2f} over {len(runs)} reward models", "no number in the paper"


def _own_reward(own: BySeed) -> tuple[str, str]:
    def gain(group: str, share: float) -> float | None:
        gains = []
        for one in own.values():
            by_share = {run["brief"]: run["win"][group]["rate"] for run in one["runs"]}
            if share not in by_share or 0.5 not in by_share:
                return None
            gains.append(100 * (by_share[share] - by_share[0.5]))
        return fmean(gains)

    said = [f"{group} {points:+.1f}" for group, share in (("brief", 1.0), ("detailed", 0.0))
            if (points := gain(group, share)) is not None]  # fmt: skip
    return (f"points over the average reward: {', '.join(said)}" if said else "–"), "no number in the paper"


def _share(stage: str) -> Callable[[BySeed], tuple[str, str]]:
    told = "not comparable: a tiny base model reads far fewer tokens, so the other stages weigh more"
    return lambda own: (f"{100 * fmean(one['share'][stage] for one in own.values()):.1f} %", told)


def _repair(found: Found) -> Claim:
    """Whether any KL coefficient gives back as much as the pretraining mix of the demo (P21)."""
    text = ("tax", "a KL penalty alone does not repair what PPO loses, a pretraining mix does (P21)", "so at 1.3B")
    ptx, kl = found.get("tax-ptx"), found.get("tax-kl")
    both = sorted(set(ptx or ()) & set(kl or ()))
    if not ptx or not kl or not both:
        return Claim(*text, NOT_RUN, NOT_RUN)
    lost, repaired = [], []
    for seed in both:
        lost.append(min(run["corpus_loss"] for run in kl[seed]["runs"]) - ptx[seed]["base"])
        repaired.append(min(run["corpus_loss"] for run in ptx[seed]["runs"]) - ptx[seed]["base"])
    ours = f"least loss above the base: {fmean(lost):.3f} by KL, {fmean(repaired):.3f} by the mix, nats a token"
    worse = [seed for seed, a, b in zip(both, lost, repaired, strict=True) if a <= b]
    return Claim(*text, ours, f"missed in seed {worse[0]}" if worse else "reached")


def _overopt(found: Found) -> list[Claim]:
    """Whether the gold reward falls after a peak, by method, and whether more labels push the peak out."""
    rows = []
    for start, method in (("ppo-", "PPO"), ("reward-", "best of n")):
        text = ("overopt", f"{method}: the gold reward falls after a peak", "Gao et al. 2022")
        curves = [own for part, by_seed in found.items() if part.startswith(start) for own in by_seed.values()]
        if not curves:
            rows.append(Claim(*text, NOT_RUN, NOT_RUN))
            continue
        fitted = sum(own["fit"] is not None and own["fit"]["peak"] is not None for own in curves)
        measured = sum(measured_peak(own) is not None for own in curves)
        ours = f"of {len(curves)} curves {fitted} have a fitted peak, and {measured} have points that rise and fall"
        rows.append(Claim(*text, ours, "reached for these" if fitted else "missed: no fitted peak in range"))
    return [*rows, _more_labels(found)]


def _more_labels(found: Found) -> Claim:
    """Whether the peak of best of n moves out with the labels, beyond the intervals, for each size of reward model."""
    text = ("overopt", "more labels push the peak of best of n out", "Gao et al. 2022")
    peaks: dict[str, list[tuple[int, Figures]]] = {}
    for part, by_seed in found.items():
        for seed, own in by_seed.items() if part.startswith("reward-") else ():
            if own["fit"] is not None and own["fit"]["peak"] is not None:
                peaks.setdefault(f"{own['size']}, seed {seed}", []).append((own["labels"], own["fit"]["peak"]))
    rows = {model: sorted(own, key=lambda one: one[0]) for model, own in peaks.items() if len(own) > 1}
    if not rows:
        return Claim(*text, NOT_RUN, NOT_RUN)
    shown = "; ".join(
        f"{model}: √KL " + ", ".join(f"{peak['distance']:.2f} with {labels}" for labels, peak in own)
        for model, own in rows.items()
    )
    for model, sorted_peaks in rows.items():
        for (_, a), (_, b) in pairwise(sorted_peaks):
            if a["high"] is None or b["low"] is None or b["low"] <= a["high"]:
                return Claim(*text, shown, f"missed: intervals of {model} are not apart")
    return Claim(*text, shown, "reached for these")


GUARDED = (WORST, WEIGHTED)
COSTE = "Coste et al. 2023"
IN_WORDS = {WORST: "worst case", WEIGHTED: "uncertainty-weighted"}


def _ensembles(found: Found) -> list[Claim]:
    """Whether worst-case and uncertainty-weighted ensembles help, and whether they help more with flipped labels."""
    start = "best of n: worst-case and uncertainty-weighted ensembles"
    texts = ("push the peak out", "fall less up to the largest n", "help more with flipped labels")
    rows = [("ensembles", f"{start} {text}", COSTE) for text in texts]
    own = found.get("best-of-n")
    if not own:
        told = [Claim(*row, NOT_RUN, NOT_RUN) for row in rows]
    else:
        both = [(labels, kind) for labels in (CLEAN, FLIPPED) for kind in GUARDED]
        shifts = {f"{IN_WORDS[kind]}, {labels}": [one["peak_shift"][labels][kind] for one in own.values()]
                  for labels, kind in both}  # fmt: skip
        gains = {f"{IN_WORDS[kind]}, {labels}": [one["over_one"][labels][kind][-1] for one in own.values()]
                 for labels, kind in both}  # fmt: skip
        more = {IN_WORDS[kind]: [one["more_flipped"][kind] for one in own.values()] for kind in GUARDED}
        units = ("√KL further than with one reward model", "gold reward over one reward model", "gold reward more")
        told = [
            Claim(*row, *_above_zero(intervals, unit))
            for row, intervals, unit in zip(rows, (shifts, gains, more), units, strict=True)
        ]
    return [*told, _climbs(found)]


def _above_zero(intervals: dict[str, list[Figures | None]], unit: str) -> tuple[str, str]:
    """Differences by name and seed. Reached if each is above zero beyond its interval."""
    said = [f"{name}: " + ", ".join("no peak" if one is None else with_ends(one, "{:+.3f}") for one in own)
            for name, own in intervals.items()]  # fmt: skip
    missed = [name for name, own in intervals.items()
              if any(one is None or one["low"] is None or one["low"] <= 0 for one in own)]  # fmt: skip
    verdict = f"missed: not above zero beyond the interval for {'; '.join(missed)}" if missed else "reached"
    return f"{unit}. {'; '.join(said)}", verdict


def _climbs(found: Found) -> Claim:
    """Whether PPO ends with more gold reward under an ensemble than under one reward model, intervals apart."""
    text = ("ensembles", "PPO: worst-case and uncertainty-weighted ensembles end higher than one reward model", COSTE)
    said, missed = [], []
    for labels in (CLEAN, FLIPPED):
        alone = found.get(f"climb-{labels}-{ONE}", {})
        for kind in GUARDED:
            for seed, own in found.get(f"climb-{labels}-{kind}", {}).items():
                if seed not in alone:
                    continue
                ensemble, one = own["gold"][-1], alone[seed]["gold"][-1]
                name = f"{IN_WORDS[kind]}, {labels}" + f", seed {seed}" * (len(alone) > 1)
                said.append(f"{name}: {ensemble['mean']:+.3f} against {one['mean']:+.3f}")
                if ensemble["low"] is None or one["high"] is None or ensemble["low"] <= one["high"]:
                    missed.append(name)
    if not said:
        return Claim(*text, NOT_RUN, NOT_RUN)
    verdict = f"missed: intervals are not apart for {'; '.join(missed)}" if missed else "reached for these"
    return Claim(*text, f"gold reward after the last iteration. {'; '.join(said)}", verdict)


def _pair(name: str) -> Callable[[dict], dict]:
    return lambda one: dict(one["pairs"][name])


WANTED: Sequence[Wanted] = (
    Wanted("fig1", "smallest PPO-ptx over largest base", "preferred (1.3B over 175B)", "sizes",
           _above_half("smallest PPO-ptx over largest base")),
    Wanted("fig1", "largest PPO-ptx over base", "85 ± 3 %", "sizes", _rate(_pair("largest PPO-ptx over base"), 85, 3)),
    Wanted("fig1", "largest PPO-ptx over prompted base", "71 ± 4 %", "sizes",
           _rate(_pair("largest PPO-ptx over prompted base"), 71, 4)),
    *(Wanted("fig1", f"{name} over the middle SFT, three sizes (E2)", PAPER_FIG1[name], "sizes", _over_sft(name))
      for name in MODELS),
    Wanted("fig3", "held-out labelers prefer PPO-ptx to SFT", "about 65 to 70 %", "fig3",
           _rate(lambda one: one["held out"][PTX], 65, 0)),
    Wanted("fig4", "closed-domain hallucination, PPO-ptx against base", "21 against 41 %", "fig4", _closed),
    *(Wanted("fig4", f"{flag}: {', '.join(MODELS)}", " / ".join(map(str, rates)) + " %", "fig4", _flagged(flag))
      for flag, rates in PAPER_FIG4.items()),
    Wanted("rm", "accuracy on new labelers", "69.6 ± 0.9 %", "rm-folds", _folds("new", 69.6, 0.9)),
    Wanted("rm", "accuracy on known labelers", "72.4 ± 0.4 %", "rm-folds", _folds("known", 72.4, 0.4)),
    Wanted("rm", "reward accuracy predicts PPO's gain", "–", "rm-labels", _predicts),
    Wanted("groups", "a group gains by a reward of its own", "–", "groups", _own_reward),
    Wanted("public", "PPO-ptx over SFT on public tasks, as on FLAN (S4)", "78 ± 4 %", "public",
           _rate(lambda one: one["wins"]["PPO-ptx over public SFT"], 78, 4)),
    Wanted("public", "PPO-ptx over SFT on public tasks, as on T0 (S4)", "79 ± 4 %", "public",
           _rate(lambda one: one["wins"]["PPO-ptx over public SFT"], 79, 4)),
    Wanted("cost", "SFT, share of pretraining", "0.13 %", "cost", _share("sft")),
    Wanted("cost", "PPO-ptx, share of pretraining", "1.6 %", "cost", _share("ppo_ptx")),
)  # fmt: skip
MADE_UP = "not comparable: the models know the words of the made-up world alone"
PUBLISHED = "reached by the aggregators on the published answers, ± .001"
NEVER = (
    ("rm", "training labelers agree (D12)", "72.6 ± 1.5 %", "–",
     "not comparable: simulated labelers are as noisy as they are told to be"),
    ("rm", "held-out labelers agree (D12)", "77.3 ± 1.3 %", "–",
     "not comparable: simulated labelers are as noisy as they are told to be"),
    ("tax", "PPO loses on SQuADv2, F1 (E5)", "64.30 to 43.68", NOT_RUN, MADE_UP),
    ("tax", "PPO loses on DROP, F1", "27.53 to 13.08", NOT_RUN, MADE_UP),
    ("tax", "PPO loses on HellaSwag", ".781 to .743", NOT_RUN, MADE_UP),
    ("tax", "PPO loses on French to English, BLEU", "38.92 to 24.16", NOT_RUN, MADE_UP),
    ("tax", "PPO-ptx wins most back (E6)", "59.85, 15.23, .807, 34.28", NOT_RUN, MADE_UP),
    ("tax", "fewer toxic outputs, with the respectful instruction alone", "about 25 %", NOT_RUN, MADE_UP),
    ("tax", "true and informative on TruthfulQA", "about twice as often", NOT_RUN, MADE_UP),
    ("tax", "TruthfulQA, true: GPT / SFT / PPO / PPO-ptx", ".276 / .517 / .736 / .621", "the same", PUBLISHED),
    ("tax", "TruthfulQA, true and informative", ".253 / .287 / .724 / .598", "the same", PUBLISHED),
    ("tax", "mean toxicity, basic", ".177 / .185 / .199 / .179", "the same", PUBLISHED),
    ("tax", "mean toxicity, respectful", ".194 / .190 / .179 / .175", "the same", PUBLISHED),
    ("tax", "mean toxicity, biased", ".247 / .262 / .422 / .325", "the same", PUBLISHED),
    ("public", "`t0_p3_short` on a recipe's model", "78 ± 4 %, 79 ± 4 %", NOT_RUN, "not run"),
    ("cost", "labeler hours and money", "–", NOT_RUN, "not comparable: simulated labelers take no leases"),
)  # fmt: skip
