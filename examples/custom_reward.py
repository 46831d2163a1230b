"""A reward of your own: a function of the texts. Every command that takes --reward takes it, alone or in a sum.

    cd examples
    heedful score --data answers.jsonl --reward custom_reward:one_sentence --out scored.jsonl
    heedful ppo --policy runs/sft --reward runs/reward --reward "0.5*custom_reward:one_sentence" \
        --prompts prompts.jsonl --out runs/ppo

The function gets a batch of prompts and completions, and returns one number for each completion. None means that it has
no opinion. A parameter with the name of a field of the rows gets that field.
"""

from __future__ import annotations

import re

Prompt = str | list[dict[str, str]]  # a text, or the messages of a chat


def one_sentence(prompts: list[Prompt], completions: list[str]) -> list[float]:
    """1 for an answer of exactly one sentence. Each sentence more or less costs a half."""
    return [1.0 - 0.5 * abs(1 - len(re.findall(r"[.!?](?:\s|$)", completion))) for completion in completions]


def exact(completions: list[str], answer: list[str | None]) -> list[float | None]:
    """1 if the field `answer` of the row is in the completion, else 0. No opinion on rows without an answer."""
    return [None if right is None else float(right in text) for right, text in zip(answer, completions, strict=True)]
