"""`heedful overoptimisation`: gold reward against √KL, for best of n and PPO without a KL penalty (O1).

Every reward model is trained on some of the rankings, from a body of some size. The truth of the world is the gold
reward. All gains are over the SFT model, on the same prompts.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import build
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.configs.sft import SFTConfig
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.demo.records import Demo
from heedful.demo.settings import DemoSettings
from heedful.demo.settings import read as demo_settings
from heedful.files import read_json, write_json, write_text
from heedful.inference import sample, score
from heedful.maths.kl import best_of_n_kl
from heedful.maths.overoptimisation import CurveForm, Fit, best_of_n_means, fit
from heedful.maths.statistics import mean_interval
from heedful.models import load
from heedful.reproduce import world
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.runs.run import Run
from heedful.stages import ppo, pretrain, reward, sft

NAME = "overoptimisation"
MINUTES = {"world": 3.0, "body": 5.0, "answers": 8.0, "reward": 8.0, "ppo": 9.0}
"""Estimates on two cores: from the seconds of the demo's steps and the number of answers."""
QUICK = 0.2
"""Minutes of each part with --quick."""


def parts(seed: int, *, quick: bool = False, home: str = "") -> list[Part]:
    """The world, a body for each size, the answers for best of n, and for each reward model itself and its PPO.

    `home`: the folder of this group of parts.
    """
    settings = world.settings_of(NAME, quick=quick)
    minutes = {name: QUICK if quick else own for name, own in MINUTES.items()}
    resolved = demo_settings(changes={name: own for name, own in settings.items() if name not in world.PLANS})
    plan, start = settings["plan"], world.world(seed, settings, minutes["world"], home)
    asked = {name: plan[name] for name in ("samples", "prompts")}
    answers = Part("answers", minutes["answers"], seed, asked, partial(_answer, seed, settings), (start,), home)
    found = [start, answers]
    for size, body in settings["bodies"].items():
        before = [start]
        if body["depth"]:
            facts = {"body": body, "pretrain": settings["pretrain"], "sft": resolved["sft"]}
            before += [
                Part(f"body-{size}", minutes["body"], seed, facts, partial(_body, seed, settings, size), (start,), home)
            ]
            found += before[1:]
        for labels in plan["labels"]:
            name = f"{size}-{labels}"
            facts = {"labels": labels, "size": size, "reward": resolved["reward"]}
            learned = Part(
                f"reward-{name}", minutes["reward"], seed, facts, partial(_reward, seed, settings, size, labels),
                (*before, answers), home,
            )  # fmt: skip
            facts = {"rungs": plan["rungs"], "ppo": resolved["ppo"], "size": size, "labels": labels}
            found += [learned, Part(
                f"ppo-{name}", minutes["ppo"], seed, facts, partial(_ppo, seed, settings, learned.name),
                (start, learned), home,
            )]  # fmt: skip
    return found


def _body(seed: int, settings: DemoSettings, size: str, folder: Path, before: Folders) -> Figures:
    """Pretrain a body of another size with the base model's tokenizer, and fine-tune it."""
    demo = world.opened(before, seed, settings)
    tokenizer = load.load_policy(demo.run_at("base"))[1]
    inputs = {**settings["pretrain"], "data": demo.files.corpus, "valid_data": demo.files.corpus_held_out, "seed": seed}
    where = f"{NAME}.toml, [pretrain]"
    if not (folder / "new").exists():
        sized = build(PretrainConfig, {**inputs, **settings["bodies"][size]}, where)
        load.save(pretrain.new_model(sized, tokenizer), tokenizer, folder / "new")
    config = build(PretrainConfig, {**inputs, "model": str(folder / "new")}, where)
    pretrain.train(config, folder / "base", resume=True)
    config = demo.config(
        SFTConfig, "sft", model=str(folder / "base"), data=demo.files.demonstrations,
        valid_data=demo.files.valid_demonstrations,
    )  # fmt: skip
    sft.train(config, folder / "sft", resume=True)
    results = Run.open(folder / "base").manifest.results
    return {"parameters": results["parameters"], "valid_loss": results["valid_loss"]}


