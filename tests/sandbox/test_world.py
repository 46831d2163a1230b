from __future__ import annotations

import pytest

from heedful.sandbox import lexicon
from heedful.sandbox.world import PEOPLE, PLACES, make_world

SEEDS = (1, 7, 12, 99)


@pytest.mark.parametrize("seed", SEEDS)
def test_names_are_many_distinct_and_no_words_of_the_language(seed: int) -> None:
    world = make_world(seed)
    names = [*world.people, *world.places]
    assert (len(world.people), len(world.places)) == (PEOPLE, PLACES)
    assert len({name.lower()[:3] for name in world.people}) == PEOPLE, "two people sound alike"
    words = {*lexicon.PLURALS, *lexicon.SINGULARS, *lexicon.FOODS, *lexicon.SPOTS, *lexicon.USE_WORDS, "the", "man"}
    assert not {name.lower() for name in names} & words
    assert all(name.isalpha() and name.istitle() and 3 < len(name) < 12 for name in names)
    assert all(set("aeiou") & set(name.lower()) for name in names)


def test_a_seed_is_a_world() -> None:
    make_world.cache_clear()
    first = make_world(7)
    make_world.cache_clear()
    assert make_world(7) == first
    assert len(set(first.people) & set(make_world(8).people)) < 10


def test_everybody_lives_somewhere_and_every_place_has_people() -> None:
    world = make_world(7)
    homes = {person.place for person in world.people.values()}
    assert homes == set(world.places)
    for person in world.people.values():
        assert person.job in lexicon.JOBS
        assert person.food in lexicon.FOODS
        assert person.pet in lexicon.ANIMALS
    assert {person.she for person in world.people.values()} == {True, False}


def test_articles_and_lists() -> None:
    assert [lexicon.a(noun) for noun in ("fox", "owl", "old map", "eagle")] == [
        "a fox",
        "an owl",
        "an old map",
        "an eagle",
    ]
    assert lexicon.listed(["fox"]) == "fox"
    assert lexicon.listed(["fox", "owl", "hen"]) == "fox, owl and hen"
    assert lexicon.listed(["fox", "owl"], "or") == "fox or owl"
    assert lexicon.capital("iron Age") == "Iron Age"
