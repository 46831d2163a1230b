"""Tasks of reading: questions about a passage, extraction, summaries, rewriting, labels (closed domain)."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from heedful.sandbox import events, genres, lexicon
from heedful.sandbox.events import StoryEvent
from heedful.sandbox.goals import Gist, Goal, Items, Rewritten, Value
from heedful.sandbox.lexicon import capital
from heedful.sandbox.reading import is_rude, read
from heedful.sandbox.tasks_know import one_of, say
from heedful.sandbox.templates import Slots, Template, said, template
from heedful.sandbox.world import World


def _words_of(event: StoryEvent) -> Slots:
    """The parts of an event that a question may quote."""
    return {"who": event.who, "verb": event.verb, "past": event.past, "obj": event.thing, "head": event.head}


def _asked(world: World, slots: Slots) -> StoryEvent | None:
    """The event of the passage that the question is about, None if the question does not fit the passage."""
    for event in events.read_passage(world, slots["text"]):
        if all(_words_of(event)[name] == value for name, value in slots.items() if name != "text"):
            return event
    return None


def _event(world: World, slots: Slots) -> StoryEvent:
    event = _asked(world, slots)
    assert event is not None
    return event


def _passage(world: World, rng: Random) -> str:
    return " ".join(event.told_somehow(rng) for event in events.several(world, rng, 2))


def _draw_question(world: World, rng: Random) -> Slots:
    told = events.several(world, rng, 2)
    return {"text": " ".join(event.told_somehow(rng) for event in told), **_words_of(rng.choice(told))}


def _question(
    name: str, value: Callable[[StoryEvent], str], short: Callable[[StoryEvent], str], kinds: tuple[str, ...]
) -> Template:
    """A question about an event of a passage.

    `value`: the word that answers it. `short`: the shortest sentence. `kinds`: the classes of wrong answers.
    """

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
        form = rng.choice(said(name)["answers"])
        return [form.format(They=they, thing=event.thing, where=event.where, who=event.who, past=event.past)]

    return template(
        name, _draw_question, goal, answer, lambda world, slots: value(_event(world, slots)),
        lambda world, slots: _asked(world, slots) is not None,
    )  # fmt: skip


CLOSED: tuple[Template, ...] = (
    _question("what", lambda event: event.head, lambda event: event.thing, ("thing", "clothes", "food", "animal")),
    _question("whom", lambda event: event.who, lambda event: f"it was {event.who}", ("person",)),
    _question("place", lambda event: event.spot, lambda event: event.where, ("spot", "place")),
)


def _extract(name: str, kinds: tuple[str, ...]) -> Template:
    """List what a passage names of some classes."""

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

    return template(name, draw, goal, answer, accepts=accepts)


EXTRACT: tuple[Template, ...] = (
    _extract("names", ("person",)),
    _extract("spots", ("spot", "place")),
    _extract("colours", ("colour",)),
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


SUMMARY = template(
    "gist", lambda world, rng: {"text": draw_report(world, rng)}, _gist_goal, _gist_answer,
    accepts=lambda world, slots: len(events.read_passage(world, slots["text"])) == 1,
)  # fmt: skip


def _rewrite(
    name: str,
    make: Callable[[StoryEvent, Slots], str],
    draw_more: Callable[[World, Random, StoryEvent], Slots] | None = None,
) -> Template:
    """Change a sentence in the present tense. `make` gives the right version."""

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

    return template(
        name, draw, lambda world, slots: Rewritten(slots["text"], gold(world, slots)),
        lambda world, slots, rng, size: [gold(world, slots)], accepts=accepts,
    )  # fmt: skip


def _another(world: World, rng: Random, event: StoryEvent) -> Slots:
    return {"who": event.who, "who2": rng.choice([name for name in world.person_names if name != event.who])}


REWRITE: tuple[Template, ...] = (
    _rewrite("past", lambda event, slots: event.told()),
    _rewrite("future", lambda event, slots: event.then()),
    _rewrite("negative", lambda event, slots: event.denied()),
    _rewrite("question", lambda event, slots: event.asked()),
    _rewrite("swap", lambda event, slots: event.now().replace(slots["who"], slots["who2"]), _another),
)

REPEAT = template(
    "repeat", lambda world, rng: {"text": events.draw(world, rng).told_somehow(rng)},
    lambda world, slots: Rewritten(slots["text"], slots["text"]), lambda world, slots, rng, size: [slots["text"]],
    accepts=lambda world, slots: events.read_told(world, slots["text"]) is not None,
)  # fmt: skip


def _label(
    name: str, text: Callable[[World, Random, bool], str], first: Callable[[World, str], bool | None]
) -> Template:
    """One of two labels for a text. `first` says whether the first one is right, None if the text has neither."""
    labels = said(name)["labels"]

    def right(world: World, slots: Slots) -> str:
        label: str = labels[not first(world, slots["text"])]
        return label

    return template(
        name, lambda world, rng: {"text": text(world, rng, rng.random() < 0.5)},
        lambda world, slots: one_of(right(world, slots), labels, (name,)),
        lambda world, slots, rng, size: say(rng, size, right(world, slots), said(name)["answers"]), right,
        lambda world, slots: first(world, slots["text"]) is not None,
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
    form: str = rng.choice(said("message")["polite" if polite else "rude"])
    return form.format(who=rng.choice(world.person_names))


LABELS: tuple[Template, ...] = (_label("review", _verdict, _is_good), _label("message", _message, _is_polite))

READING = (*CLOSED, *EXTRACT, SUMMARY, *REWRITE, REPEAT, *LABELS)
