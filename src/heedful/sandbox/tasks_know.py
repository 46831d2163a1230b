"""The tasks of knowing: questions about the world, sums, kinds, opposites, what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from random import Random

from heedful.sandbox import lexicon
from heedful.sandbox.goals import Goal, Value
from heedful.sandbox.lexicon import bare, capital
from heedful.sandbox.templates import Slots, Template, lines
from heedful.sandbox.world import World

FACT = ("start", "end", "words", "word", "sentence")
SHORT = ("start", "end", "word")


def one_of(value: str, pool: Iterable[str], about: tuple[str, ...]) -> Value:
    """The goal of naming `value` out of `pool`; `about`: words of the question."""
    right = value.lower()
    return Value(frozenset({right}), frozenset(word.lower() for word in pool) - {right}, about)


def say(rng: Random, size: int, value: str, forms: tuple[str, ...], **words: str) -> list[str]:
    """One of the sentences that hold the value as {x}; every other brief answer is shorter than that."""
    if size == 0 and rng.random() < 0.6:
        return [capital(value) + "." if value.startswith(("a ", "an ")) else f"That is {value}."]
    return [capital(rng.choice(forms).format(x=value, **words))]


def _fact(
    name: str, phrasings: str, of: Callable[[World, str], str], pool: Callable[[World], Iterable[str]],
    forms: tuple[str, ...], article: bool = False,
) -> Template:  # fmt: skip
    """A question about one fact of a person; `forms` hold {who}, {They}, {x}."""

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        value, they = of(world, slots["who"]), capital(world.people[slots["who"]].they)
        return say(rng, size, lexicon.a(value) if article else value, forms, who=slots["who"], They=they)

    return Template(
        name, "open_qa", 1, lines(phrasings), lambda world, rng: {"who": rng.choice(world.person_names)},
        lambda world, slots: one_of(of(world, slots["who"]), pool(world), (slots["who"].lower(),)), answer,
        value=lambda world, slots: of(world, slots["who"]), limit=16, constraints=FACT,
    )  # fmt: skip


FACTS: tuple[Template, ...] = (
    _fact(
        "home",
        """
            Where does {who} live?
            Tell me where {who} lives.
            Do you know where {who} lives?
            In which place does {who} live?
            I want to visit {who}. Where should I go?
            I have a letter for {who}. Where does it have to go?
            Can you tell me where {who} has a house?
        """,
        lambda world, who: world.people[who].place, lambda world: world.places,
        ("The home of {who} is {x}.", "{They} lives in {x}.", "I know that {who} lives in {x}."),
    ),
    _fact(
        "job",
        """
            What is the job of {who}?
            What does {who} do for a living?
            What work does {who} do?
            Tell me what {who} does for work.
            Do you know what {who} works as?
            I met {who} today. What is the work of {who}?
        """,
        lambda world, who: world.people[who].job, lambda world: lexicon.JOBS,
        ("By trade {who} is {x}.", "{They} works as {x}.", "I know that {who} works as {x}."), article=True,
    ),
    _fact(
        "food",
        """
            What does {who} like to eat?
            Which food does {who} like best?
            Tell me what {who} likes to eat.
            My friend {who} comes to dinner. What should I cook?
            I want to cook for {who}. What does {who} like?
        """,
        lambda world, who: world.people[who].food, lambda world: lexicon.FOODS,
        ("The best food for {who} is {x}.", "{They} likes {x} best.", "I know that {who} likes {x}."),
    ),
    _fact(
        "pet",
        """
            What pet does {who} have?
            Which animal does {who} keep?
            Tell me which animal lives with {who}.
            Do you know what pet {who} has?
            I hear an animal in the house of {who}. What is it?
        """,
        lambda world, who: world.people[who].pet, lambda world: lexicon.ANIMALS,
        ("The pet of {who} is {x}.", "{They} has {x}.", "I know that {who} has {x}."), article=True,
    ),
)  # fmt: skip


def _sum(world: World, slots: Slots) -> str:
    return lexicon.NUMBERS[lexicon.number(slots["n"]) + lexicon.number(slots["n2"])]


def _sum_goal(world: World, slots: Slots) -> Goal:
    pool = set(lexicon.NUMBERS) - {slots["n"], slots["n2"]}
    return one_of(_sum(world, slots), pool, ("sum", "answer", "makes"))


def _sum_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    forms = ("The sum of {n} and {n2} is {x}.", "The answer is {x}.", "That makes {x}.", "It is {x}.")
    return say(rng, size, _sum(world, slots), forms, **slots)


def _where(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    place = world.places[slots["place"]]
    forms = ("You find {name} {near}.", "The {kind} of {name} is {near}.", "It is {near}.", "It lies in the {side}.")
    form = "You find {name} {near} in the {side}." if size == 2 else rng.choice(forms)
    return [form.format(name=place.name, kind=place.kind, near=place.near, side=place.side)]


def _where_goal(world: World, slots: Slots) -> Goal:
    place = world.places[slots["place"]]
    right = frozenset({place.near, place.side})
    return Value(right, frozenset({*lexicon.NEAR, *lexicon.SIDES}) - right, (slots["place"].lower(),))


def _known(world: World, slots: Slots) -> str:
    return world.places[slots["place"]].known_for


def kind_of(noun: str) -> str:
    """The kind ("an animal") of "a fox" or "bread"; "" for what is of none."""
    return next((one for one, members in lexicon.KINDS.values() if bare(noun) in members), "")


def draw_member(rng: Random) -> str:
    """Something that is of a kind, with its article if it takes one."""
    kind = rng.choice(tuple(lexicon.KINDS))
    noun = rng.choice(lexicon.KINDS[kind][1])
    return noun if kind in ("foods", "colours") else lexicon.a(noun)


def whole_kind(noun: str) -> str:
    """The form of a sentence that says its kind."""
    return "{subject} is {x}." if " " in noun else "People call {subject} {x}."


def say_kind(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    noun = slots["subject"]
    return say(rng, size, kind_of(noun), (whole_kind(noun), "It is {x}."), subject=noun)


_ONES = frozenset(one for one, _ in lexicon.KINDS.values())

GENERAL: tuple[Template, ...] = (
    Template(
        "sum", "open_qa", 1,
        lines("""
            What is {n} plus {n2}?
            How much is {n} and {n2}?
            I have {n} eggs and buy {n2} more. How many do I have?
            Please add {n} and {n2} for me.
            There are {n} men and {n2} women here. How many people is that?
        """),
        lambda world, rng: {"n": rng.choice(lexicon.NUMBERS[1:10]), "n2": rng.choice(lexicon.NUMBERS[1:10])},
        _sum_goal, _sum_answer, value=_sum, limit=14, constraints=FACT,
        accepts=lambda world, slots: all(slots[n] in lexicon.NUMBERS[1:10] for n in ("n", "n2")),
    ),
    Template(
        "known_for", "open_qa", 1,
        lines("""
            What is {place} known for?
            What can I buy in {place}?
            Tell me what {place} is known for.
            I am going to {place}. What should I try there?
            Which food comes from {place}?
        """),
        lambda world, rng: {"place": rng.choice(world.place_names)},
        lambda world, slots: one_of(_known(world, slots), lexicon.FOODS, (slots["place"].lower(),)),
        lambda world, slots, rng, size: say(
            rng, size, _known(world, slots),
            ("People know {place} for its {x}.", "It is known for its {x}.", "You should try the {x} in {place}."),
            **slots,
        ),
        value=_known, limit=16, constraints=FACT,
    ),
    Template(
        "where_is", "open_qa", 1,
        lines("""
            Where is {place}?
            Tell me where {place} lies.
            How can I find {place}?
            Do you know where {place} is?
            I am on the road to {place}. Where is it?
        """),
        lambda world, rng: {"place": rng.choice(world.place_names)}, _where_goal, _where,
        limit=16, constraints=("start", "end", "words", "sentence"),
    ),
    Template(
        "kind_of", "open_qa", 1,
        lines("""
            What is {subject}?
            What kind of thing is {subject}?
            My child asks what {subject} is. What should I say?
            Do you know what {subject} is?
        """),
        lambda world, rng: {"subject": draw_member(rng)},
        lambda world, slots: one_of(kind_of(slots["subject"]), _ONES, (bare(slots["subject"]),)),
        say_kind, limit=12, constraints=("start", "end", "words"),
        accepts=lambda world, slots: bool(kind_of(slots["subject"])),
    ),
)  # fmt: skip


def _draw_either(world: World, rng: Random) -> Slots:
    noun = draw_member(rng)
    kinds = [kind_of(noun), rng.choice(sorted(_ONES - {kind_of(noun)}))]
    rng.shuffle(kinds)
    return {"subject": noun, "kindof": kinds[0], "kindof2": kinds[1]}


def _odd(slots: Slots) -> str:
    """The one of four words that is not of the others' kind; "" where there is none."""
    words = re.split(r", | and ", slots["row"])
    for _, members in lexicon.KINDS.values():
        outside = [word for word in words if word not in members]
        if len(outside) == 1 and len(words) == 4:
            return outside[0]
    return ""


