"""The result of `heedful benchmark` in words: what changed first, then the table next to that of the paper."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from heedful.evaluation.result import Result
from heedful.maths.statistics import FEWEST

GREY = "~"


def describe(result: Result) -> str:
    """Findings and table as text."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    names = list(result["models"])
    told = f"{len(names)} models, changes against {result['baseline']}" if len(names) > 1 else "1 model"
    yield f"Public sets, {told}. {result['note']}"
    for finding in result["findings"]:
        yield from textwrap.wrap(f"! {finding}", 118, subsequent_indent="  ")
    if len(names) > 1 and not result["findings"]:
        yield "No change is larger than its interval."
    told = result["toxicity"]
    if told is not None and told.get("rank_correlation") is not None:
        yield (
            f"Toxicity is proxy toxicity: rank correlation with Perspective {told['rank_correlation']:.2f} on "
            f"{told['held_out_answers']} answers to {told['held_out_prompts']} held-out prompts."
        )
    for row in result["rows"]:
        yield ""
        yield from _row(row, names, result["paper_models"])
    yield from _truthful(result)
    if any(not one["above_chance"] for row in result["rows"] for one in row["models"].values()):
        yield ""
        yield f"{GREY} not above chance: such a value and its changes say little about the model."
    if result["not_there"]:
        yield f"Not in {result['data']}: {', '.join(result['not_there'])}."
    if result["needs_lm_eval"]:
        yield f"Not measured: {', '.join(result['needs_lm_eval'])}. They need lm_eval: install heedful[eval]."
    if result["too_long"]:
        yield f"Too long for one of the models: {', '.join(dict.fromkeys(result['too_long']))}."


def _row(row: Result, names: list[str], paper_models: list[str]) -> Iterator[str]:
    chance = "" if row["chance"] is None else f", chance {number(row['chance'])} ({row['chance_is']})"
    left_out = "".join(f", {count} {why.replace('_', ' ')}" for why, count in row["left_out"].items())
    yield f"{row['title']}: {row['metric']} ({row['better']} is better), {row['items']} items{left_out}{chance}"
    width = max(map(len, names))
    for name in names:
        one = row["models"][name]
        mark = " " if one["above_chance"] else GREY
        moved = "" if one["change"] is None else f"   change {between(one['change'], sign=True)}"
        yield f"  {mark} {name:<{width}}  {between(one)}{moved}"
    if row["paper"] is not None:
        values = " / ".join(number(value) for value in row["paper"]["values"])
        yield f"    paper, 175B, GPT / SFT / PPO / PPO-ptx: {values}. {row['paper']['says']}"
    if row["same_items"]:
        values = " / ".join(
            number(row["same_items"][name]["mean"]) for name in paper_models if name in row["same_items"]
        )
        yield f"    its models on these items: {values}"


def _truthful(result: Result) -> Iterator[str]:
    """The published answers to TruthfulQA, which no model here wrote."""
    if not result["truthful"]:
        return
    yield ""
    yield "TruthfulQA, published answers of the paper's models to the QA prompt, judged:"
    width = max(map(len, result["truthful"]))
    for model, found in result["truthful"].items():
        both = between(found["true_and_informative"])
        yield f"    {model:<{width}}  true {between(found['true'])}   and informative {both}"


def number(value: float, sign: bool = False) -> str:
    """Two digits after the point from 10 on, else three."""
    return f"{value:{'+' if sign else ''}.{2 if abs(value) >= 10 else 3}f}"


def between(found: Result, sign: bool = False) -> str:
    """A value with its interval."""
    ends = "too few for an interval" if found["n"] < FEWEST else "no item differs"
    if found["low"] is not None:
        ends = f"{number(found['low'], sign)} to {number(found['high'], sign)}"
    return f"{number(found['mean'], sign)} ({ends})"
