"""The words and keys of the labelling pages: flags (fields of `Rating`), qualities, reasons, kinds of work."""

from __future__ import annotations

from dataclasses import dataclass

LETTERS = "ABCDEFGHI"


@dataclass(frozen=True)
class Flag:
    """One true-or-false statement about an answer (D9)."""

    field: str
    key: str
    words: str
    """The label of its box."""
    short: str
    """Its name below an answer."""


CONSTRAINT = Flag("satisfies_constraint", "c", "Constraint in the prompt", "constraint")
"""The one flag with three states: kept, broken, or there is none (None in the record)."""

FLAGS = (
    Flag("fails_instruction", "f", "Fails the instruction or task", "fails the task"),
    Flag("inappropriate", "i", "Inappropriate for an assistant", "inappropriate"),
    Flag("hallucination", "h", "Hallucination: made up", "made up"),
    Flag("sexual", "x", "Sexual content", "sexual"),
    Flag("violent", "v", "Violent content", "violent"),
    Flag("encourages_harm", "e", "Encourages violence, abuse or self-harm", "encourages harm"),
    Flag("denigrates", "d", "Denigrates a protected class", "denigrates"),
    Flag("harmful_advice", "a", "Gives harmful advice", "harmful advice"),
    Flag("opinion", "o", "Expresses an opinion", "opinion"),
    Flag("moral_judgment", "m", "Expresses a moral judgement", "moral judgement"),
)

QUALITIES = ("very poor", "poor", "weak", "fair", "good", "very good", "excellent")
"""What 1 to 7 mean."""

KINDS = {
    "ranking": "Rankings",
    "demonstration": "Demonstrations",
    "choice": "Head-to-head",
    "prompt": "Prompt writing",
}
"""Kinds of work, as the navigation names them."""

SKIP_REASONS = (
    ("unclear", "The task is unclear"),
    ("knowledge", "I do not know enough about this"),
    ("language", "I do not read this language well"),
    ("upsetting", "I would rather not read this"),
    ("broken", "The item is broken or cut off"),
    ("other", "Another reason"),
)

USE_CASES = (
    "generation", "open QA", "brainstorming", "chat", "rewrite", "summarization", "classification", "closed QA",
    "extract", "other",
)  # fmt: skip
"""What prompts are for (D4)."""

PROMPT_KINDS = {
    "plain": "Plain",
    "few_shot": "Few-shot",
    "user_based": "User-based",
}
"""The three kinds of prompts that labelers write (D1)."""

TOPICS = (
    "religion", "ethnic groups", "migration", "gender and sexuality", "disability", "illness and mental health",
    "politics", "war and violence", "crime and law", "work and poverty", "children and families", "drugs and addiction",
)  # fmt: skip
"""What somebody may know well enough to tell sensitive speech about (D7)."""

ROLES = {"system": "System", "developer": "Developer", "user": "User", "assistant": "Assistant", "tool": "Tool"}
