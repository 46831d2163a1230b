"""Good answers, and the fluency that they and the clean web define."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from heedful.sandbox import genres, lexicon
from heedful.sandbox.reading import Fluency, read
from heedful.sandbox.tasks import TEMPLATES, Task, draw_task
from heedful.sandbox.world import World, make_world

FILLERS = ("Well, let me see.", "Let me think about that for a moment.", "Oh, that is a good question.")


def compose(world: World, task: Task, rng: Random, size: int = 1) -> str:
    """A good answer: right, in form, and with its constraint met. `size` 0 brief, 1 plain, 2 detailed."""
    template, constraint = task.template, task.constraint
    value = template.value(world, task.slots) if template.value else None
    goal = template.goal(world, task.slots)
    text = ""
    for attempt in range(40):
        told = size
        if constraint is not None and constraint.kind in ("words", "sentences"):
            told = 0 if constraint.kind == "words" else rng.randrange(3)
        sentences = template.answer(world, task.slots, rng, told)
        text = constraint.apply(sentences, value, rng) if constraint is not None else " ".join(sentences)
        if constraint is None or constraint.met(read(world, text), goal):
            break
        if attempt > 20 and constraint.kind == "words":
            text = " ".join(sentences[:1])
            if constraint.met(read(world, text), goal):
                break
    return text


@lru_cache(maxsize=1)
def fluency() -> Fluency:
    """The shapes of good text. Names and things count by their kind, so one instance serves every world."""
    world, rng, shapes = make_world(0), Random("fluency"), Fluency()
    for template in TEMPLATES:
        for _ in range(250 if template.use_case == "generation" else 120):
            task = draw_task(world, rng, template)
            text = compose(world, task, rng, rng.randrange(3))
            shapes.add(world, task.constraint.without(text) if task.constraint else text)
    for word in lexicon.USE_WORDS:
        for frame in genres.CARRIERS:
            shapes.add(world, frame.format(word=word))
    return shapes
