"""How many labels does it save to ask for the most informative rankings first? In the sandbox, against random order.

    python benchmarks/label_order.py --out build/label-order --seeds 1 2 3

A small base model starts every reward model. Both orders begin with the same random rankings; then, each time the
number of labels doubles, "informative" takes those prompts of the pool about which three reward models trained so far
disagree most, "random" the next ones of a shuffled pool. Accuracy is the mean of the three models' on held-out prompts,
against the truth and against labelers who never train. Goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from heedful.config import Config, build
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Comparison, Completions
from heedful.feedback.informative import disagreement
from heedful.files import write_json
from heedful.inference import score
from heedful.sandbox import generate, labelers, mistakes, prompts, truth
from heedful.sandbox import world as worlds
from heedful.sandbox.world import World
from heedful.stages import pretrain, reward

ORDERS = ("random", "informative")
K = 4
CLOSE = 0.05  # pairs whose true utilities are nearer than this are not asked about
SETTINGS: dict[str, dict[str, Any]] = {
    "pretrain": {"depth": 3, "vocab_size": 1000, "context": 224, "batch_tokens": 448},
    "reward": {
        "batch": 8, "max_prompt_tokens": 112, "max_response_tokens": 100, "skip_long": True,
        "optimiser": {"lr": 5e-4, "clip_norm": 1.0},
    },
}  # fmt: skip


class Plan(Config):
    """How much of everything."""

    documents: int = 8000
    tokens: int = 400_000
    pool: int = 1600
    valid: int = 500
    first: int = 100
    doublings: int = 3
    models: int = 3
    epochs: int = 2

    @property
    def sizes(self) -> list[int]:
        """Labels at which reward models are trained."""
        return [self.first * 2**i for i in range(self.doublings + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    for name, field in Plan.model_fields.items():
        parser.add_argument(f"--{name}", type=int, default=field.default)
    given = parser.parse_args()
    plan = Plan(**{name: getattr(given, name) for name in Plan.model_fields})
    curves = {seed: one_seed(given.out / f"seed-{seed}", seed, plan) for seed in given.seeds}
    write_json(given.out / "curves.json", {"plan": plan.model_dump(), "curves": curves})
    print(table(curves, plan))


def one_seed(out: Path, seed: int, plan: Plan) -> dict[str, dict[str, list[float]]]:
    """Accuracy against truth and labels by order, one figure for each of the plan's sizes."""
    world = make_world(out, seed, plan)
    base = pretrain.train(
        config(PretrainConfig, "pretrain", seed, data=str(out / "corpus.jsonl"), tokens=plan.tokens),
        out / "base", resume=True,
    )  # fmt: skip
    pool = formats.read(out / "pool.jsonl", Comparison)
    curves: dict[str, dict[str, list[float]]] = {order: {"truth": [], "labels": []} for order in ORDERS}
    for order in ORDERS:
        chosen: list[int] = []
        scored = None
        for size in plan.sizes:
            chosen += following(order, chosen, size, scored, len(pool))
            # the first rankings are random in both orders: trained once
            name = "start" if size == plan.first else order
            folder = out / f"{name}-{size}"
            scored = train_and_score(folder, base, [pool[i] for i in chosen], seed, plan)
            for against, accuracy in accuracies(folder, world, plan).items():
                curves[order][against].append(accuracy)
            print(f"seed {seed} {order:>11} {size:>5} labels: " + figures(curves[order]), flush=True)
    return curves


def make_world(out: Path, seed: int, plan: Plan) -> World:
    """Corpus, and prompts with K answers, some ranked by those who train and some by those who never do."""
    if (out / "valid.jsonl").exists():
        return worlds.make_world(seed)
    wanted = plan.pool + plan.valid
    world = generate.write_world(out, seed, plan.documents, 3 * wanted)
    rng = Random(f"label order {seed}")
    unique = list({str(prompt.prompt): prompt for prompt in prompts.prompts(world, 3 * wanted)}.values())[:wanted]
    assert len(unique) == wanted, "too few different prompts"
    rows = [
        Completions(prompt=prompt.prompt, completions=mistakes.mixture(world, prompt.prompt, K, rng))
        for prompt in rng.sample(unique, wanted)
    ]
    everyone = labelers.make_labelers(world)
    held_out = [who for who in everyone if who.group == "held_out"]
    formats.write(
        out / "pool.jsonl", generate.comparisons(world, rows[: plan.pool], labelers.good_ones(everyone), seed)
    )
    formats.write(out / "valid.jsonl", generate.comparisons(world, rows[plan.pool :], held_out, seed))
    return world


