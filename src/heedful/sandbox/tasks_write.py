"""The tasks of writing: stories, notes, reviews, recipes, notices, adverts, descriptions (use case generation)."""

from __future__ import annotations

from random import Random

from heedful.sandbox import genres, lexicon
from heedful.sandbox.goals import Facts, Goal, Piece
from heedful.sandbox.templates import REVIEWED, Slots, Template
from heedful.sandbox.world import World

LONG = ("sentences", "use", "avoid", "start", "end")
_CLOSINGS = tuple(closing.lower().rstrip("!.") for closing in genres.CLOSINGS)
SHORT = ("use", "avoid", "start", "end", "words")


def draw_hero(world: World, rng: Random) -> str:
    pick = rng.random()
    if pick < 0.55:
        return lexicon.a(rng.choice(tuple(lexicon.ANIMALS)))
    if pick < 0.8:
        return lexicon.a(rng.choice(tuple(lexicon.JOBS)))
    return rng.choice(world.person_names)


def _two(world: World, rng: Random) -> tuple[str, str]:
    while True:
        first, second = draw_hero(world, rng), draw_hero(world, rng)
        if first != second:
            return first, second


def bare(subject: str) -> str:
    """The noun of "a fox", a name in lower case."""
    return subject.split(" ", 1)[-1].lower()


def _story_goal(world: World, slots: Slots) -> Goal:
    mentions = [(bare(slots["hero"]), 1.0)]
    mentions += [(bare(slots[name]), 0.6) for name in ("hero2", "place") if name in slots]
    return Piece(tuple(mentions), genres.OPENING_CUES, genres.ENDING_CUES, least=3)


def _story_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.story(world, rng, slots["hero"], slots.get("hero2"), slots.get("place"), size)


def _subject(world: World, rng: Random) -> Slots:
    pick = rng.randrange(5)
    if pick == 0:
        return {"subject": rng.choice(world.place_names)}
    if pick == 1:
        return {"subject": rng.choice(world.person_names)}
    if pick == 2:
        return {"subject": rng.choice(lexicon.FOODS)}
    table = rng.choice((lexicon.ANIMALS, lexicon.JOBS, lexicon.THINGS, lexicon.TOOLS))
    return {"subject": lexicon.a(rng.choice(tuple(table)))}


def _facts_of_person(world: World, slots: Slots) -> Goal:
    person = world.people[slots["who"]]
    right = (person.place.lower(), person.job, person.food, person.pet)
    kinds = ("place", "job", "food", "animal")
    return Facts(slots["who"].lower(), right, kinds)


def _facts_of_place(world: World, slots: Slots) -> Goal:
    place = world.places[slots["place"]]
    right = (place.kind, place.side, place.near, place.known_for)
    rivals = {*lexicon.PLACE_KINDS, *lexicon.SIDES, *lexicon.NEAR} - set(right)
    return Facts(slots["place"].lower(), right, ("food", "person", "job"), tuple(sorted(rivals)))


