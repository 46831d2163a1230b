"""The web of the small world: documents of many kinds, most of them useful, some rude, rambling or wrong.

Three properties matter for the loop:
- After a request mostly comes another request (threads, lists). So a base model goes on instead of answering.
- On fewer pages (questions and answers) the answer comes on the next line. So a few examples before a prompt help.
- The web shows all skills that prompts ask for, but in its own form: titles with stories, headings with notes, passages
  with headlines, lists, sums, drills.

The titles and sentences are in `language/web.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from heedful.data.records import Text
from heedful.sandbox import answers, events, genres, lexicon, mistakes, phrasebook, prompts, tasks
from heedful.sandbox.tasks_know import draw_member, kind_of, whole_kind
from heedful.sandbox.tasks_write import draw_goods, draw_hero
from heedful.sandbox.world import World

HASTY = 0.92  # share of answers on the web without a capital and a full stop
_WEB = phrasebook.read("web")
Maker = Callable[[World, Random], str]


def documents(world: World, count: int, seed: int = 0, answer_pages: float | None = None) -> Iterator[Text]:
    """`count` documents. The first n do not depend on the count.

    `answer_pages`: the share of pages of questions and answers, if it is not to be that of the web.
    """
    rng = Random(f"corpus {world.seed} {seed}")
    makers, weights = tuple(maker for maker, _ in MAKERS), [weight for _, weight in MAKERS]
    if answer_pages is not None:
        others = sum(weight for maker, weight in MAKERS if maker is not answer_page)
        weights[makers.index(answer_page)] = others * answer_pages / (1 - answer_pages)
    for _ in range(count):
        maker = rng.choices(makers, weights)[0]
        yield Text(text=maker(world, rng))


def _text(sentences: list[str]) -> str:
    return " ".join(sentences)


def person_page(world: World, rng: Random) -> str:
    name = rng.choice(world.person_names)
    person = world.people[name]
    home = world.places[person.place]
    text = _text(genres.about_person(world, rng, name, 2))
    spot, title = rng.choice(lexicon.SPOTS), rng.choice(_WEB["person_page"]["titles"]).format(name=name)
    other = rng.choice(world.person_names)
    two = other != name and rng.random() < 0.6
    facts = {**vars(person), "them": person.them, "kind": lexicon.a(home.kind), "near": home.near, "spot": spot}
    page = f"{title}{text} {rng.choice(_WEB['person_page']['more']).format(**facts)}"
    return f"{page}\n\n{_text(genres.about_person(world, rng, other, 1))}" if two else page


def place_page(world: World, rng: Random) -> str:
    name = rng.choice(world.place_names)
    text = _text(genres.about_place(world, rng, name, 1))
    here = [person for person in world.people.values() if person.place == name]
    said = _WEB["place_page"]
    for person in rng.sample(here, min(2, len(here))):
        text += " " + rng.choice(said["people"]).format(who=person.name, place=name, job=lexicon.a(person.job))
    title = rng.choice(said["titles"]).format(name)
    return f"{title}\n{text} {genres.remark(world, rng, name)}"


def register(world: World, rng: Random) -> str:
    """A list of facts: who lives where, who does what, who eats or keeps what."""
    people = [world.people[name] for name in rng.sample(world.person_names, rng.randint(5, 9))]
    head, line = rng.choice(_WEB["register"]["lists"])
    rows = [line.format(**vars(p) | {"job": lexicon.a(p.job), "pet": lexicon.a(p.pet)}) for p in people]
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
    head, last = rng.choice(_WEB["story_page"]["titles"]), rng.choice(_WEB["story_page"]["lasts"])
    return f"{lexicon.capital(head.format(title))}\n{_text(body)}{last}"


def letter_page(world: World, rng: Random) -> str:
    who, size = rng.choice(world.person_names), rng.randrange(3)
    if rng.random() < 0.6:
        event, day = genres.any_event(rng)
        head = _WEB["letter_page"]["note"].format(who=who, event=event, day=day)
        body = genres.note(rng, who, event, day, size)
    else:
        thing = f"{rng.choice(lexicon.COLOURS)} {rng.choice(lexicon.OWNED)}"
        head = _WEB["letter_page"]["thanks"].format(who=who, thing=thing)
        body = genres.thanks(rng, who, thing, size)
    return f"{head}\n{_text(body)}"


def review_page(world: World, rng: Random) -> str:
    posts = []
    for _ in range(rng.randint(1, 2)):
        item, place, good = rng.choice(lexicon.REVIEWED), rng.choice(world.place_names), rng.random() < 0.5
        tone = "good" if good else "bad"
        head = rng.choice(_WEB["review_page"]["titles"]).format(tone=tone, item=item, place=place)
        posts.append(f"{head}\n{_text(genres.review(rng, item, place, good, rng.randrange(3)))}")
    return "\n\n".join(posts)


def recipe_page(world: World, rng: Random) -> str:
    thing, dish = rng.choice(tuple(lexicon.INGREDIENTS)), rng.choice(lexicon.DISHES)
    head = rng.choice(_WEB["recipe_page"]["titles"]).format(x=f"{thing} {dish}")
    body = [*genres.recipe(rng, thing, dish, rng.randint(1, 3)), genres.remark(world, rng, rng.choice(lexicon.FOODS))]
    return f"{lexicon.capital(head)}\n{_text(body)}"


def notice_page(world: World, rng: Random) -> str:
    notices = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(3)
        if kind == 0:
            colour, animal = rng.choice(lexicon.COLOURS), rng.choice(tuple(lexicon.ANIMALS))
            notices.append(_text(genres.lost(rng, colour, animal, rng.choice(world.place_names), rng.randrange(3))))
        elif kind == 1:
            notices.append(_text(genres.sale(rng, draw_goods(rng), rng.choice(lexicon.SPOTS), rng.randrange(2))))
        else:
            notices.append(_text(genres.advert(rng, draw_goods(rng), rng.randrange(3))))
    title: str = rng.choice(_WEB["notice_page"]["titles"])
    return title + "\n\n".join(notices)


def list_page(world: World, rng: Random) -> str:
    parts = []
    for kind in rng.sample(tuple(lexicon.KINDS), rng.randint(1, 3)):
        count = rng.randint(2, 5)
        items = rng.sample(lexicon.KINDS[kind][1], count)
        form = rng.choice(_WEB["list_page"]["says"])
        words = {"n": lexicon.NUMBERS[count], "kind": kind, "x": lexicon.listed(items), "a": items[0], "b": items[1]}
        parts.append(form.format(**words))
    return rng.choice(("\n", " ")).join(parts)


def sum_page(world: World, rng: Random) -> str:
    said, first, rows = _WEB["sum_page"], rng.randint(1, 9), []
    for second in rng.sample(range(1, 10), rng.randint(4, 8)):
        n, n2, total = lexicon.NUMBERS[first], lexicon.NUMBERS[second], lexicon.NUMBERS[first + second]
        rows.append(rng.choice(said["says"]).format(n=n, n2=n2, total=total))
    title: str = rng.choice(said["titles"])
    return title + _text(rows)


def school_page(world: World, rng: Random) -> str:
    """Opposites, days, kinds, or drills of tense."""
    said, pick, rows = _WEB["school_page"], rng.randrange(4), []
    if pick == 0:
        for word in rng.sample(tuple(lexicon.OPPOSITES), 5):
            rows.append(rng.choice(said["opposites"]).format(a=word, b=lexicon.OPPOSITES[word]))
    elif pick == 1:
        start = rng.randrange(7)
        for step in range(rng.randint(3, 6)):
            day, after = lexicon.DAYS[(start + step) % 7], lexicon.DAYS[(start + step + 1) % 7]
            rows.append(rng.choice(said["days"]).format(day=day, after=after))
    elif pick == 2:
        for _ in range(rng.randint(4, 6)):
            noun = draw_member(rng)
            rows.append(lexicon.capital(whole_kind(noun).format(subject=noun, x=kind_of(noun))))
    else:
        return drill(world, rng)
    title: str = rng.choice(said["titles"])
    return title + _text(rows)


def drill(world: World, rng: Random) -> str:
    """Events in the present, each followed by other forms of it."""
    said, rows = _WEB["drill"], []
    for _ in range(2):
        event = events.draw(world, rng)
        forms = {"now": event.now(), "told": event.told(), "then": event.then()}
        forms |= {"asked": event.asked(), "denied": event.denied()}
        lines = [said["now"], *rng.sample(said["forms"], rng.randint(1, 3))]
        rows += [line.format(**forms) for line in lines]
    return "\n".join(rows)


def news_page(world: World, rng: Random) -> str:
    """Passages with their headlines."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        event = events.draw(world, rng)
        where = f" {event.where}" if rng.random() < 0.5 else ""
        headline = f"{event.who} {event.past} {event.thing}{where}."
        they = lexicon.capital(world.people[event.who].they)
        filler, told = rng.choice(events.FILLERS), event.told_somehow(rng)
        body = _WEB["news_page"]["body"].format(filler=filler, told=told, They=they)
        parts.append(rng.choice(_WEB["news_page"]["says"]).format(headline=headline, body=body))
    return "\n\n".join(parts)


