"""Sample answers to questions. The ranks share the work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.configs.shared import Generation
from heedful.data.records import PromptText
from heedful.learning.examples import Question
from heedful.models import render
from heedful.rollout.draw import draw
from heedful.rollout.types import Engine, Episode, Sample
from heedful.training.parallel import Ranks


def generate(
    engine: Engine, questions: list[Question], settings: Generation, seed: int, iteration: int, ranks: Ranks
) -> list[Sample]:
    """One sample for each question, the same on every rank: row r draws from the stream (seed, iteration, r).

    A rank takes whole parts of `settings.max_rows` questions. In another batch the logits of a row would round
    differently.
    """
    parts, sampled = _parts(engine, questions, settings, seed, iteration)
    with engine.gathered():
        return [sample for part in ranks.each(parts, sampled) for sample in part]


def begin(
    engine: Engine, questions: list[Question], settings: Generation, seed: int, iteration: int, ranks: Ranks,
    running: contextlib.ExitStack,
) -> Callable[[], list[Sample]]:  # fmt: skip
    """Start `generate` in a thread, with the weights of now. The result waits for the samples, on all ranks together.

    The thread computes and never speaks to other ranks: their messages would meet those of the update. Closing
    `running` stops it.
    """
    parts, sampled = _parts(engine, questions, settings, seed, iteration)
    mine = ranks.share(parts)
    running.enter_context(engine.gathered(apart=True))
    thread = running.enter_context(ThreadPoolExecutor(1, "rollout"))
    running.callback(engine.stop)  # comes first, then the thread is joined: one in the midst of torch ends in an abort
    done = thread.submit(lambda: [sampled(rows) for rows in mine])
    return lambda: [sample for part in ranks.spread(parts, lambda _: done.result()) for sample in part]


def _parts(
    engine: Engine, questions: list[Question], settings: Generation, seed: int, iteration: int
) -> tuple[list[range], Callable[[range], list[Sample]]]:
    """(parts of the rows, what samples one of them)."""
    starts = range(0, len(questions), settings.max_rows)

    def sampled(rows: range) -> list[Sample]:
        drawn = draw(engine, [questions[r].prompt_ids for r in rows], settings, seed, rows=rows, iteration=iteration)
        return [only for (only,) in drawn]

    return [range(len(questions))[start : start + settings.max_rows] for start in starts], sampled


def sampled(questions: list[Question], settings: Generation, rows: int) -> dict[str, int]:
    """What sampling `rows` answers to some of these questions takes, for the memory plan: fields of its `StepShape`."""
    longest = max(len(question.prompt_ids) for question in questions)
    return {"sampled": min(settings.max_rows, rows), "columns": longest + settings.max_new_tokens}


def episodes(
    tokenizer: PreTrainedTokenizerBase, questions: list[Question], samples: list[Sample], age: int = 0
) -> list[Episode]:
    """Samples with their texts, as reward functions take them. `age`: updates of the policy since then."""
    return [
        Episode(
            question.prompt,
            question.prompt_ids,
            sample.response_ids,
            render.response_text(tokenizer, sample.response_ids),
            sample.finish == "stop",
            sample.logprobs,
            question.record,
            age,
        )
        for question, sample in zip(questions, samples, strict=True)
    ]


def readable(prompt: PromptText) -> Any:
    """A prompt as JSON."""
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]
