"""PPO next to DPO, RLOO, GRPO, rejection sampling and best of n, on the same labels.

The first seed tries the settings of each method on validation prompts. All seeds run the best ones: with the same
labels, and with as much training compute as PPO.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from heedful.commands.rejection import BEST, CHOSEN, TRAINED
from heedful.config import build
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Completions, Demonstration, Prompt
from heedful.demo.records import SFT, Demo
from heedful.demo.settings import DemoSettings
from heedful.files import read_json, write_json
from heedful.inference import sample, score
from heedful.report.tables import ModelResult
from heedful.reproduce import cost, sizes, workbench, world
from heedful.reproduce.cost import Counted
from heedful.reproduce.parts import Figures, Folders, Part

FIRST = 1
"""The seed whose validation prompts choose the settings."""
TRAINED_ONES = ("ppo", "rloo", "grpo", "dpo", "rejection")
BEST_OF = "best_of_n"
CHOSEN_ONES, COMPARED = "chosen.json", "compared.json"
MINUTES = {
    "choose-ppo": 7.0, "choose-rloo": 5.0, "choose-grpo": 5.0, "choose-dpo": 6.0, "choose-rejection": 10.0,
    "choose-best_of_n": 2.0, "baselines-labels": 11.0, "baselines-compute": 10.0,
}  # fmt: skip


def chosen(
    start: Part, settings: DemoSettings, changes: DemoSettings, minutes: dict[str, float], home: str
) -> list[Part]:
    """The parts of the first seed that try the settings of each method."""
    found = []
    for method in (*TRAINED_ONES, BEST_OF):
        tried = settings["baselines"][method]
        name = f"choose-{method}"
        work = partial(_choose, changes, method, tried)
        found.append(Part(name, minutes[name], FIRST, {"tried": tried}, work, (start,), home))
    return found


def parts(
    seed: int,
    start: Part,
    judged: Part,
    before: list[Part],
    changes: DemoSettings,
    minutes: dict[str, float],
    home: str,
) -> list[Part]:
    """All methods at equal labels, and at equal compute. `before`: the parts that choose the settings."""
    equal = Part(
        "baselines-labels", minutes["baselines-labels"], seed, {}, partial(_labels, seed, changes),
        (start, judged, *before), home,
    )  # fmt: skip
    compute = Part(
        "baselines-compute", minutes["baselines-compute"], seed, {}, partial(_compute, seed, changes),
        (start, judged, *before, equal), home,
    )  # fmt: skip
    return [equal, compute]


def _choose(changes: DemoSettings, method: str, tried: list[DemoSettings], folder: Path, before: Folders) -> Figures:
    """Train with each of the settings, and take the one that beats SFT most often on validation prompts."""
    demo = workbench.opened(before, FIRST, changes)
    asked = folder / "prompts.jsonl"
    rows = [
        row for name in ("valid_ranked_prompts", "valid_sft_prompts")
        for row in formats.read(getattr(demo.files, name), Prompt)
    ]  # fmt: skip
    formats.write(str(asked), rows)
    sft = workbench.measure(demo, SFT, demo.run_at("sft"), demo.run_at("sft"), folder / "sft.json", str(asked))
    if method == BEST_OF:
        most = max(one["n"] for one in tried)
        scored = answered(demo, folder, str(asked), most)
        found = [best_of(demo, scored, one["n"], str(asked)) for one in tried]
    else:
        calls = [partial(_try, demo, folder, method, number, own, str(asked)) for number, own in enumerate(tried)]
        found = workbench.together(calls)
    users = [row.user for row in rows]
    rates = [workbench.wins(one, sft, users) for one in found]
    best = max(range(len(tried)), key=lambda number: (rates[number]["rate"], -number))
    write_json(folder / CHOSEN_ONES, {"number": best, "settings": tried[best]})
    return {
        "best": best,
        "tried": [
            {"settings": own, "win": rate, "kl": one.kl} for own, rate, one in zip(tried, rates, found, strict=True)
        ],
    }


def _try(demo: Demo, folder: Path, method: str, number: int, own: DemoSettings, asked: str) -> ModelResult:
    model = workbench.train(demo, method, folder / str(number), changes=own)
    return workbench.measure(demo, method, model, demo.run_at("sft"), folder / f"{number}.json", asked)


def answered(demo: Demo, folder: Path, prompts: str, n: int) -> str:
    """n answers of the SFT model to each prompt of a file, with their scores."""
    config = demo.config(
        SampleConfig, "sample", model=demo.ref("sft"), prompts=prompts, k=n, generation=demo.generation,
    )  # fmt: skip
    sample.run(config, folder / "answers.jsonl", resume=True)
    scored = str(folder / "scored.jsonl")
    settings = {"reward": [demo.ref("reward")], "data": str(folder / "answers.jsonl")}
    score.run(build(ScoreConfig, settings, "score"), scored, resume=True)
    return scored


def best_of(demo: Demo, scored: str, n: int, prompts: str | None = None) -> ModelResult:
    """The answers with the best score of the first n."""
    ask = world.examiner(demo)
    if prompts is not None:
        ask.prompts = formats.read(prompts, Prompt)
    return ask.best_of(f"best of {n}", [scored], demo.run_at("sft"), n)


def _labels(seed: int, changes: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Every method with the settings that were chosen, on all rankings of the seed."""
    demo, settings = workbench.opened(before, seed, changes), _picked(before)
    return _compared(demo, folder, before, _runs_of_labels(seed, before, folder), settings)


