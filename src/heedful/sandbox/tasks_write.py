"""The tasks of writing: stories, notes, reviews, recipes, notices, adverts, descriptions (use case generation)."""

from __future__ import annotations

from random import Random

from heedful.sandbox import genres, lexicon
from heedful.sandbox.goals import Facts, Goal, Piece
from heedful.sandbox.lexicon import bare
from heedful.sandbox.templates import Slots, Template, lines
from heedful.sandbox.world import World

LONG = ("sentences", "use", "avoid", "start", "end")


def draw_hero(world: World, rng: Random) -> str:
    """Whom a story can be about."""
    pick = rng.random()
    if pick < 0.55:
        return lexicon.a(rng.choice(tuple(lexicon.ANIMALS)))
    if pick < 0.8:
        return lexicon.a(rng.choice(tuple(lexicon.JOBS)))
    return rng.choice(world.person_names)


def draw_two(world: World, rng: Random) -> tuple[str, str]:
    """Two of them, not the same."""
    while True:
        first, second = draw_hero(world, rng), draw_hero(world, rng)
        if first != second:
            return first, second


def draw_goods(rng: Random) -> str:
    """What a shop sells."""
    return rng.choice(lexicon.GOODS)


def _story_goal(world: World, slots: Slots) -> Goal:
    mentions = [(bare(slots["hero"]), 1.0)]
    mentions += [(bare(slots[name]), 0.6) for name in ("hero2", "place") if name in slots]
    return Piece(tuple(mentions), genres.STORY_OPENS, genres.STORY_CLOSES, least=3)


def _story_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.story(world, rng, slots["hero"], slots.get("hero2"), slots.get("place"), size)


STORIES: tuple[Template, ...] = (
    Template(
        "story", "generation", 9,
        lines("""
            Write a short story about {hero}.
            Tell me a story about {hero}.
            I want to read a story about {hero}.
            My children want to hear a story about {hero}.
        """),
        lambda world, rng: {"hero": draw_hero(world, rng)}, _story_goal, _story_answer,
        limit=55, loose=1, constraints=LONG,
    ),
    Template(
        "story_of_two", "generation", 8,
        lines("""
            Write a short story about {hero} and {hero2}.
            Tell me a story about {hero} and {hero2}.
            Please write a story in which {hero} meets {hero2}.
        """),
        lambda world, rng: dict(zip(("hero", "hero2"), draw_two(world, rng), strict=True)), _story_goal, _story_answer,
        limit=55, constraints=LONG,
    ),
    Template(
        "story_in", "generation", 4,
        lines("""
            Write a short story about {hero} in {place}.
            Tell me a story about {hero} who lived in {place}.
        """),
        lambda world, rng: {"hero": draw_hero(world, rng), "place": rng.choice(world.place_names)},
        _story_goal, _story_answer, limit=55, loose=1, constraints=LONG,
    ),
)  # fmt: skip


def _letter_goal(who: str, *mentions: tuple[str, float]) -> Goal:
    return Piece(((who.lower(), 1.0), *mentions), (f"dear {who.lower()}",), genres.LETTER_CLOSES, least=3)


def _note_goal(world: World, slots: Slots) -> Goal:
    return _letter_goal(slots["who"], (bare(slots["event"]), 1.0), (slots["day"].lower(), 0.7))


def _thanks_goal(world: World, slots: Slots) -> Goal:
    return _letter_goal(slots["who"], (slots["thing"], 1.0), (slots["colour"], 0.4), ("thank|thanks", 0.4))


def _draw_note(world: World, rng: Random) -> Slots:
    event, day = genres.any_event(rng)
    return {"who": rng.choice(world.person_names), "event": event, "day": day}


def _draw_thanks(world: World, rng: Random) -> Slots:
    colour, thing = rng.choice(lexicon.COLOURS), rng.choice(lexicon.OWNED)
    return {"who": rng.choice(world.person_names), "colour": colour, "thing": thing}


LETTERS: tuple[Template, ...] = (
    Template(
        "note", "generation", 6,
        lines("""
            Write a note to {who} about {event} on {day}.
            Please ask {who} to come to {event} on {day}.
            Help me invite {who} to {event} on {day}.
        """),
        _draw_note, _note_goal,
        lambda world, slots, rng, size: genres.note(rng, slots["who"], slots["event"], slots["day"], size),
        limit=40, constraints=LONG, carrier="I will bring a {word} too.",
    ),
    Template(
        "thanks", "generation", 4,
        lines("""
            Write a thank you note to {who} for the {colour} {thing}.
            Help me thank {who} for the {colour} {thing}.
            I want to say thank you to {who} for the {colour} {thing}.
        """),
        _draw_thanks, _thanks_goal,
        lambda world, slots, rng, size: genres.thanks(rng, slots["who"], f"{slots['colour']} {slots['thing']}", size),
        limit=36, constraints=LONG, carrier="I will send you a {word} too.",
    ),
)  # fmt: skip


