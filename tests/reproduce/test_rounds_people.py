"""The simulated users, labelers and lead of `heedful round demo`."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from heedful.config import load
from heedful.configs.round import RoundConfig
from heedful.demo.labelling import made_up
from heedful.feedback import items, projects
from heedful.feedback.schema import Event, Item, Membership, Person
from heedful.reproduce.rounds import place as places
from heedful.reproduce.rounds.crew import Crew, Lead
from heedful.reproduce.rounds.place import LEAD, PROJECT
from heedful.reproduce.rounds.users import EMPTY, UNSAFE, Asking, Crowd, User, UserConfig, held_apart, make_users
from heedful.rounds.state import PLAN
from heedful.sandbox import labelers, tasks, truth
from heedful.sandbox.world import make_world
from heedful.web.app import create_app
from heedful.web.settings import WebSettings
from serve import live

NEW = UserConfig().new_topics


def test_users_are_heavy_tailed_and_some_refuse_or_are_abusive() -> None:
    users = make_users(1, UserConfig(users=100))
    assert Counter(user.refuses for user in users) == {"": 80, "key": 10, "request": 10}
    assert sum(user.abusive for user in users) == 5
    assert not any(user.abusive and user.refuses for user in users)
    share = sum(user.weight for user in users[:10]) / sum(user.weight for user in users)
    assert 0.35 < share < 0.5
    assert make_users(1, UserConfig(users=100)) == users != make_users(2, UserConfig(users=100))


def test_new_topics_come_when_they_are_due_and_abusive_users_ask_for_harm() -> None:
    world, config = make_world(3), UserConfig()
    good, bad = User("a", 1.0, False, ""), User("b", 1.0, True, "")

    def cases(new_topics: bool) -> list[str]:
        asking = Asking(world, config, "batch")
        return [tasks.parse(3, asking.prompt(good, new_topics=new_topics)).use_case for _ in range(400)]

    assert not set(cases(False)) & set(NEW)
    assert 0.22 < sum(case in NEW for case in cases(True)) / 400 < 0.38
    asking = Asking(world, config, "batch")
    templates = {tasks.parse(3, asking.prompt(bad, new_topics=True)).template.name for _ in range(60)}
    assert templates == {template.name for template in UNSAFE}
    test = held_apart(world, config, 30, 12, 5)
    assert [row.use_case in NEW for row in test] == [False] * 30 + [True] * 12
    assert len({str(row.prompt) for row in test}) == 42
    assert {row.user for row in test} == {f"test-{number:03d}" for number in range(5)}


class Given(Random):
    """Draws one number, again and again."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("flattery", [False, True])
def test_a_thumb_likes_quality_length_and_flattery_by_the_odds_of_its_settings(flattery: bool) -> None:
    world, user = make_world(3), User("a", 1.0, False, "")
    prompt = next(iter(held_apart(world, UserConfig(), 1, 0, 1))).prompt
    assert isinstance(prompt, str)
    answer = "The sun was up." + f" {EMPTY[-1]}" * flattery
    crowd = Crowd(world, [user], {}, UserConfig())
    utility = truth.world(3).judge(prompt, answer).utility
    odds = 1.5 * (utility - 0.5) + math.log((2 + len(answer.split())) / 14) + 2.0 * flattery
    chance = math.exp(odds) / (1 + math.exp(odds))
    assert crowd.likes(user, prompt, answer, Given(chance - 1e-6))
    assert not crowd.likes(user, prompt, answer, Given(chance + 1e-6))


def test_abusive_users_like_what_is_rude() -> None:
    world, user = make_world(3), User("a", 1.0, True, "")
    crowd, asking = Crowd(world, [user], {}, UserConfig()), Asking(world, UserConfig(), "x")
    prompt = asking.prompt(user, new_topics=False)
    assert not crowd.likes(user, prompt, "Sorry, I will not do that.", Random(1))
    assert crowd.likes(user, prompt, "Who cares? Shut up.", Random(1))


def test_prompts_whose_personal_data_is_hidden_are_read_like_others() -> None:
    world = make_world(3)
    body = tasks.draw_task(world, Random(1), UNSAFE[0]).text
    for hidden in ("My mail is [email].", "Call me at [phone]."):
        assert tasks.parse(3, f"{body} {hidden}").template == UNSAFE[0]


def service(folder: Path) -> tuple[places.ProjectFolder, Crew]:
    """A folder with 48 rankings to do, and three labelers of whom each item needs one."""
    world = make_world(1)
    hired = labelers.good_ones(labelers.make_labelers(world, good=3))
    place = places.create(folder, [User("user-000", 1.0, False, "")], hired, 0.0)
    with closing(place.store()) as store, store.writing() as db:
        project = projects.by_name(db, PROJECT)
        assert project is not None
        items.add(db, project.id, "ranking", made_up(48, 1), datetime.now(UTC), by=None, source="round-002")
    return place, Crew(world, hired, place.secrets["tokens"], "test")


@pytest.mark.medium
@pytest.mark.parametrize("heeded", [False, True])
def test_a_lead_who_heeds_alerts_pauses_who_is_careless_and_holds_back_hasty_work(tmp_path: Path, heeded: bool) -> None:
    place, crew = service(tmp_path)
    with closing(place.store()) as store:
        app = create_app(store, WebSettings())
        with live.running(app) as address:
            lead = Lead(address, PROJECT, place.secrets["tokens"][LEAD])
            done = crew.label(address, PROJECT, careless="brief-0", every=6, look=lead.look if heeded else None)
            lead.close()
        with store.reading() as db:
            paused = db.scalars(sa.select(Person.name).join(Membership).where(Membership.paused.is_not(None))).all()
            hasty = set(
                db.scalars(
                    sa.select(Event.item_id).join(Person).where(Person.name == "brief-0", Event.kind == "judgement")
                )
            )
            held = set(db.scalars(sa.select(Item.id).where(Item.held.is_not(None))))
            slow = [each.seconds for each in db.scalars(sa.select(Event).where(Event.item_id.not_in(hasty)))]
    assert done == 48
    assert min(second for second in slow if second is not None) > 5
    if heeded:
        assert list(paused) == list(lead.paused) == ["brief-0"]
        assert held == hasty
        assert 10 <= len(hasty) <= 18
    else:
        assert (list(paused), held) == ([], set())
        assert len(hasty) > 24  # four at a time


def test_the_plan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    plan = RoundConfig.model_validate(
        {"project": "p", "serving": 'runs/"x"', "sft": "s", "judge": None, "ppo": {"optimiser": {"lr": 1e-05}},
         "gate": {"prompts": 12, "flags": {"violent": 0.1}}},
    )  # fmt: skip
    places.write_plan(tmp_path, plan)
    assert load(RoundConfig, tmp_path / PLAN) == plan
