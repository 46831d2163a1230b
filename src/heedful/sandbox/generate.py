"""The files of a world: corpus, raw prompts, demonstrations and comparisons. All of it follows from the seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt, Text
from heedful.sandbox import corpus, labelers, prompts
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World, make_world


def write_world(folder: str | Path, seed: int, documents: int, prompt_count: int, held_out_documents: int = 0) -> World:
    """Write `corpus.jsonl`, `prompts.jsonl` (before curation) and, if asked, `corpus_held_out.jsonl`."""
    world, folder = make_world(seed), Path(folder)
    texts = list(corpus.documents(world, documents + held_out_documents))
    formats.write(folder / "corpus.jsonl", texts[:documents])
    if held_out_documents:
        formats.write(folder / "corpus_held_out.jsonl", texts[documents:])
    formats.write(folder / "prompts.jsonl", list(prompts.prompts(world, prompt_count)))
    return world


def webs(first: int, worlds: int, documents: int, answer_pages: float | None = None) -> Iterator[Text]:
    """The webs of worlds `first`, `first` + 1, ...: `documents` documents of each, world by world.

    `answer_pages`: as in `corpus.documents`.
    """
    for seed in range(first, first + worlds):
        yield from corpus.documents(make_world(seed), documents, answer_pages=answer_pages)


def demonstrations(
    world: World, given: Sequence[Prompt], hired: Sequence[Labeler], seed: int = 0
) -> list[Demonstration]:
    """One demonstration for each prompt. The labelers take turns."""
    rng = Random(f"demonstrations {world.seed} {seed}")
    return [labelers.demonstrate(world, prompt, hired[i % len(hired)], rng) for i, prompt in enumerate(given)]


def comparisons(
    world: World, given: Sequence[Completions], hired: Sequence[Labeler], seed: int = 0
) -> list[Comparison]:
    """One ranking of the completions of each prompt. The labelers take turns."""
    rng = Random(f"comparisons {world.seed} {seed}")
    return [labelers.compare(world, row, hired[i % len(hired)], rng) for i, row in enumerate(given)]
