"""Whatever labelers do in whatever order: no item beyond its number, none twice to one labeler, none lost, and every
acknowledged submission kept once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from heedful.feedback import derive, events, work
from heedful.feedback.schema import Assignment, Event, Item, Tally
from heedful.feedback.store import Store

from .team import Team, empty

LABELERS, HELD_OUT = ("ada", "bob", "cyd"), "eve"
EVERYBODY = (*LABELERS, HELD_OUT)
WANTED = {"double_share": 0.5, "copies": 2, "gold_share": 0.2, "most_skips": 3, "lease_minutes": 10}
somebody = st.sampled_from(EVERYBODY)


@contextmanager
def refused(*codes: str) -> Iterator[None]:
    """What may happen: the store takes it, or refuses with one of these."""
    try:
        yield
    except work.Refused as error:
        if error.code not in codes:
            raise


class Office(RuleBasedStateMachine):
    """People at work. `held` is what each thinks she has in hand; it may have lapsed."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        empty(store)
        self.team = Team(store, *LABELERS, **WANTED)
        self.team.join(HELD_OUT, "held_out")
        self.team.rankings(4)
        self.team.gold_rankings(1)
        self.team.rankings(2, start=100, purpose="evaluate")
        self.held: dict[str, list[work.Task]] = defaultdict(list)
        self.acknowledged: dict[str, tuple[int, str, work.Task]] = {}  # key -> event, who, what
        self.tasks: dict[str, work.Task] = {}

    @rule(who=somebody, ahead=st.booleans())
    def take(self, who: str, ahead: bool) -> None:
        besides = self.held[who][-1].lease if ahead and self.held[who] else None
        found = self.team.next(who, besides=besides)
        if isinstance(found, work.Task):
            assert found.lease != besides
            self.held[who] = [task for task in self.held[who] if task.lease != found.lease] + [found]

    @rule(who=somebody, again=st.booleans())
    def submit(self, who: str, again: bool) -> None:
        if not self.held[who]:
            return
        task, key = self.held[who].pop(0), f"{who} {len(self.acknowledged)}"
        with refused("lost", "done"):
            done = self.team.submit(who, task, key=key, seconds=2.5)
            assert not done.repeated
            self.acknowledged[key] = (done.event, who, task)
            if again:
                self.retry(key)

    @rule(number=st.integers(0, 50))
    def submit_again(self, number: int) -> None:
        if self.acknowledged:
            self.retry(sorted(self.acknowledged)[number % len(self.acknowledged)])

    def retry(self, key: str) -> None:
        """The answer was lost on its way; the client sends the same once more."""
        event, who, task = self.acknowledged[key]
        done = self.team.submit(who, task, key=key, seconds=2.5)
        assert (done.event, done.repeated) == (event, True)

    @rule(who=somebody)
    def skip(self, who: str) -> None:
        if self.held[who]:
            with refused("lost", "done"):
                self.team.skip(who, self.held[who].pop(0))

    @rule(who=somebody)
    def undo(self, who: str) -> None:
        with refused("nothing_to_undo", "lost"):
            self.held[who].append(self.team.undo(who))

    @rule(who=somebody)
    def draft(self, who: str) -> None:
        if self.held[who]:
            with refused("lost", "done"), self.team.store.writing() as db:
                work.save_draft(db, self.team.ids[who], self.held[who][0].lease, {"half": 1}, self.team.now)

    @rule(minutes=st.integers(1, 12))
    def wait(self, minutes: int) -> None:
        self.team.wait(minutes=minutes)

    def standing(self) -> Counter[tuple[int, int]]:
        """(item, person) -> judgements that were not taken back, counted from the events alone."""
        rows = self.team.rows(Event.id, Event.kind, Event.item_id, Event.person_id, Event.refers_to)
        undone = {row.refers_to for row in rows if row.kind == "undo"}
        return Counter((row.item_id, row.person_id) for row in rows if row.kind == "judgement" and row.id not in undone)

    @invariant()
    def nothing_twice_and_nothing_too_often(self) -> None:
        standing, live = self.standing(), Counter()
        assert all(count == 1 for count in standing.values())
        leased = sa.and_(Assignment.state == "leased", Assignment.expires > self.team.now)
        for row in self.team.rows(Assignment.item_id, Assignment.person_id, where=leased):
            assert (row.item_id, row.person_id) not in standing
            live[row.item_id] += 1
        taken = Counter(item for item, _ in standing) + live
        for item in self.team.rows(Item.id, Item.wanted, Item.purpose):
            assert item.wanted is None or taken[item.id] <= item.wanted

    @invariant()
    def held_out_labelers_see_no_training_item(self) -> None:
        seen = sa.and_(Assignment.person_id == self.team.ids[HELD_OUT], Item.purpose == "train")
        assert self.team.rows(Item.id, where=sa.and_(seen, Item.id == Assignment.item_id)) == []

    @invariant()
    def what_was_acknowledged_is_there_once(self) -> None:
        judged = self.team.rows(Event.id, where=Event.kind == "judgement")
        assert sorted(row.id for row in judged) == sorted(event for event, _, _ in self.acknowledged.values())

    def teardown(self) -> None:
        """In the end everybody works until there is no more: every item has all its judgements, caches are right."""
        self.team.wait(hours=1)
        worked = True
        while worked:
            worked = False
            for who in EVERYBODY:
                found = self.team.next(who)
                if isinstance(found, work.Task):
                    self.acknowledged[f"end {found.lease}"] = (self.team.submit(who, found).event, who, found)
                    worked = True
        standing = self.standing()
        skips = self.team.rows(Assignment.item_id, where=Assignment.state == "skipped")
        skipped = Counter(row.item_id for row in skips)
        for item in self.team.rows(Item.id, Item.wanted, Item.purpose, Item.held, where=Item.wanted.is_not(None)):
            judged = sum(count for (number, _), count in standing.items() if number == item.id)
            able = (len(LABELERS) if item.purpose == "train" else len(EVERYBODY)) - skipped[item.id]
            assert judged == min(able, item.wanted) or item.held is not None, item
        before = caches(self.team)
        with self.team.store.writing() as db:
            derive.rebuild(db, self.team.project)
            assert events.verify(db, self.team.project) == len(self.team.rows(Event.id))
        assert caches(self.team) == before


