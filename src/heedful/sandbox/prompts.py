"""Prompts as users send them: ten use cases (D4), a few users who send most, near duplicates, personal data."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from heedful.data.records import Prompt
from heedful.sandbox import lexicon, tasks
from heedful.sandbox.tasks import WorldTask
from heedful.sandbox.world import World

# shares of prompts with a sentence before the task, with one after it, and with personal data
OPENED, CLOSED, CONTACT = 0.15, 0.1, 0.03
REPEATED = 0.08  # share of prompts that repeat an earlier one of the same user
LONG = 100  # from this many characters on a repeated prompt gets another ending
PER_USER = 18  # prompts of the average user
LABELER_USERS = 0.2  # share of users who are labelers. The others are customers of an API.


def draw_text(world: World, rng: Random, use_case: str | None = None) -> str:
    """The text of one random prompt."""
    return dress(world, rng, tasks.draw_task(world, rng, tasks.draw_template(rng, use_case)))


def dress(world: World, rng: Random, task: WorldTask) -> str:
    """The text of a task, now and then with an opener, a closer or personal data around it."""
    text = task.text
    if task.use_case != "chat":
        if rng.random() < OPENED:
            text = f"{_filled(world, rng, rng.choice(tasks.OPENERS))} {text}"
        if rng.random() < CLOSED and not text.endswith("'"):
            text = f"{text} {rng.choice(tasks.CLOSERS)}"
    if rng.random() < CONTACT and not text.endswith("'"):
        text = f"{text} {_filled(world, rng, rng.choice(tasks.CONTACTS))}"
    return text


def _filled(world: World, rng: Random, frame: str) -> str:
    """The sentence with random values in its slots."""
    who, place = rng.choice(world.person_names), rng.choice(world.place_names)
    mail = f"{who.lower()}{rng.choice(('', '.home', '.shop'))}@{rng.choice(('post', 'mail', place.lower()))}.example"
    phone = rng.choice(("555-555-01{:02d}", "+44 7700 9000{:02d}", "020 7946 00{:02d}")).format(rng.randrange(100))
    return frame.format(who=who, place=place, mail=mail, phone=phone, job=lexicon.a(rng.choice(tuple(lexicon.JOBS))))


def prompts(world: World, count: int, seed: int = 0) -> Iterator[Prompt]:
    """`count` raw prompts, in the order in which users sent them.

    From about 4,000 prompts on, a few users send more than 200 each. Some prompts come twice, some share a long
    beginning, and some hold e-mail addresses or phone numbers.
    """
    rng = Random(f"prompts {world.seed} {seed}")
    users = max(4, count // PER_USER)
    weights = [(rank + 1) ** -0.75 for rank in range(users)]
    senders = rng.choices(range(users), weights, k=count)
    sources = ["labeler" if rng.random() < LABELER_USERS else "api" for _ in range(users)]
    earlier: dict[int, list[str]] = {}
    for number, user in enumerate(senders):
        sent = earlier.setdefault(user, [])
        if sent and rng.random() < REPEATED:
            text = _again(rng, rng.choice(sent))
            use_case = tasks.parse(world.seed, text).use_case
        else:
            template = tasks.draw_template(rng)
            text, use_case = dress(world, rng, tasks.draw_task(world, rng, template)), template.use_case
        sent.append(text)
        yield Prompt(prompt=text, id=f"p{number:06d}", user=f"u{user:04d}", source=sources[user], use_case=use_case)


def _again(rng: Random, text: str) -> str:
    """The same prompt again. A long one gets another last sentence."""
    if len(text) < LONG or text.endswith("'"):
        return text
    for closer in tasks.CLOSERS:
        text = text.removesuffix(" " + closer)
    return f"{text} {rng.choice(tasks.CLOSERS)}"
