"""What follows from the events, and what `quality` gets to read."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from heedful.config import UserError
from heedful.data.records import Comparison, Completions, Prompt, Rating
from heedful.feedback import derive, people, readings
from heedful.feedback.derive import Forecast
from heedful.feedback.quality.screening import screen
from heedful.feedback.schema import WORK, Assignment, Item, Tally
from heedful.feedback.store import Store

from .team import Team
from .test_assignment import caches


@pytest.fixture
def team(store: Store) -> Team:
    """Work of every sort: undone, corrected, skipped, in hand, over two days."""
    team = Team(store, "ada", "bob", double_share=0.5, gold_share=0.3)
    team.rankings(12)
    team.gold_rankings(3)
    team.work("ada", 5, seconds=1.25)
    team.undo("ada")
    team.work("bob", 3, seconds=0.333)
    team.wait(days=1)
    team.work("bob", 2)
    team.skip("bob", team.task("bob"))
    team.task("ada")
    return team


@pytest.mark.medium
@pytest.mark.parametrize("lost", ["all", "assignments"])
def test_one_call_rebuilds_every_cache(team: Team, lost: str) -> None:
    before = caches(team)
    with team.store.writing() as db:
        db.execute(sa.update(Item).values(taken=7, had_by="|9|", open=False))
        db.execute(sa.update(Tally).values(judgements=99, milliseconds=1))
        gone = Assignment.state.in_(("done", "skipped"))
        db.execute(sa.update(Assignment).where(gone).values(state="leased", expires=team.now, event_id=None))
        if lost == "assignments":
            db.execute(sa.delete(Assignment).where(Assignment.state == "leased", Assignment.expires <= team.now))
    assert caches(team) != before
    with team.store.writing() as db:
        assert derive.rebuild(db, team.project) == 15
    with team.store.writing() as db:
        assert derive.rebuild(db, team.project) == 0
    after = caches(team)
    if lost == "assignments":  # made again under other numbers
        before[1], after[1] = ([row[1:] for row in made[1] if row[2]] for made in (before, after))
        assert sorted(before[1]) == sorted(after[1])
        before[1] = after[1] = []
    assert after == before


@pytest.mark.medium
def test_days_and_forecast(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(20)
    team.work("ada", 4, seconds=30)
    team.wait(days=3)
    team.work("bob", 2, seconds=15)
    team.work("ada", 2, seconds=10)
    with store.reading() as db:
        days = derive.days(db, team.project)
        since = derive.days(db, team.project, team.now.date())
        assert derive.forecast(db, team.project, team.now) == {"ranking": Forecast(12, 2.0, 6.0)}  # 8 in 4 days
        assert derive.forecast(db, team.project, team.now, over=2) == {"ranking": Forecast(12, 4.0, 3.0)}
        assert derive.forecast(db, team.project, team.now + timedelta(days=30)) == {"ranking": Forecast(12, 0.0, None)}
    assert [(day.labeler, day.judgements, day.seconds) for day in days] == [
        ("ada", 4, 120),
        ("ada", 2, 20),
        ("bob", 2, 30),
    ]
    assert days[1:] == since


def test_judgements_as_quality_reads_them(store: Store) -> None:
    team = Team(store, rate_first=True, gold_share=0.0)
    team.join("ada", group="north")
    row = Completions(prompt="One two", completions=["three", "four five"], models=["m", "m"])
    (ref,) = team.add("ranking", [row])
    task = team.task("ada")
    answer = {"ranking": [[1], [0]], "none_acceptable": True, "ratings": [{"overall": 2}, {"overall": 6}]}
    team.submit("ada", task, answer, seconds=8.0)
    with store.reading() as db:
        (found,) = readings.judgements(db, team.project)
        assert readings.judgements(db, team.project, since=team.now + timedelta(seconds=1)) == []
        assert readings.judgements(db, team.project, purposes=("gold",)) == []
        assert readings.judgements(db, team.project, person_id=999) == []
    first, second = task.order
    assert (found.labeler, found.item, found.group, found.words) == ("ada", ref, "north", 5)
    assert (found.ranking, found.order) == (((second,), (first,)), task.order)
    assert found.ratings is not None
    assert (found.ratings[first], found.ratings[second]) == (Rating(overall=2), Rating(overall=6))
    assert (found.seconds, found.when, found.gold, found.none_acceptable) == (8.0, team.now, None, True)


@pytest.mark.medium
def test_gold_and_attention_are_read_with_their_answer(store: Store) -> None:
    team = Team(store, "ada", gold_share=0.5, attention_share=0.5)
    team.gold_rankings(3)
    team.gold_rankings(3, "attention")
    team.rankings(1)
    team.work("ada", 6)
    with store.reading() as db:
        known = [one for one in readings.judgements(db, team.project) if one.gold is not None]
    assert {one.gold for one in known} == {((0,), (1,), (2,))}
    assert {one.attention for one in known} == {True, False}


@pytest.mark.medium
def test_the_answer_in_a_file_of_work_judges_nobody(store: Store) -> None:
    """Somebody said it before; only an item with a known answer says who is right."""
    team = Team(store, "ada", "bob", gold_share=1.0)

    def rows(prompt: str) -> list[Comparison]:  # who had a gold item does not get work of the same texts
        ratings = [Rating(overall=5)] * 2
        return [Comparison(prompt=prompt, completions=["x", "y"], ranking=[[0], [1]], ratings=ratings)]

    (shared,) = team.add("ranking", rows("Q?"), "gold")
    for purpose in WORK:
        team.add("ranking", rows(f"Q of {purpose}?"), purpose)
    for name in ("ada", "bob"):
        team.work(name, 2)
    with store.reading() as db:
        found = readings.judgements(db, team.project)
    assert {(one.item == shared, one.gold, one.gold_ratings) for one in found} == {
        (True, ((0,), (1,)), (Rating(overall=5),) * 2), (False, None, None),
    }  # fmt: skip


def test_demonstrations_stand_beside_the_models_answers(store: Store) -> None:
    team = Team(store, "ada")
    team.add("demonstration", [Prompt(prompt="Q0?"), Prompt(prompt="Q9?")])
    team.rankings(1, K=2)
    team.work("ada", 2, "demonstration")
    with store.reading() as db:
        found = {one.model_texts: one for one in readings.written(db, team.project)}
    assert found.keys() == {("0.0", "0.1"), ()}
    assert {(one.labeler, one.text) for one in found.values()} == {("ada", "I wrote this.")}


def test_screening_is_read_as_a_whole(store: Store) -> None:
    team = Team(store, rate_first=True)
    team.join("cand", phase="screening")
    team.join("lead", "lead")
    rows = [Completions(prompt=f"S{i}?", completions=["fine", "vile"]) for i in range(2)]
    known = {"ranking": [[0], [1]], "ratings": [{"overall": 6}, {"overall": 1, "violent": True}]}
    team.add("ranking", rows, "screening", gold=[known] * 2)
    team.add("demonstration", [Prompt(prompt="A hard one.")], "screening")
    for flagged in (True, False):
        task = team.task("cand", kind="ranking")
        vile = task.completions.index("vile")
        ratings = [{"overall": 4, "sexual": flagged and place == vile} for place in (0, 1)]
        team.submit("cand", task, {"ranking": [[1 - vile], [vile]], "ratings": ratings})
    team.work("cand", 1, "demonstration")
    lead = team.ids["lead"]
    with store.writing() as db:
        people.state_topics(db, team.project, team.ids["cand"], ["slurs", " "])
        ((event, prompt, completion),) = readings.unrated(db, team.project, lead)
        assert (prompt, completion) == ("A hard one.", "I wrote this.")
        with pytest.raises(UserError, match="from 1 to 7"):
            readings.rate(db, team.project, event, 8, team.now, by=lead)
        readings.rate(db, team.project, event, 5, team.now, by=lead)
        with pytest.raises(UserError, match="rated by you already"):
            readings.rate(db, team.project, event, 5, team.now, by=lead)
    with store.reading() as db:
        assert readings.unrated(db, team.project, team.ids["cand"]) == []
        answers = readings.onboarding(db, team.project, team.ids["cand"])
    assert answers.topics == ["slurs"]
    figures = {one.name: one.figure for one in screen(answers).criteria}
    assert figures == {"sensitive flags": 0.75, "rankings": 1.0, "demonstrations": 5.0, "topics": 1.0}
