"""`heedful reproduce`: figures of the paper in the made-up world, by its truth. Each is made of parts that resume."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Comparison, Demonstration, Prompt
from heedful.demo import base, loop
from heedful.demo.records import BASE, PPO, PROMPTED, PTX, SFT, Demo
from heedful.demo.settings import read as demo_settings
from heedful.models import load, render
from heedful.reproduce import overoptimisation
from heedful.reproduce.parts import Figures, Folders, Ledger, Part
from heedful.runs.run import metrics

FIGURES = ("fig1", "cost", "overopt")
MINUTES = {"fig1": 8.0, "cost": 1.0}
MODELS = (BASE, PROMPTED, SFT, PPO, PTX)


def plan(
    out: Path, records: Path, seeds: Sequence[int], only: Sequence[str], *, quick: bool
) -> dict[Ledger, list[Part]]:
    """The parts of the chosen figures, all by default, by the place of their records.

    Raises UserError for a figure that is unknown and for a seed that is named twice.
    """
    for name in only:
        if name not in FIGURES:
            raise UserError(f"--only {name}: no such figure. Choose from {', '.join(FIGURES)}")
    if len(set(seeds)) < len(seeds):
        raise UserError("--seeds names a seed twice. Name each once")
    chosen, found = only or FIGURES, {}
    for seed in seeds:
        parts = _models(seed, quick=quick)
        if wanted := [part for part in parts if part.name in chosen]:
            found[Ledger(out / f"models-{seed}", records / f"models-{seed}")] = wanted
        if "overopt" in chosen:
            ledger = Ledger(out / f"overopt-{seed}", records / f"overopt-{seed}")
            found[ledger] = overoptimisation.parts(seed, quick=quick)
    return found


def _models(seed: int, *, quick: bool) -> list[Part]:
    """The models of Figure 1 and their cost."""
    path = Path(__file__).with_name("reproduce_quick.toml")
    changes = tomllib.loads(path.read_text("utf-8")) if quick else {}
    facts = {name: own for name, own in demo_settings(changes=changes).items() if "seconds" not in name}
    facts["base"] = base.record()["weights_sha256"]
    minutes = {name: 0.5 if quick else own for name, own in MINUTES.items()}
    models = Part("fig1", minutes["fig1"], seed, facts, partial(_fig1, seed, changes))
    return [models, Part("cost", minutes["cost"], seed, {}, partial(_cost, seed, changes), (models,))]


def _fig1(seed: int, changes: dict[str, Any], folder: Path, _: Folders) -> Figures:
    """Train the models of the demo, and compare every two of them on the test prompts."""
    found = loop.run(folder / "demo", seed=seed, changes=changes)
    results = {name: found.results[name] for name in MODELS}
    return {
        "wins": {f"{a} over {b}": found.wins(results[a], results[b])._asdict() for b, a in combinations(MODELS, 2)},
        "kl": {name: one.kl for name, one in results.items()},
        "corpus_loss": {name: one.corpus_loss for name, one in results.items()},
    }


def _cost(seed: int, changes: dict[str, Any], folder: Path, before: Folders) -> Figures:
    """FLOPs of each stage by 6 N for each trained token and 2 N for each one read or sampled (E7), and labels."""
    demo = loop.opened(before["fig1"] / "demo", seed, changes=changes)
    model, tokenizer = load.load_policy(demo.run_at("sft"))
    n, kept = model.num_parameters(), base.record()
    demonstrations = formats.read(demo.files.demonstrations, Demonstration)
    rankings = formats.read(demo.files.rankings, Comparison)

    def length(row: Prompt, text: str) -> int:
        return sum(map(len, render.answered(tokenizer, row.prompt, text)))

    read = {
        "sft": demo.settings["sft"]["epochs"] * sum(length(row, row.completion) for row in demonstrations),
        "reward": demo.settings["reward"]["epochs"]
        * sum(length(row, text) for row in rankings for text in row.completions),
    }
    prompts = [len(render.prompt_ids(tokenizer, row.prompt)) for row in formats.read(demo.files.rl_prompts, Prompt)]
    flops = {"pretrain": 6 * kept["parameters"] * kept["tokens"], **{name: 6 * n * own for name, own in read.items()}}
    for name in ("ppo", "ppo_ptx"):
        rows = metrics(demo.run_at(name))
        batch = demo.settings["ppo"]["rollout_batch"]
        tokens = sum(batch * (row["length"] + sum(prompts) / len(prompts)) for row in rows)
        # a token is sampled, read by policy, reference, reward and value, and trained on by policy and value
        flops[name] = (2 + 4 * 2 + 2 * 6) * n * tokens + (6 * n * _mixed(demo) if name == "ppo_ptx" else 0)
    return {
        "parameters": n, "flops": flops, "share": {name: own / flops["pretrain"] for name, own in flops.items()},
        "labels": {"demonstrations": len(demonstrations), "rankings": len(rankings)},
    }  # fmt: skip


def _mixed(demo: Demo) -> int:
    """Tokens of pretraining text in PPO-ptx, at most: documents are counted with their largest length."""
    own = demo.settings["ppo_ptx"]
    return round(demo.settings["ppo"]["episodes"] * own["ptx_ratio"] * own.get("ptx_tokens", 224))
