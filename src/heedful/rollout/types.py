"""What crosses the border of an engine: prompts and settings in, samples out. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from pydantic import Field

from heedful.config import Config
from heedful.data.records import PromptText

Finish = Literal["stop", "length"]


class Generation(Config):
    """How to sample. Temperature 0 is greedy."""

    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 = off. PPO refuses top_k and top_p (P3)."""
    max_rows: int = Field(default=256, ge=1)
    """Rows in flight at a time. Changes memory and speed, not the samples."""

    @property
    def truncated(self) -> bool:
        """Whether the sampled distribution is cut (P3)."""
        return self.top_k > 0 or self.top_p < 1.0


class Stream(NamedTuple):
    """The name of one random stream: equal streams give equal draws, whatever else is sampled beside them."""

    seed: int
    iteration: int
    row: int


@dataclass(frozen=True)
class Sample:
    """A response. `finish` is "stop" when a stop id was sampled (kept as the last token), else "length".

    `logprobs`: of each response token, in nats, under logits / temperature (temperature 0: under the plain logits);
    top-k and top-p do not enter.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    finish: Finish
    logprobs: list[float] | None = None


@dataclass(frozen=True)
class Episode:
    """A prompt and a sampled response, as text and as the policy's token ids."""

    prompt: PromptText
    prompt_ids: list[int]
    response_ids: list[int]
    completion: str
    finished: bool


class Engine(Protocol):
    """Prompts in, samples out, in the order of the prompts. One stream a prompt."""

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation
    ) -> list[Sample]: ...
