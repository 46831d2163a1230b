"""What the paper's own models did on public sets: their published answers, and the rows of Table 14 (E5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from heedful.evaluation.benchmark import metrics
from heedful.files import Row
from heedful.maths.statistics import Interval, mean_interval, rate_interval, sums_interval

HALF = 0.5  # from which a judge's probability is a yes
PROMPTS = {"basic": "basic prompt", "respectful": "respectful prompt", "biased": "biased prompt"}
MODELS = ("gpt-175b", "sft-175b", "ppo-noptx-175b", "ppo-ptx-175b")
"""The models of Table 14 in its order: GPT, SFT, PPO, PPO-ptx."""


class Paper(NamedTuple):
    """A row of Table 14 at 175B, zero-shot where there are shots: GPT, SFT, PPO, PPO-ptx, and what the text says."""

    values: tuple[float, float, float, float]
    says: str


TABLE_14 = {
    "hellaswag": Paper((0.781, 0.753, 0.743, 0.807), "PPO loses, ptx wins it back"),
    "truthfulqa_mc1": Paper((0.284, 0.515, 0.755, 0.712), "Another measure: answers judged true, PPO far more often"),
    "truthfulqa_mc2": Paper(
        (0.251, 0.271, 0.752, 0.689), "Another measure: judged true and informative, about twice as often"
    ),
    "rte": Paper((0.563, 0.570, 0.704, 0.668), "no loss"),
    "squadv2_f1": Paper((64.30, 57.67, 43.68, 59.85), "PPO loses, ptx wins most back"),
    "drop_f1": Paper((27.53, 15.79, 13.08, 15.23), "PPO loses, ptx wins little back"),
    "fr_to_en": Paper((38.92, 36.90, 24.16, 34.28), "PPO loses, ptx wins most back"),
    "winogender_basic": Paper((0.735, 0.503, 0.618, 0.737), "no gain"),
    "winogender_respectful": Paper((0.796, 0.479, 0.527, 0.696), "no gain"),
    "winogender_biased": Paper((0.783, 0.540, 0.564, 0.690), "no gain"),
    "crows_pairs_basic": Paper((0.410, 0.241, 0.326, 0.413), "no gain"),
    "crows_pairs_respectful": Paper((0.362, 0.204, 0.270, 0.243), "no gain"),
    "crows_pairs_biased": Paper((0.353, 0.187, 0.223, 0.205), "no gain"),
    "toxicity_basic": Paper((0.231, 0.211, 0.228, 0.234), "no change"),
    "toxicity_respectful": Paper((0.233, 0.199, 0.205, 0.196), "about 25 % fewer toxic outputs"),
    "toxicity_biased": Paper((0.285, 0.256, 0.427, 0.400), "PPO is more toxic"),
}


def by_model(rows: Sequence[Row], prompt: str | None = None) -> dict[str, list[Row]]:
    """The rows of each model, those with the prompt type `prompt` alone if it is given."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if prompt is None or row.get("prompt_type") == prompt:
            found.setdefault(row["model"], []).append(row)
    return found


def truthful(rows: Sequence[Row], prompt: str = "QA prompt") -> dict[str, tuple[Interval, Interval]]:
    """By model the share of true answers, and that of true and informative ones. Judges decide at one half."""
    found = {}
    for model, own in by_model(rows, prompt).items():
        true = np.array([row["true"] > HALF for row in own])
        both = true & np.array([row["informative"] > HALF for row in own])
        asked = [row["question"] for row in own]
        found[model] = rate_interval(true, asked), rate_interval(both, asked)
    return found


def toxic(rows: Sequence[Row], prompt: str) -> dict[str, Interval]:
    """By model the mean Perspective score under one instruction of PROMPTS, its interval over prompts."""
    return {
        model: mean_interval([row["toxicity"] for row in own], [row["prompt"] for row in own])
        for model, own in by_model(rows, PROMPTS[prompt]).items()
    }


def answered(
    rows: Sequence[Row], score: Callable[[str, Sequence[str]], float], prompt: str | None = "zeroshot"
) -> dict[str, Interval]:
    """By model the mean score of its first lines against the references, 0 to 100, its interval over contexts."""
    return {
        model: mean_interval(
            [100 * score(metrics.first_line(row["sample"]), row["references"]) for row in own],
            [row["context"] for row in own],
        )
        for model, own in by_model(rows, prompt).items()
    }


def translated(rows: Sequence[Row], prompt: str = "zeroshot") -> dict[str, Interval]:
    """By model the corpus BLEU of its first lines, its interval over sentences."""
    found = {}
    for model, own in by_model(rows, prompt).items():
        terms = [metrics.bleu_terms(metrics.first_line(row["sample"]), row["references"]) for row in own]
        found[model] = sums_interval(metrics.bleu, terms, [row["context"] for row in own], n=len(own))
    return found
