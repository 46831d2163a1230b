"""Rewards of the answers in a file: reward models, functions, or weighted sums of these."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from heedful.config import UserError
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.kinds import kind_of
from heedful.data.records import Completions, Demonstration, Record
from heedful.files import Row
from heedful.inference.job import RowsJob, open_job
from heedful.learning import examples
from heedful.learning.examples import TokenLimits
from heedful.models import load, render
from heedful.models.templates import TemplateRefused
from heedful.rewards.functions import Ensemble, ModelScorer, RewardPart, open_reward
from heedful.rewards.specs import functions_of, models_of
from heedful.rollout.types import Episode


def run(config: ScoreConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write the rows of `data` with `scores`, one number an answer. Returns `out`.

    Of several rewards `score_parts` keeps each one's unweighted numbers by name, None where it has no opinion.
    """
    with open_job(
        "score", config, out, models=models_of(config.reward), data={"data": config.data},
        compute=config.compute, functions=functions_of(config.reward), resume=resume, overwrite=overwrite,
    ) as job:  # fmt: skip
        if not job.finished:
            _score(config, job)
    return Path(out)


def _score(config: ScoreConfig, job: RowsJob) -> None:
    records = _read(config.data)
    answers = [_as_completions(record, config.data, number) for number, record in enumerate(records, start=1)]
    ranks = job.ranks
    reward = open_reward(
        config.reward, compute=config.compute, device=ranks.device, trust_remote_code=config.trust_remote_code
    )
    job.note(reward.models)
    reward.check(records)
    prepared = [_prepare(part, records, answers, config.data) for part in reward.parts]

    def scored(mine: list[int]) -> list[Row]:
        if not mine:
            return []
        flat = {part.name: [one for i in mine for one in episodes[i]] for part, episodes in prepared}
        scores = {part.name: part(flat[part.name]) for part, _ in prepared}
        total = reward.total(scores, flat[reward.parts[0].name])
        counts = [len(answers[i].completions) for i in mine]
        totals, parts = _by_row(total, counts), {name: _by_row(one, counts) for name, one in scores.items()}
        made = []
        for position, i in enumerate(mine):
            own = {name: values[position] for name, values in parts.items()}
            more = {"score_parts": own} if len(own) > 1 else {}
            made.append(records[i].row() | {"scores": totals[position]} | more)
        return made

    job.run(records, config.chunk, lambda rows: ranks.spread(rows, scored), _summary)


def _by_row(scores_N: Tensor, counts: Sequence[int]) -> list[list[float | None]]:
    """The scores in the shape of the rows. None: no opinion."""
    return [[None if math.isnan(x) else x for x in part.tolist()] for part in scores_N.split(list(counts))]


def _read(path: str) -> Sequence[Completions | Demonstration]:
    # a comparison is read as completions: its other fields are kept as they are
    if kind_of(path, lenient=True) == "demonstrations":
        return formats.read(path, Demonstration)
    return formats.read(path, Completions)


def _as_completions(record: Completions | Demonstration, path: str, number: int) -> Completions:
    if isinstance(record, Completions):
        return record
    if record.completion_message is not None and record.completion_message.tool_calls:
        raise UserError(
            f"{path}: the answer of row {number} has tool calls. Only texts can be scored. Leave the row out"
        )
    return Completions(prompt=record.prompt, tools=record.tools, completions=[record.completion])


def _prepare(
    part: RewardPart, rows: Sequence[Record], records: Sequence[Completions], path: str
) -> tuple[RewardPart, list[list[Episode]]]:
    """The answers as a reward wants them: a model gets the sampled ids where they are its own, else the text."""
    models = [one for one in _members(part) if isinstance(one.score, ModelScorer)]
    if not models:
        return part, [
            [
                Episode(record.prompt, [], [], text, _finished(record, k), record=row)
                for k, text in enumerate(record.completions)
            ]
            for row, record in zip(rows, records, strict=True)
        ]
    tokenizer = _scorer(models[0]).tokenizer  # that of all members
    name, limit = min(((one.name, load.context_length(_scorer(one).model)) for one in models), key=lambda one: one[1])
    anything = TokenLimits(1 << 30, 1 << 30, 1 << 30)
    episodes: list[list[Episode]] = []
    for number, record in enumerate(records, start=1):
        try:
            prompt_ids = render.prompt_ids(tokenizer, record.prompt, record.tools)
            count = len(record.completions)
            found = [examples.answer(tokenizer, prompt_ids, record, k, anything) for k in range(count)]
        except TemplateRefused as error:
            raise UserError(f"{path}: row {number}: {error}") from None
        episodes.append([])
        for k, (text, row) in enumerate(zip(record.completions, found, strict=True)):
            if len(row) > limit:
                raise UserError(
                    f"{path}: answer {k + 1} of row {number} has {len(row)} tokens with its prompt, "
                    f"{name} reads at most {limit}. Shorten it or leave the row out"
                )
            ids = row.prompt_ids, row.response_ids
            own = rows[number - 1]
            episodes[-1].append(Episode(record.prompt, *ids, text, _finished(record, k), record=own))
    return _reading_ids(part), episodes


def _members(part: RewardPart) -> list[RewardPart]:
    return part.score.parts if isinstance(part.score, Ensemble) else [part]


def _scorer(part: RewardPart) -> ModelScorer:
    assert isinstance(part.score, ModelScorer)
    return part.score


def _reading_ids(part: RewardPart) -> RewardPart:
    """The part with models that read the ids of episodes."""
    score = part.score
    if isinstance(score, Ensemble):
        return RewardPart(
            part.name, part.weight, Ensemble(score.spec, [_reading_ids(one) for one in score.parts], score.aggregate)
        )
    if isinstance(score, ModelScorer):
        score = ModelScorer(score.model, score.tokenizer, score.tokenizer, score.micro_tokens, score.dtype)
    return RewardPart(part.name, part.weight, score)


def _finished(record: Completions, k: int) -> bool:
    return record.finish is None or record.finish[k] == "stop"


def _summary(rows: list[Row]) -> dict[str, Any]:
    parts = [(name, x) for row in rows for name, own in row.get("score_parts", {}).items() for x in own]
    silent = Counter(name for name, x in parts if x is None)
    return {"score": fmean(score for row in rows for score in row["scores"])} | (
        {"no_opinion": dict(silent)} if silent else {}
    )
