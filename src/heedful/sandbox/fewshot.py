"""Few-shot prefixes for the base model, in the form of its web: request, answer on the next line, blank line."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from heedful.data.records import Demonstration, PromptText, as_text


def draws(demonstrations: Sequence[Demonstration], count: int = 20, shots: int = 4, seed: int = 0) -> list[str]:
    """`count` candidate prefixes. Each has up to `shots` demonstrations, all of different use cases."""
    rng = Random(f"few-shot {seed}")
    prefixes = []
    for _ in range(count):
        chosen: list[Demonstration] = []
        for demonstration in rng.sample(list(demonstrations), len(demonstrations)):
            if demonstration.use_case not in {other.use_case for other in chosen}:
                chosen.append(demonstration)
            if len(chosen) == shots:
                break
        prefixes.append("".join(f"{as_text(one.prompt)}\n{one.completion}\n\n" for one in chosen))
    return prefixes


def wrap(prefix: str, prompt: PromptText) -> str:
    """What the base model reads: the prefix, the prompt and a line break. The answer comes next."""
    return f"{prefix}{as_text(prompt)}\n"


def answer_of(completion: str) -> str:
    """The answer in a continuation by the base model: its first line."""
    return completion.strip().split("\n", 1)[0].strip()
