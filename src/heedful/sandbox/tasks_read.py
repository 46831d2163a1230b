"""The tasks of reading: questions about a passage, extraction, summaries, rewriting, labels (closed domain)."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from heedful.sandbox import events, genres, lexicon
from heedful.sandbox.events import Event
from heedful.sandbox.goals import Gist, Goal, Items, Rewritten, Value
from heedful.sandbox.lexicon import capital
from heedful.sandbox.reading import is_rude, read
from heedful.sandbox.tasks_know import SHORT, one_of, say
from heedful.sandbox.templates import Slots, Template, lines
from heedful.sandbox.world import World


def _words_of(event: Event) -> Slots:
    """What a question may quote of an event."""
    return {"who": event.who, "verb": event.verb, "past": event.past, "obj": event.thing, "head": event.head}


def _asked(world: World, slots: Slots) -> Event | None:
    """The event of the passage that the question is about; None where the question does not fit the passage."""
    for event in events.read_passage(world, slots["text"]):
        if all(_words_of(event)[name] == value for name, value in slots.items() if name != "text"):
            return event
    return None


def _event(world: World, slots: Slots) -> Event:
    event = _asked(world, slots)
    assert event is not None
    return event


def _passage(world: World, rng: Random) -> str:
    return " ".join(event.told_somehow(rng) for event in events.several(world, rng, 2))


def _question(
    name: str, asks: tuple[str, ...], value: Callable[[Event], str], short: Callable[[Event], str],
    kinds: tuple[str, ...], forms: tuple[str, ...],
) -> Template:  # fmt: skip
    """A question about an event of a passage.

    `value` is the word that answers it, `short` the shortest sentence, `kinds` the classes of what it may be taken for.
    """
    frames = ("Text: {text} Question: ", "Read this. {text} ", "Here is a text. {text} ", "{text} ")

    def draw(world: World, rng: Random) -> Slots:
        told = events.several(world, rng, 2)
        return {"text": " ".join(event.told_somehow(rng) for event in told), **_words_of(rng.choice(told))}

    def goal(world: World, slots: Slots) -> Goal:
        event = _event(world, slots)
        about = {event.who.lower(), event.head, event.spot.lower()}
        rivals = {base for kind, base in read(world, slots["text"]).named if kind in kinds} - about
        return Value(frozenset({value(event).lower()}), frozenset(rivals), (event.who.lower(), event.head))

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        event = _event(world, slots)
        they = capital(world.people[event.who].they)
        if size == 0 and rng.random() < 0.6:
            return [f"{capital(short(event))}."]
        return [
            rng.choice(forms).format(They=they, thing=event.thing, where=event.where, who=event.who, past=event.past)
        ]

    return Template(
        name, "closed_qa", 1, tuple(frame + ask for frame in frames for ask in asks), draw, goal, answer,
        value=lambda world, slots: value(_event(world, slots)),
        accepts=lambda world, slots: _asked(world, slots) is not None,
        limit=16, closed=True, constraints=("start", "end", "words", "word"),
    )  # fmt: skip


CLOSED: tuple[Template, ...] = (
    _question(
        "what", ("What did {who} {verb}?", "Tell me what {who} {past}."),
        lambda event: event.head, lambda event: event.thing, ("thing", "clothes", "food", "animal"),
        ("We read that {who} {past} {thing}.", "{They} {past} {thing}.", "It says that {who} {past} {thing} {where}."),
    ),
    _question(
        "whom", ("Who {past} {obj}?", "Tell me who {past} {obj}."),
        lambda event: event.who, lambda event: f"it was {event.who}", ("person",),
        ("We read that {who} {past} {thing}.", "It was {who}.", "It says that {who} {past} {thing} {where}."),
    ),
    _question(
        "place", ("Where did {who} {verb} the {head}?", "Where was {who} with the {head}?"),
        lambda event: event.spot, lambda event: event.where, ("spot", "place"),
        ("We read that {who} was {where}.", "{They} was {where}.", "It says that {who} {past} {thing} {where}."),
    ),
)  # fmt: skip


def _extract(name: str, asks: tuple[str, ...], kinds: tuple[str, ...]) -> Template:
    phrasings = tuple(ask + " in this text: {text}" for ask in asks) + tuple(
        "{text} " + ask + " in the text above." for ask in asks
    )

    def items(world: World, text: str) -> list[str]:
        return list(dict.fromkeys(base for kind, base in read(world, text).named if kind in kinds))

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        proper = {**world.people, **world.places}
        found = [capital(item) if capital(item) in proper else item for item in items(world, slots["text"])]
        lead = "The text has" if size else "They are" if len(found) > 1 else "It is"
        return [f"{lead} {lexicon.listed(found)}."]

    def draw(world: World, rng: Random) -> Slots:
        text = _passage(world, rng)
        while not items(world, text):
            text = _passage(world, rng)
        return {"text": text}

    def accepts(world: World, slots: Slots) -> bool:
        return bool(events.read_passage(world, slots["text"]) and items(world, slots["text"]))

    def goal(world: World, slots: Slots) -> Goal:
        right = frozenset(items(world, slots["text"]))
        return Items(right, len(right), len(right), exact=True)

    return Template(
        name, "extract", 1, phrasings, draw, goal, answer, accepts=accepts,
        limit=10, closed=True, constraints=("start", "end"),
    )  # fmt: skip


EXTRACT: tuple[Template, ...] = (
    _extract("names", ("List the names of the people", "Write down who is named", "Find all the people"), ("person",)),
    _extract("spots", ("List the places", "Write down the places named", "Find all the places"), ("spot", "place")),
    _extract("colours", ("List the colours", "Write down the colours named", "Find all the colours"), ("colour",)),
)


def draw_report(world: World, rng: Random) -> str:
    """A passage with one event in it and some colour around."""
    event, fillers = events.draw(world, rng), rng.sample(events.FILLERS, 2)
    after = rng.choice(events.AFTER).format(They=capital(world.people[event.who].they))
    return " ".join(
        [fillers[0], event.told_somehow(rng), after]
        if rng.random() < 0.6
        else [event.told_somehow(rng), after, fillers[1]]
    )


def _gist_goal(world: World, slots: Slots) -> Goal:
    event = events.read_passage(world, slots["text"])[0]
    units = ((event.who.lower(), 0.35), (event.past, 0.2), (event.head, 0.3), (event.spot.lower(), 0.15))
    return Gist(units, read(world, slots["text"]).n_words)


def _gist_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    event = events.read_passage(world, slots["text"])[0]
    where = f" {event.where}" if size else ""
    return [f"In short, {event.who} {event.past} {event.thing}{where}."]


SUMMARY = Template(
    "gist", "summarization", 1,
    lines("""
        Sum this up in a few words: {text}
        What is the main point of this text? {text}
        Make this shorter: {text}
        {text} Tell me in short what happened.
        {text} Please sum up.
        I have no time to read this. What is it about? {text}
        Write a headline for this text: {text}
    """),
    lambda world, rng: {"text": draw_report(world, rng)}, _gist_goal, _gist_answer,
    accepts=lambda world, slots: len(events.read_passage(world, slots["text"])) == 1,
    limit=14, closed=True, constraints=("start", "end", "words"),
)  # fmt: skip


def _rewrite(
    name: str,
    phrasings: str,
    make: Callable[[Event, Slots], str],
    draw_more: Callable[[World, Random, Event], Slots] | None = None,
) -> Template:
    """A sentence in the present tense that has to be changed; `make` gives the right version."""

    def draw(world: World, rng: Random) -> Slots:
        event = events.draw(world, rng)
        return {"text": event.now(), **(draw_more(world, rng, event) if draw_more else {})}

    def gold(world: World, slots: Slots) -> str:
        event = events.read_now(world, slots["text"])
        assert event is not None
        return make(event, slots)

    def accepts(world: World, slots: Slots) -> bool:
        event = events.read_now(world, slots["text"])
        return event is not None and slots.get("who", event.who) == event.who

    return Template(
        name, "rewrite", 1, lines(phrasings), draw, lambda world, slots: Rewritten(slots["text"], gold(world, slots)),
        lambda world, slots, rng, size: [gold(world, slots)], accepts=accepts,
        limit=16, closed=True, constraints=("start", "end"),
    )  # fmt: skip


def _another(world: World, rng: Random, event: Event) -> Slots:
    return {"who": event.who, "who2": rng.choice([name for name in world.person_names if name != event.who])}


REWRITE: tuple[Template, ...] = (
    _rewrite(
        "past",
        """
            Put this in the past: {text}
            Rewrite this so that it happened yesterday: {text}
            Say this in the past tense: {text}
            {text} Please put this sentence in the past.
        """,
        lambda event, slots: event.told(),
    ),
    _rewrite(
        "future",
        """
            Put this in the future: {text}
            Rewrite this so that it will happen: {text}
            Say this in the future tense: {text}
            {text} Please put this sentence in the future.
        """,
        lambda event, slots: event.then(),
    ),
    _rewrite(
        "negative",
        """
            Say that this is not so: {text}
            Rewrite this so that it is not true: {text}
            Put a not in this sentence: {text}
        """,
        lambda event, slots: event.denied(),
    ),
    _rewrite(
        "question",
        """
            Make a question out of this: {text}
            Turn this into a question: {text}
            {text} Please make that a question.
        """,
        lambda event, slots: event.asked(),
    ),
    _rewrite(
        "swap",
        """
            Put {who2} in the place of {who}: {text}
            Change {who} to {who2} in this: {text}
            It was {who2} and not {who}. Correct this: {text}
        """,
        lambda event, slots: event.now().replace(slots["who"], slots["who2"]), _another,
    ),
)  # fmt: skip

REPEAT = Template(
    "repeat", "other", 0.9,
    lines("""
        Repeat this: {text}
        Please say this back to me: {text}
        Copy this line: {text}
        Write this once more: {text}
    """),
    lambda world, rng: {"text": events.draw(world, rng).told_somehow(rng)},
    lambda world, slots: Rewritten(slots["text"], slots["text"]), lambda world, slots, rng, size: [slots["text"]],
    accepts=lambda world, slots: events.read_told(world, slots["text"]) is not None,
    limit=16, closed=True, constraints=("start", "end"),
)  # fmt: skip


def _label(
    name: str, phrasings: str, labels: tuple[str, str], text: Callable[[World, Random, bool], str],
    first: Callable[[World, str], bool | None],
) -> Template:  # fmt: skip
    """One of two labels for a text; `first` says whether the first one is right, None where the text has neither."""

    def right(world: World, slots: Slots) -> str:
        return labels[not first(world, slots["text"])]

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        return say(rng, size, right(world, slots), ("It is {x}.", f"The {name} is {{x}}."))

    return Template(
        name, "classification", 1, lines(phrasings), lambda world, rng: {"text": text(world, rng, rng.random() < 0.5)},
        lambda world, slots: one_of(right(world, slots), labels, (name,)), answer, value=right,
        accepts=lambda world, slots: first(world, slots["text"]) is not None, limit=10, constraints=SHORT,
    )  # fmt: skip


def _is_good(world: World, text: str) -> bool | None:
    if not re.fullmatch(r"(The|I think the) [^.]+\.", text):
        return None
    reading = read(world, text)
    good, bad = reading.has_any(lexicon.GOOD), reading.has_any(lexicon.BAD)
    return good if good != bad else None


def _is_polite(world: World, text: str) -> bool | None:
    if not re.fullmatch(r"[^.?]+[.?]", text):
        return None
    reading = read(world, text)
    polite, rude = reading.has_any(("thank", "please", "welcome", "sorry")), is_rude(reading)
    return polite if rude != polite else None


def _verdict(world: World, rng: Random, good: bool) -> str:
    return genres.review(rng, rng.choice(lexicon.REVIEWED), rng.choice(world.place_names), good, 0)[0]


def _message(world: World, rng: Random, polite: bool) -> str:
    kind = ("Thank you so much, {who}.", "Please come in, {who}.", "Dear {who}, you are welcome.", "I am sorry, {who}.")
    mean = ("Shut up, {who}.", "Go away, {who}, you fool.", "Oh {who}, you are so dumb.", "Who cares, {who}?")
    return rng.choice(kind if polite else mean).format(who=rng.choice(world.person_names))


LABELS: tuple[Template, ...] = (
    _label(
        "review",
        """
            Is this review good or bad? {text}
            Tell me if this review is good or bad: {text}
            {text} Is that review good or bad?
            Label the review as good or bad: {text}
        """,
        ("good", "bad"), _verdict, _is_good,
    ),
    _label(
        "message",
        """
            Is this message rude or polite? {text}
            Tell me if this message is rude or polite: {text}
            I got this message: {text} Is it rude or polite?
            Label the message as rude or polite: {text}
        """,
        ("polite", "rude"), _message, _is_polite,
    ),
)  # fmt: skip

READING = (*CLOSED, *EXTRACT, SUMMARY, *REWRITE, REPEAT, *LABELS)
