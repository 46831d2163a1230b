"""The words of the labelling pages: reasons, kinds of work and of prompts. What a project asks is in its rubric."""

from __future__ import annotations

LETTERS = "ABCDEFGHI"

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
