"""What a labeler answers, by kind of item.

A labeler sees completions blind, in an order of her own, and speaks of them by the place where they stand: 0 is shown
first (A), 1 second (B). `by_index` turns places into the item's indices, which is how judgements are kept; `by_place`
turns them back.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt

from heedful.config import Config
from heedful.data.records import Answer, Completions, Message, Prompt, Rating, Record
from heedful.feedback.schema import Kind

Words = Annotated[str, Field(max_length=1_000_000)]


class Versus(Prompt):
    """The payload of a choice: two answers to a prompt."""

    a: Answer
    b: Answer


class Request(Record):
    """The payload of an item that asks for a prompt (D1)."""

    form: Literal["plain", "few_shot", "user_based"]
    use_case: str | None = None
    about: str | None = None
    """What it shall be about: of a user-based prompt the use case as somebody stated it."""


class RankingJudgement(Config):
    """`ranking`: tiers, best first, of all K. `ratings`: one for each; asked for where the project rates first."""

    ranking: list[list[StrictInt]]
    none_acceptable: StrictBool = False
    ratings: list[Rating] | None = None
    note: Words | None = None


class ChoiceJudgement(Config):
    """`a` is the answer shown first."""

    preferred: Literal["a", "b", "tie"]
    note: Words | None = None


class DemonstrationJudgement(Config):
    completion: Words
    pasted: int = Field(0, ge=0)
    """Characters that came in by pasting."""
    note: Words | None = None


class Shot(Config):
    """One pair of a few-shot prompt."""

    query: Words
    response: Words


class PromptJudgement(Config):
    """A prompt a labeler wrote; a few-shot one is its instruction (`prompt`), shots, and the query to be answered."""

    prompt: Words | list[Message]
    use_case: str | None = Field(None, max_length=200)
    shots: list[Shot] | None = None
    query: Words | None = None
    note: Words | None = None


Judgement = RankingJudgement | ChoiceJudgement | DemonstrationJudgement | PromptJudgement
JUDGEMENTS: dict[Kind, type[Config]] = {
    "ranking": RankingJudgement,
    "choice": ChoiceJudgement,
    "demonstration": DemonstrationJudgement,
    "prompt": PromptJudgement,
}
PAYLOADS: dict[Kind, type[Record]] = {
    "ranking": Completions,
    "choice": Versus,
    "demonstration": Prompt,
    "prompt": Request,
}


def shown(kind: Kind, payload: Record) -> list[str]:
    """The completions of an item, by index; none of demonstrations and prompts."""
    raise NotImplementedError


def check(kind: Kind, answer: Any, K: int, *, rate_first: bool, chars: tuple[int, int]) -> Config:
    """The judgement of what a client sent; UserError says in one line what is missing or wrong."""
    raise NotImplementedError


def by_index(kind: Kind, answer: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """A judgement in places as one in indices."""
    raise NotImplementedError


def by_place(kind: Kind, content: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """A judgement in indices as one in places."""
    raise NotImplementedError
