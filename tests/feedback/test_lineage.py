"""From a run to the judgements that shaped it, and from a labeler to what holds her work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from heedful.config import Config, UserError
from heedful.data import formats
from heedful.data import snapshots as data_snapshots
from heedful.data.records import Demonstration
from heedful.feedback import events, lineage, snapshots
from heedful.feedback.schema import Event
from heedful.feedback.store import Store
from heedful.runs.manifest import Manifest, parent
from heedful.runs.run import RunWriter

from .team import Team


class Nothing(Config):
    """No settings."""


def run(path: Path, stage: str, data: dict[str, Any], **parents: Path) -> Path:
    """A run as a stage writes it."""
    made = RunWriter.start(
        path, stage, Nothing(),
        parents={role: parent(ref) for role, ref in parents.items()},
        data={role: formats.fingerprint(file) for role, file in data.items()},
    )  # fmt: skip
    (path / "model").mkdir()
    (path / "model" / "config.json").write_text("{}")
    (path / "checkpoints" / "step-00000010").mkdir()
    made.set_status("finished")
    made.close()
    return path


@pytest.fixture
def team(store: Store) -> Team:
    """ada ranked two, bob one; ada wrote one demonstration."""
    team = Team(store, "ada", "bob")
    team.rankings(3)
    team.prompts(1)
    team.work("ada", 2, "ranking")
    team.work("ada", 1, "demonstration")
    team.work("bob")
    return team


@pytest.fixture
def runs(team: Team, tmp_path: Path) -> Path:
    """base -> sft (demonstrations) -> reward (rankings) -> ppo; `other` was made from nothing of ours."""
    for name, kind in (("demos", "demonstration"), ("ranks", "comparison")):
        filters = snapshots.Filters(records=kind)  # type: ignore[arg-type]
        snapshots.freeze(team.store, team.project, tmp_path / name, filters, team.now, by=None)
    formats.write(tmp_path / "texts.jsonl", [{"text": "Once."}])
    formats.write(tmp_path / "prompts.jsonl", [{"prompt": "Write."}])
    made = tmp_path / "runs"
    base = run(made / "base", "pretrain", {"data": tmp_path / "texts.jsonl"})
    sft = run(made / "sft", "sft", {"data": tmp_path / "demos"}, model=base)
    reward = run(made / "reward", "reward", {"data": tmp_path / "ranks"}, model=sft)
    run(made / "ppo", "ppo", {"prompts": tmp_path / "prompts.jsonl"}, **{"policy": sft, "reward.0": reward})
    run(made / "other", "sft", {"data": tmp_path / "prompts.jsonl"}, model=base)
    return made


def of_run(team: Team, path: Path | str, *folders: Path) -> lineage.RunLineage:
    with team.store.reading() as db:
        return lineage.of_run(db, path, folders)


@pytest.mark.medium
@pytest.mark.parametrize("place", ["ppo", "ppo/model", "ppo/checkpoints/step-00000010"])
def test_ppo_is_followed_to_its_judgements(team: Team, runs: Path, tmp_path: Path, place: str) -> None:
    found = of_run(team, runs / place)
    through = {Path(use.snapshot.path).name: [Path(name).name for name in use.through] for use in found.uses}
    assert through == {"demos": ["ppo", "sft"], "ranks": ["ppo", "reward"]}
    assert {use.role for use in found.uses} == {"data"}
    shaped = [(one.labeler, one.kind, one.project, Path(one.snapshot).name) for one in found.judgements]
    assert shaped == [
        ("ada", "demonstration", "tea", "demos"), ("ada", "ranking", "tea", "ranks"),
        ("ada", "ranking", "tea", "ranks"), ("bob", "ranking", "tea", "ranks"),
    ]  # fmt: skip
    assert {one.hash for one in found.judgements} == {row.hash for row in team.rows(Event.hash)}
    assert sorted(Path(one.split(" ")[0]).name for one in found.unknown) == ["prompts.jsonl", "texts.jsonl"]


@pytest.mark.medium
def test_a_run_of_others_work_has_no_judgements(team: Team, runs: Path) -> None:
    found = of_run(team, runs / "other")
    assert (found.uses, found.judgements) == ((), ())


@pytest.mark.medium
def test_moved_runs_are_found_by_id(team: Team, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "attic").mkdir()
    os.rename(runs / "reward", tmp_path / "attic" / "rm")
    left = of_run(team, runs / "ppo")
    assert {Path(use.snapshot.path).name for use in left.uses} == {"demos"}
    assert any("reward.0 of" in one for one in left.unknown)
    found = of_run(team, runs / "ppo", tmp_path / "attic")
    assert {Path(use.snapshot.path).name for use in found.uses} == {"demos", "ranks"}


@pytest.mark.medium
def test_a_file_of_samples_leads_to_the_model_that_wrote_it(team: Team, runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "sampled.jsonl"
    formats.write(file, [{"prompt": "Q", "chosen": "a", "rejected": "b"}])
    made = Manifest.begin("sample", Config(), {"model": parent(runs / "sft")}, {})
    made.write(tmp_path / "sampled.jsonl.manifest.json")
    dpo = run(runs / "dpo", "dpo", {"data": file})
    for start in (file, dpo):
        assert {one.kind for one in of_run(team, start).judgements} == {"demonstration"}
    with team.store.reading() as db:
        assert lineage.of_labeler(db, "ada", [tmp_path]).runs == tuple(
            str(path) for path in sorted([*(runs / name for name in ("dpo", "ppo", "reward", "sft")), file])
        )


@pytest.mark.medium
def test_where_a_labelers_work_went(team: Team, runs: Path) -> None:
    with team.store.reading() as db:
        ada, bob = (lineage.of_labeler(db, name, [runs]) for name in ("ada", "bob"))
        with pytest.raises(UserError, match="no labeler has this name"):
            lineage.of_labeler(db, "eve")
    assert [(Path(snapshot.path).name, count) for snapshot, count in ada.snapshots] == [("demos", 1), ("ranks", 2)]
    assert [Path(name).name for name in ada.runs] == ["ppo", "reward", "sft"]
    assert [(Path(snapshot.path).name, count) for snapshot, count in bob.snapshots] == [("ranks", 1)]
    assert [Path(name).name for name in bob.runs] == ["ppo", "reward"]


@pytest.mark.medium
def test_deletion_names_the_frozen_files(team: Team, runs: Path) -> None:
    with team.store.writing() as db:
        paths = events.delete_person(db, team.ids["bob"], team.now, by=None)
    assert [Path(path).name for path in paths] == ["ranks"]


@pytest.mark.medium
def test_a_snapshot_shows_its_judgements(team: Team, runs: Path, tmp_path: Path) -> None:
    found = of_run(team, tmp_path / "ranks")
    assert [(one.labeler, one.kind) for one in found.judgements] == [("ada", "ranking")] * 2 + [("bob", "ranking")]
    assert list(found.lines())[:3] == [
        str(tmp_path / "ranks"), f"  {tmp_path / 'ranks'}: 3 comparison rows", "  3 judgements: ada 2, bob 1"
    ]  # fmt: skip
    made = frozen_elsewhere(tmp_path)
    assert of_run(team, made).unknown == (f"{made} (the database does not know this snapshot)",)


def frozen_elsewhere(folder: Path) -> Path:
    return data_snapshots.freeze([Demonstration(prompt="Q", completion="a")], folder / "foreign").path


@pytest.mark.medium
def test_what_is_no_run_is_said(team: Team, tmp_path: Path) -> None:
    for content in (None, "not json", '{"records": 1}'):
        if content is not None:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"no manifest\.json there or above"):
            of_run(team, tmp_path)


@pytest.mark.medium
def test_a_manifest_that_names_itself_is_read_once(team: Team, tmp_path: Path) -> None:
    manifest = Manifest.begin("ppo", Config(), {}, {})
    manifest.parents = {"policy": {"ref": str(tmp_path), "run": manifest.id}}
    manifest.write(tmp_path / "manifest.json")
    assert of_run(team, tmp_path).judgements == ()
    with team.store.reading() as db:
        assert lineage.of_labeler(db, "ada", [tmp_path]).runs == ()