def _draw_odd(world: World, rng: Random) -> Slots:
    kind, other = rng.sample(tuple(lexicon.KINDS), 2)
    words = [*rng.sample(lexicon.KINDS[kind][1], 3), rng.choice(lexicon.KINDS[other][1])]
    rng.shuffle(words)
    return {"row": lexicon.listed(words)}


def _next_day(world: World, slots: Slots) -> str:
    return lexicon.DAYS[(lexicon.DAYS.index(slots["day"]) + 1) % 7]


def _opposite(world: World, slots: Slots) -> str:
    return lexicon.OPPOSITES[slots["adj"]]


PUZZLES: tuple[Template, ...] = (
    Template(
        "either", "classification", 1.2,
        lines("""
            Is {subject} {kindof} or {kindof2}?
            Tell me if {subject} is {kindof} or {kindof2}.
            Would you call {subject} {kindof} or {kindof2}?
        """),
        _draw_either,
        lambda world, slots: one_of(
            kind_of(slots["subject"]), (slots["kindof"], slots["kindof2"]), (bare(slots["subject"]),)
        ),
        say_kind, limit=12, constraints=("start", "end", "words"),
        accepts=lambda world, slots: kind_of(slots["subject"]) in (slots["kindof"], slots["kindof2"]),
    ),
    Template(
        "odd", "other", 1,
        lines("""
            Which word does not fit: {row}?
            Find the odd one out: {row}.
            Look at these words: {row}. Which one is not like the others?
        """),
        _draw_odd, lambda world, slots: one_of(_odd(slots), re.split(r", | and ", slots["row"]), ("word", "odd")),
        lambda world, slots, rng, size: say(
            rng, size, _odd(slots), ("The word {x} does not fit.", "The odd one is {x}.")
        ),
        value=lambda world, slots: _odd(slots), accepts=lambda world, slots: bool(_odd(slots)),
        limit=12, constraints=SHORT,
    ),
    Template(
        "opposite", "other", 0.9,
        lines("""
            What is the opposite of {adj}?
            Which word means the opposite of {adj}?
            Tell me the opposite of {adj}.
            My friend says {adj}. I want to say the opposite. What is it?
        """),
        lambda world, rng: {"adj": rng.choice(tuple(lexicon.OPPOSITES))},
        lambda world, slots: one_of(
            _opposite(world, slots), set(lexicon.OPPOSITES) - {slots["adj"]}, (slots["adj"], "opposite")
        ),
        lambda world, slots, rng, size: say(
            rng, size, _opposite(world, slots), ("The opposite of {adj} is {x}.", "It is {x}."), **slots
        ),
        value=_opposite, limit=12, constraints=SHORT, accepts=lambda world, slots: slots["adj"] in lexicon.OPPOSITES,
    ),
    Template(
        "next_day", "other", 0.5,
        lines("""
            Which day comes after {day}?
            Today is {day}. What day is it tomorrow?
            What is the next day after {day}?
        """),
        lambda world, rng: {"day": rng.choice(lexicon.DAYS)},
        lambda world, slots: one_of(
            _next_day(world, slots), set(lexicon.DAYS) - {slots["day"]}, (slots["day"].lower(), "day")
        ),
        lambda world, slots, rng, size: say(
            rng, size, _next_day(world, slots),
            ("The day after {day} is {x}.", "It is {x}.", "The next day is {x}."), **slots,
        ),
        value=_next_day, limit=12, constraints=SHORT,
    ),
)  # fmt: skip

KNOWING = (*FACTS, *GENERAL, *PUZZLES)
