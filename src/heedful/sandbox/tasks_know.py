"""The tasks of knowing and reading: open and closed questions, extraction, summaries, classification."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from heedful.sandbox import events, genres, lexicon
from heedful.sandbox.goals import Gist, Goal, Items, Value
from heedful.sandbox.reading import read
from heedful.sandbox.templates import Slots, Template
from heedful.sandbox.world import Person, World

FACT = ("start", "end", "words", "word", "sentences")


def _lower(words: object) -> frozenset[str]:
    return frozenset(word.lower() for word in words)  # type: ignore[attr-defined]


def _fact(
    name: str, phrasings: tuple[str, ...], of: Callable[[Person], str], all_of: Callable[[World], object], sayings: tuple[str, ...],
    article: bool = False,
) -> Template:  # fmt: skip
    """A question about one fact of a person. `sayings` hold {who}, {They}, {x}."""

    def goal(world: World, slots: Slots) -> Goal:
        right = frozenset({of(world.people[slots["who"]]).lower()})
        return Value(right, _lower(all_of(world)) - right, (slots["who"].lower(),))

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        person = world.people[slots["who"]]
        x = of(person)
        x = lexicon.a(x) if article else x
        if size == 0 and rng.random() < 0.5:
            return [f"{lexicon.capital(x)}."]
        first = rng.choice(sayings).format(who=slots["who"], They=lexicon.capital(person.they), x=x)
        more = rng.choice(("I am sure of it.", "All our friends know that.", "I hope that helps you."))
        return [first, more] if size == 2 and rng.random() < 0.4 else [first]

    return Template(
        name, "open_qa", 1, phrasings, lambda world, rng: {"who": rng.choice(world.person_names)}, goal, answer,
        value=lambda world, slots: of(world.people[slots["who"]]), limit=18, constraints=FACT,
    )  # fmt: skip


FACTS: tuple[Template, ...] = (
    _fact(
        "home",
        (
            "Where does {who} live?", "Tell me where {who} lives.", "Do you know where {who} lives?", "In which place does {who} live?",
            "I want to visit {who}. Where should I go?", "I have a letter for {who}. Where does it have to go?",
            "Can you tell me where {who} has a house?",
        ),
        lambda person: person.place, lambda world: world.places,
        ("{who} lives in {x}.", "{They} lives in {x}.", "{who} has a house in {x}."),
    ),
    _fact(
        "job",
        (
            "What is the job of {who}?", "What does {who} do for a living?", "What work does {who} do?", "Tell me what {who} does for work.",
            "Do you know what {who} works as?", "I met {who} today. What is the work of {who}?",
        ),
        lambda person: person.job, lambda world: lexicon.JOBS,
        ("{who} works as {x}.", "{who} is {x}.", "{They} works as {x}."), article=True,
    ),
    _fact(
        "food",
        (
            "What does {who} like to eat?", "Which food does {who} like best?", "Tell me what {who} likes to eat.",
            "{who} comes to dinner. What should I cook?", "I want to cook for {who}. What does {who} like?",
        ),
        lambda person: person.food, lambda world: lexicon.FOODS,
        ("{who} likes to eat {x}.", "{who} likes {x}.", "{They} likes {x} best."),
    ),
    _fact(
        "pet",
        (
            "What pet does {who} have?", "Which animal does {who} keep?", "Tell me which animal lives with {who}.",
            "Do you know what pet {who} has?", "I hear an animal in the house of {who}. What is it?",
        ),
        lambda person: person.pet, lambda world: lexicon.ANIMALS,
        ("{who} has {x}.", "{who} keeps {x}.", "{They} has {x}."), article=True,
    ),
)  # fmt: skip


def _sum_goal(world: World, slots: Slots) -> Goal:
    first, second = lexicon.NUMBERS.index(slots["n"]), lexicon.NUMBERS.index(slots["n2"])
    right = lexicon.NUMBERS[first + second]
    return Value(frozenset({right}), frozenset(lexicon.NUMBERS) - {right, slots["n"], slots["n2"]}, ("is", "makes"))


def _sum_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    total = _sum(world, slots)
    if size == 0:
        return [f"{lexicon.capital(total)}."]
    form = rng.choice(("{n} plus {n2} is {t}.", "{n} and {n2} makes {t}.", "the answer is {t}.", "it is {t}."))
    return [lexicon.capital(form.format(t=total, **slots))]


def _sum(world: World, slots: Slots) -> str:
    return lexicon.NUMBERS[lexicon.NUMBERS.index(slots["n"]) + lexicon.NUMBERS.index(slots["n2"])]


def _draw_sum(world: World, rng: Random) -> Slots:
    return {"n": lexicon.NUMBERS[rng.randint(1, 9)], "n2": lexicon.NUMBERS[rng.randint(1, 9)]}


def _kind_of(noun: str) -> str:
    """The kind ("an animal") of "a fox" or "bread"."""
    bare = noun.split(" ", 1)[-1]
    return next((one for one, members in lexicon.KINDS.values() if bare in members), "")


def _draw_member(rng: Random) -> str:
    kind = rng.choice(tuple(lexicon.KINDS))
    noun = rng.choice(lexicon.KINDS[kind][1])
    return noun if kind in ("foods", "colours") else lexicon.a(noun)


_ONES = frozenset(one for one, _ in lexicon.KINDS.values())

GENERAL: tuple[Template, ...] = (
    Template(
        "sum", "open_qa", 1,
        (
            "What is {n} plus {n2}?", "How much is {n} and {n2}?", "I have {n} eggs and buy {n2} more. How many do I have?",
            "Please add {n} and {n2} for me.", "There are {n} men and {n2} women here. How many people is that?",
        ),
        _draw_sum, _sum_goal, _sum_answer, value=_sum, limit=14, constraints=FACT,
        accepts=lambda world, slots: all(1 <= lexicon.NUMBERS.index(slots[n].lower()) <= 9 for n in ("n", "n2")),
    ),
    Template(
        "known_for", "open_qa", 1,
        (
            "What is {place} known for?", "What can I buy in {place}?", "Tell me what {place} is known for.",
            "I am going to {place}. What should I try there?", "Which food comes from {place}?",
        ),
        lambda world, rng: {"place": rng.choice(world.place_names)},
        lambda world, slots: Value(
            frozenset({world.places[slots["place"]].known_for}),
            frozenset(lexicon.FOODS) - {world.places[slots["place"]].known_for}, (slots["place"].lower(),),
        ),
        lambda world, slots, rng, size: [
            f"{lexicon.capital(world.places[slots['place']].known_for)}." if size == 0 and rng.random() < 0.5 else
            rng.choice(("{place} is known for its {x}.", "It is known for its {x}.", "You should try the {x} in {place}.")).format(
                place=slots["place"], x=world.places[slots["place"]].known_for)
        ],
        value=lambda world, slots: world.places[slots["place"]].known_for, limit=16, constraints=FACT,
    ),
    Template(
        "where_is", "open_qa", 1,
        (
            "Where is {place}?", "Tell me where {place} lies.", "How can I find {place}?", "Do you know where {place} is?",
            "I am on the road to {place}. Where is it?",
        ),
        lambda world, rng: {"place": rng.choice(world.place_names)},
        lambda world, slots: Value(
            frozenset({world.places[slots["place"]].near, world.places[slots["place"]].side}),
            frozenset({*lexicon.NEAR, *lexicon.SIDES}) - {world.places[slots["place"]].near, world.places[slots["place"]].side},
            (slots["place"].lower(),),
        ),
        lambda world, slots, rng, size: [_where(world, slots["place"], rng, size)],
        limit=16, constraints=("start", "end", "words", "sentences"),
    ),
    Template(
        "kind_of", "open_qa", 1,
        ("What is {subject}?", "What kind of thing is {subject}?", "My child asks what {subject} is. What should I say?", "Do you know what {subject} is?"),
        lambda world, rng: {"subject": _draw_member(rng)},
        lambda world, slots: Value(
            frozenset({_kind_of(slots["subject"])}), _ONES - {_kind_of(slots["subject"])}, (slots["subject"].split(" ", 1)[-1],)
        ),
        lambda world, slots, rng, size: [
            rng.choice(("{S} is {x}.", "It is {x}.")).format(S=lexicon.capital(slots["subject"]), x=_kind_of(slots["subject"]))
        ],
        limit=12, constraints=("start", "end", "words"), accepts=lambda world, slots: bool(_kind_of(slots["subject"])),
    ),
)  # fmt: skip


def _where(world: World, name: str, rng: Random, size: int) -> str:
    place = world.places[name]
    forms = ("{name} is {near}.", "{name} lies in the {side}.", "It is {near}.") if size < 2 else ("{name} lies {near} in the {side}.",)
    return rng.choice(forms).format(name=name, near=place.near, side=place.side)


def _passage(world: World, rng: Random, count: int = 2) -> str:
    return " ".join(event.told(rng) for event in events.several(world, rng, count))


def _event_of(world: World, slots: Slots) -> events.Event | None:
    """The event of the passage that the question is about; None where the question does not fit the passage."""
    for event in events.found_in(world, slots["text"]):
        asked = {"who": event.who, "verb": event.verb, "past": event.past, "obj": event.thing, "head": event.head}
        if all(asked[name] == value for name, value in slots.items() if name != "text"):
            return event
    return None


def _closed(
    name: str, asks: tuple[str, ...], keys: tuple[str, ...], value: Callable[[events.Event], str], short: Callable[[events.Event], str],
    kinds: tuple[str, ...], sayings: tuple[str, ...],
) -> Template:  # fmt: skip
    """A question about one event of a passage; `keys` are its slots, `value` the word that answers it."""
    frames = ("Text: {text} Question: ", "Read this. {text} ", "Here is a text. {text} ", "{text} ")

    def event_of(world: World, slots: Slots) -> events.Event:
        event = _event_of(world, slots)
        assert event is not None
        return event

    def draw(world: World, rng: Random) -> Slots:
        told = events.several(world, rng, 2)
        asked = rng.choice(told)
        words = {"who": asked.who, "verb": asked.verb, "past": asked.past, "obj": asked.thing, "head": asked.head}
        return {"text": " ".join(event.told(rng) for event in told)} | {key: words[key] for key in keys}

    def goal(world: World, slots: Slots) -> Goal:
        event = event_of(world, slots)
        right = frozenset({value(event).lower()})
        about = frozenset({event.who.lower(), event.head, event.spot.lower()})
        rivals = {base for kind, base in read(world, slots["text"]).named if kind in kinds} - right - about
        return Value(right, frozenset(rivals), (event.who.lower(), event.head))

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        event = event_of(world, slots)
        if size == 0 and rng.random() < 0.5:
            return [f"{lexicon.capital(short(event))}."]
        they = lexicon.capital(world.people[event.who].they)
        saying = rng.choice(sayings)
        return [saying.format(who=event.who, They=they, past=event.past, thing=event.thing, where=event.where)]

    return Template(
        name, "closed_qa", 1, tuple(frame + ask for frame in frames for ask in asks), draw, goal, answer,
        value=lambda world, slots: value(event_of(world, slots)), limit=16, closed=True,
        constraints=("start", "end", "words", "word"), accepts=lambda world, slots: _event_of(world, slots) is not None,
    )  # fmt: skip


_OBJECTS = ("thing", "clothes", "food", "animal")
CLOSED: tuple[Template, ...] = (
    _closed(
        "what", ("What did {who} {verb}?", "Tell me what {who} {past}."), ("who", "verb", "past"),
        lambda event: event.head, lambda event: event.thing, _OBJECTS,
        ("{who} {past} {thing}.", "{They} {past} {thing}.", "{who} {past} {thing} {where}."),
    ),
    _closed(
        "whom", ("Who {past} {obj}?", "Tell me who {past} {obj}."), ("past", "obj"),
        lambda event: event.who, lambda event: event.who, ("person",),
        ("{who} {past} {thing}.", "It was {who}.", "{who} {past} {thing} {where}."),
    ),
    _closed(
        "place", ("Where did {who} {verb} the {head}?", "Where was {who} with the {head}?"), ("who", "verb", "head"),
        lambda event: event.spot, lambda event: event.where, ("spot", "place"),
        ("{who} was {where}.", "{They} was {where}.", "{who} {past} {thing} {where}."),
    ),
)  # fmt: skip


def _extract(name: str, asks: tuple[str, ...], kinds: tuple[str, ...]) -> Template:
    frames = ("{ask} {text}", "{text} {ask2}")
    phrasings = tuple(frames[0].format(ask=ask + " in this text:", text="{text}") for ask in asks)
    phrasings += tuple(frames[1].format(ask2=ask + " in the text above.", text="{text}") for ask in asks)

    def items(world: World, text: str) -> list[str]:
        seen = [base for kind, base in read(world, text).named if kind in kinds]
        return list(dict.fromkeys(seen))

    def goal(world: World, slots: Slots) -> Goal:
        right = frozenset(items(world, slots["text"]))
        return Items(right, len(right), len(right), exactly=right)

    def answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
        found = items(world, slots["text"])
        found = [lexicon.capital(item) if lexicon.capital(item) in world.people or lexicon.capital(item) in world.places else item for item in found]
        line = lexicon.listed(found)
        return [f"{lexicon.capital(line)}." if size < 2 else f"The text has {line}."]

    def draw(world: World, rng: Random) -> Slots:
        while True:
            text = _passage(world, rng)
            if items(world, text):
                return {"text": text}

    return Template(
        name, "extract", 1, phrasings, draw, goal, answer, limit=10, closed=True, constraints=("start", "end"),
        accepts=lambda world, slots: bool(items(world, slots["text"])),
    )  # fmt: skip


EXTRACT: tuple[Template, ...] = (
    _extract("names", ("List the names of the people", "Write down who is named", "Find all the people"), ("person",)),
    _extract("spots", ("List the places", "Write down the places named", "Find all the places"), ("spot", "place")),
    _extract("colours", ("List the colours", "Write down the colours named", "Find all the colours"), ("colour",)),
)  # fmt: skip


def _draw_gist(world: World, rng: Random) -> Slots:
    event = events.draw(world, rng)
    fillers = rng.sample(events.FILLERS, 2)
    they = lexicon.capital(world.people[event.who].they)
    after = rng.choice(("{they} was very happy.", "{they} told all the people.", "{they} did not sleep that night.")).format(they=they)
    lines = [fillers[0], event.told(rng), after] if rng.random() < 0.6 else [event.told(rng), after, fillers[1]]
    return {"text": " ".join(lines)}


def _gist_goal(world: World, slots: Slots) -> Goal:
    event = events.found_in(world, slots["text"])[0]
    units = ((event.who.lower(), 0.35), (event.past, 0.2), (event.head, 0.3), (event.spot.lower(), 0.15))
    return Gist(units, read(world, slots["text"]).n_words)


def _gist_answer(world: World, slots: Slots, rng: Random, size: int) -> list[str]:
    event = events.found_in(world, slots["text"])[0]
    return [f"{event.who} {event.past} {event.thing}." if size == 0 else event.told()]


SUMMARY: tuple[Template, ...] = (
    Template(
        "gist", "summarization", 1,
        (
            "Sum this up in a few words: {text}", "What is the main point of this text? {text}", "Make this shorter: {text}",
            "{text} Tell me in short what happened.", "{text} Please sum up.", "I have no time to read this. What is it about? {text}",
            "Write a headline for this text: {text}",
        ),
        _draw_gist, _gist_goal, _gist_answer, limit=14, closed=True, constraints=("start", "end", "words"),
        accepts=lambda world, slots: len(events.found_in(world, slots["text"])) == 1,
    ),
)  # fmt: skip


def _label(name: str, phrasings: tuple[str, ...], labels: tuple[str, str], text: Callable[[World, Random, bool], str],
           is_first: Callable[[World, str], bool | None], noun: str) -> Template:  # fmt: skip
    def right(world: World, slots: Slots) -> str:
        return labels[0] if is_first(world, slots["text"]) else labels[1]

    return Template(
        name, "classification", 1, phrasings, lambda world, rng: {"text": text(world, rng, rng.random() < 0.5)},
        lambda world, slots: Value(frozenset({right(world, slots)}), frozenset(labels) - {right(world, slots)}, (noun,)),
        lambda world, slots, rng, size: [
            f"{lexicon.capital(right(world, slots))}." if size == 0 else
            rng.choice(("It is {x}.", f"The {noun} is {{x}}.")).format(x=right(world, slots))
        ],
        value=right, limit=10, closed=False, constraints=("start", "end", "word"),
        accepts=lambda world, slots: is_first(world, slots["text"]) is not None,
    )  # fmt: skip


def _sentiment(world: World, text: str) -> bool | None:
    words = read(world, text)
    good, bad = words.has_any(lexicon.GOOD), words.has_any(lexicon.BAD)
    return good if good != bad else None


def _manners_text(world: World, rng: Random, polite: bool) -> str:
    who = rng.choice(world.person_names)
    if polite:
        return rng.choice(("Thank you so much, {who}.", "Please come in, {who}.", "Dear {who}, you are welcome.", "I am sorry, {who}.")).format(who=who)
    return rng.choice(("Shut up, {who}.", "Go away, {who}, you fool.", "{who}, you are so dumb.", "Who cares, {who}?")).format(who=who)


def _manners(world: World, text: str) -> bool | None:
    words = read(world, text)
    rude = words.has_any(lexicon.RUDE) or words.has_any(lexicon.RUDE_PHRASES)
    polite = words.has_any(("thank", "please", "welcome", "sorry"))
    return polite if rude != polite else None


def _review_line(world: World, rng: Random, good: bool) -> str:
    while True:
        text = genres.review(rng, rng.choice(("inn", "bread", "soup", "cake", "market")), rng.choice(world.place_names), good, 0)[0]
        if _sentiment(world, text) is good:
            return text


LABELS: tuple[Template, ...] = (
    _label("sentiment", ("Is this review good or bad? {text}", "Tell me if this review is good or bad: {text}", "{text} Is that review good or bad?",
                         "Label the review as good or bad: {text}"),
           ("good", "bad"), _review_line, _sentiment, "review"),
    _label("manners", ("Is this message rude or polite? {text}", "Tell me if this message is rude or polite: {text}",
                       "I got this message: {text} Is it rude or polite?", "Label the message as rude or polite: {text}"),
           ("polite", "rude"), _manners_text, _manners, "message"),
)  # fmt: skip


def _draw_either(world: World, rng: Random) -> Slots:
    noun = _draw_member(rng)
    other = rng.choice(sorted(_ONES - {_kind_of(noun)}))
    kinds = [_kind_of(noun), other]
    rng.shuffle(kinds)
    return {"subject": noun, "kindof": kinds[0], "kindof2": kinds[1]}


EITHER = Template(
    "either", "classification", 1,
    ("Is {subject} {kindof} or {kindof2}?", "Tell me if {subject} is {kindof} or {kindof2}.", "Would you call {subject} {kindof} or {kindof2}?"),
    _draw_either,
    lambda world, slots: Value(
        frozenset({_kind_of(slots["subject"])}), frozenset({slots["kindof"], slots["kindof2"]}) - {_kind_of(slots["subject"])},
        (slots["subject"].split(" ", 1)[-1],),
    ),
    lambda world, slots, rng, size: [
        lexicon.capital(_kind_of(slots["subject"])) + "." if size == 0 else
        rng.choice(("{S} is {x}.", "It is {x}.")).format(S=lexicon.capital(slots["subject"]), x=_kind_of(slots["subject"]))
    ],
    limit=12, constraints=("start", "end", "words"),
    accepts=lambda world, slots: slots["kindof"] in _ONES and slots["kindof2"] in _ONES and bool(_kind_of(slots["subject"])),
)  # fmt: skip

KNOWING = (*FACTS, *GENERAL, *CLOSED, *EXTRACT, *SUMMARY, *LABELS, EITHER)
