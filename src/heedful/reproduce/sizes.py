"""Figure 1 at three sizes, and Figures 3 and 4: who prefers which model, and how often answers have a flaw.

The middle size is the demo's. The other bodies read the same texts in the same order. As in the paper, policies of all
sizes are trained against one reward model, here that of the middle size.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from heedful.config import build
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.sft import SFTConfig
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.demo import base
from heedful.demo.records import BASE, PPO, PROMPTED, PTX, SFT, Demo
from heedful.demo.settings import DemoSettings
from heedful.files import replacing
from heedful.maths.statistics import win_rate
from heedful.models import load
from heedful.report.tables import ModelResult, flag_rate
from heedful.reproduce import workbench, world
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.runs.run import Run
from heedful.sandbox.world import make_world
from heedful.stages import pretrain, sft

MODELS = (BASE, PROMPTED, SFT, PPO, PTX)
RUNS = {BASE: "base", SFT: "sft", PPO: "ppo", PTX: "ppo_ptx"}
MIDDLE = "middle"
SHARED = "bodies"
"""Home of the parts that all seeds share."""
MINUTES = {
    "texts": 4.0, "base-small": 5.0, "base-large-1": 16.0, "base-large-2": 16.0, "base-large-3": 12.0, "judged": 2.0,
    "size-small": 3.0, "size-large": 13.0, "sizes": 0.5, "fig3": 1.0, "fig4": 0.5,
}  # fmt: skip


def bodies(settings: DemoSettings, minutes: dict[str, float]) -> dict[str, Part]:
    """The last part of each base model that is not in the package. All seeds share them."""
    kept = {"texts": base.record(world.BASE)["texts"], "worlds": settings["texts"]}
    texts = Part("texts", minutes["texts"], 1, kept, partial(_texts, settings), home=SHARED)
    found = {}
    for size, body in settings["bodies"].items():
        last = texts
        for number, phases in enumerate(settings["steps"][size], 1):
            whole = len(settings["steps"][size]) == 1
            name = f"base-{size}" if whole else f"base-{size}-{number}"
            facts = {"body": body, "steps": phases, "webs": settings["webs"], "answers": settings["answers"]}
            work = partial(_pretrain, settings, size, phases, None if last is texts else last.name)
            after = (texts,) if last is texts else (texts, last)
            last = Part(name, minutes[name], 1, facts, work, after, SHARED)
        found[size] = last
    return found


def parts(
    seed: int, start: Part, settings: DemoSettings, changes: DemoSettings, minutes: dict[str, float], home: str
) -> list[Part]:
    """For one seed: the models of the middle size judged, those of other sizes, and the figures."""
    judged = Part("judged", minutes["judged"], seed, {}, partial(_judge, seed, changes), (start,), home)
    own = {}
    for size, body in bodies(settings, minutes).items():
        name = f"size-{size}"
        work = partial(_size, seed, changes, body.name)
        own[size] = Part(name, minutes[name], seed, {}, work, (start, body), home)
    all_sizes = (start, judged, *own.values())
    order = settings["plan"]["order"]
    found = [judged, *own.values()]
    for name, figure in (("sizes", _sizes), ("fig4", _fig4)):
        found.append(
            Part(name, minutes[name], seed, {"order": order}, partial(figure, seed, changes, order), all_sizes, home)
        )
    return [*found, Part("fig3", minutes["fig3"], seed, {}, partial(_fig3, seed, changes), (start, judged), home)]


def _texts(settings: DemoSettings, folder: Path, _: Folders) -> Figures:
    """Write the texts that the base model of the middle size has read, phase by phase."""
    counts, read = {}, base.record(world.BASE)["texts"]
    for name in (base.HELD_OUT, *base.PHASES):
        drawn = build(base.Texts, {**read[name], **settings["texts"].get(name, {})}, base.RECORD)
        path = folder / f"{name}.jsonl"
        if not path.exists():
            formats.write(path, list(drawn.draw()))
        counts[name] = drawn.worlds * drawn.documents
    return {"documents": counts}


def _pretrain(
    settings: DemoSettings, size: str, phases: list[int], earlier: str | None, folder: Path, before: Folders
) -> Figures:
    """Train a body on webs up to a number of tokens, or on pages of answers (0 tokens), from where `earlier` ended."""
    texts, webs = before["texts"], folder / "webs"
    if earlier is not None and not webs.exists():
        with replacing(webs) as temporary:
            shutil.copytree(before[earlier] / "webs", temporary)
    shared = {"valid_data": str(texts / f"{base.HELD_OUT}.jsonl"), "seed": 1}
    for tokens in phases:
        if tokens:
            start = Run.open(webs).manifest.config["model"] if webs.exists() else str(_new(settings, size, folder))
            own = {**settings["webs"], "data": str(texts / "webs.jsonl"), "tokens": tokens, "model": start}
            done = pretrain.train(build(PretrainConfig, {**own, **shared}, "[webs]"), webs, resume=True)
        else:
            own = {**settings["answers"], "data": str(texts / "answers.jsonl"), "model": str(webs)}
            done = pretrain.train(
                build(PretrainConfig, {**own, **shared}, "[answers]"), folder / "answers", resume=True
            )
    results = Run.open(done).manifest.results
    return {name: results[name] for name in ("parameters", "valid_loss", "tokens")}


def _new(settings: DemoSettings, size: str, folder: Path) -> Path:
    """A body with random weights and the tokenizer of the middle size."""
    tokenizer = load.load_policy(world.BASE)[1]
    tokenizer.chat_template = base.CHAT_TEMPLATE
    sized = build(
        PretrainConfig, {**settings["webs"], **settings["bodies"][size], "data": "unread", "seed": 1}, "[webs]"
    )
    if not (folder / "new").exists():
        with replacing(folder / "new") as temporary:
            load.save(pretrain.new_model(sized, tokenizer), tokenizer, temporary)
    return folder / "new"


def _judge(seed: int, changes: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Measure the models of the demo, and keep each answer."""
    demo = workbench.opened(before, seed, changes)
    return _measured(demo, folder, {name: demo.run_at(run) for name, run in RUNS.items()})


