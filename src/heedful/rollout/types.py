"""What goes into an engine and comes out: streams, samples, tokens, and the protocol itself. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from heedful.configs.shared import Generation
from heedful.data.records import PromptText, Record

if TYPE_CHECKING:  # the app reads this module without torch
    from heedful.models.ids import Ids

Finish = Literal["stop", "length"]


class Stream(NamedTuple):
    """The name of one random stream. Equal streams give equal draws, whatever else is sampled."""

    seed: int
    iteration: int
    row: int


@dataclass(frozen=True)
class Sample:
    """A response. `finish` is "stop" if a stop id was sampled (kept as the last token), else "length".

    `logprobs`: of each response token, in nats, under logits / temperature (temperature 0: under the plain logits).
    Top-k and top-p do not change them. `versions`: (version of the weights, first token that they gave), in order.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    finish: Finish
    logprobs: list[float] | None = None
    versions: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])


class Top(NamedTuple):
    """The log-probability of a token under the plain logits, and the most probable tokens with theirs, best first."""

    logprob: float
    most: list[tuple[int, float]]


class SampledToken(NamedTuple):
    """One sampled token of the row `row`. The last one of a response comes with the whole `sample`.

    `top`: for rows that asked for it.
    """

    row: int
    id: int
    logprob: float
    sample: Sample | None = None
    top: Top | None = None


@dataclass(frozen=True)
class Episode:
    """A prompt and a sampled response, as text and as the policy's token ids."""

    prompt: PromptText
    prompt_ids: list[int]
    response_ids: list[int]
    completion: str
    finished: bool
    logprobs: list[float] | None = None
    """The sampler's, of each response token."""
    record: Record | None = None
    """The row of the prompt, or of the answer where that is read from a file."""
    age: int = 0
    """Updates of the policy since it was sampled."""


class Engine(Protocol):
    """Token ids in, samples out. What a prompt gets follows from its stream and the weights, up to rounding."""

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together that the model can read."""
        ...

    @property
    def exact(self) -> bool:
        """Whether log-probs of samples may serve as those of the training forward (P5)."""
        ...

    @property
    def decoder(self) -> str:
        """What the engine samples with, for the manifest."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """What is logged of the engine at each iteration."""
        ...

    @property
    def ids(self) -> Ids:
        """The ids that it may sample: the tokenizer's, as in the log-probabilities of the same model."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation | Sequence[Generation]
    ) -> list[Sample]:
        """One sample a prompt, in the order of the prompts, with settings for all or one for each.

        Raises UserError for a prompt that does not leave room for its max_new_tokens (`room.longest_prompt`).
        """
        ...

    def stream(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation) -> Iterator[SampledToken]:
        """Tokens of one response as they are sampled, the stop id included: those that `generate` gives."""
        ...

    def load_weights(self, model: Any, version: int) -> None:
        """Sample from the weights that `model` has now. Samples name the version from here on.

        All ranks call this together.
        """
        ...

    def gathered(self, *, apart: bool = False) -> AbstractContextManager[None]:
        """A context in which an engine of this process has whole weights. All ranks enter it together.

        `apart`: weights of its own, so that `generate` may run in another thread while the model learns.
        """
        ...

    def stop(self) -> None:
        """Let a `generate` in another thread end soon with CancelledError. It works until `gathered` is left."""
        ...
