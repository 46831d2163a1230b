"""What the page of `heedful reproduce` shows of ensembles: a table of the fits, and charts of gold and proxy reward."""

from __future__ import annotations

from heedful.reproduce.ensembles import CLEAN, FLIPPED, KINDS, MEAN, ONE, WEIGHTED, WORST
from heedful.reproduce.overoptimisation_page import fitted, pictures, with_ends, words
from heedful.reproduce.paper_figures import Shown, table
from heedful.reproduce.parts import Figures

NAMES = {ONE: "one", MEAN: "mean", WORST: "worst case", WEIGHTED: "uncertainty-weighted"}
BEST, PPO = "best of n", "PPO"
HEADING = [
    "rankings", "reward", "method", "gold reward", "largest √KL", "gold there", "over one there", "alpha", "beta",
]  # fmt: skip


def shown(seed: str, figures: dict[str, Figures]) -> Shown:
    """The section of a seed, from the figures of its parts by name. Empty before any curve is there."""
    curves = by_method(figures)
    if not any(curves.values()):
        return [], []
    lines = [f"## Ensembles of reward models, seed {seed}", "", *_notes(figures), "", *table(HEADING, rows(figures))]
    named = {key: {NAMES[kind]: one for kind, one in own.items()} for key, own in curves.items() if own}
    charts = [
        chart for (method, labels), own in named.items() for chart in pictures(f"ensembles, {method}, {labels}", own)
    ]
    return [*lines, ""], charts


def by_method(figures: dict[str, Figures]) -> dict[tuple[str, str], dict[str, Figures]]:
    """The curves that are there, by kind of reward, for each method and kind of rankings."""
    best = figures.get("best-of-n", {}).get("curves", {})
    found = {(BEST, labels): best.get(labels, {}) for labels in (CLEAN, FLIPPED)}
    for labels in (CLEAN, FLIPPED):
        climbs = {kind: figures.get(f"climb-{labels}-{kind}") for kind in KINDS}
        found[PPO, labels] = {kind: one for kind, one in climbs.items() if one is not None}
    return found


def rows(figures: dict[str, Figures]) -> list[list[str]]:
    """A row of `HEADING` for each curve."""
    found = []
    for (method, labels), curves in by_method(figures).items():
        for kind, curve in curves.items():
            over = "–"
            if method == BEST and kind != ONE:
                over = with_ends(figures["best-of-n"]["over_one"][labels][kind][-1], "{:+.3f}")
            found.append([
                labels, NAMES[kind], method, words(curve), f"{max(curve['distance']):.2f}",
                with_ends(curve["gold"][-1], "{:+.3f}"), over, *fitted(curve),
            ])  # fmt: skip
    return found


def _notes(figures: dict[str, Figures]) -> list[str]:
    """How many members learned from how many rankings, and how good they are."""
    said = []
    for labels in (CLEAN, FLIPPED):
        if own := figures.get(f"members-{labels}"):
            low, high = (f"{100 * pick(own['accuracy']):.1f}" for pick in (min, max))
            turned = f", {own['turned']:,} of them turned round" if own["turned"] else ""
            said.append(
                f"{labels.capitalize()}: {own['members']} reward models learn from {own['rankings']:,} "
                f"rankings{turned}. They are right on {low} to {high} % of held-out pairs."
            )
    told = "In best of n, `one` is the mean over the members, each as the only reward model. In PPO it is the first."
    return [*said, told]
