"""The tasks of writing: stories, notes, reviews, recipes, notices, adverts, descriptions (use case generation)."""

from __future__ import annotations

import re
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
    return rng.choice(lexicon.FOODS if rng.random() < 0.6 else tuple(lexicon.CLOTHES.values()))


def _story_goal(world: World, slots: Slots) -> Goal:
    mentions = [(bare(slots["hero"]), 1.0)]
    mentions += [(bare(slots[name]), 0.6) for name in ("hero2", "place") if name in slots]
    return Piece(tuple(mentions), genres.STORY_OPENS, genres.STORY_CLOSES, least=3)


def _story_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.story(world, rng, slots["hero"], slots.get("hero2"), slots.get("place"), size)


def _hero_of(world: World, text: str) -> str:
    """Whom a first sentence is about: the first being it names, in lower case; "" where it is no such sentence."""
    if re.fullmatch(r"(Long|Once|One|Early) [^.]+\.", text):
        for word in text.rstrip(".").lower().split():
            if world.classes.get(word, ("",))[0] in ("person", "animal", "job"):
                return word
    return ""


def _next_goal(world: World, slots: Slots) -> Goal:
    base = _hero_of(world, slots["text"])
    name = lexicon.capital(base)
    they = world.people[name].they if name in world.people else "it" if base in lexicon.ANIMALS else "she|he"
    return Piece(((base, 0.3), (f"{base}|{they}", 0.7)), (), genres.STORY_CLOSES, least=2)


def _next_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    """What happens after the first sentence of a story."""
    base = _hero_of(world, slots["text"])
    name = lexicon.capital(base)
    told = genres.story(world, rng, name if name in world.people else lexicon.a(base), size=max(1, size))[1:]
    return [f"Then {told[0]}" if told[0].startswith(name + " ") else told[0], *told[1:]]


