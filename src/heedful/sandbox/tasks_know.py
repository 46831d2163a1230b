"""The tasks of knowing: questions about the world, sums, kinds, opposites, what does not fit."""

from __future__ import annotations

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
            I want to visit {who}. Where should I go?
        """,
        lambda world, who: world.people[who].place, lambda world: world.places,
        ("The home of {who} is {x}.", "{They} lives in {x}.", "I know that {who} lives in {x}."),
    ),
    _fact(
        "job",
        """
            What is the job of {who}?
            What does {who} do for a living?
            Tell me what {who} does for work.
        """,
        lambda world, who: world.people[who].job, lambda world: lexicon.JOBS,
        ("By trade {who} is {x}.", "{They} works as {x}.", "I know that {who} works as {x}."), article=True,
    ),
    _fact(
        "food",
        """
            What does {who} like to eat?
            Tell me what {who} likes to eat.
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
    forms = ("The sum of {n} and {n2} is {x}.", "The answer is {x}.", "It is {x}.")
    return say(rng, size, _sum(world, slots), forms, **slots)


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
            Please add {n} and {n2} for me.
        """),
        lambda world, rng: {"n": rng.choice(lexicon.NUMBERS[1:7]), "n2": rng.choice(lexicon.NUMBERS[1:7])},
        _sum_goal, _sum_answer, value=_sum, limit=14, constraints=FACT,
        accepts=lambda world, slots: all(slots[n] in lexicon.NUMBERS[1:7] for n in ("n", "n2")),
    ),
    Template(
        "known_for", "open_qa", 1,
        lines("""
            What is {place} known for?
            I am going to {place}. What should I try there?
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
        "kind_of", "open_qa", 1,
        lines("""
            What is {subject}?
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
        """),
        _draw_either,
        lambda world, slots: one_of(
            kind_of(slots["subject"]), (slots["kindof"], slots["kindof2"]), (bare(slots["subject"]),)
        ),
        say_kind, limit=12, constraints=("start", "end", "words"),
        accepts=lambda world, slots: kind_of(slots["subject"]) in (slots["kindof"], slots["kindof2"]),
    ),
    Template(
        "opposite", "other", 1,
        lines("""
            What is the opposite of {adj}?
            Tell me the opposite of {adj}.
            Which word means the opposite of {adj}?
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
