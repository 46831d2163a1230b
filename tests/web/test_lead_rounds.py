"""The page of rounds: what it says of the state of each round, its gate, and who promoted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from heedful import files
from heedful.configs.round import RoundConfig
from heedful.files import append_rows
from heedful.rounds import state
from heedful.rounds.state import HISTORY, ROUNDS, Round
from heedful.web.pages import lead_rounds

from .site import Site

EVIDENCE = {
    "win": {"rate": 0.6124, "low": 0.5502, "high": 0.6741, "n": 259},
    "flags": {"hallucination": {"mean": -0.0123, "low": -0.05, "high": 0.0249, "n": 259},
              "rude_words": {"mean": 0.0, "low": None, "high": None, "n": 4}},
    "tax": 0.0421, "length": 1.08, "alarms": [],
}  # fmt: skip


def begun(folder: Path, number: int, project: str = "tea", gate: str = "gate") -> Round:
    plan = RoundConfig.model_validate(
        {"project": project, "gate_project": gate, "serving": "runs/sft", "sft": "runs/sft"}
    )
    return Round(folder, number, plan, 259, str(folder / "heedful.db"))


def over(one: Round, outcome: str, *reasons: str, evidence: dict[str, Any] = EVIDENCE) -> None:
    """Every step is done. The gate says `outcome`."""
    from heedful.rounds.state import STEPS

    for step in STEPS:
        one.note(step, "done")
    one.note("evaluate", "done", facts=evidence)
    one.note("gate", "done", facts={"outcome": outcome, "reasons": list(reasons), "evidence": evidence})


def entry(number: int, action: str, who: str, **more: Any) -> dict[str, Any]:
    told = {"id": f"{number}{action}", "action": action, "model": "demo", "path": f"rounds/{number:03d}/ppo"}
    return {**told, "who": who, "when": "2026-03-02T09:00:00+00:00", "why": "a reason", "round": number, **more}


def test_figures_of_a_gate_in_words() -> None:
    assert [(one.name, one.value, one.ends) for one in lead_rounds.figures(EVIDENCE)] == [
        ("Win rate over the served model, 259 prompts", "61.2 %", "55.0 to 67.4"),
        ("Hallucination: made up, change in points", "−1.2", "−5.0 to +2.5"),
        ("rude_words, change in points", "+0.0", "no interval"),
        ("Alignment tax, nats a token", "+0.042", ""),
        ("Length, times that of the served model", "1.08", ""),
    ]
    assert list(lead_rounds.figures({"win": None, "flags": None, "tax": None, "length": None})) == []


@pytest.mark.medium
def test_leads_read_what_a_round_decided_and_who_promoted(site: Site) -> None:
    page = site.browser("lead").get("/lead/tea/rounds").text
    assert "No round of this project has begun" in page
    over(begun(site.folder, 1), "promote", "wins 61.2% of 259 prompts")
    over(begun(site.folder, 2), "keep", "length: 1.8 times that of the served model", evidence={})
    three = begun(site.folder, 3)
    three.note("prompts", "skipped", reason="<b>enough</b>")
    three.note("labels", "waiting", what="212 of 400 labels")
    over(begun(site.folder, 4, project="other"), "undecided", "of another project")
    moves = [entry(1, "promote", "the gate"), entry(1, "rollback", "lea"), entry(2, "promote", "bo", override=True)]
    append_rows(site.folder / ROUNDS / HISTORY, moves)
    page = site.browser("reader").get("/lead/tea/rounds").text
    first, second, third = (page.index(f"<h2>Round {number}") for number in (3, 2, 1))
    assert first < second < third
    assert "Round 3 waits: 212 of 400 labels" in page[first:second]
    assert "Its gate will decide on 259 prompts" in page[first:second]
    assert "&lt;b&gt;enough" in page[first:second]
    assert '<details class="secondary" open>' in page[first:second]
    assert "Round 2 did not pass its gate" in page[second:third]
    assert "<bdi>bo</bdi>" in page[second:third]
    assert "promoted against the gate" in page[second:third]
    assert "Round 1 passed its gate" in page[third:]
    assert "61.2 %" in page[third:]
    assert "promoted: <bdi>demo</bdi> is <code>rounds/001/ppo</code>" in page[third:]
    assert "rolled back" in page[third:]
    assert "Nobody promoted" not in page
    assert "another project" not in page


@pytest.mark.medium
def test_a_round_without_promotion_says_so_and_the_gates_project_shows_it_too(site: Site) -> None:
    over(begun(site.folder, 1, project="other", gate="tea"), "undecided", "the tax was not measured")
    page = site.browser("lead").get("/lead/tea/rounds").text
    assert "Round 1 has an undecided gate" in page
    assert "Nobody promoted its candidate" in page


@pytest.mark.medium
def test_a_damaged_state_is_named_and_copies_of_rounds_are_left_out(site: Site) -> None:
    one = begun(site.folder, 1)
    one.note("prompts", "done")
    shutil.copytree(one.path, one.path.with_name("001-old"))
    assert state.numbers(site.folder) == [1]
    whole = files.read_json(one.path / state.STATE)
    odd = ([], {}, {**whole, "steps": []}, {**whole, "steps": {"gate": 1}}, {**whole, "steps": {"gate": {}}},
           {**whole, "steps": {"gate": {"status": "done", "facts": []}}}, {**whole, "gate_prompts": None})  # fmt: skip
    for kept in odd:
        files.write_json(one.path / state.STATE, kept)
        answer = site.browser("lead").get("/lead/tea/rounds")
        assert (answer.status_code, "damaged" in answer.text) == (400, True), kept