def following(
    order: str, chosen: Sequence[int], size: int, scored: list[list[list[float]]] | None, pool: int
) -> list[int]:
    """The next rows of the pool (which lies in random order) to be labelled, up to `size` in all."""
    left = sorted(set(range(pool)) - set(chosen))
    if order == "informative" and scored is not None:
        left.sort(key=lambda i: -disagreement(scored[i]))
    return left[: size - len(chosen)]


def train_and_score(
    folder: Path, base: Path, labelled: list[Comparison], seed: int, plan: Plan
) -> list[list[list[float]]]:
    """Reward models on the labelled rankings; their scores of the whole pool, [row][model][completion]."""
    folder.mkdir(parents=True, exist_ok=True)
    data, valid = folder / "labelled.jsonl", folder.parent / "valid.jsonl"
    if not data.exists():
        formats.write(data, labelled)
    runs = []
    for number in range(plan.models):
        settings = config(
            RewardConfig, "reward", 1000 * seed + number, model=str(base), data=str(data), eval_data=str(valid),
            epochs=plan.epochs,
        )  # fmt: skip
        runs.append(str(reward.train(settings, folder / f"model-{number}", resume=True)))
    for name in ("pool", "valid"):
        settings = build(ScoreConfig, {"reward": runs, "data": str(folder.parent / f"{name}.jsonl")}, "score")
        score.run(settings, folder / f"{name}-scored.jsonl", resume=True)
    return parts(folder / "pool-scored.jsonl")


def parts(path: Path) -> list[list[list[float]]]:
    """The scores of each model on each row."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [list(row["score_parts"].values()) for row in rows]


def accuracies(folder: Path, world: World, plan: Plan) -> dict[str, float]:
    """Share of held-out pairs that the models order right, in the mean over models."""
    gold = truth.world(world.seed)
    rows = formats.read(folder.parent / "valid.jsonl", Comparison)
    right: dict[str, list[float]] = {"truth": [], "labels": []}
    for row, scores in zip(rows, parts(folder / "valid-scored.jsonl"), strict=True):
        utility = [gold.judge(row.prompt, completion).utility for completion in row.completions]
        pairs = {
            "truth": [(i, j) for i in range(K) for j in range(K) if utility[i] > utility[j] + CLOSE],
            "labels": row.pairs(),
        }
        for against, ordered in pairs.items():
            right[against] += [fmean(own[i] > own[j] for own in scores) for i, j in ordered]
    return {against: fmean(shares) for against, shares in right.items()}


def labels_to_reach(accuracy: float, sizes: Sequence[int], curve: Sequence[float]) -> float:
    """Labels at which a curve first reaches an accuracy, interpolated in log labels; infinite if it never does."""
    if curve[0] >= accuracy:
        return float(sizes[0])
    for i in range(1, len(sizes)):
        if curve[i] >= accuracy:
            share = (accuracy - curve[i - 1]) / (curve[i] - curve[i - 1])
            return math.exp(math.log(sizes[i - 1]) + share * math.log(sizes[i] / sizes[i - 1]))
    return math.inf


def table(curves: dict[int, dict[str, dict[str, list[float]]]], plan: Plan) -> str:
    """Every curve, the mean curves with their difference, and labels saved on the way to random's last accuracy."""
    lines = []
    for against in ("truth", "labels"):
        lines.append(f"accuracy against {against}, labels: " + "  ".join(f"{size:>6}" for size in plan.sizes))
        by_order = {order: [orders[order][against] for orders in curves.values()] for order in ORDERS}
        for order in ORDERS:
            for seed, curve in zip(curves, by_order[order], strict=True):
                lines.append(f"  {order:>11}, seed {seed}:        " + shown(curve))
        random, informative = ([fmean(column) for column in zip(*by_order[order], strict=True)] for order in ORDERS)
        lines.append("       random, mean:          " + shown(random))
        lines.append("  informative, mean:          " + shown(informative))
        needed = labels_to_reach(random[-1], plan.sizes, informative)
        lines.append(f"  to reach random's {random[-1]:.1%} at {plan.sizes[-1]}, informative needs {needed:.0f} labels")
        needed = labels_to_reach(informative[-1], plan.sizes, random)
        lines.append(f"  to reach informative's {informative[-1]:.1%} at {plan.sizes[-1]}, random needs {needed:.0f}")
    return "\n".join(lines)


def shown(curve: Sequence[float]) -> str:
    return "  ".join(f"{accuracy:>6.1%}" for accuracy in curve)


def figures(curve: dict[str, list[float]]) -> str:
    return ", ".join(f"{against} {values[-1]:.1%}" for against, values in curve.items())


def config(cls: type[Config], section: str, seed: int, **inputs: Any) -> Any:
    return build(cls, {**SETTINGS[section], **inputs, "seed": seed}, section)


if __name__ == "__main__":
    main()
