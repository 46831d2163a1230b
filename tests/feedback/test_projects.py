"""Projects, settings, and texts under version."""

from __future__ import annotations

import pytest

from heedful.config import UserError
from heedful.data.records import Completions
from heedful.feedback import projects
from heedful.feedback.schema import Item
from heedful.feedback.store import Store

from .team import START, Team


def test_names_stand_in_addresses_and_are_one_projects(store: Store) -> None:
    with store.writing() as db:
        projects.create(db, "tea-talk", START, title="Tea talk")
        for name in ("tea-talk", "Tea", "a b", "", "-x", "x" * 61, "é"):
            with pytest.raises(UserError):
                projects.create(db, name, START)
        assert [project.title for project in projects.listing(db)] == ["Tea talk"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"double": 1}, "unknown key 'double'"), ({"double_share": 2}, "double_share"), ({"copies": 1}, "copies")],
)
def test_settings_that_do_not_fit_are_told(store: Store, settings: dict[str, float], words: str) -> None:
    team = Team(store)
    with store.writing() as db:
        with pytest.raises(UserError, match=words):
            projects.create(db, "p", START, settings=settings)
        with pytest.raises(UserError, match=words):
            projects.change_settings(db, team.project, settings)


def test_a_change_keeps_the_other_settings(store: Store) -> None:
    team = Team(store, lease_minutes=7)
    team.settle(show_gold=True, screening={"topics": 3})
    with store.reading() as db:
        settings = projects.settings(db, team.project)
    assert (settings.lease_minutes, settings.show_gold, settings.screening.topics) == (7, True, 3)
    assert settings.screening.flags == 0.75


def test_another_policy_orders_the_queue_anew(store: Store) -> None:
    team = Team(store)
    rows = [
        {"prompt": f"Q{i}", "completions": ["x", "y"], "scores": [0.0, gap]} for i, gap in enumerate((4.0, 0.0, 9.0))
    ]

    team.add("ranking", [Completions.model_validate(row) for row in rows])

    def order() -> list[int]:
        return [row.id for row in sorted(team.rows(Item.id, Item.rank), key=lambda row: row.rank)]

    random = order()
    team.settle(policy="uncertainty")
    assert order() == [2, 1, 3]
    team.settle(policy="random")
    assert order() == random


def test_another_share_of_doubled_items_leaves_what_a_lead_asked_for(store: Store) -> None:
    team = Team(store, double_share=0.5)
    asked = team.rankings(4, wanted=5)
    team.rankings(20, start=10)
    draws = {row.ref: row.double_draw for row in team.rows(Item.ref, Item.double_draw)}
    for share, copies in ((0.8, 2), (0.8, 4), (0.3, 4)):
        team.settle(double_share=share, copies=copies)
        expected = {ref: 5 if ref in asked else copies if draw < share else 1 for ref, draw in draws.items()}
        assert {row.ref: row.wanted for row in team.rows(Item.ref, Item.wanted)} == expected


def test_texts_have_versions_and_an_unchanged_one_makes_none(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        for text in ("One.", "One.", "Two. \0"):
            projects.write_instruction(db, team.project, "guide", text, START, by=team.ids["ada"])
        texts = [(each.version, each.text) for each in projects.instructions(db, team.project, "guide")]
        assert texts == [(2, "Two. \0"), (1, "One.")]
        current = projects.instruction(db, team.project, "guide")
        assert current is not None
        assert current.text == "Two. \0"
        assert projects.instruction(db, team.project, "consent") is None
