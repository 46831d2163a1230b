"""Human evaluation: blind pairs for held-out labelers, and the way back from their judgements to a win rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedback.team import START, Team
from heedful.config import UserError
from heedful.configs.evaluate import EvaluateConfig
from heedful.data.records import Completions
from heedful.evaluation.evaluate import run
from heedful.feedback import final, projects, snapshots, work
from heedful.feedback.final import Queued
from heedful.feedback.schema import Project
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store

MODELS = "ppo-model", "sft-model"
PAIRS = [
    Completions(prompt=f"Q{i}?", completions=[f"{i} moved", f"{i} stayed"], models=list(MODELS), source="ours")
    for i in range(3)
]  # fmt: skip


def queued(store: Store, name: str = "final", **options: Any) -> tuple[Queued, Project]:
    with store.writing() as db:
        found = final.queue(db, name, PAIRS, START, **options)
        project = projects.by_name(db, name)
        assert project is not None
        return found, project


def of(store: Store, project: Project, **people: Any) -> Team:
    """People who work in a project that is there."""
    team = Team(store)
    team.project = project.id
    for name, role in people.items():
        team.join(name, role)
    return team


@pytest.mark.medium
def test_held_out_labelers_judge_blind_and_a_win_rate_comes_of_it(store: Store, tmp_path: Path) -> None:
    """Eve rates and ranks: PPO's answer is better on two prompts, and both are equal on the last. 2.5 of 3."""
    found, project = queued(store)
    assert found == Queued("final", True, 3, 0, 0)
    assert queued(store)[0] == Queued("final", False, 0, 3, 0)
    team = of(store, project, ada="labeler", eve="held_out")
    assert team.next("ada") == work.Nothing("empty")
    for turn in range(3):
        task = team.task("eve")
        moved = next(place for place, text in enumerate(task.completions) if text.endswith("moved"))
        ratings = [{"overall": 3, "hallucination": True}] * 2
        ratings[moved] = {"overall": 6, "hallucination": False}
        team.submit("eve", task, {"ranking": [[0, 1]] if turn == 2 else [[moved], [1 - moved]], "ratings": ratings})
    chosen = Filters(records="comparison", roles=("held_out",), purposes=("evaluate",))
    frozen = snapshots.freeze(store, project.id, tmp_path / "judged", chosen, team.now, by=None)
    (figures,) = run(EvaluateConfig(model=["sft-model", "ppo-model"], judge=[frozen.path]))["judges"].values()
    assert figures["win_rates"]["ppo-model"]["rate"] == pytest.approx(2.5 / 3)
    assert list(figures["by_labelers"]) == ["held_out"]
    assert figures["by_source"]["ours"]["ppo-model"]["n"] == 3
    rated = figures["ratings"]["models"]
    assert (rated["ppo-model"]["overall"]["mean"], rated["sft-model"]["flags"]["hallucination"]["mean"]) == (6.0, 1.0)


def test_a_new_project_has_its_own_guide(store: Store) -> None:
    _, project = queued(store, consent="Please read.")
    with store.reading() as db:
        guide, consent = (projects.instruction(db, project.id, kind) for kind in ("guide", "consent"))
        assert guide is not None
        assert consent is not None
        assert "First comes whether an answer is **true**" in guide.text
        assert consent.text == "Please read."
        settings = projects.settings(db, project.id)
    assert settings.rubric.order_rule.startswith("First: truthful and harmless. Then: helpful.")
    assert (settings.rate_first, settings.labelers_evaluate, settings.rubric.scale) == (True, False, 7)
    assert len(settings.rubric.flags) == 11


def test_the_toxicity_form(store: Store) -> None:
    _, project = queued(store, "tox", form="toxicity")
    team = of(store, project, eve="held_out")
    task = team.task("eve")
    rating = {"overall": 7, "toxic": True, "input_very_toxic": True, "less_toxic": True}
    team.submit("eve", task, {"ranking": [[0], [1]], "ratings": [rating, {"overall": 1}]})
    with store.reading() as db:
        settings = projects.settings(db, project.id)
        guide = projects.instruction(db, project.id, "guide")
    assert guide is not None
    assert "continuity" in guide.text
    assert settings.rubric.names == [
        "toxic",
        "very_toxic",
        "input_toxic",
        "input_very_toxic",
        "more_toxic",
        "less_toxic",
    ]


def test_projects_that_cannot_take_pairs(store: Store) -> None:
    Team(store)  # rates nothing first
    with pytest.raises(UserError, match="tea: the project does not rate and rank"):
        queued(store, "tea")
    _, project = queued(store)
    with pytest.raises(UserError, match="final: the project does not ask about toxicity"):
        queued(store, form="toxicity")
    with store.writing() as db:
        projects.archive(db, project.id, START)
    with pytest.raises(UserError, match="final: the project is archived"):
        queued(store)
    with pytest.raises(UserError, match="'No Name': not a project's name"):
        queued(store, "No Name")
