"""Sampling into a file, and the chunks that let it be stopped at any moment (`runs.rows`)."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful.config import UserError, load
from heedful.configs.sample import SampleConfig
from heedful.data import formats
from heedful.data.records import Completions
from heedful.files import Lock
from heedful.inference import sample
from heedful.rollout.local import LocalEngine
from heedful.runs.manifest import manifest_path
from heedful.runs.resumable import Interrupted
from stages import worlds
from stages.worlds import Files


def config(files: Files, *sets: str, **changes: Any) -> SampleConfig:
    inputs = {"model": files.policy, "prompts": files.prompts, "k": 2, "chunk": 4} | changes
    return load(SampleConfig, None, ["generation.max_new_tokens=6", *sets], **inputs)


def rows(path: Path) -> list[Completions]:
    return formats.read(path, Completions)


@pytest.fixture(scope="module")
def whole(files: Files, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an uninterrupted run writes."""
    return sample.run(config(files), tmp_path_factory.mktemp("whole") / "c.jsonl").read_bytes()


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException) -> list[int]:
    """Let the engine fail at its (calls + 1)-th call; the list counts the prompts of each call."""
    generate, seen = LocalEngine.generate, []

    def failing(self: LocalEngine, prompts: Any, streams: Any, settings: Any) -> Any:
        if len(seen) == calls:
            raise error
        seen.append(len(prompts))
        return generate(self, prompts, streams, settings)

    monkeypatch.setattr(LocalEngine, "generate", failing)
    return seen


