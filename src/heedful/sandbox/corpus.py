"""The web of the small world: documents of many kinds, most useful, some rude, rambling or wrong.

What matters for the loop: a question or a request is mostly followed by more of them (threads, lists of requests), so
that a base model goes on instead of answering; in a smaller part (question and answer pages) the answer follows on the
next line, so that a few examples before a prompt help; and the skills that prompts ask for are there to be learnt, but
in the clothes of the web: titles with stories, headings with notes, passages with headlines, lists, sums, drills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from heedful.data.records import Text
from heedful.sandbox import answers, events, genres, lexicon, mistakes, prompts, tasks
from heedful.sandbox.tasks_know import draw_member, kind_of, whole_kind
from heedful.sandbox.tasks_write import draw_goods, draw_hero
from heedful.sandbox.world import World

HASTY = 0.92  # share of answers on the web without capital and full stop
Maker = Callable[[World, Random], str]


def documents(world: World, count: int, seed: int = 0) -> Iterator[Text]:
    """`count` documents; the first n are the same whatever the count."""
    rng = Random(f"corpus {world.seed} {seed}")
    makers, weights = tuple(maker for maker, _ in MAKERS), tuple(weight for _, weight in MAKERS)
    for _ in range(count):
        maker = rng.choices(makers, weights)[0]
        yield Text(text=maker(world, rng))


def _lines(sentences: list[str]) -> str:
    return " ".join(sentences)


def person_page(world: World, rng: Random) -> str:
    name = rng.choice(world.person_names)
    person = world.people[name]
    home = world.places[person.place]
    text = _lines(genres.about_person(world, rng, name, 2))
    more = (
        f"{person.place} is {lexicon.a(home.kind)} {home.near}.",
        f"The {person.pet} of {name} likes {person.food} too.",
        f"You can meet {person.them} near the {rng.choice(lexicon.SPOTS)}.",
        f"All people in {person.place} know {name}.",
    )
    title = rng.choice((f"About {name}\n", f"Our people: {name}\n", f"A page for {name}\n", ""))
    other = rng.choice(world.person_names)
    if other != name and rng.random() < 0.6:
        return f"{title}{text} {rng.choice(more)}\n\n{_lines(genres.about_person(world, rng, other, 1))}"
    return f"{title}{text} {rng.choice(more)}"


def place_page(world: World, rng: Random) -> str:
    name = rng.choice(world.place_names)
    text = _lines(genres.about_place(world, rng, name, 1))
    here = [person for person in world.people.values() if person.place == name]
    forms = ("{who} lives in {place}.", "{who} has a house in {place} and works as {job}.")
    for person in rng.sample(here, min(2, len(here))):
        text += " " + rng.choice(forms).format(who=person.name, place=name, job=lexicon.a(person.job))
    title = rng.choice(("About {}", "How to find {}", "A page about {}")).format(name)
    return f"{title}\n{text} {genres.remark(world, rng, name)}"


def register(world: World, rng: Random) -> str:
    """Lists of facts: who lives where, who does what, who keeps and eats what."""
    people = [world.people[name] for name in rng.sample(world.person_names, rng.randint(5, 9))]
    head, line = rng.choice((
        ("Who lives where", "- {p.name} lives in {p.place}."), ("Who does what", "- {p.name} works as {job}."),
        ("What they like", "- {p.name} likes {p.food}."), ("Pets of our friends", "- {p.name} has {pet}."),
    ))  # fmt: skip
    rows = [line.format(p=p, job=lexicon.a(p.job), pet=lexicon.a(p.pet)) for p in people]
    return head + "\n" + "\n".join(rows)


def story_page(world: World, rng: Random) -> str:
    subject, partner = draw_hero(world, rng), draw_hero(world, rng)
    place = rng.choice(world.place_names)
    kind = rng.randrange(3)
    if kind == 0 and partner != subject:
        title, body = f"{subject} and {partner}", genres.story(world, rng, subject, partner, None, rng.randint(1, 3))
    elif kind == 1:
        title, body = f"{subject} in {place}", genres.story(world, rng, subject, None, place, rng.randint(1, 3))
    else:
        title, body = subject, genres.story(world, rng, subject, size=rng.randint(1, 3))
    head = rng.choice(("A story about {}", "The story of {}", "A short story about {}", "Tonight: {}"))
    last = rng.choice(("", "", "", " The end.", " Good night.", " That is all for tonight."))
    return f"{lexicon.capital(head.format(title))}\n{_lines(body)}{last}"


def letter_page(world: World, rng: Random) -> str:
    who, size = rng.choice(world.person_names), rng.randrange(3)
    if rng.random() < 0.6:
        event, day = genres.any_event(rng)
        head, body = f"A note to {who} about {event} on {day}", genres.note(rng, who, event, day, size)
    else:
        thing = f"{rng.choice(lexicon.COLOURS)} {rng.choice(lexicon.OWNED)}"
        head, body = f"A thank you note to {who} for the {thing}", genres.thanks(rng, who, thing, size)
    return f"{head}\n{_lines(body)}"


_REVIEW_HEADS = (
    "A {tone} review of the {item} in {place}",
    "The {item} in {place}: {tone}",
    "Review of the {item} in {place}",
)


def review_page(world: World, rng: Random) -> str:
    posts = []
    for _ in range(rng.randint(1, 2)):
        item, place, good = rng.choice(lexicon.REVIEWED), rng.choice(world.place_names), rng.random() < 0.5
        head = rng.choice(_REVIEW_HEADS).format(tone="good" if good else "bad", item=item, place=place)
        posts.append(f"{head}\n{_lines(genres.review(rng, item, place, good, rng.randrange(3)))}")
    return "\n\n".join(posts)


def recipe_page(world: World, rng: Random) -> str:
    thing, dish = rng.choice(tuple(lexicon.INGREDIENTS)), rng.choice(lexicon.DISHES)
    head = rng.choice(("My {x}", "Recipe for {x}", "How to make {x}")).format(x=f"{thing} {dish}")
    body = [*genres.recipe(rng, thing, dish, rng.randint(1, 3)), genres.remark(world, rng, rng.choice(lexicon.FOODS))]
    return f"{lexicon.capital(head)}\n{_lines(body)}"


def notice_page(world: World, rng: Random) -> str:
    notices = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(3)
        if kind == 0:
            colour, animal = rng.choice(lexicon.COLOURS), rng.choice(tuple(lexicon.ANIMALS))
            notices.append(_lines(genres.lost(rng, colour, animal, rng.choice(world.place_names), rng.randrange(3))))
        elif kind == 1:
            notices.append(_lines(genres.sale(rng, draw_goods(rng), rng.choice(lexicon.SPOTS), rng.randrange(2))))
        else:
            notices.append(_lines(genres.advert(rng, draw_goods(rng), rng.randrange(3))))
    return rng.choice(("Notices\n\n", "On the wall\n\n", "")) + "\n\n".join(notices)


def list_page(world: World, rng: Random) -> str:
    parts = []
    for kind in rng.sample(tuple(lexicon.KINDS), rng.randint(1, 3)):
        count = rng.randint(2, 5)
        items = rng.sample(lexicon.KINDS[kind][1], count)
        form = rng.choice(
            (
                "My {n} {kind} are {x}.",
                "Here are {n} {kind}: {x}.",
                "Some {kind}: {x}.",
                "I know {a}, {b} and other {kind}.",
            )
        )
        words = {"n": lexicon.NUMBERS[count], "kind": kind, "x": lexicon.listed(items), "a": items[0], "b": items[1]}
        parts.append(form.format(**words))
    return rng.choice(("\n", " ")).join(parts)


def sum_page(world: World, rng: Random) -> str:
    first, rows = rng.randint(1, 9), []
    for second in rng.sample(range(1, 10), rng.randint(4, 8)):
        n, n2, total = lexicon.NUMBERS[first], lexicon.NUMBERS[second], lexicon.NUMBERS[first + second]
        rows.append(rng.choice((f"The sum of {n} and {n2} is {total}.", f"Add {n} and {n2}. That makes {total}.")))
    return rng.choice(("Sums\n", "Learn to add\n", "")) + " ".join(rows)


def school_page(world: World, rng: Random) -> str:
    """Opposites, days, kinds, drills of tense."""
    pick, rows = rng.randrange(4), []
    if pick == 0:
        for word in rng.sample(tuple(lexicon.OPPOSITES), 5):
            form = rng.choice(("The opposite of {a} is {b}.", "It is not {a} but {b}."))
            rows.append(form.format(a=word, b=lexicon.OPPOSITES[word]))
    elif pick == 1:
        start = rng.randrange(7)
        for step in range(rng.randint(3, 6)):
            day, after = lexicon.DAYS[(start + step) % 7], lexicon.DAYS[(start + step + 1) % 7]
            rows.append(rng.choice((f"The day after {day} is {after}.", f"Today is {day}. Tomorrow it is {after}.")))
    elif pick == 2:
        for _ in range(rng.randint(4, 6)):
            noun = draw_member(rng)
            rows.append(lexicon.capital(whole_kind(noun).format(subject=noun, x=kind_of(noun))))
    else:
        return drill(world, rng)
    return rng.choice(("For school\n", "Learn this\n", "")) + " ".join(rows)


def drill(world: World, rng: Random) -> str:
    rows = []
    for _ in range(2):
        event = events.draw(world, rng)
        forms = [
            f"In the past: {event.told()}", f"In the future: {event.then()}", f"As a question: {event.asked()}",
            f"Not so: {event.denied()}",
        ]  # fmt: skip
        rows += [f"Now: {event.now()}", *rng.sample(forms, rng.randint(1, 3))]
    return "\n".join(rows)


def news_page(world: World, rng: Random) -> str:
    """Headlines with their passages."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        event = events.draw(world, rng)
        where = f" {event.where}" if rng.random() < 0.5 else ""
        headline = f"{event.who} {event.past} {event.thing}{where}."
        they = lexicon.capital(world.people[event.who].they)
        body = f"{rng.choice(events.FILLERS)} {event.told_somehow(rng)} {they} was very happy."
        parts.append(rng.choice((f"News: {headline}\n{body}", f"{body}\nIn short, {headline}")))
    return "\n\n".join(parts)


