"""Parts of experiments: what is due, what is skipped, and what an interruption leaves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.config import UserError
from heedful.demo import base
from heedful.files import Lock, read_json
from heedful.reproduce import world
from heedful.reproduce.parts import Figures, Folders, Ledger, Part, listing

DONE: list[str] = []
DOCS = Path(__file__).parents[2] / "docs"


def part(name: str, *after: Part, seed: int = 1, **settings: int) -> Part:
    def work(folder: Path, before: Folders) -> Figures:
        DONE.append(name)
        read = {other: (path / "made.txt").read_text(encoding="utf-8") for other, path in before.items()}
        (folder / "made.txt").write_text(name, encoding="utf-8")
        return {"read": read}

    return Part(name, 2.0, seed, settings, work, after)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    DONE.clear()
    return Ledger(tmp_path / "work", tmp_path / "records")


def run(ledger: Ledger, *parts: Part) -> list[str]:
    """The parts that one call runs."""
    before = len(DONE)
    ledger.run(parts, lambda _: None)
    return DONE[before:]


def test_parts_read_those_before_them_and_leave_a_record(ledger: Ledger) -> None:
    a = part("a")
    b = part("b", a, steps=3)
    assert ledger.run([a, b], lambda _: None) == {"a": {"read": {}}, "b": {"read": {"a": "a"}}}
    kept = json.loads((ledger.records / "b.json").read_text(encoding="utf-8"))
    assert {name: kept[name] for name in ("part", "seed", "config_hash", "settings", "figures")} == {
        "part": "b", "seed": 1, "config_hash": b.hash, "settings": {"steps": 3}, "figures": {"read": {"a": "a"}},
    }  # fmt: skip
    assert run(ledger, a, b) == []


def test_other_settings_or_seeds_run_a_part_and_all_after_it(ledger: Ledger) -> None:
    a, other = part("a"), part("other")
    assert run(ledger, a, other, part("b", a)) == ["a", "other", "b"]
    longer = part("a", steps=2)
    assert run(ledger, longer, other, part("b", longer)) == ["a", "b"]
    assert run(ledger, part("other", seed=2)) == ["other"]


def test_a_stopped_part_runs_again_in_its_folder_and_finished_ones_do_not(ledger: Ledger) -> None:
    a = part("a")

    def killed(folder: Path, _: Folders) -> Figures:
        (folder / "half.txt").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    b = replace(part("b", a), work=killed)
    with pytest.raises(KeyboardInterrupt):
        run(ledger, a, b)
    again = part("b", a)
    assert run(ledger, a, again) == ["b"]
    assert (ledger.folder(again) / "half.txt").exists()


def test_records_without_files_run_only_what_others_need(ledger: Ledger, tmp_path: Path) -> None:
    """As in a fresh clone: records are there, and the folders of the parts are not."""
    a = part("a")
    b, c = part("b", a), part("c", a)
    run(ledger, a, b)
    clone = Ledger(tmp_path / "elsewhere", ledger.records)
    assert run(clone, a, b) == []
    assert run(clone, a, b, c) == ["a", "c"]


def test_a_part_that_fails_stops_only_those_that_need_it(ledger: Ledger) -> None:
    def fails(folder: Path, _: Folders) -> Figures:
        raise UserError("the loss is NaN")

    a, said = part("a"), list[str]()
    bad = replace(part("bad", a), work=fails)
    with pytest.raises(UserError, match=r"2 of 4 parts did not finish\. The first is bad: the loss is NaN"):
        ledger.run([a, bad, part("after", bad), part("other", a)], said.append)
    assert DONE == ["a", "other"]
    assert said[-4:] == ["bad: the loss is NaN", "[3/4] after", "after: needs bad", "[4/4] other"]


def test_groups_have_folders_of_their_own_and_share_a_part_of_another_group(ledger: Ledger) -> None:
    shared = replace(part("shared"), home="all")
    one, two = (replace(part("figure", shared, seed=seed), home=f"seed-{seed}") for seed in (1, 2))
    assert one.hash == part("figure", part("shared")).hash
    assert run(ledger, one, two) == ["shared", "figure", "figure"]
    assert [ledger.path(own).relative_to(ledger.records).as_posix() for own in (shared, one, two)] == [
        "all/shared.json", "seed-1/figure.json", "seed-2/figure.json",
    ]  # fmt: skip
    assert listing([one, two], [two])[1].split() == ["seed-2/figure", "about", "2", "min"]
    lock = Lock(ledger.work / "all" / ".lock", "")
    ledger.path(shared).unlink()
    assert run(ledger, one) == []  # nothing of the other group is due
    ledger.path(one).unlink()
    with pytest.raises(UserError, match="all: another process works here"):
        run(ledger, one)
    lock.release()


def test_the_list_comes_first_with_minutes(ledger: Ledger) -> None:
    a = part("a")
    b = part("b", a)
    run(ledger, a)
    assert listing([a, b], ledger.due([a, b])) == [
        "Parts to run: 1, about 2 min on two cores. Done: 1.",
        f"  {'b':<34} about 2 min",
    ]
    said: list[str] = []
    ledger.run([a, b], said.append)
    assert said[-1] == "[1/1] b"


def test_a_damaged_record_and_a_second_process_are_named(ledger: Ledger) -> None:
    a = part("a")
    run(ledger, a)
    lock = Lock(ledger.work / ".lock", "")
    with pytest.raises(UserError, match="another process works here"):
        run(ledger, a)
    lock.release()
    (ledger.records / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json: not the record of a part"):
        run(ledger, a)


def test_the_committed_parts_start_from_the_base_model_that_is_here() -> None:
    """Another one would make every part of the figures stale."""
    weights = hashlib.sha256((world.BASE / "model.safetensors").read_bytes()).hexdigest()
    assert base.record(world.BASE)["weights_sha256"] == weights
    starts = [*DOCS.glob("reproduce/parts/models-*/fig1.json"), DOCS / "reproduce/parts/overopt-1/world.json"]
    assert len(starts) >= 3
    assert {read_json(path)["settings"]["base"] for path in starts} == {weights}