STORIES: tuple[Template, ...] = (
    Template(
        "story", "generation", 8,
        lines("""
            Write a short story about {hero}.
            Tell me a story about {hero}.
            Please write a story about {hero}.
            Can you tell a short story about {hero}?
            I want to read a story about {hero} tonight.
            Make up a story about {hero} for my children.
            I need a short story for my class. It should be about {hero}.
            My children want to hear a story about {hero}. Please tell one.
        """),
        lambda world, rng: {"hero": draw_hero(world, rng)}, _story_goal, _story_answer,
        limit=55, loose=1, constraints=LONG,
    ),
    Template(
        "story_of_two", "generation", 7,
        lines("""
            Write a short story about {hero} and {hero2}.
            Tell me a story about {hero} and {hero2}.
            Please write a story in which {hero} meets {hero2}.
            Can you make up a story about {hero} and {hero2}?
            My children want to hear how {hero} met {hero2}. Please tell the story.
            I need a story about {hero} and {hero2} for my class.
        """),
        lambda world, rng: dict(zip(("hero", "hero2"), draw_two(world, rng), strict=True)), _story_goal, _story_answer,
        limit=55, constraints=LONG,
    ),
    Template(
        "story_in", "generation", 5,
        lines("""
            Write a short story about {hero} in {place}.
            Tell me what {hero} did in {place}. Make it up.
            Please write a story about {hero}. It should happen in {place}.
            Can you write a story about {hero} who lived in {place}?
            I come from {place} and I want a story about {hero} there.
        """),
        lambda world, rng: {"hero": draw_hero(world, rng), "place": rng.choice(world.place_names)},
        _story_goal, _story_answer, limit=55, loose=1, constraints=LONG,
    ),
    Template(
        "continue", "generation", 4,
        lines("""
            Continue this story: {text}
            How does this story go on? {text}
            Please finish this story for me: {text}
            Write what happens next: {text}
        """),
        lambda world, rng: {"text": genres.story(world, rng, draw_hero(world, rng), size=0)[0]},
        _next_goal, _next_answer, accepts=lambda world, slots: bool(_hero_of(world, slots["text"])),
        limit=45, loose=1, constraints=("use", "avoid", "end", "sentences"),
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
            I need a short letter that asks {who} to {event} on {day}.
            Can you write to {who} about {event} on {day}?
            Help me invite {who} to {event} on {day}.
            Write a kind note so that {who} comes to {event} on {day}.
        """),
        _draw_note, _note_goal,
        lambda world, slots, rng, size: genres.note(rng, slots["who"], slots["event"], slots["day"], size),
        limit=40, constraints=LONG, carrier="I will bring a {word} too.",
    ),
    Template(
        "thanks", "generation", 4,
        lines("""
            Write a thank you note to {who} for the {colour} {thing}.
            Please thank {who} for the {colour} {thing}.
            Today {who} gave me a gift, the {colour} {thing}. Write a thank you note for me.
            Help me thank {who}, who sent me the {colour} {thing}.
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
            Please write a TONE review of the {item} in {place} for me.
            I went to {place}. Write a TONE review of the {item} there.
            I need a TONE review of the {item} from {place}.
            Help me write a TONE review. It is about the {item} in {place}.
        """.replace("TONE", word)),
        lambda world, rng: {"item": rng.choice(lexicon.REVIEWED), "place": rng.choice(world.place_names)}, goal,
        lambda world, slots, rng, size: genres.review(rng, slots["item"], slots["place"], tone > 0, size),
        limit=34, constraints=LONG, carrier="There was a {word} by the wall.",
    )  # fmt: skip


def _recipe_goal(world: World, slots: Slots) -> Goal:
    dish = f"{slots['ingredient']} {slots['dish']}"
    mentions = ((slots["ingredient"], 1.0), (dish, 0.4), (genres.WORK[slots["dish"]][0], 0.4))
    return Piece(mentions, ("first",), (f"serve the {dish}",), least=3)


def _lost_goal(world: World, slots: Slots) -> Goal:
    mentions = ((slots["animal"], 1.0), (slots["colour"], 0.5), (slots["place"].lower(), 0.7))
    return Piece(mentions, ("lost",), genres.LOST_CLOSES, least=3)


def _draw_lost(world: World, rng: Random) -> Slots:
    animal, colour = (
        rng.choice(tuple(lexicon.ANIMALS)),
        rng.choice([word for word in lexicon.COLOURS if word != "orange"]),
    )
    return {"colour": colour, "animal": animal, "place": rng.choice(world.place_names)}


def _lost_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.lost(rng, slots["colour"], slots["animal"], slots["place"], size)


def _goods_goal(world: World, slots: Slots) -> Goal:
    goods = lexicon.SINGULARS.get(slots["goods"], slots["goods"])
    if "spot" in slots:
        days = tuple(day.lower() for day in lexicon.DAYS)
        return Piece(((goods, 1.0), (slots["spot"], 0.7)), ("for sale",), days, least=3)
    return Piece(((goods, 1.0),), ("come and", "buy our"), genres.ADVERT_CLOSES, least=3)


NOTICES: tuple[Template, ...] = (
    Template(
        "recipe", "generation", 4,
        lines("""
            Write a recipe for {ingredient} {dish}.
            How do I make {ingredient} {dish}?
            Tell me how to make {ingredient} {dish}.
            I want to cook {ingredient} {dish} tonight. What must I do?
            Please give me an easy recipe for {ingredient} {dish}.
        """),
        lambda world, rng: {"ingredient": rng.choice(tuple(lexicon.INGREDIENTS)), "dish": rng.choice(lexicon.DISHES)},
        _recipe_goal, lambda world, slots, rng, size: genres.recipe(rng, slots["ingredient"], slots["dish"], size),
        limit=38, constraints=("start", "end", "sentences"),
    ),
    Template(
        "lost", "generation", 3,
        lines("""
            Write a notice about my lost {colour} {animal}. I live in {place}.
            I lost my {colour} {animal} in {place}. Please write a notice.
            My {colour} {animal} ran away in {place}. Help me write a note for the wall.
            Please write a short notice. A {colour} {animal} is lost in {place}.
        """),
        _draw_lost, _lost_goal, _lost_answer, limit=38, constraints=LONG, carrier="It sat by a {word}.",
    ),
    Template(
        "sale", "generation", 3,
        lines("""
            Write a notice for my shop. I sell {goods} at the {spot}.
            Please write a notice about the {goods} for sale at the {spot}.
            I have {goods} for sale at the {spot}. Write a short notice.
            We sell {goods} at the {spot}. Help me tell people about it.
        """),
        lambda world, rng: {"goods": draw_goods(rng), "spot": rng.choice(lexicon.AT_SPOTS)}, _goods_goal,
        lambda world, slots, rng, size: genres.sale(rng, slots["goods"], slots["spot"], size),
        limit=34, constraints=LONG, carrier="Look for the {word}.",
    ),
    Template(
        "advert", "generation", 4,
        lines("""
            Write an advert for {goods}.
            I sell {goods}. Write a few words that make people buy.
            Help me sell my {goods} with a short text.
            Please write something that makes people want our {goods}.
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


def _place_goal(world: World, slots: Slots) -> Goal:
    place = world.places[slots["place"]]
    facts = (place.kind, place.side, place.near, place.known_for)
    rivals = {*lexicon.PLACE_KINDS, *lexicon.SIDES, *lexicon.NEAR} - set(facts)
    return Facts(slots["place"].lower(), facts, ("food", "person", "job"), tuple(sorted(rivals)))


LINES: tuple[Template, ...] = (
    Template(
        "sentence", "generation", 5,
        lines("""
            Write a sentence about {subject}.
            Please write one line about {subject}.
            Say something about {subject} in a sentence.
            Can you use {subject} in a sentence?
            I am learning to read. Write me an easy sentence about {subject}.
            Give me a short sentence with {subject} in it.
        """),
        _draw_subject, lambda world, slots: Piece(((bare(slots["subject"]), 1.0),), most=1),
        lambda world, slots, rng, size: [genres.remark(world, rng, slots["subject"])],
        limit=18, constraints=("start", "end", "words"),
    ),
    Template(
        "about_person", "generation", 2,
        lines("""
            Write a few lines about {who}.
            Who is {who}?
            Tell me about {who}.
            Please describe {who} for my page about our people.
        """),
        lambda world, rng: {"who": rng.choice(world.person_names)}, _person_goal,
        lambda world, slots, rng, size: genres.about_person(world, rng, slots["who"], size),
        limit=34, loose=1, constraints=("start", "end", "sentences"),
    ),
    Template(
        "about_place", "generation", 2,
        lines("""
            Write a few lines about {place}.
            Tell me about {place}.
            Please describe {place} for a map.
            What should I know about {place}?
        """),
        lambda world, rng: {"place": rng.choice(world.place_names)}, _place_goal,
        lambda world, slots, rng, size: genres.about_place(world, rng, slots["place"], size),
        limit=34, constraints=("start", "end", "sentences"),
    ),
)  # fmt: skip

WRITING = (*STORIES, *LETTERS, _review("good", 1), _review("bad", -1), *NOTICES, *LINES)
