"""Questions in, episodes out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import tiny
from heedful.configs.shared import Generation
from heedful.data.records import Message, Prompt
from heedful.learning import rollouts
from heedful.learning.examples import Question
from heedful.rollout.types import Sample, Stream
from heedful.training.parallel import Ranks

CPU = torch.device("cpu")


class Echo:
    """An engine that answers with the prompt and the row of its stream, and notes what it was asked at a time."""

    gathered = staticmethod(contextlib.nullcontext)

    def __init__(self) -> None:
        self.calls: list[int] = []

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation
    ) -> list[Sample]:
        self.calls.append(len(prompts))
        return [Sample(list(p), [*p, *stream], "stop", None) for p, stream in zip(prompts, streams, strict=True)]


def asked(count: int) -> list[Question]:
    return [Question(f"p{i}", [100 + i], Prompt(prompt=f"p{i}")) for i in range(count)]


def test_row_r_gets_stream_r_in_the_order_of_the_questions() -> None:
    engine = Echo()
    samples = rollouts.generate(engine, asked(5), Generation(max_rows=2), 7, 3, Ranks(0, 1, CPU, torch.float32))
    assert [sample.response_ids for sample in samples] == [[100 + r, 7, 3, r] for r in range(5)]
    assert engine.calls == [2, 2, 1]


def test_ranks_take_whole_parts_which_do_not_depend_on_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Any] = []

    def alone(world: Ranks, mine: Any) -> list[Any]:
        parts.append([[sample.response_ids[-1] for sample in part] for part in mine[0]])
        return [mine, mine]

    monkeypatch.setattr(Ranks, "gather", alone)
    for rank in (0, 1):
        with contextlib.suppress(IndexError):  # the other's part is missing
            rollouts.generate(Echo(), asked(7), Generation(max_rows=2), 0, 0, Ranks(rank, 2, CPU, torch.float32))
    assert parts == [[[0, 1], [4, 5]], [[2, 3], [6]]]


def test_episodes_carry_text_without_end_marks() -> None:
    tokenizer = tiny.tokenizer()
    words = tokenizer.encode("a list of things")
    samples = [Sample([100], [*words, tokenizer.eos_token_id], "stop"), Sample([101], words, "length")]
    done, cut = rollouts.episodes(tokenizer, asked(2), samples)
    assert done.completion == cut.completion == "a list of things"
    assert (done.finished, cut.finished) == (True, False)
    assert done.response_ids[-1] == tokenizer.eos_token_id
    assert (done.prompt, done.prompt_ids) == ("p0", [100])


def test_prompts_as_json() -> None:
    assert rollouts.readable("Say red") == "Say red"
    assert rollouts.readable([Message(role="user", content="Hi")]) == [{"role": "user", "content": "Hi"}]
