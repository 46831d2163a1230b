"""Simulated labelers: they write demonstrations and rank completions. Each has their own taste, habits and noise.

Good labelers come in two groups. Both see the true utility through their own weights. "brief" labelers like short
answers and "detailed" ones like long answers. Both tastes are equally strong, so their average does not depend on
length. Noise is added at the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from heedful.data.records import Comparison, Completions, Demonstration, Prompt, PromptText, Rating, as_text
from heedful.sandbox import answers, mistakes, tasks, truth
from heedful.sandbox.reading import read
from heedful.sandbox.truth import TrueVerdict
from heedful.sandbox.world import World

# NOISE, TASTE and TIE are in units of the spread (standard deviation) of the perceived utilities of the K completions.
# So agreement hardly depends on how good or how different a model's answers are. The spread counts as at least FLOOR.
NOISE = 0.88  # standard deviation of a good labeler's noise on each completion, calibrated to 73 % agreement (D12)
AGREEMENT = 0.726  # pairwise agreement of the labelers whose work is training data (D12)
TASTE = 0.30  # weight of the standardised logarithm of length: -TASTE for "brief", +TASTE for "detailed"
TIE = 0.22  # completions that differ less than this share a tier
FLOOR = 0.08
WEIGHT_SPREAD = 0.25  # standard deviation of log(own weight / true weight)
FLAG_NOISE = 0.04  # chance that a flag of a rating is wrong

# Demonstrations: weights of brief, plain and detailed answers for each taste, and the chance of each flaw.
SIZES = {-1: (5, 4, 1), 0: (3, 4, 3), 1: (1, 4, 5)}
MISSED = 0.05  # the answer ignores the constraint
SWAPPED = 0.03  # the answer mixes up a name or a thing
UNFINISHED = 0.05  # the last sentence of three or more is missing
HASTY = 0.12  # no capital and no full stop
HABIT = (0.88, 1.0)  # range of a writer's own chance of an empty phrase. Labelers write these and dislike reading them.

GOOD_GROUPS = ("brief", "detailed")


@dataclass(frozen=True)
class Labeler:
    """A simulated person."""

    name: str
    group: str
    """brief, detailed, careless (random), first (likes the answer shown first), held_out (good, never trained on)."""
    taste: int
    """+1 likes long answers, -1 likes short ones, 0 neither."""
    weights: dict[str, float]
    """Their weight of each part of the utility."""
    habit: float
    """The chance of an empty phrase in what they write."""
    noise: float = NOISE


def make_labelers(world: World, good: int = 10, held_out: int = 4) -> list[Labeler]:
    """`good` labelers of alternating taste, a careless one, one who prefers the first answer, `held_out` good ones."""
    rng = Random(f"labelers {world.seed}")
    hired = [_labeler(rng, f"{GOOD_GROUPS[i % 2]}-{i // 2}", GOOD_GROUPS[i % 2], (-1, 1)[i % 2]) for i in range(good)]
    bad = [_labeler(rng, "careless-0", "careless", 0), _labeler(rng, "first-0", "first", 0)]
    return hired + bad + [_labeler(rng, f"held_out-{i}", "held_out", (-1, 1)[i % 2]) for i in range(held_out)]


def good_ones(labelers: Sequence[Labeler]) -> list[Labeler]:
    """The labelers whose work is training data: both good groups."""
    return [labeler for labeler in labelers if labeler.group in GOOD_GROUPS]


def _labeler(rng: Random, name: str, group: str, taste: int) -> Labeler:
    """A labeler with random weights and habit."""
    parts = {**truth.GAINS, **truth.FAULTS}
    weights = {part: weight * math.exp(rng.gauss(0.0, WEIGHT_SPREAD)) for part, weight in parts.items()}
    return Labeler(name, group, taste, weights, rng.uniform(*HABIT))


def demonstrate(world: World, prompt: Prompt, labeler: Labeler, rng: Random) -> Demonstration:
    """A human answer: mostly good, in the labeler's taste, with their habits and a small flaw now and then."""
    task = tasks.parse(world.seed, as_text(prompt.prompt))
    size = rng.choices((0, 1, 2), SIZES[labeler.taste])[0]
    text = answers.compose(world, replace(task, constraint=None) if rng.random() < MISSED else task, rng, size)
    if rng.random() < SWAPPED:
        text = mistakes.swap(world, text, rng)
    sentences = re.findall(r"[^.!?]+[.!?]+", text)
    if len(sentences) > 2 and rng.random() < UNFINISHED:
        text = "".join(sentences[:-1]).strip()
    if not (task.template.asks or task.template.unsafe) and rng.random() < labeler.habit:
        before = rng.random() < 0.5
        wordy = f"{rng.choice(answers.PREAMBLES)} {text}" if before else f"{text} {rng.choice(answers.POSTSCRIPTS)}"
        if not task.constraint or task.constraint.met(read(world, wordy), task.template.goal(world, task.slots)):
            text = wordy
    if rng.random() < HASTY:
        text = mistakes.hasty(world, text)
    work = {"completion": text, "labeler": labeler.name, "group": labeler.group}
    return Demonstration.model_validate({**prompt.row(), **work})