WRITING: tuple[Template, ...] = (
    Template(
        "story", "generation", 8,
        (
            "Write a short story about {hero}.", "Tell me a story about {hero}.", "Please write a story about {hero}.",
            "Can you tell a short story about {hero}?", "I want to read a story about {hero} tonight.",
            "Make up a story about {hero} for my children.", "I need a short story for my class. It should be about {hero}.",
            "My children want to hear a story about {hero}. Please tell one.",
        ),
        lambda world, rng: {"hero": draw_hero(world, rng)}, _story_goal, _story_answer,
        limit=55, loose=1, constraints=LONG,
    ),
    Template(
        "story_of_two", "generation", 7,
        (
            "Write a short story about {hero} and {hero2}.", "Tell me a story about {hero} and {hero2}.",
            "Please write a story in which {hero} meets {hero2}.", "Can you make up a story about {hero} and {hero2}?",
            "My children want to hear how {hero} met {hero2}. Please tell the story.",
            "I need a story about {hero} and {hero2} for my class.",
        ),
        lambda world, rng: dict(zip(("hero", "hero2"), _two(world, rng), strict=True)), _story_goal, _story_answer,
        limit=55, loose=0, constraints=LONG,
    ),
    Template(
        "story_in", "generation", 5,
        (
            "Write a short story about {hero} in {place}.", "Tell me what {hero} did in {place}. Make it up.",
            "Please write a story about {hero}. It should happen in {place}.", "Can you write a story about {hero} who lived in {place}?",
            "I come from {place} and I want a story about {hero} there.",
        ),
        lambda world, rng: {"hero": draw_hero(world, rng), "place": rng.choice(world.place_names)}, _story_goal, _story_answer,
        limit=55, loose=1, constraints=LONG,
    ),
    Template(
        "continue", "generation", 4,
        (
            "Continue this story: {text}", "How does this story go on? {text}", "Please finish this story for me: {text}",
            "Write what happens next: {text}",
        ),
        lambda world, rng: {"text": genres.story(world, rng, draw_hero(world, rng), size=0)[0]},
        lambda world, slots: Piece(((opening_hero(world, slots["text"]), 1.0),), (), genres.ENDING_CUES, least=2),
        lambda world, slots, rng, size: genres.follow_up(world, rng, _as_subject(world, opening_hero(world, slots["text"])), size),
        limit=45, loose=1, constraints=("use", "avoid", "end", "sentences"),
        accepts=lambda world, slots: bool(opening_hero(world, slots["text"])),
    ),
    Template(
        "sentence", "generation", 5,
        (
            "Write a sentence about {subject}.", "Please write one line about {subject}.", "Say something about {subject} in a sentence.",
            "Can you use {subject} in a sentence?", "I am learning to read. Write me an easy sentence about {subject}.",
            "Give me a short sentence with {subject} in it.",
        ),
        _subject, lambda world, slots: Piece(((bare(slots["subject"]), 1.0),), least=1, most=1),
        lambda world, slots, rng, size: [genres.remark(world, rng, slots["subject"])],
        limit=18, loose=0, constraints=("start", "end", "words"),
    ),
    Template(
        "note", "generation", 6,
        (
            "Write a note to {who} about {event} on {day}.", "Please ask {who} to come to {event} on {day}.",
            "I need a short letter that asks {who} to {event} on {day}.", "Can you write to {who} about {event} on {day}?",
            "Help me invite {who} to {event} on {day}.", "Write a kind note so that {who} comes to {event} on {day}.",
        ),
        lambda world, rng: dict(zip(("who", "event", "day"), (rng.choice(world.person_names), *genres.any_event(rng)), strict=True)),
        lambda world, slots: Piece(
            ((slots["who"].lower(), 1.0), (slots["event"].removeprefix("the "), 1.0), (slots["day"].lower(), 0.7)),
            (f"dear {slots['who'].lower()}",), _CLOSINGS, least=2,
        ),
        lambda world, slots, rng, size: genres.note(rng, slots["who"], slots["event"], slots["day"], size),
        limit=40, loose=0, constraints=LONG,
    ),
    Template(
        "thanks", "generation", 4,
        (
            "Write a thank you note to {who} for the {colour} {thing}.", "Please thank {who} for the {colour} {thing}.",
            "{who} gave me a gift, the {colour} {thing}. Write a thank you note for me.",
            "Help me thank {who}, who sent me the {colour} {thing}.", "I want to say thank you to {who} for the {colour} {thing}.",
        ),
        lambda world, rng: {"who": rng.choice(world.person_names), "colour": rng.choice(lexicon.COLOURS),
                            "thing": rng.choice(genres.THINGS_TO_OWN)},
        lambda world, slots: Piece(
            ((slots["who"].lower(), 1.0), (slots["thing"], 1.0), (slots["colour"], 0.4), ("thank", 0.2), ("thanks", 0.2)),
            (f"dear {slots['who'].lower()}",), _CLOSINGS, least=2,
        ),
        lambda world, slots, rng, size: genres.thanks(rng, slots["who"], f"{slots['colour']} {slots['thing']}", size),
        limit=32, loose=0, constraints=LONG,
    ),
    *(
        Template(
            f"{word}_review", "generation", 3,
            tuple(phrase.replace("TONE", word) for phrase in (
                "Write a TONE review of the {item} in {place}.", "Please write a TONE review of the {item} in {place} for me.",
                "I went to {place}. Write a TONE review of the {item} there.", "I need a TONE review of the {item} from {place}.",
                "Help me write a TONE review. It is about the {item} in {place}.",
            )),
            lambda world, rng: {"item": rng.choice(REVIEWED), "place": rng.choice(world.place_names)},
            lambda world, slots, tone=tone: Piece(
                ((slots["item"], 1.0), (slots["place"].lower(), 0.7)), (), genres.REVIEW_ENDS, tone=tone, least=2
            ),
            lambda world, slots, rng, size, tone=tone: genres.review(rng, slots["item"], slots["place"], tone > 0, size),
            limit=34, loose=0, constraints=LONG,
        )
        for word, tone in (("good", 1), ("bad", -1))
    ),
    Template(
        "recipe", "generation", 4,
        (
            "Write a recipe for {ingredient} {dish}.", "How do I make {ingredient} {dish}?", "Tell me how to make {ingredient} {dish}.",
            "I want to cook {ingredient} {dish} tonight. What must I do?", "Please give me an easy recipe for {ingredient} {dish}.",
        ),
        lambda world, rng: {"ingredient": rng.choice(tuple(lexicon.INGREDIENTS)), "dish": rng.choice(lexicon.DISHES)},
        lambda world, slots: Piece(
            ((slots["ingredient"], 1.0), (f"{slots['ingredient']} {slots['dish']}", 0.4), (genres.WORK[slots["dish"]][0], 0.4)),
            ("first",), (f"serve the {slots['ingredient']}",), least=3,
        ),
        lambda world, slots, rng, size: genres.recipe(rng, slots["ingredient"], slots["dish"], size),
        limit=38, loose=0, constraints=("use", "start", "end", "sentences"),
    ),
    Template(
        "lost", "generation", 3,
        (
            "Write a notice about my lost {colour} {animal}. I live in {place}.", "I lost my {colour} {animal} in {place}. Please write a notice.",
            "My {colour} {animal} ran away in {place}. Help me write a note for the wall.",
            "Please write a short notice. A {colour} {animal} is lost in {place}.",
        ),
        lambda world, rng: {"colour": rng.choice(tuple(c for c in lexicon.COLOURS if c != "orange")),
                            "animal": rng.choice(tuple(lexicon.ANIMALS)), "place": rng.choice(world.place_names)},
        lambda world, slots: Piece(
            ((slots["animal"], 1.0), (slots["colour"], 0.5), (slots["place"].lower(), 0.7)), ("lost",), genres.LOST_ENDS, least=3
        ),
        lambda world, slots, rng, size: genres.lost(rng, slots["colour"], slots["animal"], slots["place"], size),
        limit=38, loose=0, constraints=LONG,
    ),
    Template(
        "sale", "generation", 3,
        (
            "Write a notice for my shop. I sell {goods} at the {spot}.", "Please write a notice about the {goods} for sale at the {spot}.",
            "I have {goods} for sale at the {spot}. Write a short notice.", "We sell {goods} at the {spot}. Help me tell people about it.",
        ),
        lambda world, rng: {"goods": draw_goods(rng), "spot": rng.choice(lexicon.SPOTS)},
        lambda world, slots: Piece(
            ((_single(slots["goods"]), 1.0), (slots["spot"], 0.7)), ("for sale",), tuple(day.lower() for day in lexicon.DAYS), least=2
        ),
        lambda world, slots, rng, size: genres.sale(rng, slots["goods"], slots["spot"], size),
        limit=34, loose=0, constraints=LONG,
    ),
    Template(
        "advert", "generation", 4,
        (
            "Write an advert for {goods}.", "I sell {goods}. Write a few words that make people buy.", "Help me sell my {goods} with a short text.",
            "Please write something that makes people want our {goods}.", "My shop sells {goods}. What should the sign say?",
        ),
        lambda world, rng: {"goods": draw_goods(rng)},
        lambda world, slots: Piece(((_single(slots["goods"]), 1.0),), ("come and", "buy our"), ("will love", "for more"), least=2),
        lambda world, slots, rng, size: genres.advert(rng, slots["goods"], size),
        limit=30, loose=0, constraints=LONG,
    ),
    Template(
        "about_person", "generation", 2,
        ("Write a few lines about {who}.", "Who is {who}?", "Tell me about {who}.", "Please describe {who} for my page about our people."),
        lambda world, rng: {"who": rng.choice(world.person_names)}, _facts_of_person,
        lambda world, slots, rng, size: genres.about_person(world, rng, slots["who"], size),
        limit=34, loose=1, constraints=("start", "end", "sentences"),
    ),
    Template(
        "about_place", "generation", 2,
        ("Write a few lines about {place}.", "Tell me about {place}.", "Please describe {place} for a map.", "What should I know about {place}?"),
        lambda world, rng: {"place": rng.choice(world.place_names)}, _facts_of_place,
        lambda world, slots, rng, size: genres.about_place(world, rng, slots["place"], size),
        limit=34, loose=0, constraints=("start", "end", "sentences"),
    ),
)  # fmt: skip


def draw_goods(rng: Random) -> str:
    return rng.choice(lexicon.FOODS if rng.random() < 0.6 else tuple(lexicon.CLOTHES.values()))


def _single(goods: str) -> str:
    return lexicon.SINGULARS.get(goods, goods)


def opening_hero(world: World, text: str) -> str:
    """Whom the first sentence of a story is about: the first being it names, in lower case; "" where there is none."""
    for word in text.rstrip(".").lower().split():
        if world.classes.get(word, ("",))[0] in ("person", "animal", "job"):
            return word
    return ""


def _as_subject(world: World, base: str) -> str:
    name = lexicon.capital(base)
    return name if name in world.people else lexicon.a(base)
