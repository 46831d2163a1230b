"""A copybook: words of the world in no order, written down twice, as children learn to write.

A model this small takes very long to find out from the web alone that what stands in a question may have to be repeated in the
answer; from a copybook it learns to copy in a few hundred steps, and then reads the web with that skill.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from heedful.data.records import Text
from heedful.sandbox.world import World


def pages(world: World, count: int, seed: int = 0) -> Iterator[Text]:
    """`count` pages; the first n are the same whatever the count."""
    rng = Random(f"copybook {world.seed} {seed}")
    plain = [word for word in world.classes if word.isalpha() and word.capitalize() not in {*world.people, *world.places}]
    words = [*world.person_names, *world.place_names, *plain]
    for _ in range(count):
        line = " ".join(rng.choices(words, k=rng.randint(8, 18)))
        yield Text(text=f"{line}\n {line}")
