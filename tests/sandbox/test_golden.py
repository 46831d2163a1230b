"""A seed always gives the same world, to the byte: corpus, prompts, answers, choices of labelers, truth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from random import Random
from typing import Any

import pytest

from heedful.data.records import Completions
from heedful.sandbox import answers, corpus, generate, labelers, mistakes, prompts, tasks, truth
from heedful.sandbox.world import make_world

GOLDEN = {
    1: {
        "facts": "ed195ea4e05d",
        "corpus": "894e17f3ef4a",
        "pages": "081803970fe7",
        "prompts": "656efd3361a5",
        "demonstrations": "446e71df2788",
        "answers": "d18f974d9015",
        "mixture": "0c898bab24ff",
        "choices": "1007f2cc6177",
        "truth": "bff3944a7492",
    },
    2: {
        "facts": "c72fec11cf5e",
        "corpus": "3bd4169ad509",
        "pages": "2a0ddb7c02d4",
        "prompts": "dabfbdeb2657",
        "demonstrations": "566b0cbee415",
        "answers": "da6b5226d217",
        "mixture": "afa307eff39d",
        "choices": "940b183a824a",
        "truth": "86f2e28dcb43",
    },
    3: {
        "facts": "8d684c17c658",
        "corpus": "506bafe90137",
        "pages": "3f691f8fa876",
        "prompts": "1d740da481ca",
        "demonstrations": "1c35fa8545ef",
        "answers": "7b0e52ce629a",
        "mixture": "55507116a36a",
        "choices": "cd1baa779bde",
        "truth": "613392d6f3c0",
    },
}


def digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def found(seed: int) -> dict[str, str]:
    world, rng = make_world(seed), Random(seed)
    given = list(prompts.prompts(world, 150))
    everyone = labelers.make_labelers(world)
    shown = generate.demonstrations(world, given[:60], labelers.good_ones(everyone))
    drawn = [tasks.draw_task(world, rng, template, c) for template in tasks.TEMPLATES for c in (0.0, 0.0, 1.0)]
    rows = [
        Completions(**prompt.row(), completions=mistakes.mixture(world, prompt.prompt, 4, rng)) for prompt in given[:60]
    ]
    judged = [truth.world(seed).judge(row.prompt, text) for row in rows for text in row.completions]
    ranked = generate.comparisons(world, rows, everyone)
    return {
        "facts": digest([list(map(astuple, world.people.values())), list(map(astuple, world.places.values()))]),
        "corpus": digest([document.text for document in corpus.documents(world, 120)]),
        "pages": digest([maker(world, rng) for maker, _ in corpus.MAKERS for _ in range(4)]),
        "prompts": digest([prompt.row() for prompt in given]),
        "demonstrations": digest([row.row() for row in shown]),
        "answers": digest(
            [(task.text, answers.compose(world, task, rng, size)) for task in drawn for size in range(3)]
        ),
        "mixture": digest([row.completions for row in rows]),
        "choices": digest([row.ranking for row in ranked]),
        "truth": digest([(round(verdict.utility, 9), verdict.flags) for verdict in judged]),
    }


@pytest.mark.parametrize("seed", GOLDEN)
def test_the_worlds_of_three_seeds_never_change(seed: int) -> None:
    assert found(seed) == GOLDEN[seed]
