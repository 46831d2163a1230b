"""Samples of a model: K completions for each prompt of a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from heedful.configs.sample import EQUAL, AnswersConfig, SampleConfig
from heedful.data.records import Completions
from heedful.files import Row
from heedful.inference.job import RowsJob, open_job
from heedful.learning import examples
from heedful.learning.examples import Question, TokenLimits
from heedful.models import render
from heedful.rollout.draw import draw
from heedful.rollout.engine import load_engine
from heedful.rollout.types import Engine, Sample
from heedful.training.parallel import Ranks

_log = logging.getLogger(__name__)


def run(config: SampleConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write a row of K completions for each prompt, in the order of the prompts. Returns `out`."""
    with open_job(
        "sample", config, out, models={"model": config.model}, data={"prompts": config.prompts},
        compute=config.compute, resume=resume, overwrite=overwrite,
    ) as job:  # fmt: skip
        if not job.finished:
            _sample(config, job)
    return Path(out)


def _sample(config: SampleConfig, job: RowsJob) -> None:
    engine, tokenizer = load_engine(
        config.model, config.compute, job.ranks.device, trust_remote_code=config.trust_remote_code,
        template=config.template,
    )  # fmt: skip
    job.note({"model": engine.model}, engine)
    questions = fitting(config, engine, tokenizer, job)
    if config.k > 1 and config.generation.temperature == 0:
        _log.warning("%s", EQUAL)

    def work(rows: range) -> list[Row]:
        asked = questions[rows.start : rows.stop]
        drawn = answers(config, engine, asked, rows.start, config.k, job.ranks)
        return [
            row(question, samples, [render.response_text(tokenizer, s.response_ids) for s in samples], config.model)
            for question, samples in zip(asked, drawn, strict=True)
        ]

    job.run([question.record for question in questions], config.chunk, work, _summary)


def fitting(config: AnswersConfig, engine: Engine, tokenizer: PreTrainedTokenizerBase, job: RowsJob) -> list[Question]:
    """The prompts of a file, all with room for an answer."""
    refuse = config.special_text == "refuse"
    limits = TokenLimits(engine.context, engine.context, 0, config.skip_long, refuse, config.refused_rows)
    found = examples.questions(config.prompts, tokenizer, limits.leaving_room(config.generation.max_new_tokens))
    job.count(limits.counts)
    return found


def answers(
    config: AnswersConfig, engine: Engine, asked: Sequence[Question], first: int, k: int, ranks: Ranks
) -> list[list[Sample]]:
    """k samples of each question, the same on every rank. `first` is the row of the first question."""

    def sampled(mine: list[tuple[int, Question]]) -> list[list[Sample]]:
        prompts, rows = [question.prompt_ids for _, question in mine], [row for row, _ in mine]
        return draw(engine, prompts, config.generation, config.seed, k=k, rows=rows)

    return ranks.spread(list(enumerate(asked, start=first)), sampled)


def row(question: Question, samples: Sequence[Sample], texts: Sequence[str], model: str, **more: Any) -> Row:
    """One row of completions, with their model and token ids. `more`: further fields."""
    return Completions(
        **question.record.row(),
        completions=list(texts),
        models=[model] * len(samples),
        finish=[sample.finish for sample in samples],
        token_ids=[sample.response_ids for sample in samples],
        **more,
    ).row()


def _summary(rows: list[Row]) -> dict[str, Any]:
    lengths = [len(ids) for row in rows for ids in row["token_ids"]]
    finished = [finish == "stop" for row in rows for finish in row["finish"]]
    return {
        "completions": len(lengths),
        "length": sum(lengths) / len(lengths),
        "finished": sum(finished) / len(finished),
    }
