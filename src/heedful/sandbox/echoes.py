"""Web pages that say things twice: roll calls, songs with a refrain, quotes, lists that are ticked off.

A web is full of them, and they are where a small model learns to carry a name from one place to another.
"""

from __future__ import annotations

from random import Random

from heedful.sandbox import events, lexicon
from heedful.sandbox.world import World


def echo_page(world: World, rng: Random) -> str:
    return rng.choice((_roll_call, _song, _quotes, _ticked_off, _messages))(world, rng)


def _roll_call(world: World, rng: Random) -> str:
    names = rng.sample(world.person_names, rng.randint(5, 10))
    first, second = rng.choice((
        ("On the list", "They came"), ("Roll call", "Here today"), ("At the door", "At the table"), ("Our friends", "Thanks to"),
    ))  # fmt: skip
    return f"{first}: {', '.join(names)}.\n{second}: {', '.join(names)}."


def _song(world: World, rng: Random) -> str:
    lines = [events.draw(world, rng).told(rng) for _ in range(rng.randint(2, 3))]
    again = rng.choice(("Once more:", "Sing it again!", "And all together:", "Again:"))
    return "\n".join(["A song", *lines, again, *lines])


def _quotes(world: World, rng: Random) -> str:
    """What one person told, another tells again."""
    parts = []
    for _ in range(2):
        teller, reader = rng.sample(world.person_names, 2)
        told = events.draw(world, rng).told(rng)
        reply = rng.choice(("{reader} read what {teller} wrote: {told}", "{reader} says that too: {told}", "Copied by {reader}: {told}"))
        parts.append(f"{teller} wrote: {told}\n{reply.format(reader=reader, teller=teller, told=told)}")
    return "\n".join(parts)


def _ticked_off(world: World, rng: Random) -> str:
    pool = (*lexicon.FOODS, *lexicon.OWNED, *lexicon.TOOLS)
    things = [f"{rng.choice(lexicon.COLOURS)} {thing}" if rng.random() < 0.4 else thing for thing in rng.sample(pool, rng.randint(5, 9))]
    first, second = rng.choice((("To buy", "In the basket"), ("On the table", "On the table at night"), ("Lost", "Found again")))
    return f"{first}: {', '.join(things)}.\n{second}: {', '.join(things)}."


def _messages(world: World, rng: Random) -> str:
    """Everybody is greeted by name and answers by name."""
    pairs = [rng.sample(world.person_names, 2) for _ in range(rng.randint(2, 3))]
    call = rng.choice(("Good morning, {a}! It is {b} here.", "Hello {a}, this is {b}.", "Dear {a}, greetings from {b}."))
    back = rng.choice(("Good morning, {b}! Yours, {a}.", "Hello {b}! {a} is happy to hear from {b}.", "Dear {b}, thanks. {a}."))
    return "\n".join(f"{call.format(a=a, b=b)}\n{back.format(a=a, b=b)}" for a, b in pairs)
