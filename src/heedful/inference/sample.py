"""Samples of a model: K completions for each prompt of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.configs.sample import SampleConfig
from heedful.configs.shared import Generation
from heedful.data.records import Completions
from heedful.inference import chunked
from heedful.inference.chunked import Job, Row
from heedful.learning import examples
from heedful.learning.examples import Limits, Question
from heedful.models import load, render
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Engine, Sample, Stream
from heedful.training.parallel import Ranks


def run(config: SampleConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write a row of K completions for each prompt, in the order of the prompts; returns `out`."""
    with chunked.job(
        "sample", config, out, models={"model": config.model}, data={"prompts": config.prompts},
        compute=config.compute, resume=resume, overwrite=overwrite,
    ) as job:  # fmt: skip
        if not job.finished:
            _sample(config, job)
    return Path(out)


def _sample(config: SampleConfig, job: Job) -> None:
    model, tokenizer = load.load_policy(config.model, dtype=job.ranks.dtype, trust_remote_code=config.trust_remote_code)
    engine = LocalEngine(model.to(job.ranks.device), tokenizer)
    questions = examples.questions(config.prompts, tokenizer, room(model, config.skip_long))

    def work(rows: range) -> list[Row]:
        asked = questions[rows.start : rows.stop]
        drawn = draw(engine, asked, rows.start, config.k, config.seed, config.generation, job.ranks)
        return [
            row(question, samples, [render.response_text(tokenizer, s.response_ids) for s in samples], config.model)
            for question, samples in zip(asked, drawn, strict=True)
        ]

    job.run([question.record for question in questions], config.chunk, work, _summary)


def room(model: Any, skip_long: bool) -> Limits:
    """Any prompt that leaves room for at least one token of an answer."""
    context = load.context_length(model)
    return Limits(context, context, context, skip_long)


def draw(
    engine: Engine, asked: Sequence[Question], first: int, k: int, seed: int, settings: Generation, ranks: Ranks
) -> list[list[Sample]]:
    """k samples of each question, on every rank: the j-th of the prompt in row r draws from the stream (seed, j, r).

    `first` is the row of the first question.
    """

    def sampled(mine: list[tuple[int, Question]]) -> list[list[Sample]]:
        prompts = [question.prompt_ids for _, question in mine for _ in range(k)]
        streams = [Stream(seed, j, row) for row, _ in mine for j in range(k)]
        samples = engine.generate(prompts, streams, settings)
        return [samples[i : i + k] for i in range(0, len(samples), k)]

    return ranks.spread(list(enumerate(asked, start=first)), sampled)


def row(question: Question, samples: Sequence[Sample], texts: Sequence[str], model: str, **more: Any) -> Row:
    """One row of completions, with where they come from and as what ids; `more` are further fields."""
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
