"""Two rounds through the real stages on a tiny world. The process is killed at the end of every step of the first."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from heedful.data import formats
from heedful.data.records import Comparison, Completions, Prompt
from heedful.feedback import lineage, people, projects
from heedful.feedback.schema import FrozenSnapshot, Item
from heedful.feedback.store import Store
from heedful.rounds import machine, promotions, state
from heedful.rounds.state import STEPS, Round, Waiting
from heedful.runs import placed
from rounds.place import NOW, Place
from stages.worlds import Files

DUE = 3


def killed_at(place: Place, step: str) -> int:
    """Run in a process that is killed when `step` has done its work and not said so. Returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    noted = Round.note

    def note(self: Round, name: str, status: str, **more: Any) -> None:
        if (name, status) in ((step, "done"), (step, "skipped")):
            os.kill(os.getpid(), signal.SIGKILL)
        noted(self, name, status, **more)

    Round.note = note  # type: ignore[method-assign]
    try:
        machine.run(place.folder, Store.open(place.db), place.db, print)
    except Waiting:
        os._exit(DUE)
    os._exit(1)


def vote(place: Place, one: Round) -> None:
    """A held-out labeler prefers the candidate on all prompts but one, and finds nothing wrong with either."""
    answers = formats.read(str(one.path / "answers" / "answers.jsonl"), Completions)
    candidate = {row.completions[(row.models or []).index("candidate")] for row in answers}
    with place.store.writing() as db:
        project = projects.by_name(db, "gate")
        assert project is not None
        eve = people.person_named(db, "eve") or people.add_person(db, "eve", None, NOW)
        people.join(db, project.id, eve.id, "held_out", NOW)
        projects.change_settings(db, project.id, {"double_share": 0.0})  # Eve is alone
    place.label("gate", eve.id, prefer=candidate)


@pytest.mark.slow
def test_rounds_survive_kills_and_promote_what_people_prefer(files: Files, tmp_path: Path, sent: Path) -> None:
    place = Place(tmp_path, files.root, sent, judge=None, gate={"unrated": "undecided"})
    for step in STEPS:
        ended = killed_at(place, step)
        if os.WIFEXITED(ended):  # people are due, before the step could end
            assert os.WEXITSTATUS(ended) == DUE, step
            assert place.label() == 12 if step == "labels" else vote(place, state.read(tmp_path, 1)) is None
            ended = killed_at(place, step)
        assert os.WIFSIGNALED(ended), step
        assert os.WTERMSIG(ended) == signal.SIGKILL, step
    one = place.run()
    assert {step: told["status"] for step, told in one.steps.items()} == dict.fromkeys(STEPS, "done")
    assert one.facts("gate")["outcome"] == "promote"
    assert one.facts("evaluate")["win"]["rate"] == pytest.approx(11 / 12)
    assert one.facts("evaluate")["flags"]["violent"]["mean"] == 0
    (entry,) = promotions.history(tmp_path)
    assert (entry["path"], entry["previous"]) == (str(tmp_path / "rounds/001/ppo"), str(files.root / "policy"))
    assert placed.read(tmp_path) == {"model": entry["path"]}
    with place.store.reading() as db:
        made = lineage.of_run(db, one.path / "ppo", [tmp_path])
        assert made.placed == (entry,)
        assert "promote as model" in list(made.lines())[1]
        assert "by the gate: it passed the gate (wins 91.7% of 12 prompts" in list(made.lines())[1]
        assert len(made.judgements) == 12
        found = db.query(Item.project_id, Item.kind).filter(Item.source == "round-001").all()
        assert len(found) == 24  # 12 to rank and 12 pairs, each once
        assert db.query(FrozenSnapshot).count() == 2
    assert (one.path / "ppo/model/README.md").is_file()
    assert "- 24 labels, 12 min 0 s of labelers' time" in (one.path / "report.md").read_text()

    with pytest.raises(Waiting, match="0 of 12 labels"):
        place.run()
    place.label()
    with pytest.raises(Waiting, match="0 of 12 labels"):
        place.run()
    vote(place, state.read(tmp_path, 2))
    two = place.run()
    assert two.facts("sample")["models"] == [entry["path"]]
    assert len(formats.read(str(two.path / "rankings"), Comparison)) == 24  # of both rounds
    assert two.facts("compare")["serving"] == entry["path"]
    sets = [
        {str(row.prompt) for row in formats.read(str(round_.path / name), Prompt)}
        for round_ in (one, two)
        for name in ("prompts.jsonl", "gate.jsonl")
    ]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 48
    place.said.clear()
    assert promotions.rollback(place.store, two, who="lea", reason="a complaint")["path"] == entry["path"]
    assert promotions.rollback(place.store, two, who="lea", reason=None)["path"] == str(files.root / "policy")
    assert placed.read(tmp_path) == {"model": str(files.root / "policy")}
