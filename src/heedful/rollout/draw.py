"""K answers to each prompt, on random streams that follow from the seed and the prompt's row."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.configs.shared import Generation
from heedful.rollout.types import Engine, Sample, Stream


def draw(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    seed: int,
    *,
    k: int = 1,
    rows: Sequence[int] | None = None,
    iteration: int = 0,
) -> list[list[Sample]]:
    """k samples of each prompt.

    The j-th sample of the prompt in row r draws from the stream (seed, iteration + j, r), whatever else is sampled. So
    fewer samples are the first of more, and two models get the same draws. `rows`: the row of each prompt in its data
    set (None: counted from 0).
    """
    numbers = range(len(prompts)) if rows is None else rows
    asked = [ids for ids in prompts for _ in range(k)]
    streams = [Stream(seed, iteration + j, row) for row in numbers for j in range(k)]
    samples = engine.generate(asked, streams, settings)
    return [samples[i : i + k] for i in range(0, len(samples), k)]
