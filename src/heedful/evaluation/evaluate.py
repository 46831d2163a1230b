"""Win rate of A over B on the same prompts (E1, T3), with the figures that show how far to trust it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import UserError, refused
from heedful.configs.evaluate import EvaluateConfig
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.data.text import as_words
from heedful.evaluation import answers, judges
from heedful.evaluation.answers import Answers
from heedful.evaluation.judges import Verdict
from heedful.files import read_json, write_json
from heedful.maths.statistics import agreement, ends, win_rate
from heedful.models.devices import device_of
from heedful.rewards.functions import open_reward

Result = dict[str, Any]
CHOICES = ".choices.jsonl"  # the suffix of the verdicts, next to the result


def run(config: EvaluateConfig, out: str | Path | None = None) -> Result:
    """Judge A against B. With `out` (a .json file), write the result, and every verdict as a choice next to it.

    Raises UserError if A, B, the prompts and the judge do not fit together.
    """
    if bool(config.reward) == (config.judgements is not None):
        raise UserError("an evaluation has one judge. Give either --reward or --judgements")
    if out is not None:
        _check_free(Path(out))
    verdicts, facts = _people(config) if config.judgements is not None else _machine(config)
    result = {"a": config.a, "b": config.b, **facts, **summarise(verdicts, config)}
    if out is not None:
        _write(Path(out), result, verdicts, (config.a, config.b))
    return result


def summarise(verdicts: Sequence[Verdict], config: EvaluateConfig) -> Result:
    """Win rates over prompts. A prompt with several verdicts counts once, with their mean."""
    lengths = [(len(v.a.text), len(v.b.text)) for v in verdicts]

    def rate(chosen: Sequence[bool]) -> dict[str, float] | None:
        return _rate([verdict for verdict, is_in in zip(verdicts, chosen, strict=True) if is_in], config)

    overall = rate([True] * len(verdicts))
    assert overall is not None
    use_cases = sorted({v.prompt.use_case for v in verdicts if v.prompt.use_case is not None})
    known = all(v.a.finish is not None and v.b.finish is not None for v in verdicts)
    return {
        "win_rate": overall,
        "prompts": int(overall["n"]),
        "verdicts": len(verdicts),
        "ties": sum(v.outcome == 0.5 for v in verdicts),
        "cluster": config.cluster,
        "mean_score": _sides(verdicts, [v.scores for v in verdicts if v.scores is not None]),
        "mean_length": _sides(verdicts, lengths),
        "finished": _sides(verdicts, [(v.a.finish == "stop", v.b.finish == "stop") for v in verdicts if known]),
        "length": {
            "a_longer_share": float(np.mean(_by_prompt(verdicts, [a > b for a, b in lengths]))),
            "similar_within": config.similar_length,
            "similar": rate([abs(a - b) <= config.similar_length * max(1, min(a, b)) for a, b in lengths]),
            "a_shorter": rate([a < b for a, b in lengths]),
            "a_longer": rate([a > b for a, b in lengths]),
        },
        "by_use_case": {name: rate([v.prompt.use_case == name for v in verdicts]) for name in use_cases},
    }


def describe(result: Result) -> str:
    """The result as a few aligned lines for the terminal."""
    counts = f"{result['prompts']:,} prompts, {result['verdicts']:,} verdicts, {result['ties']:,} tied"
    labelers = f", {result['labelers']} labelers" if result.get("labelers") else ""
    judge = f"judged by {' + '.join(result['judge'])}"
    lines = [f"A  {result['a']}", f"B  {result['b']}", f"{counts}{labelers}, {judge}", ""]
    length, use_cases = result["length"], result["by_use_case"]
    rows = [
        ("A wins", result["win_rate"]),
        (f"  lengths within {length['similar_within']:.0%}", length["similar"]),
        ("  where A is shorter", length["a_shorter"]),
        ("  where A is longer", length["a_longer"]),
        *((f"  {name}", rate) for name, rate in use_cases.items()),
    ]
    width = max(len(label) for label, _ in rows)
    for label, rate in rows:
        if rate is None:
            lines.append(f"{label:<{width}}  {'–':>5}")
        else:
            interval = ends(rate, _percent)
            lines.append(f"{label:<{width}}  {_percent(rate['rate']):>5} %  {interval:<13}  n {int(rate['n'])}")
    score, chars = result["mean_score"], result["mean_length"]
    lines.append("")
    if score is not None:
        lines.append(f"{'mean score':<{width}}  A {score['a']:.3f}  B {score['b']:.3f}")
    longer = f"A is longer on {length['a_longer_share']:.0%}"
    lines.append(f"{'mean length':<{width}}  A {chars['a']:.0f}  B {chars['b']:.0f} characters. {longer}")
    if result.get("agreement"):
        rate, pairs = result["agreement"]["rate"], result["agreement"]["pairs"]
        lines.append(f"{'labelers agree':<{width}}  {_percent(rate)} % of {pairs:,} pairs of choices")
    for name, count in result.get("no_opinion", {}).items():
        lines.append(f"{'no opinion':<{width}}  {name} on {count:,} answers")
    left_out = result.get("left_out", {}) | {"on other models": result.get("other_choices", 0)}
    if any(left_out.values()):
        lines.append(
            f"{'left out':<{width}}  " + ", ".join(f"{n:,} {as_words(why)}" for why, n in left_out.items() if n)
        )
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _machine(config: EvaluateConfig) -> tuple[list[Verdict], Result]:
    """Verdicts of a reward on answers from files or sampled here."""
    device = device_of(config.compute)
    reward = open_reward(
        config.reward, compute=config.compute, device=device, trust_remote_code=config.trust_remote_code
    )
    read = {ref: answers.read(ref) for ref in dict.fromkeys((config.a, config.b)) if answers.is_file(ref)}
    wanted = _prompts(config, {ref: prompts for ref, (prompts, _) in read.items()})
    sides = {ref: found for ref, (_, found) in read.items()}
    answered = _answered(config, wanted, sides)
    prompts = answered[: config.limit]
    _check_users(config, [prompt.user for prompt in prompts])  # before anything is sampled
    reward.check(prompts)
    for ref in dict.fromkeys((config.a, config.b)):
        if ref not in sides:
            sides[ref] = answers.sample(
                ref, prompts, config.generation, seed=config.seed, compute=config.compute, device=device,
                skip_long=config.skip_long, trust_remote_code=config.trust_remote_code, template=config.template,
                refused_rows=config.refused_rows,
            )  # fmt: skip
    refused = [p for p in prompts if any(found.get(answers.key(p.prompt)) == [] for found in sides.values())]
    fitting = [prompt for prompt in prompts if all(found.get(answers.key(prompt.prompt)) for found in sides.values())]
    if not fitting:
        raise UserError(f"no prompt is short enough for both {config.a} and {config.b}")
    verdicts = judges.by_reward(reward, fitting, sides[config.a], sides[config.b])
    left_out = {"unanswered": len(wanted) - len(answered), "too_long": len(prompts) - len(fitting) - len(refused)}
    left_out |= {"refused_by_the_template": len(refused)} if refused else {}
    silent = {"no_opinion": dict(reward.no_opinion)} if reward.no_opinion else {}
    return verdicts, {"judge": config.reward, "left_out": left_out, "seed": config.seed, **silent}


def _people(config: EvaluateConfig) -> tuple[list[Verdict], Result]:
    """Verdicts of people from a file of choices."""
    assert config.judgements is not None
    verdicts, others = judges.by_people(config.judgements, config.a, config.b)
    if config.prompts is not None:
        wanted = {answers.key(prompt.prompt) for prompt in formats.read(config.prompts, Prompt)}
        verdicts = [verdict for verdict in verdicts if answers.key(verdict.prompt.prompt) in wanted]
        if not verdicts:
            raise UserError(f"{config.judgements}: no choice on a prompt of {config.prompts}. Leave --prompts out")
    kept = set(list(dict.fromkeys(answers.key(verdict.prompt.prompt) for verdict in verdicts))[: config.limit])
    verdicts = [verdict for verdict in verdicts if answers.key(verdict.prompt.prompt) in kept]
    labelers = {verdict.labeler for verdict in verdicts} - {None}
    facts = {"judge": [config.judgements], "other_choices": others, "labelers": len(labelers)}
    return verdicts, {**facts, "agreement": _agreement(verdicts)}


def _prompts(config: EvaluateConfig, files: dict[str, list[Prompt]]) -> list[Prompt]:
    """The prompts to compare on: `--prompts`, else those of the first side that is a file."""
    if config.prompts is not None:
        return answers.unique(formats.read(config.prompts, Prompt))
    if not files:
        raise UserError("two models to sample. Give --prompts to sample them on")
    return next(iter(files.values()))


def _answered(config: EvaluateConfig, prompts: list[Prompt], sides: dict[str, Answers]) -> list[Prompt]:
    """The prompts that every file answers. Without `common` each must answer all of them."""
    wanted = {answers.key(prompt.prompt) for prompt in prompts}
    both = [prompt for prompt in prompts if all(answers.key(prompt.prompt) in found for found in sides.values())]
    if not both:
        raise UserError(f"{config.a} and {config.b} have no prompt in common. Check that they answer the same prompts")
    for ref, found in sides.items():
        missing = [prompt for prompt in prompts if answers.key(prompt.prompt) not in found]
        if missing and not config.common:
            first = answers.shown(missing[0].prompt)
            raise UserError(
                f"{ref}: no answer to {len(missing)} of {len(prompts)} prompts, the first {first}. "
                "Compare where both have one with --common"
            )
        if config.prompts is None and not config.common and found.keys() - wanted:
            raise UserError(
                f"{ref}: answers {len(found.keys() - wanted)} prompts that the other side does not. "
                "Compare where both have one with --common, or name the prompts with --prompts"
            )
    return both


def _rate(verdicts: Sequence[Verdict], config: EvaluateConfig) -> dict[str, float] | None:
    if not verdicts:
        return None
    clusters = None
    if config.cluster == "user":
        users = {answers.key(v.prompt.prompt): v.prompt.user for v in reversed(verdicts)}
        clusters = [users[name] for name in dict.fromkeys(answers.key(v.prompt.prompt) for v in verdicts)]
        _check_users(config, clusters)
    return win_rate(_by_prompt(verdicts, [v.outcome for v in verdicts]), clusters)._asdict()


def _check_users(config: EvaluateConfig, users: Sequence[str | None]) -> None:
    """Raises UserError unless every prompt has a user, if the interval counts users."""
    if config.cluster == "user" and None in users:
        missing = f"{list(users).count(None)} of {len(users)} prompts name no user"
        raise UserError(f"cluster = user, but {missing}. Use cluster = prompt")


def _by_prompt(verdicts: Sequence[Verdict], values: Sequence[float]) -> list[float]:
    """The mean value of each prompt, in the order in which the prompts first occur."""
    groups: dict[str, list[float]] = {}
    for verdict, value in zip(verdicts, values, strict=True):
        groups.setdefault(answers.key(verdict.prompt.prompt), []).append(value)
    return [float(np.mean(group)) for group in groups.values()]


def _sides(verdicts: Sequence[Verdict], pairs: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """Means of A and B, or None if they are unknown."""
    if not pairs:
        return None
    return {
        side: float(np.mean(_by_prompt(verdicts, [pair[index] for pair in pairs])))
        for index, side in enumerate(("a", "b"))
    }


def _agreement(verdicts: Sequence[Verdict]) -> dict[str, float] | None:
    """How often two labelers of the same two answers agree (D12), or None if no comparison has two labelers."""
    verdicts = [verdict for verdict in verdicts if verdict.labeler is not None]
    labelers = {name: row for row, name in enumerate(dict.fromkeys(v.labeler for v in verdicts))}
    items = {item: column for column, item in enumerate(dict.fromkeys(_item(v) for v in verdicts))}
    choices = np.zeros((len(labelers), len(items)), dtype=np.int8)
    for verdict in verdicts:
        choices[labelers[verdict.labeler], items[_item(verdict)]] = int(2 * verdict.outcome - 1)
    found = agreement(choices)
    return None if found.pairs == 0 else found._asdict()


def _item(verdict: Verdict) -> tuple[str, str, str]:
    return answers.key(verdict.prompt.prompt), verdict.a.text, verdict.b.text


def _check_free(out: Path) -> None:
    """Check before judging that `out` can be written and replaces only an earlier result."""
    if out.suffix != ".json":
        raise UserError(f"{out}: the result is one JSON object. Name it .json")
    verdicts = out.with_suffix(CHOICES)
    found = read_json(out) if out.is_file() else None
    earlier = isinstance(found, dict) and "win_rate" in found
    for path in (out, verdicts):
        if path.exists() and not earlier:
            raise UserError(f"{path}: already exists and is not the result of an evaluation. Choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(refused(error, out)) from None
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: {out.parent} is not writable. Choose another --out")


def _write(out: Path, result: Result, verdicts: Sequence[Verdict], names: tuple[str, str]) -> None:
    formats.write(out.with_suffix(CHOICES), (verdict.choice(names) for verdict in verdicts))
    try:
        write_json(out, result)
    except OSError as error:
        raise UserError(refused(error, out)) from None