def _size(seed: int, changes: DemoSettings, body: str, folder: Path, before: Folders) -> Figures:
    """SFT, PPO and PPO-ptx from a body of another size, measured."""
    demo = workbench.opened(before, seed, changes)
    config = demo.config(
        SFTConfig, "sft", model=str(before[body] / "answers"), data=demo.files.demonstrations,
        valid_data=demo.files.valid_demonstrations,
    )  # fmt: skip
    start = str(sft.train(config, folder / "sft", resume=True))
    workbench.together([
        partial(workbench.train, demo, "ppo", folder / run, start=start, ptx=run == "ppo_ptx")
        for run in ("ppo", "ppo_ptx")
    ])  # fmt: skip
    models = {name: folder / run for name, run in RUNS.items() if name != BASE}
    return _measured(demo, folder, {BASE: before[body] / "answers", **models})


def _measured(demo: Demo, folder: Path, models: dict[str, Path]) -> Figures:
    """Measure the five models of a size, and keep each answer in the folder."""
    calls: list[Any] = [partial(workbench.prompted, demo, PROMPTED, models[BASE], folder / f"{PROMPTED}.json")]
    calls += [
        partial(workbench.measure, demo, name, model, models[SFT], folder / f"{name}.json")
        for name, model in models.items()
    ]
    found: dict[str, ModelResult] = {one.name: one for one in workbench.together(calls)}
    return {
        "parameters": load.load_policy(models[SFT])[0].num_parameters(),
        "kl": {name: found[name].kl for name in MODELS},
        "corpus_loss": {name: found[name].corpus_loss for name in MODELS},
    }


def results(folder: Path) -> dict[str, ModelResult]:
    """The measured models of a size."""
    return {name: workbench.kept(folder / f"{name}.json", _missing) for name in MODELS}


def _missing() -> ModelResult:
    raise AssertionError("the part before keeps its answers")


def _by_size(order: list[str], before: Folders) -> dict[str, dict[str, ModelResult]]:
    return {size: results(before["judged" if size == MIDDLE else f"size-{size}"]) for size in order}


def _sizes(seed: int, changes: DemoSettings, order: list[str], folder: Path, before: Folders) -> Figures:
    """Win rates over the middle SFT, and the comparisons of section 4.1, by the truth."""
    demo, found = workbench.opened(before, seed, changes), _by_size(order, before)
    users, middle = workbench.users(demo), found[MIDDLE][SFT]
    least, most = found[order[0]], found[order[-1]]

    def over_middle(model: ModelResult) -> Figures:
        same = model is middle
        return win_rate([0.5] * len(users), users)._asdict() if same else workbench.wins(model, middle, users)

    return {
        "over_sft": {size: {name: over_middle(own[name]) for name in MODELS} for size, own in found.items()},
        "pairs": {
            "smallest PPO-ptx over largest base": workbench.wins(least[PTX], most[BASE], users),
            "largest PPO-ptx over base": workbench.wins(most[PTX], most[BASE], users),
            "largest PPO-ptx over prompted base": workbench.wins(most[PTX], most[PROMPTED], users),
        },
    }


def _fig3(seed: int, changes: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Preferences of the labelers who made the training data, and of those who did not, over the middle SFT."""
    demo, made = workbench.opened(before, seed, changes), make_world(seed)
    prompts, found = formats.read(demo.files.test_prompts, Prompt), results(before["judged"])
    groups = {"training": ("brief", "detailed"), "held out": ("held_out",)}
    people = {name: workbench.crew(demo, made, *members) for name, members in groups.items()}
    return {
        name: {model: workbench.preferred(made, own, prompts, found[model], found[SFT])
               for model in MODELS if model != SFT}
        for name, own in people.items()
    }  # fmt: skip


def _fig4(seed: int, changes: DemoSettings, order: list[str], folder: Path, before: Folders) -> Figures:
    """The rate of each flag, for every model of every size and for the sizes together."""
    found = _by_size(order, before)
    users = workbench.users(workbench.opened(before, seed, changes))
    pooled = {
        name: replace(
            found[MIDDLE][name],
            flags={flag: [v for own in found.values() for v in own[name].flags[flag]]
                   for flag in found[MIDDLE][name].flags},
        )
        for name in MODELS
    }  # fmt: skip

    def rates(models: dict[str, ModelResult], clusters: list[str | None]) -> Figures:
        shown = {name: {flag: flag_rate(own, flag, clusters) for flag in own.flags} for name, own in models.items()}
        return {name: {flag: rate._asdict() if rate else None for flag, rate in own.items()}
                for name, own in shown.items()}  # fmt: skip

    return {
        "by_size": {size: rates(own, users) for size, own in found.items()},
        "pooled": rates(pooled, users * len(order)),
    }
