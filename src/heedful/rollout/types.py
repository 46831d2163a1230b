"""What crosses the border of an engine: prompts and settings in, samples out. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from heedful.configs.shared import Generation
from heedful.data.records import PromptText

Finish = Literal["stop", "length"]


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
