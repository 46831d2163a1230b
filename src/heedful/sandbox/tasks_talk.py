"""Tasks of talk: ideas, chat, and requests that a good answer declines (brainstorming, chat)."""

from __future__ import annotations

from random import Random

from heedful.sandbox import lexicon
from heedful.sandbox.goals import ChatReply, Decline, Goal, Items
from heedful.sandbox.lexicon import a, capital, listed, number
from heedful.sandbox.tasks_know import draw_person
from heedful.sandbox.templates import Draw, Slots, Template, said, template
from heedful.sandbox.world import World

NEEDS: dict[str, str] = said("ideas")["helpful"]  # what an idea is wanted for -> the kind that helps
_COUNTS = lexicon.NUMBERS[2:6]


def pool_of(slots: Slots) -> tuple[str, ...]:
    """What the list that the slots of a brainstorming task ask for may name."""
    kind = slots.get("kind") or NEEDS.get(slots.get("need", ""))
    return lexicon.KINDS[kind][1] if kind else lexicon.OWNED


def _list_goal(world: World, slots: Slots) -> Goal:
    count = number(slots["n"])
    return Items(frozenset(pool_of(slots)), count, count)


def _list_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    items = rng.sample(pool_of(slots), number(slots["n"]))
    if size == 0:
        return [_short(slots, items, "and")]
    return [rng.choice(said("list")["answers"]).format(x=listed(items), **slots)]


def _short(slots: Slots, items: list[str], word: str) -> str:
    """Only the items, after a word or an article."""
    if pool_of(slots) in (lexicon.FOODS, lexicon.COLOURS):
        return f"Maybe {listed(items, word)}."
    return f"{capital(listed([a(item) for item in items], word))}."


def _ideas_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    pool = pool_of(slots)
    items = rng.sample(pool, 2 if size == 0 else rng.choice((3, 3, 4)))
    if size == 0 and rng.random() < 0.5:
        return [_short(slots, items, "or")]
    if pool != lexicon.FOODS and pool != lexicon.COLOURS:
        items = [a(item) for item in items]
    if "who" in slots:
        forms = said("gifts")["answers"]
    else:
        forms = said("ideas")["answers_about_jobs" if NEEDS[slots["need"]] == "jobs" else "answers"]
    return [rng.choice(forms).format(x=listed(items, "or"), **slots)]


IDEAS: tuple[Template, ...] = (
    template(
        "list", lambda world, rng: {"n": rng.choice(_COUNTS), "kind": rng.choice(tuple(lexicon.KINDS))},
        _list_goal, _list_answer, accepts=lambda world, slots: slots["n"] in _COUNTS,
    ),
    template(
        "ideas", lambda world, rng: {"need": rng.choice(tuple(NEEDS))},
        lambda world, slots: Items(frozenset(pool_of(slots)), 2, 4), _ideas_answer,
        accepts=lambda world, slots: slots["need"] in NEEDS,
    ),
    template(
        "gifts", draw_person,
        lambda world, slots: Items(frozenset(lexicon.OWNED), 2, 4, given=slots["who"].lower()), _ideas_answer,
    ),
)  # fmt: skip


def _draw_new(world: World, rng: Random) -> Slots:
    animal = rng.choice([word for word in lexicon.ANIMALS if word[0] not in "aeiou"])
    return {"animal": animal, "thing": rng.choice(tuple(lexicon.THINGS)), "who": rng.choice(world.person_names)}


def _draw_day(world: World, rng: Random) -> Slots:
    weather, day = rng.choice(lexicon.WEATHER), rng.choice(lexicon.DAYS)
    return {"weather": weather, "day": day, "who": rng.choice(world.person_names)}


def _chat(name: str, draw: Draw) -> Template:
    """A turn of a chat. An answer is one of `says`, then, unless brief, one of `adds`. {new} is what the user has.

    A good answer has one phrase of each group in `needs` and none of `amiss`.
    """
    table = said(name)

    def words(slots: Slots) -> dict[str, str | None]:
        return {"new": slots.get("animal") or slots.get("thing"), **slots}

    def goal(world: World, slots: Slots) -> Goal:
        own = words(slots) | {"who": slots.get("who", "").lower()}
        needs = tuple(tuple(phrase.format(**own) for phrase in group) for group in table["needs"])
        return ChatReply(needs, table.get("amiss", ()))

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        full = size or rng.random() < 0.3
        told = [rng.choice(table["says"]), rng.choice(table["adds"])] if full else [rng.choice(table["says"])]
        return [line.format(**words(slots)) for line in told]

    return template(name, draw, goal, answer)


CHAT: tuple[Template, ...] = (
    _chat("greet", _draw_day),
    _chat("meet", _draw_day),
    _chat("sad", _draw_new),
    _chat("glad", _draw_new),
    _chat("bored", _draw_day),
    _chat("thank", _draw_new),
    _chat("bye", _draw_day),
)


def _draw_victim(world: World, rng: Random) -> Slots:
    animal, place = rng.choice(tuple(lexicon.ANIMALS)), rng.choice(world.place_names)
    return {"who": rng.choice(world.person_names), "animal": animal, "place": place}


def _decline(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    offers, refusals = said("decline")["offers"], said("decline")["refusals"]
    offer = rng.choice(offers if "who" in slots else offers[:-1]).format(**slots)
    return [rng.choice(refusals), offer] if size or rng.random() < 0.3 else [rng.choice(refusals)]


UNSAFE: tuple[Template, ...] = tuple(
    template(name, _draw_victim, lambda world, slots: Decline(), _decline) for name in ("insult", "harm", "provoke")
)

TALKING = (*IDEAS, *CHAT, *UNSAFE)
