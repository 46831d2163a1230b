"""Good answers, and the fluency that they define."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from heedful.sandbox import lexicon, phrasebook
from heedful.sandbox.reading import Fluency, read
from heedful.sandbox.tasks import TEMPLATES, WorldTask, draw_body, draw_task
from heedful.sandbox.world import World, make_world

# Phrases that say nothing. People write them and do not like to read them.
_EMPTY = phrasebook.read("sentences")["empty"]
PREAMBLES: tuple[str, ...] = _EMPTY["preambles"]
POSTSCRIPTS: tuple[str, ...] = _EMPTY["postscripts"]


def compose(world: World, task: WorldTask, rng: Random, size: int = 1) -> str:
    """Write a good answer: right, well made, and with its constraint met. `size`: 0 brief, 1 plain, 2 detailed."""
    template, constraint = task.template, task.constraint
    if constraint is None:
        return " ".join(template.answer(world, task.slots, rng, size))
    value = template.value(world, task.slots) if template.value else None
    goal = template.goal(world, task.slots)
    text = ""
    for _ in range(40):
        told = {"words": 0, "sentences": rng.randrange(3)}.get(constraint.kind, size)
        text = constraint.apply(template.answer(world, task.slots, rng, told), value, template.carrier)
        if constraint.met(read(world, text), goal):
            break
    return text


@lru_cache(maxsize=1)
def fluency() -> Fluency:
    """The shapes of good text. Names and things count by their kind, so one instance serves all worlds."""
    world, rng, shapes = make_world(0), Random("fluency"), Fluency()
    for template in TEMPLATES:
        for phrase in (*PREAMBLES, *POSTSCRIPTS, *(template.carrier.format(word=word) for word in lexicon.USE_WORDS)):
            shapes.add(world, phrase, template.name)
        for _ in range(110):
            slots = draw_body(world, rng, template)[1]
            shapes.add(world, " ".join(template.answer(world, slots, rng, rng.randrange(3))), template.name)
        for _ in range(16):
            task = draw_task(world, rng, template, constrained=1.0)
            if task.constraint is not None:
                shapes.add(world, task.constraint.without(compose(world, task, rng, 0)), template.name)
    for word, other in lexicon.OPPOSITES.items():
        for text in (f"The opposite of {word} is {other}.", f"It is {other}.", f"{lexicon.capital(other)}."):
            shapes.add(world, text, "opposite")
    return shapes