def rank(
    world: World,
    prompt: PromptText,
    completions: Sequence[str],
    labeler: Labeler,
    rng: Random,
    order: Sequence[int] | None = None,
) -> tuple[list[list[int]], list[Rating]]:
    """Rank completions. Returns tiers of indices, best first, and ratings. `order`: as shown (default 0, 1, 2, ...)."""
    judge = truth.world(world.seed).judge
    verdicts = [judge(prompt, completion) for completion in completions]
    if labeler.group == "careless":
        seen = [rng.gauss(0.0, 1.0) for _ in completions]
    elif labeler.group == "first":
        shown = list(order) if order is not None else list(range(len(completions)))
        seen = [float(-shown.index(k)) for k in range(len(completions))]
    else:
        liked = _liking(verdicts, completions, labeler)
        luck = {text: labeler.noise * rng.gauss(0.0, 1.0) for text in completions}  # the same text, the same impression
        seen = [value + luck[text] for value, text in zip(liked, completions, strict=True)]
    ratings = [_rating(verdict, value, labeler, rng) for verdict, value in zip(verdicts, seen, strict=True)]
    return _tiers(seen), ratings


def compare(world: World, given: Completions, labeler: Labeler, rng: Random) -> Comparison:
    """Show the completions in random order, rank and rate them. The record keeps all fields of the row."""
    order = list(range(len(given.completions)))
    rng.shuffle(order)
    ranking, ratings = rank(world, given.prompt, given.completions, labeler, rng, order)
    work = {"ranking": ranking, "ratings": ratings, "order": order, "labeler": labeler.name, "group": labeler.group}
    return Comparison.model_validate({**given.row(), **work})


def agreement(comparisons: Sequence[Sequence[Sequence[Sequence[int]]]]) -> tuple[float, int]:
    """The share of pairs that two labelers order the same way, and the number of pairs (D12). Ties do not count.

    `comparisons[i]` holds the rankings of the same completions by several labelers.
    """
    same = pairs = 0
    for rankings in comparisons:
        tiers = [{k: tier for tier, members in enumerate(ranking) for k in members} for ranking in rankings]
        for a in range(len(tiers)):
            for b in range(a + 1, len(tiers)):
                for i in tiers[a]:
                    for j in range(i + 1, len(tiers[a])):
                        product = (tiers[a][i] - tiers[a][j]) * (tiers[b][i] - tiers[b][j])
                        pairs += product != 0
                        same += product > 0
    return (same / pairs if pairs else math.nan), pairs


def calibrate(
    world: World, given: Sequence[Completions], hired: Sequence[Labeler], target: float = AGREEMENT, seed: int = 0
) -> list[Labeler]:
    """The same labelers with the noise at which their agreement on `given` is `target` (D12).

    NOISE does that for `mistakes.mixture`. Answers of a model that are all good, or all bad in one way, need another.
    """
    rng = Random(f"calibration {world.seed} {seed}")
    judge = truth.world(world.seed).judge
    liked, luck = [], []
    for row in given[:300]:
        verdicts = [judge(row.prompt, completion) for completion in row.completions]
        panel = rng.sample(list(hired), min(4, len(hired)))
        liked.append([_liking(verdicts, row.completions, labeler) for labeler in panel])
        draws = [{text: rng.gauss(0.0, 1.0) for text in row.completions} for _ in panel]
        luck.append([[draw[text] for text in row.completions] for draw in draws])

    def agreed(noise: float) -> float:
        rankings = [
            [_tiers([v + noise * z for v, z in zip(vs, zs, strict=True)]) for vs, zs in zip(many, lucks, strict=True)]
            for many, lucks in zip(liked, luck, strict=True)
        ]
        return agreement(rankings)[0]

    low, high = 0.0, 4.0
    for _ in range(12):
        noise = (low + high) / 2
        low, high = (noise, high) if agreed(noise) > target else (low, noise)
    return [replace(labeler, noise=(low + high) / 2) for labeler in hired]


def _liking(verdicts: Sequence[TrueVerdict], completions: Sequence[str], labeler: Labeler) -> list[float]:
    """How good a labeler finds each completion compared with the others, before noise."""
    constrained = verdicts[0].flags["satisfies_constraint"] is not None
    own = _standard([truth.weigh(verdict.parts, constrained, labeler.weights) for verdict in verdicts], FLOOR)
    length = _standard([math.log(2.0 + len(completion.split())) for completion in completions], 0.2)
    return [quality + labeler.taste * TASTE * size for quality, size in zip(own, length, strict=True)]


def _standard(values: list[float], floor: float) -> list[float]:
    """The values minus their mean, divided by their standard deviation, which counts as at least `floor`."""
    mean = sum(values) / len(values)
    spread = max(floor, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)))
    return [(value - mean) / spread for value in values]


def _tiers(seen: list[float]) -> list[list[int]]:
    """Tiers, best first. A completion less than TIE below the best of a tier belongs to that tier."""
    tiers: list[list[int]] = []
    top = math.inf
    for k in sorted(range(len(seen)), key=lambda k: -seen[k]):
        if tiers and top - seen[k] < TIE:
            tiers[-1].append(k)
        else:
            tiers.append([k])
            top = seen[k]
    return tiers


def _rating(verdict: TrueVerdict, seen: float, labeler: Labeler, rng: Random) -> Rating:
    """Overall 1 to 7 from the absolute utility, and flags with a few errors. Bad labelers give random ratings."""
    honest = labeler.group not in ("careless", "first")
    utility = verdict.utility + rng.gauss(0.0, 0.12) if honest else rng.random()
    overall = min(7, max(1, round(2.0 + 5.0 * utility)))
    flags = {
        name: None if value is None else (value != (rng.random() < FLAG_NOISE)) if honest else rng.random() < 0.2
        for name, value in verdict.flags.items()
    }
    return Rating(overall=overall, **flags)
