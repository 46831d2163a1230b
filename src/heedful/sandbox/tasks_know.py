"""Tasks of knowing: questions about the world, sums, kinds, opposites, odd ones out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from random import Random

from heedful.sandbox import lexicon
from heedful.sandbox.goals import Goal, Value
from heedful.sandbox.lexicon import bare, capital
from heedful.sandbox.templates import Slots, Template, said, template
from heedful.sandbox.world import World

ADDENDS = lexicon.NUMBERS[1:10]


def one_of(value: str, pool: Iterable[str], about: tuple[str, ...]) -> Value:
    """The goal of naming `value` out of `pool`. `about`: words of the question."""
    right = value.lower()
    return Value(frozenset({right}), frozenset(word.lower() for word in pool) - {right}, about)


def say(rng: Random, size: int, value: str, forms: tuple[str, ...], **words: str) -> list[str]:
    """One of the sentences that hold the value as {x}. Brief answers are often shorter than that."""
    if size == 0 and rng.random() < 0.6:
        return [capital(value) + "." if value.startswith(("a ", "an ")) else f"That is {value}."]
    return [capital(rng.choice(forms).format(x=value, **words))]


def draw_person(world: World, rng: Random) -> Slots:
    return {"who": rng.choice(world.person_names)}


def draw_place(world: World, rng: Random) -> Slots:
    return {"place": rng.choice(world.place_names)}


def _fact(
    name: str, of: Callable[[World, str], str], pool: Callable[[World], Iterable[str]], article: bool = False
) -> Template:
    """A question about one fact of a person. `pool` holds the values that the fact may have."""

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        value, they = of(world, slots["who"]), capital(world.people[slots["who"]].they)
        forms = said(name)["answers"]
        return say(rng, size, lexicon.a(value) if article else value, forms, who=slots["who"], They=they)

    return template(
        name, draw_person,
        lambda world, slots: one_of(of(world, slots["who"]), pool(world), (slots["who"].lower(),)), answer,
        lambda world, slots: of(world, slots["who"]),
    )  # fmt: skip


FACTS: tuple[Template, ...] = (
    _fact("home", lambda world, who: world.people[who].place, lambda world: world.places),
    _fact("job", lambda world, who: world.people[who].job, lambda world: lexicon.JOBS, article=True),
    _fact("food", lambda world, who: world.people[who].food, lambda world: lexicon.FOODS),
    _fact("pet", lambda world, who: world.people[who].pet, lambda world: lexicon.ANIMALS, article=True),
)


def _sum(world: World, slots: Slots) -> str:
    return lexicon.NUMBERS[lexicon.number(slots["n"]) + lexicon.number(slots["n2"])]


def _sum_goal(world: World, slots: Slots) -> Goal:
    pool = set(lexicon.NUMBERS) - {slots["n"], slots["n2"]}
    return one_of(_sum(world, slots), pool, ("sum", "answer", "makes"))


def _where(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    form = said("where_is")["detailed"] if size == 2 else rng.choice(said("where_is")["answers"])
    return [form.format(**vars(world.places[slots["place"]]))]


def _where_goal(world: World, slots: Slots) -> Goal:
    place = world.places[slots["place"]]
    right = frozenset({place.near, place.side})
    return Value(right, frozenset({*lexicon.NEAR, *lexicon.SIDES}) - right, (slots["place"].lower(),))


def _known(world: World, slots: Slots) -> str:
    return world.places[slots["place"]].known_for


def kind_of(noun: str) -> str:
    """The kind ("an animal") of "a fox" or "bread", "" for a noun without a kind."""
    return next((one for one, members in lexicon.KINDS.values() if bare(noun) in members), "")


def draw_member(rng: Random) -> str:
    """A noun that has a kind, with its article if it takes one."""
    kind = rng.choice(tuple(lexicon.KINDS))
    noun = rng.choice(lexicon.KINDS[kind][1])
    return noun if kind in ("foods", "colours") else lexicon.a(noun)


def whole_kind(noun: str) -> str:
    """The form of a sentence that says the kind of a noun."""
    form: str = said("kind_of")["countable" if " " in noun else "mass"]
    return form


def say_kind(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    noun = slots["subject"]
    return say(rng, size, kind_of(noun), (whole_kind(noun), *said("kind_of")["answers"]), subject=noun)


_ONES = frozenset(one for one, _ in lexicon.KINDS.values())

GENERAL: tuple[Template, ...] = (
    template(
        "sum", lambda world, rng: {"n": rng.choice(ADDENDS), "n2": rng.choice(ADDENDS)}, _sum_goal,
        lambda world, slots, rng, size: say(rng, size, _sum(world, slots), said("sum")["answers"], **slots), _sum,
        lambda world, slots: slots["n"] in ADDENDS and slots["n2"] in ADDENDS,
    ),
    template(
        "known_for", draw_place,
        lambda world, slots: one_of(_known(world, slots), lexicon.FOODS, (slots["place"].lower(),)),
        lambda world, slots, rng, size: say(rng, size, _known(world, slots), said("known_for")["answers"], **slots),
        _known,
    ),
    template("where_is", draw_place, _where_goal, _where),
    template(
        "kind_of", lambda world, rng: {"subject": draw_member(rng)},
        lambda world, slots: one_of(kind_of(slots["subject"]), _ONES, (bare(slots["subject"]),)), say_kind,
        accepts=lambda world, slots: bool(kind_of(slots["subject"])),
    ),
)  # fmt: skip


def _draw_either(world: World, rng: Random) -> Slots:
    noun = draw_member(rng)
    kinds = [kind_of(noun), rng.choice(sorted(_ONES - {kind_of(noun)}))]
    rng.shuffle(kinds)
    return {"subject": noun, "kindof": kinds[0], "kindof2": kinds[1]}


def _either_goal(world: World, slots: Slots) -> Goal:
    return one_of(kind_of(slots["subject"]), (slots["kindof"], slots["kindof2"]), (bare(slots["subject"]),))


def _odd(world: World, slots: Slots) -> str:
    """The one of four words that is not of the kind of the others, "" if there is none."""
    words = _words_of(slots)
    for _, members in lexicon.KINDS.values():
        outside = [word for word in words if word not in members]
        if len(outside) == 1 and len(words) == 4:
            return outside[0]
    return ""


def _words_of(slots: Slots) -> list[str]:
    return re.split(r", | and ", slots["row"])


def _draw_odd(world: World, rng: Random) -> Slots:
    kind, other = rng.sample(tuple(lexicon.KINDS), 2)
    words = [*rng.sample(lexicon.KINDS[kind][1], 3), rng.choice(lexicon.KINDS[other][1])]
    rng.shuffle(words)
    return {"row": lexicon.listed(words)}


def _opposite(world: World, slots: Slots) -> str:
    return lexicon.OPPOSITES[slots["adj"]]


def _opposite_goal(world: World, slots: Slots) -> Goal:
    pool = set(lexicon.OPPOSITES) - {slots["adj"]}
    return one_of(_opposite(world, slots), pool, (slots["adj"], "opposite"))


def _next_day(world: World, slots: Slots) -> str:
    return lexicon.DAYS[(lexicon.DAYS.index(slots["day"]) + 1) % 7]


def _next_day_goal(world: World, slots: Slots) -> Goal:
    return one_of(_next_day(world, slots), set(lexicon.DAYS) - {slots["day"]}, (slots["day"].lower(), "day"))


PUZZLES: tuple[Template, ...] = (
    template(
        "either", _draw_either, _either_goal, say_kind,
        accepts=lambda world, slots: kind_of(slots["subject"]) in (slots["kindof"], slots["kindof2"]),
    ),
    template(
        "odd", _draw_odd, lambda world, slots: one_of(_odd(world, slots), _words_of(slots), ("word", "odd")),
        lambda world, slots, rng, size: say(rng, size, _odd(world, slots), said("odd")["answers"]), _odd,
        lambda world, slots: bool(_odd(world, slots)),
    ),
    template(
        "opposite", lambda world, rng: {"adj": rng.choice(tuple(lexicon.OPPOSITES))}, _opposite_goal,
        lambda world, slots, rng, size: say(rng, size, _opposite(world, slots), said("opposite")["answers"], **slots),
        _opposite, lambda world, slots: slots["adj"] in lexicon.OPPOSITES,
    ),
    template(
        "next_day", lambda world, rng: {"day": rng.choice(lexicon.DAYS)}, _next_day_goal,
        lambda world, slots, rng, size: say(rng, size, _next_day(world, slots), said("next_day")["answers"], **slots),
        _next_day,
    ),
)  # fmt: skip

KNOWING = (*FACTS, *GENERAL, *PUZZLES)