def caches(team: Team) -> list[Any]:
    columns = (Item.id, Item.taken, Item.had_by, Item.open), (Assignment.id, Assignment.state, Assignment.event_id)
    tallies = Tally.person_id, Tally.day, Tally.kind, Tally.purpose, Tally.judgements, Tally.milliseconds
    some = [sorted(team.rows(*names)) for names in columns]
    return [*some, sorted(team.rows(*tallies, where=Tally.judgements > 0))]


def run(store: Store, examples: int, steps: int) -> None:
    profile = settings(
        max_examples=examples, stateful_step_count=steps, suppress_health_check=[HealthCheck.too_slow]
    )  # fmt: skip
    run_state_machine_as_test(lambda: Office(store), settings=profile)


@pytest.mark.medium
def test_nothing_is_lost_doubled_or_given_twice(store: Store) -> None:
    run(store, examples=6, steps=20)


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_given_twice_in_many_ways(store: Store) -> None:
    run(store, examples=25, steps=40)


@pytest.mark.medium
def test_a_lone_labeler_steps_over_all_that_she_had(store: Store) -> None:
    """Her own half of doubled items stays for others, however many there are."""
    team = Team(store, "ada", double_share=1.0)
    team.rankings(30)
    team.work("ada", 30)
    assert team.next("ada") == work.Nothing("empty")
    bob = team.join("bob")
    assert len(team.work("bob", 30)) == 30
    assert {row.person_id for row in team.rows(Event.person_id)} == {team.ids["ada"], bob}


@pytest.mark.medium
def test_begun_items_come_before_fresh_ones(store: Store) -> None:
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(20)
    first = {team.task("ada").ref}
    team.submit("ada", team.task("ada"))
    assert {team.task("bob").ref} == first


@pytest.mark.medium
def test_a_lease_that_is_over_goes_to_another_and_comes_back_with_its_draft(store: Store) -> None:
    team = Team(store, "ada", "bob", lease_minutes=10)
    team.rankings(1)
    hers = team.task("ada")
    with store.writing() as db:
        end = work.save_draft(db, team.ids["ada"], hers.lease, {"tiers": [[2]]}, team.now)
    assert end == team.now + timedelta(minutes=10)
    assert team.next("bob") == work.Nothing("in_other_hands", end)
    team.wait(minutes=10)
    his = team.task("bob")
    assert his.ref == hers.ref
    assert his.draft is None
    with pytest.raises(work.Refused, match="somebody else") as refused:
        team.submit("ada", hers)
    assert refused.value.code == "lost"
    team.wait(minutes=10)
    again = team.task("ada")
    assert (again.lease, again.draft, again.order) == (hers.lease, {"tiers": [[2]]}, hers.order)


def test_the_task_at_hand_is_not_given_as_the_next_one(store: Store) -> None:
    """She was away too long, comes back and goes on: the lease she is busy with is taken up again."""
    team = Team(store, "ada", "bob", lease_minutes=10)
    team.rankings(1)
    task = team.task("ada")
    team.wait(minutes=11)
    assert team.next("ada", besides=task.lease) == work.Nothing("empty")
    assert team.next("bob") == work.Nothing("in_other_hands", team.now + timedelta(minutes=10))
    team.submit("ada", task)


def test_an_item_goes_to_as_many_at_once_as_shall_judge_it(store: Store) -> None:
    """Leases count against the number wanted while they last, and nothing is written when they end."""
    team = Team(store, "ada", "bob", "cyd", double_share=1.0, lease_minutes=10)
    (ref,) = team.rankings(1)
    first, end = team.task("ada"), team.now + timedelta(minutes=10)
    team.wait(minutes=5)
    team.task("bob")
    assert team.next("cyd") == work.Nothing("in_other_hands", end)
    assert (team.item(ref).taken, team.item(ref).had_by, team.item(ref).open) == (0, "", True)
    team.wait(minutes=5)
    assert team.task("cyd").ref == ref
    with pytest.raises(work.Refused, match="somebody else"):
        team.submit("ada", first)
    assert team.next("ada") == work.Nothing("in_other_hands", end + timedelta(minutes=5))


def test_a_late_submission_counts_where_the_item_is_free(store: Store) -> None:
    team = Team(store, "ada", lease_minutes=10)
    team.rankings(1)
    task = team.task("ada")
    team.wait(hours=3)
    team.submit("ada", task)
    assert not team.item(task.ref).open