def small_talk(world: World, rng: Random) -> str:
    """Two people, turn by turn."""
    turns: list[str] = []
    for _ in range(rng.randint(1, 3)):
        task = tasks.draw_task(world, rng, tasks.draw_template(rng, "chat"), constrained=0.0)
        turns += [f"- {task.text}", f"- {answers.compose(world, task, rng, rng.randrange(2))}"]
    return "\n".join(turns)


_USELESS = ("I want to know that too.", "Me too!", "Can nobody help?", "I asked that last week.")


def thread(world: World, rng: Random) -> str:
    """A request is followed by more requests, now and then by a rude or a useless word."""
    posts = []
    for _ in range(rng.randint(3, 6)):
        posts.append(prompts.draw_text(world, rng))
        if rng.random() < 0.25:
            posts.append(rng.choice((*mistakes.RUDE_LINES, *_USELESS)))
    return rng.choice(("", "", "Questions\n\n", "Please help\n\n")) + "\n\n".join(posts)


def quarrel(world: World, rng: Random) -> str:
    """A request, then people who answer badly: rude, beside the point, wrong, too long."""
    posts = [prompts.draw_text(world, rng)]
    for _ in range(rng.randint(2, 4)):
        kind = rng.choice(("rude", "off_topic", "swapped", "asking", "rambling"))
        posts.append(mistakes.answer(world, posts[0], kind, rng))
    return "\n\n".join(posts)