def _answer(seed: int, settings: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Sample the answers of the SFT model that best of n chooses from, and judge each by the truth."""
    demo, plan = world.opened(before, seed, settings), settings["plan"]
    prompts = formats.read(demo.files.test_prompts, Prompt)[: plan["prompts"]]
    asked = folder / "prompts.jsonl"
    formats.write(str(asked), prompts)
    config = demo.config(
        SampleConfig, "sample", model=demo.ref("sft"), prompts=str(asked), k=plan["samples"],
        chunk=max(1, 16_384 // plan["samples"]), generation=demo.generation,
    )  # fmt: skip
    sample.run(config, folder / "answers.jsonl", resume=True)
    judge = world.examiner(demo).truth
    rows = formats.read(str(folder / "answers.jsonl"), Completions)
    gold = [judge([row.prompt] * len(row.completions), row.completions) for row in rows]
    write_json(folder / "gold.json", {"gold": gold, "users": [prompt.user for prompt in prompts]})
    return {"prompts": len(rows), "gold": float(np.mean(gold))}


def _reward(seed: int, settings: DemoSettings, size: str, labels: int, folder: Path, before: Folders) -> Figures:
    """Train a reward model on the first rankings, and measure best of n under it (O3)."""
    demo = world.opened(before, seed, settings)
    lines = Path(demo.files.rankings).read_text("utf-8").splitlines(keepends=True)
    write_text(folder / "rankings.jsonl", "".join(lines[:labels]))
    body = before[f"body-{size}"] / "sft" if f"body-{size}" in before else demo.run_at("sft")
    config = demo.config(
        RewardConfig, "reward", model=str(body), data=str(folder / "rankings.jsonl"),
        eval_data=demo.files.valid_rankings, demonstrations=demo.files.demonstrations,
    )  # fmt: skip
    reward.train(config, folder / "reward", resume=True)
    proxy = np.array(_scores(str(folder / "reward"), before["answers"] / "answers.jsonl", folder / "scored.jsonl"))
    kept = read_json(before["answers"] / "gold.json")
    gold, users = np.array(kept["gold"]), kept["users"]
    ns, d = distances(gold.shape[1])
    means = best_of_n_means(proxy, gold, ns)
    valid = Run.open(folder / "reward").manifest.results["valid"]
    rising = best_of_n_means(proxy, proxy, ns)
    found = curve(d, means - means[:, :1], rising - rising[:, :1], "best_of_n", users, seed)
    return {
        "size": size, "labels": min(labels, len(lines)), "n": ns, "accuracy": valid["accuracy"], **found,
        "parameters": load.load_reward(folder / "reward")[0].num_parameters(),
    }  # fmt: skip


def _ppo(seed: int, settings: DemoSettings, learned: str, folder: Path, before: Folders) -> Figures:
    """Run PPO without a penalty against the reward model of the part `learned`."""
    demo = world.opened(before, seed, settings)
    return climbed(demo, str(before[learned] / "reward"), settings["plan"]["rungs"], folder)


def climbed(demo: Demo, proxy_of: str, rungs: list[int], folder: Path) -> Figures:
    """Run PPO without a penalty, and measure the policy after each rung, on all test prompts.

    `proxy_of` names the reward: a model, or an ensemble of some.
    """
    ask, start = world.examiner(demo), demo.run_at("sft")

    def measured(name: str, policy: Path) -> dict[str, Any]:
        path = folder / f"{name}.json"
        if not path.exists():
            found = ask.model(name, policy, start)
            rows = [
                Completions(prompt=p.prompt, completions=[c])
                for p, c in zip(ask.prompts, found.completions, strict=True)
            ]
            formats.write(str(folder / f"{name}.jsonl"), rows)
            proxy = _scores(proxy_of, folder / f"{name}.jsonl", folder / f"{name}-scored.jsonl")
            write_json(path, {"kl": found.kl, "gold": found.utilities, "proxy": [one[0] for one in proxy]})
        kept: dict[str, Any] = read_json(path)
        return kept

    measurements = [measured("start", start)]
    for rung in rungs:
        if not (folder / f"rung-{rung}.json").exists():
            _climb(demo, proxy_of, folder / "ppo", rung)
        measurements.append(measured(f"rung-{rung}", folder / "ppo"))
    gold, proxy = (np.array([one[name] for one in measurements]).T for name in ("gold", "proxy"))
    d = [math.sqrt(max(0.0, one["kl"])) for one in measurements]
    users = [prompt.user for prompt in ask.prompts]
    return {"iterations": [0, *rungs], **curve(d, gold - gold[:, :1], proxy - proxy[:, :1], "rl", users, demo.seed)}


def _climb(demo: Demo, proxy: str, out: Path, rung: int) -> None:
    """Continue the PPO run up to an iteration."""
    config = demo.config(
        PPOConfig, "ppo", policy=demo.ref("sft"), reward=[proxy], prompts=demo.files.rl_prompts,
        generation=demo.generation, episodes=rung * demo.settings["ppo"]["rollout_batch"],
    )  # fmt: skip
    ppo.train(config, out, resume=True)


def _scores(reward: str, answers: Path, out: Path) -> list[list[float]]:
    """The scores of a reward for each row of a file of answers."""
    score.run(build(ScoreConfig, {"reward": [reward], "data": str(answers)}, "score"), out, resume=True)
    return [row.scores or [] for row in formats.read(str(out), Completions)]


def distances(total: int) -> tuple[list[int], list[float]]:
    """n = 1, 2, 4 and so on up to a number of answers, and √KL of the best of each (O2)."""
    ns = [2**i for i in range(int(math.log2(total)) + 1)]
    return ns, [math.sqrt(best_of_n_kl(n)) for n in ns]


def curve(d: list[float], gold: Any, proxy: Any, form: CurveForm, users: list[str | None], seed: int) -> Figures:
    """Gains over the start at each distance, and the fit of O1 if there are two distances."""
    clusters = None if None in users else users
    shown = [mean_interval(column, clusters, seed=seed)._asdict() for column in gold.T]
    fitted = fit(d, gold, form, clusters, seed=seed) if len({x for x in d if x > 0}) > 1 else None
    return {
        "distance": d, "gold": shown, "proxy": proxy.mean(0).tolist(),
        "fit": None if fitted is None else _fit_row(fitted, d),
    }  # fmt: skip


def _fit_row(found: Fit, d: list[float]) -> Figures:
    grid = [float(x) for x in np.linspace(0, max(d), 16)]  # few, because charts smooth longer lines
    return {
        "alpha": found.alpha._asdict(), "beta": found.beta._asdict(), "words": found.words(),
        "peak": None if found.peak is None else found.peak._asdict(),
        "line": {"distance": grid, "gold": [found.gain(x) for x in grid]},
    }  # fmt: skip
