"""`heedful demo`: the whole loop of InstructGPT in a made-up world, composed from the stages.

It takes minutes on two cores and ends with a table and a report. All files are under one folder. After an interruption
every step resumes.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.config import UserError, build
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.configs.sft import SFTConfig
from heedful.data import formats
from heedful.data.records import Prompt, as_text
from heedful.demo import base, data, measure, page
from heedful.demo.base import FIRST_WORLD, SHIPPED
from heedful.demo.clock import said
from heedful.demo.measure import Examiner
from heedful.demo.parallel import get_ready, side_by_side
from heedful.demo.records import BASE, HACKED, PPO, PROMPTED, PTX, SFT, Demo, DemoOutcome
from heedful.demo.settings import DemoSettings, read
from heedful.files import read_json, write_json
from heedful.inference import sample, score
from heedful.maths.statistics import WinRate, ends
from heedful.report.tables import ModelResult, changes_text, demo_table
from heedful.runs.run import TRY
from heedful.sandbox import labelers, truth
from heedful.sandbox.world import World
from heedful.stages import ppo, pretrain, reward, sft

SEEDS = FIRST_WORLD  # from this one on, the worlds are those that the base model in the package has read
KEPT = "demo.json"


def run(
    out: str | Path,
    *,
    seed: int = 1,
    lesson: bool = False,
    from_scratch: bool = False,
    quick: bool = False,
    base_model: Path = SHIPPED,
    changes: DemoSettings | None = None,
) -> DemoOutcome:
    """Run or resume the demo under `out`. Prints the table and writes `out`/report.html.

    It starts from `base_model`, or pretrains its own (`from_scratch`). `changes` are settings by section.
    """
    demo = opened(Path(out), seed, from_scratch=from_scratch, quick=quick, base_model=base_model, changes=changes)
    get_ready()
    demo.clock.start(measure.matmul_rate(512))  # short enough to be right next to other programs
    if lesson:
        for name, seconds in demo.settings["lesson_seconds"].items():
            demo.clock.add(name, seconds)
    print(f"The whole loop in world {seed}: {said(demo.clock.left())} on this machine.", flush=True)
    world = train(demo)
    if lesson:
        fool(demo, world)
    outcome = demo.step("evaluation and report", lambda: examine(demo, world, lesson=lesson))
    show(demo, outcome)
    return outcome


def opened(
    out: Path,
    seed: int,
    *,
    from_scratch: bool = False,
    quick: bool = False,
    base_model: Path = SHIPPED,
    changes: DemoSettings | None = None,
) -> Demo:
    """The demo under `out`, new or from an earlier call. Raises UserError for one that began in another way."""
    if not 0 <= seed < SEEDS:
        raise UserError(f"--seed {seed}: out of range. Take one from 0 to {SEEDS - 1}.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "world").is_dir())):
        raise UserError(f"{out}: exists and does not hold a demo. Choose another --out.")
    start = "scratch" if from_scratch else base.record(base_model)["weights_sha256"]
    asked = {"seed": seed, "base": start, "quick": quick}
    kept = out / "world" / KEPT
    if kept.parent.is_dir() and not (kept.exists() and read_json(kept) == asked):
        raise UserError(f"{out}: holds a demo with another seed, base model or length. Choose another --out.")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, asked)
    settings = read(from_scratch=from_scratch, quick=quick, changes=changes)
    return Demo(out, seed, settings, None if from_scratch else base_model)


def train(demo: Demo) -> World:
    """World, base, SFT, rankings, reward model, PPO, PPO-ptx, in the order of section 3 of the paper."""
    files = demo.files
    world = demo.step("world", lambda: data.make(demo.seed, files, demo.sizes, demo.base))
    demo.step("base model", lambda: start_from_base(demo))
    demo.step("SFT", lambda: train_sft(demo, "base", "sft"))
    demo.step("answers to rank", lambda: sample_to_rank(demo))
    demo.step("rankings", lambda: rank(demo, world))
    demo.step("reward model", lambda: train_reward(demo, "reward", files.rankings))
    policies = [partial(train_policy, demo, name, "reward") for name in ("ppo", "ppo_ptx")]
    demo.step("PPO, PPO-ptx", lambda: side_by_side(policies))
    return world


def start_from_base(demo: Demo) -> None:
    """Copy the base model that the demo starts from, or pretrain one on the web of its world."""
    if demo.base is not None:
        base.unpack(demo.base, demo.run_at("base"))
        return
    config = demo.config(
        PretrainConfig, "pretrain", data=demo.files.corpus, valid_data=demo.files.corpus_held_out,
        chat_template=base.CHAT_TEMPLATE,
    )  # fmt: skip
    pretrain.train(config, demo.run_at("base"), resume=True)


def train_sft(demo: Demo, start: str, name: str) -> None:
    """Fine-tune the model of a run on the demonstrations."""
    config = demo.config(
        SFTConfig, "sft", model=demo.ref(start), data=demo.files.demonstrations,
        valid_data=demo.files.valid_demonstrations,
    )  # fmt: skip
    sft.train(config, demo.run_at(name), resume=True)


def sample_to_rank(demo: Demo) -> None:
    """Sample K = 4 to 9 answers of the SFT model to every prompt that labelers will rank."""
    runs = []
    for name in ("ranked_prompts", "valid_ranked_prompts"):
        for k, out in zip(data.K_OF_TURN, sampled(demo, name), strict=True):
            config = demo.config(
                SampleConfig, "sample", model=demo.ref("sft"), prompts=getattr(demo.files, f"{name}_{k}"), k=k,
                generation=demo.generation,
            )  # fmt: skip
            runs.append(partial(sample.run, config, out, resume=True))
    side_by_side(runs)


def sampled(demo: Demo, name: str) -> list[str]:
    """The files of samples for a set of prompts, one for each K."""
    return [getattr(demo.files, f"{name}_{k}_sampled") for k in data.K_OF_TURN]


def rank(demo: Demo, world: World) -> None:
    """Write training rankings by both good groups of labelers, and held-out rankings by the held-out labelers."""
    everyone = data.people(world, demo.files, sampled(demo, "ranked_prompts"))
    held_out = [who for who in everyone if who.group == "held_out"]
    data.rank(world, sampled(demo, "ranked_prompts"), demo.files.rankings, labelers.good_ones(everyone))
    data.rank(world, sampled(demo, "valid_ranked_prompts"), demo.files.valid_rankings, held_out)


def train_reward(demo: Demo, name: str, rankings: str, **changes: Any) -> None:
    """Train a reward model from the SFT model on a file of rankings."""
    config = demo.config(
        RewardConfig, "reward", model=demo.ref("sft"), data=rankings, eval_data=demo.files.valid_rankings,
        demonstrations=demo.files.demonstrations, **changes,
    )  # fmt: skip
    reward.train(config, demo.run_at(name), resume=True)


def train_policy(demo: Demo, name: str, reward_model: str, **changes: Any) -> None:
    """Run PPO from the SFT model. The settings of `name` override those of `ppo`."""
    ptx = {"pretrain_data": demo.files.corpus} if name == "ppo_ptx" else {}
    extra = demo.settings.get(name, {}) if name != "ppo" else {}
    config = demo.config(
        PPOConfig, "ppo", policy=demo.ref("sft"), reward=[demo.ref(reward_model)], prompts=demo.files.rl_prompts,
        tax_data=demo.files.corpus_held_out, generation=demo.generation, **{**ptx, **extra, **changes},
    )  # fmt: skip
    ppo.train(config, demo.run_at(name), resume=True)


def fool(demo: Demo, world: World) -> None:
    """The lesson: train a reward model on too few rankings, and let PPO exploit it (section O)."""
    few = str(demo.files.folder / "few_rankings.jsonl")
    lines = Path(demo.files.rankings).read_text(encoding="utf-8").splitlines(keepends=True)
    Path(few).write_text("".join(lines[: demo.settings["lesson"]["rankings"]]), encoding="utf-8")
    demo.step("reward model, few rankings", lambda: train_reward(demo, "reward_few", few, epochs=4))
    changes = {"kl_coef": demo.settings["lesson"]["kl_coef"]}
    demo.step("PPO, fooled", lambda: train_policy(demo, "ppo_fooled", "reward_few", **changes))


def examine(demo: Demo, world: World, *, lesson: bool = False) -> DemoOutcome:
    """Judge every model on the test prompts by the truth, and the reward model on held-out rankings."""
    ask = Examiner(truth.world(demo.seed), demo.files, demo.evaluation, demo.seed)
    runs = {BASE: "base", SFT: "sft", PPO: "ppo", PTX: "ppo_ptx", **({HACKED: "ppo_fooled"} if lesson else {})}
    calls: list[Callable[[], ModelResult | None]] = [partial(_answer_often, demo, half) for half in data.HALVES]
    calls += [partial(ask.prompted, PROMPTED, demo.run_at("base"))]  # longest first
    calls += [partial(ask.model, name, demo.run_at(run), demo.run_at("sft")) for name, run in runs.items()]
    found = {result.name: result for result in side_by_side(calls) if result is not None}
    scored = demo.files.valid_rankings_scored
    _score(demo.files.valid_rankings, scored, demo.ref("reward"))
    people = data.people(world, demo.files, sampled(demo, "ranked_prompts"))
    answered = [getattr(demo.files, f"{half}_scored") for half in data.HALVES]
    best_of = {
        n: replace(ask.best_of(f"best of {n}", answered, demo.run_at("sft"), n), corpus_loss=found[SFT].corpus_loss)
        for n in (4, demo.evaluation.best_of)
    }
    most = best_of[demo.evaluation.best_of]
    order = (BASE, PROMPTED, *(name for name in runs if name != BASE))
    return DemoOutcome(
        {name: found[name] for name in order} | {most.name: most},
        [prompt.user for prompt in ask.prompts],
        measure.reward_quality(world, ask.truth, people, scored),
        best_of,
        ask.demonstrations_utility(),
    )


def _answer_often(demo: Demo, half: str) -> None:
    """Sample and score the answers of the SFT model to half of the test prompts, as many as best of n needs."""
    config = demo.config(
        SampleConfig, "sample", model=demo.ref("sft"), prompts=getattr(demo.files, half),
        k=demo.evaluation.best_of, generation=demo.generation,
    )  # fmt: skip
    answers = sample.run(config, getattr(demo.files, f"{half}_sampled"), resume=True)
    _score(str(answers), getattr(demo.files, f"{half}_scored"), demo.ref("reward"))


def _score(data: str, out: str, reward_model: str) -> None:
    score.run(build(ScoreConfig, {"reward": [reward_model], "data": data}, "score"), out, resume=True)


def show(demo: Demo, outcome: DemoOutcome) -> None:
    """Print the table and the summary, and write the report."""
    rate = measure.matmul_rate()
    table = demo_table(list(outcome.results.values()), SFT, outcome.users)
    print(f"\n{table.text()}\n\n{summary(outcome)}\n")
    print(changes_text(outcome.results[SFT], outcome.results[PPO], outcome.users))
    total = sum(demo.seconds.values())
    print(f"\n{total / 60:.1f} minutes in all. This machine multiplies matrices at {rate:.0f} GFLOP/s (float32).")
    write_prompts_to_try(demo)
    report = page.write(demo, outcome, table, rate)
    print(f"\nReport: {report.resolve().as_uri()}\nTalk to the model: {command()} chat --model {demo.ref('ppo_ptx')}")


def write_prompts_to_try(demo: Demo) -> None:
    """Write three short test prompts of different use cases into the runs, for `heedful chat`."""
    prompts = formats.read(demo.files.test_prompts, Prompt)
    short = [(p.use_case, as_text(p.prompt)) for p in prompts if len(as_text(p.prompt)) < 80]
    first = dict(reversed(short))
    for name in ("sft", "ppo", "ppo_ptx"):
        write_json(
            demo.run_at(name) / TRY, [first[case] for case in ("generation", "rewrite", "chat") if case in first]
        )


def command() -> str:
    """How to call heedful again in this shell, also when its environment is not active."""
    called = Path(sys.argv[0])
    if called.stem != "heedful" or not called.exists():
        return f"{shlex.quote(_near(Path(sys.executable)))} -m heedful"
    found = shutil.which("heedful")
    return "heedful" if found and Path(found).samefile(called) else shlex.quote(_near(called))


def _near(path: Path) -> str:
    """The path as seen from here, if that is shorter."""
    inside = path.absolute().is_relative_to(Path.cwd())
    return str(path.absolute().relative_to(Path.cwd()) if inside else path.absolute())


def summary(outcome: DemoOutcome) -> str:
    """The claims of the paper with the figures of this world, one a line."""
    r, q = outcome.results, outcome.quality
    tax = [r[name].corpus_loss or 0.0 for name in (SFT, PPO, PTX)]
    lines = [
        ("SFT beats the prompted base", _described(outcome.wins(r[SFT], r[PROMPTED]))),
        ("PPO beats SFT", _described(outcome.wins(r[PPO], r[SFT]))),
        ("PPO beats best of 4", _described(outcome.wins(r[PPO], outcome.best_of[4]))),
        ("PPO-ptx beats SFT", _described(outcome.wins(r[PTX], r[SFT]))),
        ("reward model agrees with held-out labels", _described(q.labels)),
        ("training labelers agree with each other", f"{q.agreement:.1%}"),
        ("reward model agrees with the truth", _described(q.truth)),
        ("longer wins", _described(q.longer)),
        ("alignment tax of PPO, PPO-ptx", f"{tax[1] - tax[0]:+.3f}, {tax[2] - tax[0]:+.3f} nats a token"),
        ("mean utility: demonstrations, SFT", f"{outcome.demonstrations_utility:.3f}, {fmean(r[SFT].utilities):.3f}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _described(rate: WinRate) -> str:
    return f"{rate.rate:.1%} ({ends(rate)})"
