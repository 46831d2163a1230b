"""Tasks of writing: stories, notes, reviews, recipes, notices, adverts, descriptions (use case generation)."""

from __future__ import annotations

import re
from random import Random

from heedful.sandbox import genres, lexicon
from heedful.sandbox.goals import Facts, Goal, Piece
from heedful.sandbox.lexicon import bare
from heedful.sandbox.tasks_know import draw_person, draw_place
from heedful.sandbox.templates import Slots, Template, template
from heedful.sandbox.world import World


def draw_hero(world: World, rng: Random) -> str:
    """A subject for a story: an animal, a job or a person."""
    pick = rng.random()
    if pick < 0.55:
        return lexicon.a(rng.choice(tuple(lexicon.ANIMALS)))
    if pick < 0.8:
        return lexicon.a(rng.choice(tuple(lexicon.JOBS)))
    return rng.choice(world.person_names)


def draw_two(world: World, rng: Random) -> tuple[str, str]:
    """Two different subjects for a story."""
    while True:
        first, second = draw_hero(world, rng), draw_hero(world, rng)
        if first != second:
            return first, second


def draw_goods(rng: Random) -> str:
    """Goods that a shop sells."""
    return rng.choice(lexicon.FOODS if rng.random() < 0.6 else tuple(lexicon.CLOTHES.values()))


def _story_goal(world: World, slots: Slots) -> Goal:
    mentions = [(bare(slots["hero"]), 1.0)]
    mentions += [(bare(slots[name]), 0.6) for name in ("hero2", "place") if name in slots]
    return Piece(tuple(mentions), genres.STORY_OPENS, genres.CLOSES["story"], least=3)


def _story_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.story(world, rng, slots["hero"], slots.get("hero2"), slots.get("place"), size)


def _hero_of(world: World, text: str) -> str:
    """The first being that the first sentence of a story names, in lower case. "" for other sentences."""
    if re.fullmatch(r"(Long|Once|One|Early) [^.]+\.", text):
        for word in text.rstrip(".").lower().split():
            if world.classes.get(word, ("",))[0] in ("person", "animal", "job"):
                return word
    return ""


def _next_goal(world: World, slots: Slots) -> Goal:
    base = _hero_of(world, slots["text"])
    name = lexicon.capital(base)
    they = world.people[name].they if name in world.people else "it" if base in lexicon.ANIMALS else "she|he"
    return Piece(((base, 0.3), (f"{base}|{they}", 0.7)), (), genres.CLOSES["story"], least=2)


def _next_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    """What happens after the first sentence of a story."""
    base = _hero_of(world, slots["text"])
    name = lexicon.capital(base)
    told = genres.story(world, rng, name if name in world.people else lexicon.a(base), size=max(1, size))[1:]
    return [f"Then {told[0]}" if told[0].startswith(name + " ") else told[0], *told[1:]]


STORIES: tuple[Template, ...] = (
    template("story", lambda world, rng: {"hero": draw_hero(world, rng)}, _story_goal, _story_answer),
    template(
        "story_of_two", lambda world, rng: dict(zip(("hero", "hero2"), draw_two(world, rng), strict=True)),
        _story_goal, _story_answer,
    ),
    template(
        "story_in", lambda world, rng: {"hero": draw_hero(world, rng), **draw_place(world, rng)},
        _story_goal, _story_answer,
    ),
    template(
        "continue", lambda world, rng: {"text": genres.story(world, rng, draw_hero(world, rng), size=0)[0]},
        _next_goal, _next_answer, accepts=lambda world, slots: bool(_hero_of(world, slots["text"])),
    ),
)  # fmt: skip


def _letter_goal(who: str, *mentions: tuple[str, float]) -> Goal:
    return Piece(((who.lower(), 1.0), *mentions), (f"dear {who.lower()}",), genres.CLOSES["letter"], least=3)


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
    template(
        "note", _draw_note, _note_goal,
        lambda world, slots, rng, size: genres.note(rng, slots["who"], slots["event"], slots["day"], size),
    ),
    template(
        "thanks", _draw_thanks, _thanks_goal,
        lambda world, slots, rng, size: genres.thanks(rng, slots["who"], f"{slots['colour']} {slots['thing']}", size),
    ),
)  # fmt: skip