def _review(word: str, tone: int) -> Template:
    def goal(world: World, slots: Slots) -> Goal:
        mentions = ((slots["item"], 1.0), (slots["place"].lower(), 0.7))
        return Piece(mentions, (), genres.REVIEW_CLOSES, tone=tone, least=3)

    return Template(
        f"{word}_review", "generation", 3,
        lines("""
            Write a TONE review of the {item} in {place}.
            I need a TONE review of the {item} in {place}.
            Help me write a TONE review of the {item} in {place}.
        """.replace("TONE", word)),
        lambda world, rng: {"item": rng.choice(lexicon.REVIEWED), "place": rng.choice(world.place_names)}, goal,
        lambda world, slots, rng, size: genres.review(rng, slots["item"], slots["place"], tone > 0, size),
        limit=34, constraints=LONG, carrier="There was a {word} by the wall.",
    )  # fmt: skip


def _lost_goal(world: World, slots: Slots) -> Goal:
    mentions = ((slots["animal"], 1.0), (slots["colour"], 0.5), (slots["place"].lower(), 0.7))
    return Piece(mentions, ("lost",), genres.LOST_CLOSES, least=3)


def _draw_lost(world: World, rng: Random) -> Slots:
    animal, colour = rng.choice(tuple(lexicon.ANIMALS)), rng.choice(lexicon.COLOURS)
    return {"colour": colour, "animal": animal, "place": rng.choice(world.place_names)}


def _lost_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.lost(rng, slots["colour"], slots["animal"], slots["place"], size)


def _goods_goal(world: World, slots: Slots) -> Goal:
    goods = lexicon.SINGULARS.get(slots["goods"], slots["goods"])
    return Piece(((goods, 1.0),), ("come and",), genres.ADVERT_CLOSES, least=3)


NOTICES: tuple[Template, ...] = (
    Template(
        "lost", "generation", 4,
        lines("""
            Write a notice about my lost {colour} {animal} in {place}.
            I lost my {colour} {animal} in {place}. Please write a notice.
            My {colour} {animal} ran away in {place}. Please write a notice.
        """),
        _draw_lost, _lost_goal, _lost_answer, limit=38, constraints=LONG, carrier="It sat by a {word}.",
    ),
    Template(
        "advert", "generation", 5,
        lines("""
            Write an advert for {goods}.
            Help me sell my {goods} with a short text.
            My shop sells {goods}. What should the sign say?
        """),
        lambda world, rng: {"goods": draw_goods(rng)}, _goods_goal,
        lambda world, slots, rng, size: genres.advert(rng, slots["goods"], size),
        limit=30, constraints=LONG, carrier="Look for the {word}.",
    ),
)  # fmt: skip


def _draw_subject(world: World, rng: Random) -> Slots:
    pick = rng.randrange(6)
    if pick < 3:
        return {"subject": rng.choice((world.place_names, world.person_names, lexicon.FOODS)[pick])}
    table = rng.choice((lexicon.ANIMALS, lexicon.JOBS, lexicon.THINGS, lexicon.TOOLS))
    return {"subject": lexicon.a(rng.choice(tuple(table)))}


def _person_goal(world: World, slots: Slots) -> Goal:
    person = world.people[slots["who"]]
    facts = (person.place.lower(), person.job, person.food, person.pet)
    return Facts(slots["who"].lower(), facts, ("place", "job", "food", "animal"))


LINES: tuple[Template, ...] = (
    Template(
        "sentence", "generation", 6,
        lines("""
            Write a sentence about {subject}.
            Please write one line about {subject}.
            Can you use {subject} in a sentence?
        """),
        _draw_subject, lambda world, slots: Piece(((bare(slots["subject"]), 1.0),), most=1),
        lambda world, slots, rng, size: [genres.remark(world, rng, slots["subject"])],
        limit=18, constraints=("start", "end", "words"),
    ),
    Template(
        "about_person", "generation", 2,
        lines("""
            Write a few lines about {who}.
            Tell me about {who}.
            Who is {who}?
        """),
        lambda world, rng: {"who": rng.choice(world.person_names)}, _person_goal,
        lambda world, slots, rng, size: genres.about_person(world, rng, slots["who"], size),
        limit=34, loose=1, constraints=("start", "end", "sentences"),
    ),
)  # fmt: skip

WRITING = (*STORIES, *LETTERS, _review("good", 1), _review("bad", -1), *NOTICES, *LINES)