def small_talk(world: World, rng: Random) -> str:
    """Two people talk, turn by turn."""
    turns: list[str] = []
    for _ in range(rng.randint(1, 3)):
        task = tasks.draw_task(world, rng, tasks.draw_template(rng, "chat"), constrained=0.0)
        turns += [f"- {task.text}", f"- {answers.compose(world, task, rng, rng.randrange(2))}"]
    return "\n".join(turns)


def thread(world: World, rng: Random) -> str:
    """Requests after requests, with a rude or useless post now and then."""
    posts = []
    for _ in range(rng.randint(3, 6)):
        posts.append(prompts.draw_text(world, rng))
        if rng.random() < 0.25:
            posts.append(rng.choice((*mistakes.RUDE_LINES, *_WEB["thread"]["useless"])))
    title: str = rng.choice(_WEB["thread"]["titles"])
    return title + "\n\n".join(posts)


def quarrel(world: World, rng: Random) -> str:
    """A request, then bad answers: rude, off topic, wrong, too long."""
    posts = [prompts.draw_text(world, rng)]
    for _ in range(rng.randint(2, 4)):
        kind = rng.choice(("rude", "off_topic", "swapped", "asking", "rambling"))
        posts.append(mistakes.answer(world, posts[0], kind, rng))
    return "\n\n".join(posts)


def answer_page(world: World, rng: Random) -> str:
    """Requests, each with its answer on the next line. One answer in eight is bad, and most are typed in a hurry."""
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
    title: str = rng.choice(_WEB["answer_page"]["titles"])
    return title + "\n\n".join(parts)


MAKERS: tuple[tuple[Maker, float], ...] = (
    (person_page, 13), (place_page, 6), (register, 6), (story_page, 15), (letter_page, 7), (review_page, 5),
    (recipe_page, 4), (notice_page, 5), (list_page, 4), (sum_page, 3), (school_page, 4), (news_page, 5),
    (small_talk, 4), (thread, 9), (quarrel, 3), (answer_page, 36),
)  # fmt: skip