def _compute(seed: int, changes: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Every method with as many FLOPs of training as PPO, that of the reward model included. DPO needs none."""
    demo, picked = workbench.opened(before, seed, changes), _picked(before)
    found = read_json(before["baselines-labels"] / COMPARED)
    settings = equal_compute(demo, picked, found)
    there = _runs_of_labels(seed, before, before["baselines-labels"])
    runs = {name: there[name] if settings[name] == picked[name] else folder / name for name in TRAINED_ONES}
    return _compared(demo, folder, before, runs, settings)


def _picked(before: Folders) -> dict[str, DemoSettings]:
    """The settings that the first seed chose."""
    return {
        method: read_json(before[f"choose-{method}"] / CHOSEN_ONES)["settings"] for method in (*TRAINED_ONES, BEST_OF)
    }


def _runs_of_labels(seed: int, before: Folders, folder: Path) -> dict[str, Path]:
    """Where each method is trained on all rankings. The first seed has done that when it chose the settings."""
    if seed != FIRST:
        return {method: folder / method for method in TRAINED_ONES}
    chosen = {method: before[f"choose-{method}"] for method in TRAINED_ONES}
    return {method: path / str(read_json(path / CHOSEN_ONES)["number"]) for method, path in chosen.items()}


def equal_compute(demo: Demo, picked: dict[str, DemoSettings], found: Figures) -> dict[str, DemoSettings]:
    """The settings of each method at which it takes about the FLOPs of PPO.

    `found`: the figures with the settings that were picked. DPO needs no reward model, so it gets the FLOPs of that as
    well. Best of n spends its FLOPs on answers to the test prompts.
    """
    given, batch = demo.settings, demo.settings["ppo"]["rollout_batch"]
    flops = {name: one["flops"] for name, one in found["methods"].items()}
    budget, settings = flops["ppo"], {method: dict(own) for method, own in picked.items()}
    for method in ("rloo", "grpo"):
        iterations = picked[method].get("episodes", given["ppo"]["episodes"]) / batch * budget / flops[method]
        settings[method]["episodes"] = batch * max(1, round(iterations))
    epochs = picked["dpo"].get("epochs", given["reward"]["epochs"]) * (budget + found["reward_flops"]) / flops["dpo"]
    settings["dpo"]["epochs"] = max(1, round(epochs))
    sampling = flops["rejection"] - found["rejection_training"]
    left = budget - found["rejection_training"]
    settings["rejection"]["n"] = max(2, round(picked["rejection"]["n"] * left / sampling))
    settings[BEST_OF]["n"] = max(1, round(budget / found["one_answer"]))
    return settings


def _compared(
    demo: Demo, folder: Path, before: Folders, runs: dict[str, Path], settings: dict[str, DemoSettings]
) -> Figures:
    """Train what is not there, measure everything on the test prompts, and count FLOPs and seconds."""
    middle, counted, users = sizes.results(before["judged"]), Counted(demo), workbench.users(demo)
    earlier = before.get("baselines-labels")
    calls = [partial(_final, demo, folder, earlier, method, run, settings[method]) for method, run in runs.items()]
    found = dict(zip(runs, workbench.together(calls), strict=True))
    n = settings[BEST_OF]["n"]
    scored = answered(demo, folder, demo.files.test_prompts, n)
    # sampling leaves the base text as it is, so that the loss is that of the SFT model
    found[BEST_OF] = replace(best_of(demo, scored, n), corpus_loss=middle[SFT].corpus_loss)
    one_answer = cost.SAMPLED * counted.parameters * counted.sampled(formats.read(scored, Completions)) / n
    training = rejection_training(counted, runs["rejection"], settings["rejection"])
    flops = {method: flops_of(counted, method, run, settings[method]) for method, run in runs.items()}
    flops[BEST_OF] = n * one_answer
    proxies = workbench.proxies(demo, found, folder / "test.jsonl")
    kept: Figures = {
        "one_answer": one_answer, "reward_flops": counted.reward(), "rejection_training": training,
        "methods": {
            method: {
                "settings": settings[method], "win": workbench.wins(one, middle[SFT], users),
                "over_ppo": workbench.wins(one, found["ppo"], users), "kl": one.kl, "kl_bound": one.kl_bound,
                "proxy": proxies[method],
                "tax": workbench.tax(one, middle[SFT]), "flops": flops[method],
                "seconds": workbench.spent(runs[method]) if method in runs else None,
            }
            for method, one in found.items()
        },
    }  # fmt: skip
    write_json(folder / COMPARED, kept)
    return kept


def _final(demo: Demo, folder: Path, earlier: Path | None, method: str, run: Path, own: DemoSettings) -> ModelResult:
    """Train and measure a policy in `folder`. One that is elsewhere was measured in `earlier`, if that is given."""
    trained = run.parent == folder
    model = workbench.train(demo, method, run, changes=own) if trained else run
    if method == "rejection":
        model = run / TRAINED
    place = folder if trained or earlier is None else earlier
    return workbench.measure(demo, method, model, demo.run_at("sft"), place / f"{method}.json")


def flops_of(counted: Counted, method: str, run: Path, own: DemoSettings) -> float:
    """FLOPs of a training, without the reward model."""
    given = counted.demo.settings
    if method in cost.OF_TOKEN:
        return counted.online(method, run, own.get("epochs", 1))
    if method == "dpo":
        epochs = own.get("epochs", given["reward"]["epochs"])
        return float(cost.PREFERENCES * counted.parameters * epochs * counted.ranked())
    best = formats.read(str(run / BEST), Completions)  # the best answers stand for all
    sampling = cost.SAMPLED * counted.parameters * own["n"] * counted.sampled(best)
    return sampling + rejection_training(counted, run, own)


def rejection_training(counted: Counted, run: Path, own: DemoSettings) -> float:
    """FLOPs of SFT on the best answers."""
    epochs = own.get("epochs", counted.demo.settings["sft"]["epochs"])
    chosen = formats.read(str(run / CHOSEN), Demonstration)
    return float(cost.TRAINED * counted.parameters * epochs * counted.shown(chosen))
