"""A run directory: what its manifest says, who may write it, how a model is found in it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from heedful.config import Config, UserError
from heedful.files import Lock, read_json, rows_of
from heedful.runs import resumable
from heedful.runs.manifest import VERSIONED, Manifest, model_path, parent
from heedful.runs.rows import RowsWriter
from heedful.runs.run import Run, RunWriter, metrics


class Machine(Config):
    may_change = ("threads",)
    threads: int = 1


class Some(Config):
    may_change, may_grow = ("note",), ("epochs",)
    note: str = ""
    epochs: int = 2
    machine: Machine = Machine()
    model: str = "m"
    reward: list[str] = []
    data: str = "d.jsonl"
    seed: int = 3
    optimiser: dict[str, float] = {"lr": 0.1}


def start(out: Path, config: Config | None = None, *, resume: bool = False, **changes: Any) -> RunWriter:
    facts: dict[str, Any] = {
        "parents": {"model": {"ref": "m", "weights_sha256": "a"}},
        "data": {"data": {"sha256": "b"}},
    }
    return RunWriter.start(out, "sft", config or Some(), resume=resume, **(facts | changes))


def test_the_manifest_holds_the_lineage(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.set_status("finished", results={"loss": 1.0})
    run.close()
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["stage"] == "sft"
    assert manifest["seed"] == 3
    assert manifest["parents"]["model"]["weights_sha256"] == "a"
    assert manifest["data"]["data"]["sha256"] == "b"
    assert manifest["config"] == read_json(tmp_path / "run" / "config.json") == json.loads(Some().model_dump_json())
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")
    assert manifest["versions"]["python"] == platform.python_version()
    assert set(VERSIONED) < set(manifest["versions"])
    assert manifest["results"] == {"loss": 1.0}
    assert len(manifest["id"]) == 16
    assert manifest["created"] <= manifest["updated"]
    assert "revision" in manifest


def test_ids_differ_and_stay(tmp_path: Path) -> None:
    first, second = start(tmp_path / "a"), start(tmp_path / "b")
    assert first.manifest.id != second.manifest.id
    first.close()
    assert start(tmp_path / "a", resume=True).manifest.id == first.manifest.id


def test_a_parent_is_named_with_its_run_and_the_hash_of_its_weights(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.close()
    model = tmp_path / "run" / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    for number in (1, 2):
        save_file({"w": torch.full((2,), float(number))}, model / f"model-{number}.safetensors")
    described = parent(tmp_path / "run")
    assert described["run"] == run.manifest.id
    assert described["ref"] == str(tmp_path / "run")
    assert parent(model)["weights_sha256"] == described["weights_sha256"]
    save_file({"w": torch.full((2,), 3.0)}, model / "model-2.safetensors")
    assert parent(model)["weights_sha256"] != described["weights_sha256"]
    assert parent("some/name-on-the-hub") == {"ref": "some/name-on-the-hub"}


def test_where_a_model_lies(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    with pytest.raises(UserError, match=r"this run has no model/ yet\. Finish it with --resume"):
        model_path(tmp_path / "run")
    (tmp_path / "run" / "model").mkdir()
    assert model_path(tmp_path / "run") == str(tmp_path / "run" / "model")
    with pytest.raises(UserError, match="neither a run nor a Hugging Face model directory"):
        model_path(tmp_path)
    assert model_path("owner/name") == "owner/name"


FOREIGN = ["{}", "[]", '{"records": "choice", "rows": 3}', '{"id": "a", "stage": "sft", "status": "finished"}']


@pytest.mark.parametrize("content", FOREIGN)
def test_a_snapshot_or_another_programs_manifest_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    (tmp_path / "metrics.jsonl").touch()
    asked: list[Any] = [parent, model_path, lambda path: start(path, resume=True), start]
    for ask in asked:
        with pytest.raises(UserError, match=r"manifest\.json: not the manifest of a run\. Choose another place"):
            ask(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == content


@pytest.mark.parametrize(
    ("config", "changes", "told"),
    [
        (Some(seed=4), {}, "another config ('seed' was 3, now 4)"),
        (Some(optimiser={"lr": 0.2}), {}, "another config ('optimiser.lr' was 0.1, now 0.2)"),
        (None, {"data": {"data": {"sha256": "c"}}}, "other data ('data' has changed since)"),
        (
            None,
            {"parents": {"model": {"ref": "m", "weights_sha256": "z"}}},
            "other parents ('model' has changed since)",
        ),
    ],
)
def test_resume_is_for_the_same_work(tmp_path: Path, config: Config | None, changes: dict[str, Any], told: str) -> None:
    start(tmp_path / "run").close()
    with pytest.raises(UserError) as refused:
        start(tmp_path / "run", config, resume=True, **changes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    start(tmp_path / "run", resume=True, parents={"model": {"ref": "moved", "weights_sha256": "a"}}).close()


def test_what_changes_no_result_may_change(tmp_path: Path) -> None:
    """The manifest says from which step, config.json holds the new values, and all that is refused is named."""
    place, judge = tmp_path / "run", {"reward.0": {"ref": "a/rm", "weights_sha256": "r"}}
    moved = {"reward.0": {"ref": "b/rm", "weights_sha256": "r"}}
    start(place, Some(reward=["0.5*a/rm"]), parents=judge).close()
    changed = Some(note="other", machine=Machine(threads=4), reward=["0.5*b/rm"], epochs=5)
    run = start(place, changed, resume=True, parents=moved)
    assert Run.open(place).manifest.config["note"] == ""  # not before the step is known
    told = run.go_on(7)
    run.close()
    expected = {
        "note": ["", "other"], "epochs": [2, 5], "machine.threads": [1, 4], "reward": [["0.5*a/rm"], ["0.5*b/rm"]],
    }  # fmt: skip
    manifest = read_json(place / "manifest.json")
    assert [(entry["step"], entry["changed"]) for entry in manifest["resumed"]] == [(7, expected)]
    assert manifest["config"] == read_json(place / "config.json") == json.loads(changed.model_dump_json())
    assert manifest["parents"] == moved
    assert told is not None
    assert "goes on from 7" in told
    assert "epochs 2 is now 5" in told
    again = start(place, changed, resume=True, parents=moved)
    assert again.go_on(8) is None
    assert len(again.manifest.resumed) == 1
    again.close()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Some(epochs=1), "'epochs' was 2, now 1"),
        (Some(reward=["0.4*a/rm"]), "'reward' was ['0.5*a/rm'], now ['0.4*a/rm']"),
        (Some(note="x", seed=4, data="e"), "'data' was 'd.jsonl', now 'e', 'seed' was 3, now 4"),
        (Some(seed=4), "These settings may change: machine.threads, note, a larger epochs. Undo that change"),
    ],
)
def test_what_changes_results_is_refused_and_explained(tmp_path: Path, config: Config, told: str) -> None:
    judge = {"reward.0": {"ref": "a/rm", "weights_sha256": "r"}}
    start(tmp_path / "run", Some(reward=["0.5*a/rm"]), parents=judge).close()
    if not config.reward:  # type: ignore[attr-defined]
        config = config.model_copy(update={"reward": ["0.5*a/rm"]})
    with pytest.raises(UserError) as refused:
        start(tmp_path / "run", config, resume=True, parents=judge)
    assert told in str(refused.value)


class Templated(Some):
    template: dict[str, Any] = {}


def test_a_template_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    file, moved = tmp_path / "own.jinja", tmp_path / "moved.jinja"
    file.write_text("{{ messages }}")
    start(tmp_path / "run", Templated(template={"chat_template": str(file)})).close()
    file.rename(moved)
    start(tmp_path / "run", Templated(template={"chat_template": str(moved)}), resume=True).close()
    file.write_text("{{ messages }} ")
    with pytest.raises(UserError, match=r"other templates \('chat_template' has changed since\)"):
        start(tmp_path / "run", Templated(template={"chat_template": str(file)}), resume=True)
    moved.unlink()
    with pytest.raises(UserError, match=r"moved\.jinja: no such file"):
        start(tmp_path / "new", Templated(template={"chat_template": str(moved)}))


def test_another_tokenizer_with_the_same_weights_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        save_file({"w": torch.ones(2)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "tokenizer.json").write_text("{}")
    start(tmp_path / "run", parents={"model": parent(tmp_path / "a")}).close()
    start(tmp_path / "run", resume=True, parents={"model": parent(tmp_path / "b")}).close()
    (tmp_path / "b" / "tokenizer.json").write_text('{"another": 1}')
    with pytest.raises(UserError, match=r"other parents \('model' has changed since\)"):
        start(tmp_path / "run", resume=True, parents={"model": parent(tmp_path / "b")})


def test_a_setting_that_is_new_since_has_its_default(tmp_path: Path) -> None:
    start(tmp_path / "run").close()
    manifest = read_json(tmp_path / "run" / "manifest.json")
    del manifest["config"]["note"], manifest["config"]["seed"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    start(tmp_path / "run", resume=True).close()
    with pytest.raises(UserError, match="'seed' was 3, now 4"):
        start(tmp_path / "run", Some(seed=4), resume=True)


def test_the_manifest_counts_that_is_there_when_the_lock_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may finish the run after this one has looked at it."""
    place = tmp_path / "run"
    start(place).close()

    class Late(Lock):
        def __init__(self, path: Path, busy: str) -> None:
            manifest = read_json(place / "manifest.json") | {"status": "finished", "results": {"loss": 1.0}}
            (place / "manifest.json").write_text(json.dumps(manifest))
            (place / "model").mkdir()
            super().__init__(path, busy)

    monkeypatch.setattr(resumable, "Lock", Late)
    run = start(place, resume=True)
    assert run.finished
    run.close()
    assert read_json(place / "manifest.json")["status"] == "finished"


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = start(tmp_path / "run")
    with pytest.raises(UserError, match="another process is writing here"):
        start(tmp_path / "run", resume=True)
    first.close()
    start(tmp_path / "run", resume=True).close()