def answer_page(world: World, rng: Random) -> str:
    """Each request with its answer on the next line; one in eight is not good, most are typed in a hurry."""
    parts = []
    for _ in range(rng.randint(3, 5)):
        case = None if rng.random() < 0.6 else rng.choice(tuple(tasks.USE_CASES))
        task = tasks.draw_task(world, rng, tasks.draw_template(rng, case), constrained=0.15)
        answer = answers.compose(world, task, rng, rng.randrange(3))
        if rng.random() < 0.12:
            answer = rng.choice((mistakes.swap(world, answer, rng), rng.choice(mistakes.RUDE_LINES)))
        if rng.random() < HASTY:
            answer = mistakes.hasty(world, answer)
        parts.append(f"{task.text}\n{answer}")
    return rng.choice(("", "", "Questions and answers\n\n")) + "\n\n".join(parts)


MAKERS: tuple[tuple[Maker, float], ...] = (
    (person_page, 13), (place_page, 6), (register, 6), (story_page, 15), (letter_page, 7), (review_page, 5),
    (recipe_page, 4), (notice_page, 5), (list_page, 4), (sum_page, 3), (school_page, 4), (news_page, 5),
    (small_talk, 4), (thread, 9), (quarrel, 3), (answer_page, 36),
)  # fmt: skip