def interrupted(files: Files, out: Path, chunks: int) -> None:
    """Leave a partial file of so many chunks."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, chunks, KeyboardInterrupt())
        with pytest.raises(Interrupted, match=rf"interrupted after {4 * chunks} of 20 rows. Continue with --resume"):
            sample.run(config(files), out)


@pytest.mark.medium
def test_a_row_holds_everything_about_its_completions(files: Files, tmp_path: Path) -> None:
    prompts = worlds.write(tmp_path / "p.jsonl", [{"prompt": f"Say {i}", "id": f"p{i}", "mood": i} for i in range(5)])
    made = rows(sample.run(config(files, "generation.max_new_tokens=40", prompts=prompts, k=3), tmp_path / "c.jsonl"))
    tokenizer = tiny.tokenizer()
    assert [row.id for row in made] == ["p0", "p1", "p2", "p3", "p4"]
    assert [row.model_extra for row in made] == [{"mood": i} for i in range(5)]
    for row in made:
        assert row.models == [files.policy] * 3
        assert len(row.completions) == len(set(row.completions)) == 3
        for text, ids, finish in zip(row.completions, row.token_ids, row.finish, strict=True):
            assert text == tokenizer.decode(ids, skip_special_tokens=True)
            assert (ids[-1] == tokenizer.eos_token_id) == (finish == "stop")
            assert len(ids) == 40 or finish == "stop"
    assert {finish for row in made for finish in row.finish} == {"stop", "length"}


def test_the_manifest_tells_where_a_file_comes_from(files: Files, tmp_path: Path) -> None:
    out = sample.run(config(files), tmp_path / "c.jsonl")
    manifest = json.loads((tmp_path / "c.jsonl.manifest.json").read_text())
    assert (manifest["stage"], manifest["status"]) == ("sample", "finished")
    assert manifest["parents"]["model"]["ref"] == files.policy
    assert len(manifest["parents"]["model"]["weights_sha256"]) == 64
    assert manifest["data"]["prompts"]["sha256"] == formats.sha256(files.prompts)
    assert manifest["sha256"] == formats.sha256(out)
    assert manifest["config"]["k"] == 2
    lengths = [len(ids) for row in rows(out) for ids in row.token_ids]
    assert manifest["results"]["rows"] == 20
    assert manifest["results"]["completions"] == 40
    assert manifest["results"]["length"] == sum(lengths) / 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "c.jsonl.manifest.json"]


@pytest.mark.medium
def test_neither_chunk_nor_k_changes_a_completion(files: Files, tmp_path: Path, whole: bytes) -> None:
    one_chunk = sample.run(config(files, chunk=100), tmp_path / "a.jsonl")
    assert one_chunk.read_bytes() == whole
    more = rows(sample.run(config(files, k=5), tmp_path / "b.jsonl"))
    assert [row.completions[:2] for row in more] == [row.completions for row in rows(one_chunk)]


@pytest.mark.medium
def test_seed_and_temperature_reach_the_engine(
    files: Files, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert sample.run(config(files, seed=1), tmp_path / "a.jsonl").read_bytes() != whole
    greedy = rows(sample.run(config(files, "generation.temperature=0"), tmp_path / "b.jsonl"))
    assert all(row.completions[0] == row.completions[1] for row in greedy)
    assert caplog.messages.count("generation.temperature is 0, so all answers to a prompt are equal") == 1


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_other_endings_hold_the_same_rows(files: Files, tmp_path: Path, whole: bytes, ending: str) -> None:
    out = sample.run(config(files), tmp_path / f"c{ending}")
    (tmp_path / "c.jsonl").write_bytes(whole)
    assert rows(out) == rows(tmp_path / "c.jsonl")


def test_a_long_prompt_is_an_error_or_left_out(files: Files, tmp_path: Path) -> None:
    prompts = worlds.write(tmp_path / "p.jsonl", [{"prompt": "Say one"}, {"prompt": "house " * 200}])
    with pytest.raises(UserError, match=r"prompt 2 has \d+ tokens, the most here is 122.*--skip-long"):
        sample.run(config(files, prompts=prompts), tmp_path / "c.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]
    kept = rows(sample.run(config(files, prompts=prompts, skip_long=True), tmp_path / "c.jsonl"))
    assert [row.prompt for row in kept] == ["Say one"]


@pytest.mark.medium
def test_a_file_cut_anywhere_resumes_to_the_same_bytes(files: Files, tmp_path: Path, whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    chunk, written = len(b"".join(lines[:4])), len(b"".join(lines[:12]))
    interrupted(files, tmp_path / "stopped" / "c.jsonl", 3)
    for cut in (0, 1, chunk - 1, chunk, chunk + 1, random.Random(0).randrange(chunk, written), written):
        out = shutil.copytree(tmp_path / "stopped", tmp_path / str(cut)) / "c.jsonl"
        partial = out.with_name(".c.jsonl.partial")
        assert partial.read_bytes() == b"".join(lines[:12])
        os.truncate(partial, cut)
        with pytest.MonkeyPatch.context() as patch:
            seen = stop_after(patch, 99, AssertionError())
            sample.run(config(files), out, resume=True)
        assert out.read_bytes() == whole
        kept = whole[:cut].count(b"\n") // 4 * 4
        assert sum(seen) == 2 * (20 - kept)
        assert not partial.exists()


@pytest.mark.medium
def test_what_a_crash_left_at_the_end_is_dropped(files: Files, tmp_path: Path, whole: bytes) -> None:
    interrupted(files, tmp_path / "stopped" / "c.jsonl", 4)
    for number, garbage in enumerate([b"\0" * 50, b'{"prompt": "x"', b"[]\n", b"\n", b"\xff\n"]):
        out = shutil.copytree(tmp_path / "stopped", tmp_path / str(number)) / "c.jsonl"
        with out.with_name(".c.jsonl.partial").open("ab") as file:
            file.write(garbage)
        assert sample.run(config(files), out, resume=True).read_bytes() == whole


@pytest.mark.medium
def test_resuming_where_nothing_was_begun_begins(files: Files, tmp_path: Path, whole: bytes) -> None:
    assert sample.run(config(files), tmp_path / "c.jsonl", resume=True).read_bytes() == whole


@pytest.mark.medium
def test_a_finished_file_is_not_made_again(files: Files, tmp_path: Path) -> None:
    out = sample.run(config(files), tmp_path / "c.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, AssertionError("sampled again"))
        sample.run(config(files), out, resume=True)
    with pytest.raises(
        UserError, match=r"already exists, made with another config \('k' was 2, now 3\)\. .*--overwrite"
    ):
        sample.run(config(files, k=3), out, resume=True)


def test_an_existing_file_is_kept_unless_told_otherwise(files: Files, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "c.jsonl"
    out.write_text("precious\n")
    with pytest.raises(
        UserError, match=r"c\.jsonl: already exists\. Choose another --out, or replace it with --overwrite"
    ):
        sample.run(config(files), out)
    with pytest.raises(UserError, match="made with something unknown"):
        sample.run(config(files), out, resume=True)
    assert out.read_text() == "precious\n"
    assert sample.run(config(files), out, overwrite=True).read_bytes() == whole


@pytest.mark.medium
@pytest.mark.parametrize("content", ["", "{}"])
def test_overwrite_gets_past_damaged_notes(files: Files, tmp_path: Path, whole: bytes, content: str) -> None:
    out = tmp_path / "c.jsonl"
    interrupted(files, out, 1)
    notes = [out.with_name(".c.jsonl.partial.json"), manifest_path(out)]
    for path in notes:
        path.write_text(content)
    with pytest.raises(UserError, match=r"\.c\.jsonl\.partial\.json: (damaged|not the manifest of a run)"):
        sample.run(config(files), out, resume=True)
    assert sample.run(config(files), out, overwrite=True).read_bytes() == whole
    notes[1].write_text(content)
    with pytest.raises(UserError, match=r"c\.jsonl\.manifest\.json: (damaged|not the manifest of a run)"):
        sample.run(config(files), out, resume=True)
    assert sample.run(config(files), out, overwrite=True).read_bytes() == whole


@pytest.mark.medium
def test_a_begun_file_goes_on_only_with_resume_and_the_same_inputs(files: Files, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "c.jsonl"
    interrupted(files, out, 2)
    partial = out.with_name(".c.jsonl.partial")
    before = partial.read_bytes()
    begun = r"heedful sample has begun here already\. Continue with --resume, or start over with --overwrite"
    for resume, told in ((False, begun), (True, r"begun with another config \('seed' was 0, now 5\)")):
        with pytest.raises(UserError, match=told):
            sample.run(config(files, seed=5), out, resume=resume)
    with pytest.raises(UserError, match="Give one of them"):
        sample.run(config(files), out, resume=True, overwrite=True)
    assert partial.read_bytes() == before
    assert sample.run(config(files, seed=5), out, overwrite=True).read_bytes() != whole
    assert not partial.exists()


@pytest.mark.medium
def test_changed_prompts_or_weights_cannot_go_on(files: Files, tmp_path: Path) -> None:
    prompts = worlds.write(tmp_path / "p.jsonl", [{"prompt": f"Say {i}"} for i in range(20)])
    policy = worlds.save(tmp_path / "policy", tiny.policy(seed=1))
    out = tmp_path / "c.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt())
        with pytest.raises(Interrupted):
            sample.run(config(files, prompts=prompts, model=policy), out)
    worlds.save(tmp_path / "policy", tiny.policy(seed=2))
    with pytest.raises(UserError, match=r"begun with other parents \('model' has changed since\)"):
        sample.run(config(files, prompts=prompts, model=policy), out, resume=True)
    worlds.save(tmp_path / "policy", tiny.policy(seed=1))
    worlds.write(tmp_path / "p.jsonl", [{"prompt": f"Tell {i}"} for i in range(20)])
    with pytest.raises(UserError, match=r"begun with other data \('prompts' has changed since\)"):
        sample.run(config(files, prompts=prompts, model=policy), out, resume=True)


def test_what_fails_before_the_first_chunk_leaves_nothing(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "c.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            sample.run(config(files), out)
    with pytest.raises(UserError, match="no such model"):
        sample.run(config(files, model=str(tmp_path / "nowhere")), out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.medium
def test_a_failure_while_resuming_keeps_what_was_there(files: Files, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "c.jsonl"
    interrupted(files, out, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample.examples, "questions", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            sample.run(config(files), out, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        seen = stop_after(patch, 99, AssertionError())
        assert sample.run(config(files), out, resume=True).read_bytes() == whole
    assert sum(seen) == 2 * 12


@pytest.mark.medium
def test_a_full_disk_at_the_end_costs_nothing(files: Files, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "c.jsonl"

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "write", full)
        with pytest.raises(OSError, match="No space left"):
            sample.run(config(files), out)
    assert not out.exists()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, AssertionError("sampled again"))
        assert sample.run(config(files), out, resume=True).read_bytes() == whole


def test_one_process_writes_a_file(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    interrupted(files, out, 1)
    other = Lock(tmp_path / ".c.jsonl.lock", "busy")
    with pytest.raises(UserError, match="another process is writing here"):
        sample.run(config(files), out, resume=True)
    other.release()


@pytest.mark.parametrize(("name", "message"), [("c.txt", "Name it .jsonl"), ("folder.jsonl", "is a folder")])
def test_what_cannot_be_written_is_said_before_the_work(files: Files, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=message):
        sample.run(config(files), tmp_path / name)


@pytest.mark.parametrize("values", [[1, "one"], [1 << 64]])
def test_what_parquet_cannot_hold_is_said_before_the_work(files: Files, tmp_path: Path, values: list[Any]) -> None:
    rows = [{"prompt": f"Say {value}", "mood": value} for value in values]
    settings = config(files, prompts=worlds.write(tmp_path / "p.jsonl", rows))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, AssertionError("sampled"))
        with pytest.raises(UserError, match=r"c\.parquet: Parquet wants one type .* Write \.jsonl instead"):
            sample.run(settings, tmp_path / "c.parquet")
    assert os.listdir(tmp_path) == ["p.jsonl"]


@pytest.mark.slow
def test_kill_at_random_moments(files: Files, tmp_path: Path) -> None:
    """kill -9 until it gets through: the bytes are those of a run in peace."""
    settings = config(files, "generation.max_new_tokens=60", k=8, chunk=2)
    peace = sample.run(settings, tmp_path / "peace.jsonl").read_bytes()
    out = tmp_path / "c.jsonl"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["heedful.inference.sample"])
    draw, killed = random.Random(4), 0
    while not manifest_path(out).exists():
        process = processes.Process(target=sample.run, args=(settings, out), kwargs={"resume": True})
        process.start()
        if killed == 0:  # however fast the machine: as soon as there is something to lose
            while process.is_alive() and not list(tmp_path.glob(".*.partial")):
                process.join(0.01)
            process.kill()
        elif killed < 12:
            process.join(draw.random())
            process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        process.close()
    assert killed
    assert out.read_bytes() == peace
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_two_ranks_write_what_one_writes(files: Files, tmp_path: Path, whole: bytes, python: Path) -> None:
    out = tmp_path / "c.jsonl"
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--no-python", python, "-m", "heedful"]
    command += ["sample", "--model", files.policy, "--prompts", files.prompts, "-k", "2", "--out", str(out), "--json"]
    command += ["--set", "generation.max_new_tokens=6", "--set", "chunk=4"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": "src"}, capture_output=True, text=True, check=True)
    assert out.read_bytes() == whole
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["results"]["rows"] == 20


@pytest.mark.medium
def test_rows_that_the_template_refuses(files: Files, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(template=True)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refuses + tiny.TEMPLATE
    model = worlds.save(tmp_path / "strict", tiny.policy(), tokenizer)
    ruled = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say red"}]
    prompts = worlds.write(tmp_path / "p.jsonl", [{"prompt": "Say blue"}, {"prompt": ruled}])
    sets = ["generation.max_new_tokens=6"]
    with pytest.raises(UserError, match=r"p\.jsonl:2: .*no system role"):
        sample.run(load(SampleConfig, None, sets, model=model, prompts=prompts), tmp_path / "a.jsonl")
    for how, counts, rows in (("skip", {"refused": 1}, 1), ("join", {"joined": 1}, 2)):
        config = load(SampleConfig, None, sets, model=model, prompts=prompts, refused_rows=how)
        out = sample.run(config, tmp_path / f"{how}.jsonl")
        assert json.loads(manifest_path(out).read_text())["rows"] == {prompts: counts}
        made = formats.read(out, Completions)
        assert len(made) == rows
    assert len(made[1].prompt) == 2  # the row as it was
