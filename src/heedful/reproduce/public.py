"""SFT on public-style tasks: every task has one phrasing and a plain answer, as in FLAN and T0 (S4)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from heedful.configs.sft import SFTConfig
from heedful.data import formats
from heedful.data.records import Demonstration, Prompt, as_text
from heedful.demo.records import PROMPTED, PTX, SFT
from heedful.demo.settings import DemoSettings
from heedful.reproduce import sizes, workbench
from heedful.reproduce.parts import Figures, Folders, Part
from heedful.sandbox import answers, tasks
from heedful.sandbox.world import World, make_world
from heedful.stages import sft

MINUTES = {"public": 2.0}
USE_CASES = ("classification", "closed_qa", "open_qa", "extract", "summarization", "rewrite")
"""What public sets of tasks hold: tasks with an answer to check."""


def part(seed: int, start: Part, judged: Part, changes: DemoSettings, minutes: dict[str, float], home: str) -> Part:
    work = partial(_public, seed, changes)
    return Part("public", minutes["public"], seed, {"use_cases": list(USE_CASES)}, work, (start, judged), home)


def _public(seed: int, changes: DemoSettings, folder: Path, before: Folders) -> Figures:
    """Fine-tune the base model on as many public-style tasks as the SFT model has demonstrations."""
    demo, middle = workbench.opened(before, seed, changes), sizes.results(before["judged"])
    taken = {as_text(row.prompt) for row in formats.read(demo.files.test_prompts, Prompt)}
    data = folder / "tasks.jsonl"
    formats.write(str(data), demonstrations(make_world(seed), demo.sizes.demonstrations, taken))
    config = demo.config(
        SFTConfig, "sft", model=demo.ref("base"), data=str(data), valid_data=demo.files.valid_demonstrations
    )
    sft.train(config, folder / "sft", resume=True)
    found = workbench.measure(demo, "public SFT", folder / "sft", demo.run_at("sft"), folder / "public.json")
    users = workbench.users(demo)
    return {
        "wins": {
            "PPO-ptx over public SFT": workbench.wins(middle[PTX], found, users),
            "SFT over public SFT": workbench.wins(middle[SFT], found, users),
            "public SFT over SFT": workbench.wins(found, middle[SFT], users),
            "PPO-ptx over SFT": workbench.wins(middle[PTX], middle[SFT], users),
            "public SFT over prompted base": workbench.wins(found, middle[PROMPTED], users),
        },
    }


def demonstrations(world: World, count: int, taken: set[str]) -> list[Demonstration]:
    """Tasks in the first phrasing of their template, without constraints or anything around, with plain answers."""
    rng = Random(f"public {world.seed}")
    pool = [one for case in USE_CASES for one in tasks.BY_USE_CASE[case]]
    found: list[Demonstration] = []
    for number in range(20 * count):
        template = replace(pool[number % len(pool)], phrasings=pool[number % len(pool)].phrasings[:1])
        task = tasks.draw_task(world, rng, template, constrained=0.0)
        if task.text in taken:
            continue
        text = answers.compose(world, task, rng)
        found.append(Demonstration(prompt=task.text, completion=text, use_case=task.use_case))
        if len(found) == count:
            break
    return found
