"""Sample answers to questions. The ranks share the work."""

from __future__ import annotations

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
    starts = range(0, len(questions), settings.max_rows)
    parts = [range(len(questions))[start : start + settings.max_rows] for start in starts]

    def sampled(rows: range) -> list[Sample]:
        drawn = draw(engine, [questions[r].prompt_ids for r in rows], settings, seed, rows=rows, iteration=iteration)
        return [only for (only,) in drawn]

    with engine.gathered():
        return [sample for part in ranks.each(parts, sampled) for sample in part]


def sampled(questions: list[Question], settings: Generation, rows: int) -> dict[str, int]:
    """What sampling `rows` answers to some of these questions takes, for the memory plan: fields of its `StepShape`."""
    longest = max(len(question.prompt_ids) for question in questions)
    return {"sampled": min(settings.max_rows, rows), "columns": longest + settings.max_new_tokens}


def episodes(tokenizer: PreTrainedTokenizerBase, questions: list[Question], samples: list[Sample]) -> list[Episode]:
    """Samples with their texts, as reward functions take them."""
    return [
        Episode(
            question.prompt,
            question.prompt_ids,
            sample.response_ids,
            render.response_text(tokenizer, sample.response_ids),
            sample.finish == "stop",
            sample.logprobs,
            question.record,
        )
        for question, sample in zip(questions, samples, strict=True)
    ]


def readable(prompt: PromptText) -> Any:
    """A prompt as JSON."""
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]
