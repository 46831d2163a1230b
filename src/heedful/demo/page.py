"""The report page of the demo: the story, the table, the curves, answers side by side."""

from __future__ import annotations

from pathlib import Path

from heedful.data import formats
from heedful.data.records import Prompt, as_text
from heedful.demo import base, data
from heedful.demo.records import PPO, PTX, SFT, Demo, DemoOutcome
from heedful.maths.statistics import ends
from heedful.report import page as report
from heedful.report.page import Estimate, Estimates, Fact, Figure, Report, SampleAnswer, SampleView
from heedful.report.run_report import stage_group, together
from heedful.report.side_by_side import PairTally
from heedful.report.tables import Table
from heedful.runs.run import Run
from heedful.sandbox.world import PEOPLE, PLACES

BASES = {
    True: "A base model learned the webs of {read:,} made-up worlds, but not of this one with its {people} people.",
    False: "A base model learned the web of a made-up world: {people} people, {places} places, and much small talk.",
}
"""By whether the demo starts from the base model of the package."""
STORY = """\
{base} When you \
ask it for something, it continues as the web would, often with another question. Labelers wrote \
{sizes.demonstrations:,} answers, and SFT learned to answer from them. Labelers ranked 4 to 9 answers to each of \
{sizes.ranked_prompts:,} prompts, and a reward model learned what they prefer. PPO moved the model towards higher \
rewards under a KL penalty. PPO-ptx also kept training on the web, so that it forgets less.

Training saw only the noisy rankings of the labelers. On this page the truth of the world is the judge, on \
{sizes.test_prompts:,} prompts of users that no training data comes from."""

SAMPLES = 20
RULE = "{count} prompts, drawn at random with seed {seed} in these shares. Nobody has chosen them."


def write(demo: Demo, outcome: DemoOutcome, table: Table, matmul: float) -> Path:
    """Write `report.html` into the directory of the demo and return its path."""
    results = outcome.results
    runs = {"PPO": demo.run_at("ppo"), "PPO-ptx": demo.run_at("ppo_ptx")}
    beats = outcome.wins(results[PPO], results[SFT])
    losses = {name: results[name].corpus_loss or 0.0 for name in (SFT, PPO, PTX)}
    tax = [round(losses[name] - losses[SFT], 2) + 0.0 for name in (PPO, PTX)]  # + 0.0: no minus before a zero
    tally = PairTally.of(PPO, SFT, results[PPO].utilities, results[SFT].utilities)
    content = Report(
        "heedful: the loop in a small world",
        story=_story(demo),
        figures=[
            Figure(f"{beats.rate:.0%}", "of prompts: PPO better than SFT", ends(beats, "{:.0%}".format)),
            Figure(
                f"{outcome.quality.labels.rate:.0%}",
                "reward model agrees with people",
                f"training labelers agree with each other on {outcome.quality.agreement:.0%}",
            ),
            Figure(f"{results[PPO].kl:.1f}", "nats from SFT", "KL an answer"),
            Figure(f"{tax[0]:+.2f}", "nats: the alignment tax of PPO", f"{tax[1]:+.2f} with PPO-ptx"),
        ],
        table=table,
        table_note="Win rate against SFT by the truth (ties half, 95 % interval over users). Flags in % of answers.",
        signs=_signs(demo),
        groups=[
            stage_group("ppo", runs),
            *together(
                [
                    stage_group("reward", {"reward model": demo.run_at("reward")}),
                    stage_group("sft", {"SFT": demo.run_at("sft")}),
                    *([stage_group("pretrain", {"base": demo.run_at("base")})] if demo.base is None else []),
                ]
            ),
        ],
        quality=_quality(outcome),
        calibration=outcome.quality.calibration,
        samples=_samples(demo, outcome, tally),
        tally=tally,
        samples_note=RULE.format(count=SAMPLES, seed=demo.seed),
        shown=(SFT, PPO),
        facts=_facts(demo, matmul),
    )
    return report.write(demo.out / "report.html", content)


def _story(demo: Demo) -> str:
    read = base.record(demo.base)["worlds"] if demo.base is not None else 0
    told = BASES[demo.base is not None].format(read=read, people=PEOPLE, places=PLACES)
    return STORY.format(base=told, sizes=demo.sizes)


def _quality(outcome: DemoOutcome) -> list[Estimates]:
    quality = outcome.quality
    agreed = quality.agreement  # without an interval
    rows = [
        Estimate("reward model, held-out labels", *quality.labels),
        Estimate("reward model, the truth", *quality.truth),
        Estimate("longer wins", *quality.longer, reference=True),
        Estimate("training labelers among themselves", agreed, agreed, agreed, quality.agreement_pairs, reference=True),
    ]
    text = "On held-out prompts. Held-out labelers gave no training data."
    return [Estimates("Pairs of answers ordered alike", rows, text)]


def _samples(demo: Demo, outcome: DemoOutcome, tally: PairTally) -> list[SampleView]:
    """Prompts in the true share of wins, ties and losses, with the answers of every model."""
    prompts = formats.read(demo.files.test_prompts, Prompt)
    order = [SFT, PPO, *(name for name in outcome.results if name not in (SFT, PPO))]
    return [
        SampleView(
            as_text(prompts[i].prompt), [_answer(name, outcome, i) for name in order], prompts[i].use_case,
            tally.outcomes[i],
        )
        for i in tally.draw(SAMPLES, demo.seed)
    ]  # fmt: skip


def _answer(name: str, outcome: DemoOutcome, index: int) -> SampleAnswer:
    result = outcome.results[name]
    flags = [flag for flag in result.flags if result.flags[flag][index] is True and flag != "satisfies_constraint"]
    if result.flags["satisfies_constraint"][index] is False:
        flags.append("misses_constraint")
    return SampleAnswer(name, result.completions[index], result.utilities[index], flags)


def _signs(demo: Demo) -> list[str]:
    runs = {name: demo.run_at(name) for name in ("ppo", "ppo_ptx", "ppo_fooled")}
    results = {name: Run.open(path).manifest.results for name, path in runs.items() if path.exists()}
    return [f"{name}: {sign}" for name, found in results.items() for sign in found.get("signs", [])]


def _base_facts(demo: Demo) -> list[Fact]:
    if demo.base is None:
        return [Fact("base model", "pretrained here")]
    kept = base.record(demo.base)
    told = f"{kept['parameters']:,} parameters, {kept['tokens']:,} tokens in {kept['minutes']:.0f} minutes"
    return [Fact("base model", told), Fact("base model, SHA-256", kept["weights_sha256"])]


def _facts(demo: Demo, matmul: float) -> list[Fact]:
    versions = Run.open(demo.run_at("ppo")).manifest.versions
    curated = data.curation(demo.files)
    return [
        Fact("seed", str(demo.seed)),
        *_base_facts(demo),
        Fact("time", f"{sum(demo.seconds.values()) / 60:.1f} minutes"),
        *(Fact(f"  {name}", f"{seconds:.0f} s") for name, seconds in demo.seconds.items()),
        Fact("matrix product", f"{matmul:.0f} GFLOP/s, float32"),
        Fact("curation", ", ".join(f"{name} {count:,}" for name, count in curated.items())),
        Fact("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
    ]