def _draw_reviewed(world: World, rng: Random) -> Slots:
    return {"item": rng.choice(lexicon.REVIEWED), **draw_place(world, rng)}


def _review(name: str, tone: int) -> Template:
    """Write a review. `tone`: 1 praise, -1 blame."""

    def goal(world: World, slots: Slots) -> Goal:
        mentions = ((slots["item"], 1.0), (slots["place"].lower(), 0.7))
        return Piece(mentions, (), genres.CLOSES["review"], tone=tone, least=3)

    return template(
        name, _draw_reviewed, goal,
        lambda world, slots, rng, size: genres.review(rng, slots["item"], slots["place"], tone > 0, size),
    )  # fmt: skip


REVIEWS: tuple[Template, ...] = (_review("good_review", 1), _review("bad_review", -1))


def _recipe_goal(world: World, slots: Slots) -> Goal:
    dish = f"{slots['ingredient']} {slots['dish']}"
    mentions = ((slots["ingredient"], 1.0), (dish, 0.4), (genres.WORK[slots["dish"]][0], 0.4))
    return Piece(mentions, ("first",), (f"serve the {dish}",), least=3)


def _lost_goal(world: World, slots: Slots) -> Goal:
    mentions = ((slots["animal"], 1.0), (slots["colour"], 0.5), (slots["place"].lower(), 0.7))
    return Piece(mentions, ("lost",), genres.CLOSES["lost"], least=3)


def _draw_lost(world: World, rng: Random) -> Slots:
    animal = rng.choice(tuple(lexicon.ANIMALS))
    colour = rng.choice([word for word in lexicon.COLOURS if word != "orange"])
    return {"colour": colour, "animal": animal, **draw_place(world, rng)}


def _lost_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    return genres.lost(rng, slots["colour"], slots["animal"], slots["place"], size)


def _goods_goal(world: World, slots: Slots) -> Goal:
    goods = lexicon.SINGULARS.get(slots["goods"], slots["goods"])
    if "spot" in slots:
        days = tuple(day.lower() for day in lexicon.DAYS)
        return Piece(((goods, 1.0), (slots["spot"], 0.7)), ("for sale",), days, least=3)
    return Piece(((goods, 1.0),), ("come and", "buy our"), genres.CLOSES["advert"], least=3)


def _draw_recipe(world: World, rng: Random) -> Slots:
    return {"ingredient": rng.choice(tuple(lexicon.INGREDIENTS)), "dish": rng.choice(lexicon.DISHES)}


NOTICES: tuple[Template, ...] = (
    template(
        "recipe", _draw_recipe, _recipe_goal,
        lambda world, slots, rng, size: genres.recipe(rng, slots["ingredient"], slots["dish"], size),
    ),
    template("lost", _draw_lost, _lost_goal, _lost_answer),
    template(
        "sale", lambda world, rng: {"goods": draw_goods(rng), "spot": rng.choice(lexicon.AT_SPOTS)}, _goods_goal,
        lambda world, slots, rng, size: genres.sale(rng, slots["goods"], slots["spot"], size),
    ),
    template(
        "advert", lambda world, rng: {"goods": draw_goods(rng)}, _goods_goal,
        lambda world, slots, rng, size: genres.advert(rng, slots["goods"], size),
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
    template(
        "sentence", _draw_subject, lambda world, slots: Piece(((bare(slots["subject"]), 1.0),), most=1),
        lambda world, slots, rng, size: [genres.remark(world, rng, slots["subject"])],
    ),
    template(
        "about_person", draw_person, _person_goal,
        lambda world, slots, rng, size: genres.about_person(world, rng, slots["who"], size),
    ),
    template(
        "about_place", draw_place, _place_goal,
        lambda world, slots, rng, size: genres.about_place(world, rng, slots["place"], size),
    ),
)  # fmt: skip

WRITING = (*STORIES, *LETTERS, *REVIEWS, *NOTICES, *LINES)
