"""Whether a comparison of two answers was blind: an answer may name its own model."""

from __future__ import annotations

import re
from collections.abc import Iterable

FAMILIES = (
    "chatgpt", "gpt", "openai", "claude", "anthropic", "gemini", "gemma", "bard", "google", "llama", "meta ai",
    "mistral", "mixtral", "qwen", "alibaba", "deepseek", "phi", "microsoft", "copilot", "grok", "xai", "falcon",
    "vicuna", "olmo", "yi", "smollm", "instructgpt", "heedful", "kimi", "moonshot", "chatglm", "nemotron", "nvidia",
    "cohere", "command r",
)  # fmt: skip
"""Families of models and their makers."""
SELF = (
    r"(?:i am|i'm|i’m|my name is|call me|(?:developed|trained|made|created|built) by"
    r"|as an? (?:ai )?(?:model|assistant) (?:by|from|called|named))"
)
_SAYS = re.compile(rf"\b{SELF}\b[^.!?\n]{{0,60}}?\b(?:{'|'.join(map(re.escape, FAMILIES))})(?![a-z])", re.IGNORECASE)
SHORTEST = 3  # signs of a name that can be looked for


def names_a_model(text: str, names: Iterable[str]) -> bool:
    """Whether a text holds one of the names, however it is separated, or says who its writer is or was made by."""
    return any(_holds(text, name) for name in names) or _SAYS.search(text) is not None


def _holds(text: str, name: str) -> bool:
    parts = re.findall(r"[^\W_]+", name)
    if sum(map(len, parts)) < SHORTEST:
        return False
    pattern = r"(?<![^\W_])" + r"[\W_]{0,3}".join(map(re.escape, parts)) + r"(?![^\W_])"
    return re.search(pattern, text, re.IGNORECASE) is not None
