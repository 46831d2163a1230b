"""Simulated people: the good ones agree as often as the paper's did, the bad ones do not; length is no virtue."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from heedful.data.records import Completions, Prompt
from heedful.sandbox import answers, labelers, mistakes, prompts, truth
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World, make_world


def sampled(world: World, count: int, seed: int = 0) -> list[Completions]:
    rng = Random(seed)
    return [
        Completions(prompt=prompt.prompt, completions=mistakes.mixture(world, prompt.prompt, rng.randint(4, 9), rng))
        for prompt in prompts.prompts(world, count, seed)
    ]


def rankings(
    world: World, given: Sequence[Completions], panel: Sequence[Labeler], seed: int = 0
) -> list[list[list[list[int]]]]:
    rng = Random(seed)
    return [[labelers.rank(world, row.prompt, row.completions, one, rng)[0] for one in panel] for row in given]


def group(world: World, *names: str) -> list[Labeler]:
    return [labeler for labeler in labelers.make_labelers(world) if labeler.group in names]


@pytest.mark.medium
@pytest.mark.parametrize("seed", [1, 7, 23])
def test_good_labelers_agree_on_73_percent_of_pairs(seed: int) -> None:
    world = make_world(seed)
    rng, good = Random(seed), labelers.good_ones(labelers.make_labelers(world))
    rows = [rankings(world, [row], rng.sample(good, 4), i)[0] for i, row in enumerate(sampled(world, 110, seed))]
    share, pairs = labelers.agreement(rows)
    assert pairs > 2000
    assert abs(share - 0.73) < 0.02


@pytest.mark.medium
def test_the_groups_are_two_tastes_of_equal_strength() -> None:
    world, given = make_world(7), sampled(make_world(7), 120)
    within = labelers.agreement(rankings(world, given, group(world, "brief")))[0]
    across = labelers.agreement(rankings(world, given, [group(world, "brief")[0], group(world, "detailed")[0]]))[0]
    assert within > across + 0.02
    likes = {}
    for name in ("brief", "detailed", "held_out"):
        longer = total = 0
        for row, many in zip(given, rankings(world, given, group(world, name)), strict=True):
            words = [len(text.split()) for text in row.completions]
            for ranking in many:
                tier = {k: place for place, tied in enumerate(ranking) for k in tied}
                for i in range(len(words)):
                    for j in range(i):
                        if words[i] != words[j] and tier[i] != tier[j]:
                            total += 1
                            longer += (words[i] > words[j]) == (tier[i] < tier[j])
        likes[name] = longer / total
    assert likes["detailed"] > likes["brief"] + 0.1
    assert abs((likes["detailed"] + likes["brief"]) / 2 - likes["held_out"]) < 0.03, "held-out people lean one way"
    assert 0.44 < likes["held_out"] < 0.58


@pytest.mark.medium
def test_the_careless_one_agrees_by_chance_and_the_first_is_taken_by_its_place() -> None:
    world, given = make_world(7), sampled(make_world(7), 120)
    good = labelers.good_ones(labelers.make_labelers(world))[0]
    share, pairs = labelers.agreement(rankings(world, given, [good, *group(world, "careless")]))
    assert abs(share - 0.5) < 0.05
    assert pairs > 1000
    (taker,), rng = group(world, "first"), Random(1)
    for row in given[:20]:
        comparison = labelers.compare(world, row, taker, rng)
        assert comparison.ranking[0] == [comparison.order[0]] if comparison.order else False


def test_held_out_people_judge_as_well_but_give_no_training_data() -> None:
    world, given = make_world(7), sampled(make_world(7), 120)
    everyone = labelers.make_labelers(world)
    kept, good = group(world, "held_out"), labelers.good_ones(everyone)
    assert len(kept) == 4
    assert not {one.name for one in kept} & {one.name for one in good}
    assert {one.group for one in good} == {"brief", "detailed"}
    mixed = labelers.agreement(rankings(world, given, [kept[0], kept[1], good[0], good[1]]))[0]
    assert 0.68 < mixed < 0.78
    assert everyone == labelers.make_labelers(world)


@pytest.mark.medium
def test_calibration_reaches_the_target_where_the_answers_are_all_alike() -> None:
    world, rng = make_world(7), Random(2)
    kinds = {"good": 0.7, "swapped": 0.15, "missed": 0.05, "truncated": 0.05, "rambling": 0.05}
    given = []
    for prompt in prompts.prompts(world, 110):
        drawn = rng.choices(tuple(kinds), tuple(kinds.values()), k=6)
        texts = [mistakes.answer(world, prompt.prompt, kind, rng) for kind in drawn]
        given.append(Completions(prompt=prompt.prompt, completions=texts))
    good = labelers.good_ones(labelers.make_labelers(world))
    tuned = labelers.calibrate(world, given, good)
    before, after = (
        labelers.agreement([rankings(world, [row], rng.sample(panel, 4), i)[0] for i, row in enumerate(given)])[0]
        for panel in (good, tuned)
    )
    assert before < 0.70
    assert abs(after - 0.73) < 0.025
    assert [one.name for one in tuned] == [one.name for one in good]


def test_rankings_follow_the_truth_and_ratings_tell_it() -> None:
    world, rng = make_world(7), Random(3)
    who = world.person_names[0]
    home = world.people[who].place
    prompt = f"Where does {who} live? Answer in one sentence."
    texts = [
        f"{who} lives in {home}.",
        "Shut up, you fool.",
        f"{who} lives in {home}. That is all I can say.",
        "A goat.",
    ]
    firsts, lasts = [], []
    for labeler in labelers.good_ones(labelers.make_labelers(world)) * 8:
        ranking, ratings = labelers.rank(world, prompt, texts, labeler, rng)
        assert sorted(k for tier in ranking for k in tier) == [0, 1, 2, 3]
        firsts.append(0 in ranking[0])
        lasts.append(1 in ranking[-1])
        assert ratings[0].overall is not None
        assert ratings[0].overall >= 5
    assert np.mean(firsts) > 0.5
    assert np.mean(lasts) > 0.4
    flags = [
        labelers.rank(world, prompt, texts, labeler, rng)[1] for labeler in labelers.make_labelers(world)[:10] * 10
    ]
    assert np.mean([row[1].inappropriate for row in flags]) > 0.9
    assert np.mean([row[0].satisfies_constraint for row in flags]) > 0.9
    assert np.mean([row[2].satisfies_constraint for row in flags]) < 0.1
    assert {row[0].hallucination for row in flags} == {True, False}, "people never err"


def test_equal_answers_are_often_tied() -> None:
    world = make_world(7)
    prompt = "Name three animals."
    texts = [
        f"Here are three animals: {three}." for three in ("goat, owl and hen", "fox, hen and owl", "owl, fox and bear")
    ]
    labeler = labelers.good_ones(labelers.make_labelers(world))[0]
    tiers = [len(labelers.rank(world, prompt, texts, labeler, Random(i))[0]) for i in range(50)]
    assert 1.5 < np.mean(tiers) < 2.8


def test_equal_texts_are_always_tied() -> None:
    world, labeler = make_world(7), labelers.good_ones(labelers.make_labelers(make_world(7)))[0]
    texts = ["Goat, owl and hen.", "Bread.", "Goat, owl and hen."]
    for i in range(20):
        tiers = labelers.rank(world, "Name three animals.", texts, labeler, Random(i))[0]
        assert any({0, 2} <= set(tier) for tier in tiers)


@pytest.mark.medium
def test_demonstrations_are_good_but_human() -> None:
    world, rng = make_world(7), Random(4)
    good = labelers.good_ones(labelers.make_labelers(world))
    judge = truth.world(7).judge
    written: dict[str, list[int]] = {"brief": [], "detailed": []}
    utilities, values, right, wrong, habits, unfinished = [], [], [], [], 0, 0
    for i, prompt in enumerate(prompts.prompts(world, 500)):
        labeler = good[i % len(good)]
        one = labelers.demonstrate(world, prompt, labeler, rng)
        assert (one.prompt, one.user, one.labeler) == (prompt.prompt, prompt.user, labeler.name)
        verdict = judge(one.prompt, one.completion)
        utilities.append(verdict.utility)
        values.append(verdict.utility + 0.40 * verdict.parts["hasty"])
        right.append(verdict.parts["content"])
        wrong.append(judge(one.prompt, mistakes.answer(world, prompt.prompt, "swapped", rng)).parts["content"])
        written[labeler.group].append(len(one.completion.split()))
        unfinished += one.completion[-1] not in ".!?"
        habits += any(phrase in one.completion for phrase in (*answers.PREAMBLES, *answers.POSTSCRIPTS))
    assert np.mean(utilities) > 0.7
    assert np.mean(values) > 0.75, "but for the hurry"
    assert np.mean(right) > np.mean(wrong) + 0.15
    assert 0.02 < np.mean(np.asarray(values) < 0.6) < 0.2, "nobody is perfect, nobody is hopeless"
    assert 0.6 < habits / len(values) < 0.95, "people write what they do not like to read"
    assert 0.08 < unfinished / len(values) < 0.18, "most do not type in a hurry"
    assert np.mean(written["detailed"]) > np.mean(written["brief"]) + 1


def test_comparisons_are_records_that_keep_what_was_known() -> None:
    world = make_world(7)
    prompt = Prompt(prompt="Name three animals.", id="p1", user="u1", use_case="brainstorming", split="train")
    texts = ["Goat.", "Fox, owl and hen.", "Bread.", "Fool."]
    row = Completions(**prompt.row(), completions=texts, models=["a"] * 4, finish=["stop"] * 4)
    labeler = group(world, "detailed")[0]
    comparison = labelers.compare(world, row, labeler, Random(0))
    assert (comparison.id, comparison.split, comparison.models) == ("p1", "train", ["a"] * 4)
    assert (comparison.labeler, comparison.group) == (labeler.name, "detailed")
    assert comparison.order is not None
    assert sorted(comparison.order) == [0, 1, 2, 3]
    assert comparison.ratings is not None
    assert len(comparison.ratings) == 4
