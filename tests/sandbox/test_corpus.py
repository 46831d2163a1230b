"""The web of the world: true where it states facts, readable, closed in its words, fonder of questions than answers."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice, pairwise
from random import Random
from statistics import fmean

import pytest

from heedful.config import UserError
from heedful.sandbox import corpus, tasks, truth
from heedful.sandbox.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(7)


@pytest.fixture(scope="module")
def texts(world: World) -> list[str]:
    return [document.text for document in corpus.documents(world, 3000)]


@pytest.mark.medium
def test_the_first_documents_do_not_depend_on_the_count(world: World, texts: list[str]) -> None:
    assert [document.text for document in corpus.documents(world, 50)] == texts[:50]
    assert [document.text for document in islice(corpus.documents(world, 3000, seed=1), 50)] != texts[:50]
    assert [document.text for document in corpus.documents(make_world(8), 50)] != texts[:50]


@pytest.mark.medium
def test_the_share_of_answer_pages_can_be_chosen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = [(maker, weight) for maker, weight in corpus.MAKERS if maker is not corpus.answer_page]
    monkeypatch.setattr(corpus, "answer_page", lambda world, rng: "answers")
    monkeypatch.setattr(corpus, "MAKERS", (*marked, (corpus.answer_page, 36.0)))
    for asked, expected in ((None, 36 / 129), (0.6, 0.6), (0.0, 0.0)):
        drawn = [text.text for text in corpus.documents(world, 2000, answer_pages=asked)]
        assert drawn.count("answers") / 2000 == pytest.approx(expected, abs=0.035)


def test_documents_are_short_and_mostly_of_20_to_120_words(texts: list[str]) -> None:
    lengths = sorted(len(text.split()) for text in texts)
    assert 30 <= lengths[len(lengths) // 2] <= 60
    assert sum(20 <= length <= 120 for length in lengths) > 0.85 * len(lengths)


def test_the_vocabulary_is_closed_and_small(world: World, texts: list[str]) -> None:
    words = Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    names = {name.lower() for name in [*world.people, *world.places]}
    assert 400 < len(words.keys() - names) < 750
    assert names <= words.keys()
    assert min(words[name] for name in names) > 60, "a name is too rare to be learnt"


def test_grammar_and_typography(texts: list[str]) -> None:
    web = "\n".join(texts)
    wrong_article = re.compile(r"\b(?:[Aa] [aeiou][a-z]+|[Aa]n [bcdfghjklmnpqrstvwxyz][a-z]+)")
    swapped = wrong_article.findall(web)
    assert not [words for words in swapped if words.split()[1] not in ("one",)]
    assert not re.findall(r"[{}]|\bNone\b|  | [.,!?:]|\.\.", web)
    assert not re.findall(r"[.!?] [a-z]", web), "a sentence starts small"
    assert all(text.removeprefix("- ")[0].isupper() for text in texts)


def test_a_word_is_one_token_wherever_it_stands(world: World, texts: list[str]) -> None:
    """Lines begin with other words than names, so that a name always follows a space."""
    starts = Counter(line.split(" ")[0].strip(".,:!?") for text in texts for line in text.split("\n") if line)
    assert sum(starts[name] for name in [*world.people, *world.places]) < 0.002 * starts.total()


def test_pages_about_people_tell_the_truth(world: World, texts: list[str]) -> None:
    found = re.findall(r"([A-Z][a-z]+) (?:lives in|has a house in|is) ([A-Z][a-z]+)[. ]", "\n".join(texts))
    homes = [(who, place) for who, place in found if who in world.people and place in world.places]
    right = sum(world.people[who].place == place for who, place in homes)
    assert len(homes) > 500
    assert right / len(homes) > 0.97
    told = Counter(homes)
    assert all(told[name, person.place] >= 5 for name, person in world.people.items()), "a fact is hardly ever told"


def test_a_question_is_followed_by_another_one_more_often_than_by_its_answer(world: World, texts: list[str]) -> None:
    def asks(text: str) -> bool:
        try:
            tasks.parse(world.seed, text)
        except UserError:
            return False
        return True

    asked = answered = 0
    for text in texts[:600]:
        for post, following in pairwise(text.split("\n\n")):
            if "\n" not in post and asks(post):
                asked += asks(following)
                answered += not asks(following)
    assert asked > 1.3 * answered
    answers = sum("\n" in post and asks(post.split("\n")[0]) for text in texts[:600] for post in text.split("\n\n"))
    assert answers > 100, "no pages with answers, so a few examples would not help a base model"


@pytest.mark.medium
def test_most_answers_on_the_web_are_typed_in_a_hurry_and_as_good_for_it(world: World, texts: list[str]) -> None:
    def task_of(line: str) -> tasks.WorldTask | None:
        try:
            return tasks.parse(world.seed, line)
        except UserError:
            return None

    judge = truth.world(world.seed).judge
    hasty, content = 0, {True: [0.0], False: [0.0]}
    lines = [post.split("\n") for text in texts for post in text.split("\n\n")]
    answered = [post for post in lines if len(post) == 2 and task_of(post[0])][:800]
    for asked, answer in answered:
        no_end = answer[-1] not in ".!?"
        hasty += no_end
        content[no_end].append(judge(asked, answer).parts["content"])
    assert 0.85 < hasty / len(answered) < 0.97
    assert abs(fmean(content[True]) - fmean(content[False])) < 0.1


def test_every_kind_of_page_works_in_every_world() -> None:
    for seed in (1, 2):
        for maker, weight in corpus.MAKERS:
            for draw in range(5):
                assert weight > 0
                assert len(maker(make_world(seed), Random(draw)).split()) >= 3