def test_metrics_are_appended_rounded_and_forgotten(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    for step in range(4):
        run.log(step, {"loss": step + 1 / 3})
        run.sample(step, [{"prompt": "p", "completion": "é"}])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    run.forget_after(1)
    assert metrics(tmp_path / "run") == [{"step": 0, "loss": 0.3333333}, {"step": 1, "loss": 1.333333}]
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()] == [
        0,
        1,
    ]
    assert metrics(tmp_path) == []
    run.close()


def test_a_reason_goes_with_the_failure(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.set_status("failed", reason="x is not finite")
    assert read_json(tmp_path / "run" / "manifest.json")["reason"] == "x is not finite"
    run.close()
    again = start(tmp_path / "run", resume=True)
    assert (again.manifest.status, again.manifest.reason) == ("running", None)
    again.close()


def test_a_run_in_which_nothing_was_done_can_be_thrown_away(tmp_path: Path) -> None:
    fresh = start(tmp_path / "fresh")
    assert fresh.discard_if_empty()
    assert not (tmp_path / "fresh").exists()
    fresh.close()
    beside = start(tmp_path / "beside")
    (tmp_path / "beside" / "notes.txt").write_text("mine")
    assert beside.discard_if_empty()
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["notes.txt"]  # whoever put it there keeps it
    started = start(tmp_path / "started")
    started.log(0, {"loss": 1.0})
    assert not started.discard_if_empty()
    started.close()
    reopened = start(tmp_path / "started", resume=True)
    reopened.forget_after(-1)
    assert not reopened.discard_if_empty()  # another process made it
    reopened.close()


def test_a_finished_run_stays_finished(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.set_status("finished")
    run.close()
    (tmp_path / "run" / "model").mkdir()
    again = start(tmp_path / "run", resume=True)
    assert again.finished
    again.close()
    (tmp_path / "run" / "model").rmdir()
    lacking = start(tmp_path / "run", resume=True)
    assert not lacking.finished
    lacking.close()


def test_texts_may_hold_what_looks_like_the_end_of_a_line(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.sample(0, [{"completion": "one\u2028two\u0085three\u2029four"}, {"completion": "five"}])
    run.sample(1, [{"completion": "six"}])
    run.forget_after(0)
    run.close()
    rows = rows_of(tmp_path / "run" / "samples.jsonl")
    assert [row["completion"] for row in rows] == ["one\u2028two\u0085three\u2029four", "five"]


def test_seconds_are_those_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 160.0, 5_000.0, 5_001.0, 5_010.5, 9_000.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    run = start(tmp_path / "run")
    run.set_status("interrupted")
    run.close()
    run = start(tmp_path / "run", resume=True)
    run.set_status("finished")
    (tmp_path / "run" / "model").mkdir()
    run.close()
    before = (tmp_path / "run" / "manifest.json").read_text()
    assert read_json(tmp_path / "run" / "manifest.json")["seconds"] == 60.0 + 10.5
    start(tmp_path / "run", resume=True).close()
    assert (tmp_path / "run" / "manifest.json").read_text() == before


def test_a_run_is_read_in_any_state(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.log(0, {"loss": 1.0})
    run.sample(0, [{"completion": "yes"}])
    run.set_status("interrupted", value_from="a reward model")
    run.close()
    read = Run.open(tmp_path / "run")
    assert (read.manifest.status, read.manifest.config["seed"], read.finished) == ("interrupted", 3, False)
    assert metrics(tmp_path / "run") == [{"step": 0, "loss": 1.0}]
    assert rows_of(tmp_path / "run" / "samples.jsonl") == [{"step": 0, "completion": "yes"}]
    start(tmp_path / "run", resume=True).set_status("finished", results={"loss": 1.0})
    assert not Run.open(tmp_path / "run").finished  # without a model
    (tmp_path / "run" / "model").mkdir()
    assert Run.open(tmp_path / "run").finished
    with pytest.raises(UserError, match=r"not a run directory \(no manifest\.json\)"):
        Run.open(tmp_path)


def test_a_manifest_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    """Its file is written again with the same content, and with no more than was known."""
    start(tmp_path / "run").close()
    file = tmp_path / "run" / "manifest.json"
    written = read_json(file) | {"colour": {"of": None}, "seed": None}
    file.write_text(json.dumps(written))
    manifest = Manifest.read(file)
    manifest.write(tmp_path / "again.json")
    assert read_json(tmp_path / "again.json") == written
    assert not {"reason", "results", "sha256"} & written.keys()
    manifest.record("failed", reason="x is not finite")
    manifest.record("running")
    manifest.write(tmp_path / "again.json")
    assert "reason" not in read_json(tmp_path / "again.json")


def test_a_file_of_rows_that_another_process_has_just_finished_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again once the lock is taken."""
    out = tmp_path / "rows.jsonl"

    def wanted(**changes: Any) -> Manifest:
        return Manifest.begin("sample", Some(**changes), {}, {})

    def begin(**how: bool) -> RowsWriter:
        return RowsWriter.start(out, wanted(), resume=how.get("resume", False), overwrite=how.get("overwrite", False))

    first = begin()
    assert first.restore(1, 1) == (0, None)
    first.append([{"prompt": "p"}])
    first.close()

    class Late(Lock):
        def __init__(self, path: Path, busy: str) -> None:
            monkeypatch.setattr(resumable, "Lock", Lock)
            other = begin(resume=True)
            other.restore(1, 1)
            other.finish(lambda rows: {})
            other.close()
            super().__init__(path, busy)

    monkeypatch.setattr(resumable, "Lock", Late)
    second = begin(resume=True)
    assert second.finished
    second.close()
    assert rows_of(out) == [{"prompt": "p"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.jsonl.manifest.json"]
    with pytest.raises(UserError, match="already exists"):
        begin()


def test_rows_go_on_with_settings_that_change_none(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    first = RowsWriter.start(out, Manifest.begin("sample", Some(), {}, {}), resume=False, overwrite=False)
    first.restore(4, 2)
    first.append([{"n": 0}, {"n": 1}])
    first.close()
    changed = Manifest.begin("sample", Some(note="chunk"), {}, {})
    second = RowsWriter.start(out, changed, resume=True, overwrite=False)
    kept, told = second.restore(4, 2)
    assert (kept, told) == (2, "goes on from 2 with other settings: note '' is now 'chunk'")
    second.append([{"n": 2}, {"n": 3}])
    second.finish(lambda rows: {})
    second.close()
    manifest = read_json(tmp_path / "rows.jsonl.manifest.json")
    assert [(entry["step"], entry["changed"]) for entry in manifest["resumed"]] == [(2, {"note": ["", "chunk"]})]
    with pytest.raises(UserError, match="'seed' was 3, now 4"):
        RowsWriter.start(out, Manifest.begin("sample", Some(seed=4), {}, {}), resume=True, overwrite=False)
