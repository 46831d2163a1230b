"""A run that was stopped, by whatever, ends with the same bytes as one that was not."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from heedful.config import UserError, resumable
from heedful.data.formats import sha256
from heedful.files import read_json
from heedful.runs.manifest import Manifest, model_path
from heedful.runs.resumable import Interrupted
from heedful.runs.run import metrics
from heedful.training import checkpoint
from heedful.training.stage_run import StageRun
from stages import worlds

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
# Dropout and a selection by reward too: what they draw must not depend on where a run was stopped.
CHANGES: dict[str, dict[str, Any]] = {
    "sft": {
        "dropout": 0.2,
        "generation": {"max_new_tokens": 5},
        "select_samples": 6,
        "select_with": "stages.worlds:count_e",
    }
}


def train(stage: str, files: worlds.Files, out: Path, *, resume: bool = False, **changes: Any) -> Path:
    more = dict(CHANGES.get(stage, {}))
    if stage == "sft":
        more |= {"model": str(files.root / "policy-gpt2"), "prompts": files.prompts}
    return worlds.train(stage, files, out, resume=resume, **(more | changes))


@pytest.fixture(scope="module")
def whole(files: worlds.Files, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The uninterrupted run of a stage, made once."""
    folder = tmp_path_factory.mktemp("whole")
    return lambda stage: folder / stage if (folder / stage).exists() else train(stage, files, folder / stage)


def assert_same(run: Path, whole: Path, *, checkpoints: bool = True) -> None:
    assert worlds.hashes(run) == worlds.hashes(whole)
    for name in ("metrics.jsonl", "samples.jsonl"):
        if (whole / name).exists():
            assert (run / name).read_text() == (whole / name).read_text()
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in whole.iterdir())
    if checkpoints:
        kept = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (run, whole)]
        assert kept[0] == kept[1]
    manifests = [read_json(path / "manifest.json") for path in (run, whole)]
    assert [manifest["status"] for manifest in manifests] == ["finished", "finished"]
    assert manifests[0]["results"] == manifests[1]["results"]
    assert "reason" not in manifests[0]


class Crash(Exception):
    """What nobody expects."""


@contextmanager
def at_step(step: int, do: Callable[[], None]) -> Iterator[None]:
    """`do()` once, right after `step` was logged: the weights have moved, nothing of it is saved."""
    log = StageRun.log

    def then(run: StageRun, now: int, *args: Any, **kwargs: Any) -> None:
        log(run, now, *args, **kwargs)
        if now == step:
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageRun, "log", then)
        yield


def crash() -> None:
    raise Crash


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.STAGES)
def test_a_crash_costs_nothing_but_time(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str
) -> None:
    with pytest.raises(Crash), at_step(2, crash):
        train(stage, files, tmp_path / "run")
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert (manifest["status"], manifest["reason"]) == ("failed", "Crash")
    assert [row["step"] for row in metrics(tmp_path / "run")] == [0, 1, 2]
    train(stage, files, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", whole(stage))


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.STAGES)
def test_a_model_that_was_deleted_is_made_again(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole(stage), run)
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    shutil.copytree(newest, run / "checkpoints" / "step-00000000")  # as after a kill between the last save and its end
    shutil.rmtree(run / "model")
    with pytest.raises(UserError, match=r"no model/ yet\. Finish it with --resume"):
        model_path(run)
    train(stage, files, run, resume=True)
    assert_same(run, whole(stage))


@pytest.mark.medium
@pytest.mark.parametrize(("stage", "number"), [("sft", signal.SIGINT), ("pretrain", signal.SIGTERM)])
def test_a_signal_saves_a_checkpoint_first(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str, number: int
) -> None:
    """SIGTERM may come twice: Slurm sends it to every process, and torchrun hands it on."""
    before = signal.getsignal(number)

    def send() -> None:
        for _ in range(2 if number == signal.SIGTERM else 1):
            os.kill(os.getpid(), number)

    with (
        pytest.raises(Interrupted, match=r"interrupted at step 3 of .\. Continue with --resume") as stopped,
        at_step(2, send),
    ):
        train(stage, files, tmp_path / "run")
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before
    assert read_json(tmp_path / "run" / "manifest.json")["status"] == "interrupted"
    newest = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000003"  # which was not due
    with at_step(2, crash):  # step 2 is done: it does not come again
        train(stage, files, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", whole(stage), checkpoints=False)


def test_a_second_signal_stops_at_once(files: worlds.Files, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), at_step(0, twice):
        train("pretrain", files, tmp_path / "run")
    assert read_json(tmp_path / "run" / "manifest.json")["status"] == "interrupted"


@pytest.mark.medium
def test_a_finished_run_is_left_as_it_is(files: worlds.Files, whole: Callable[[str], Path]) -> None:
    run = whole("pretrain")
    before = worlds.hashes(run), (run / "metrics.jsonl").read_text()
    train("pretrain", files, run, resume=True)
    assert (worlds.hashes(run), (run / "metrics.jsonl").read_text()) == before


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("pretrain", {"seed": 1}, "'seed' was 0, now 1"),
        ("pretrain", {"optimiser": {"lr": 1.0}}, "'optimiser.lr' was 0.001, now 1.0"),
        ("sft", {}, "was begun with another command \\(heedful pretrain\\)"),
    ],
)
def test_resume_with_another_config_is_refused(
    files: worlds.Files, whole: Callable[[str], Path], stage: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        train(stage, files, whole("pretrain"), resume=True, **changes)
    assert "\n" not in str(refused.value)


HARMLESS = {
    "compute": {"micro_tokens": 48, "activation_checkpointing": True, "fast": False, "device": "cpu"},
    "checkpoint": {"keep": 5, "every": 3},
}
LONGER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pretrain": ({"tokens": 3 * 64}, {"tokens": 6 * 64}),
    "sft": ({"epochs": 1}, {"epochs": 2}),
    "reward": ({"epochs": 1}, {"epochs": 2}),
    **dict.fromkeys(worlds.ONLINE, ({"episodes": 16}, {"episodes": 32})),
}


def test_only_these_settings_may_change(files: worlds.Files) -> None:
    everywhere = {
        "trackers", "checkpoint.every", "checkpoint.keep", "compute.device", "compute.micro_tokens",
        "compute.activation_checkpointing", "compute.fast", "compute.shard", "compute.compile", "compute.liger",
    }  # fmt: skip
    for stage in worlds.STAGES:
        more = {"trust_remote_code"} if stage != "pretrain" else set()
        more |= {"generation.max_rows"} if stage in (*worlds.ONLINE, "sft") else set()
        more |= {"preflight"} if stage != "pretrain" else set()
        more |= {"peak_from"} if stage in worlds.ONLINE else set()
        config = worlds.config(stage, files)
        assert resumable(config, "may_change") == everywhere | more
        assert resumable(config, "may_grow") == set(LONGER[stage][0])


@pytest.mark.medium
@pytest.mark.parametrize("stage", worlds.STAGES)
def test_what_changes_no_result_may_change(files: worlds.Files, tmp_path: Path, stage: str) -> None:
    changes: dict[str, Any] = {"ema_decay": 0.5} if stage in worlds.ONLINE else {}
    worlds.train(stage, files, tmp_path / "whole", **changes)
    with pytest.raises(Crash), at_step(2, crash):
        worlds.train(stage, files, tmp_path / "run", **changes)
    if stage != "pretrain":  # the same weights in another place
        changes["policy" if stage in worlds.ONLINE else "model"] = str(tmp_path / "copy")
        shutil.copytree(files.policy, tmp_path / "copy")
    worlds.train(stage, files, tmp_path / "run", resume=True, **changes, **HARMLESS)
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "run"))
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-5
    manifest = read_json(tmp_path / "run" / "manifest.json")
    (entry,) = manifest["resumed"]
    assert entry["step"] == 2
    assert entry["changed"]["compute.micro_tokens"] == [16384, 48]
    assert manifest["config"]["checkpoint"] == {"every": 3, "keep": 5}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("stage", "finished"), [*((stage, True) for stage in worlds.STAGES), ("sft", False), ("ppo", False)]
)
def test_a_run_may_get_longer(files: worlds.Files, tmp_path: Path, stage: str, finished: bool) -> None:
    """At a constant rate it ends with the bytes of a run that had this length from the start."""
    short, long = LONGER[stage]
    constant = {"optimiser": {"schedule": "constant", "warmup": 0}}
    worlds.train(stage, files, tmp_path / "long", **long, **constant)
    with contextlib.nullcontext() if finished else at_step(1, crash), contextlib.suppress(Crash):
        worlds.train(stage, files, tmp_path / "run", **short, **constant)
    ended = len(metrics(tmp_path / "run"))
    worlds.train(stage, files, tmp_path / "run", resume=True, **long, **constant)
    assert len(metrics(tmp_path / "run")) == len(metrics(tmp_path / "long")) > ended
    assert worlds.hashes(tmp_path / "run") == worlds.hashes(tmp_path / "long")
    assert read_json(tmp_path / "run" / "manifest.json")["status"] == "finished"
    with pytest.raises(UserError, match=r"now \d+\)\. .*may change: .*, a larger (epochs|episodes|tokens)"):
        worlds.train(stage, files, tmp_path / "run", resume=True, **short, **constant)


@pytest.mark.medium
def test_the_schedule_of_a_longer_run_is_that_of_its_new_length(files: worlds.Files, tmp_path: Path) -> None:
    for name, epochs in (("short", 1), ("long", 2)):
        worlds.train("sft", files, tmp_path / name, epochs=epochs)
    worlds.train("sft", files, tmp_path / "short", resume=True, epochs=2)
    rates, whole = ([row["lr"] for row in metrics(tmp_path / name)] for name in ("short", "long"))
    half = len(rates) // 2
    assert rates[1] < whole[1]  # the first epoch had fallen to a tenth by its end
    assert rates[half:] == whole[half:]


@pytest.mark.medium
def test_resume_with_other_data_or_another_model_is_refused(files: worlds.Files, tmp_path: Path) -> None:
    data = worlds.write(tmp_path / "demos.jsonl", worlds.demonstrations(12))
    model = worlds.save(tmp_path / "model", worlds.tiny.policy())
    changes: dict[str, Any] = {"data": data, "model": model, "pretrain_data": None, "epochs": 1}
    with pytest.raises(Crash), at_step(1, crash):
        worlds.train("sft", files, tmp_path / "run", **changes)
    worlds.write(tmp_path / "demos.jsonl", worlds.demonstrations(13))
    with pytest.raises(UserError, match="other data \\('data' has changed since\\)"):
        worlds.train("sft", files, tmp_path / "run", resume=True, **changes)
    worlds.write(tmp_path / "demos.jsonl", worlds.demonstrations(12))
    worlds.save(tmp_path / "model", worlds.tiny.policy(seed=1))
    with pytest.raises(UserError, match="other parents \\('model' has changed since\\)"):
        worlds.train("sft", files, tmp_path / "run", resume=True, **changes)
    worlds.save(tmp_path / "model", worlds.tiny.policy())
    worlds.train("sft", files, tmp_path / "run", resume=True, **changes)


@pytest.mark.medium
def test_a_changed_reward_function_is_named(
    files: worlds.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "changing.py"
    source.write_text("def f(prompts, completions): return [float(len(c)) for c in completions]\n")
    changes: dict[str, Any] = {"reward": ["changing:f"], "episodes": 16}
    with pytest.raises(Crash), at_step(1, crash):
        worlds.train("rloo", files, tmp_path / "run", **changes)
    before = sha256(source)[:12]
    source.write_text(source.read_text() + "# mended\n")
    worlds.train("rloo", files, tmp_path / "run", resume=True, **changes)
    after = sha256(source)[:12]
    assert f"with other settings: the code of {source} '{before}' is now '{after}'" in capsys.readouterr().err
    manifest = Manifest.read(tmp_path / "run" / "manifest.json")
    assert manifest.resumed[0]["changed"] == {f"the code of {source}": [before, after]}
    assert manifest.functions["reward.0"]["sha256"].startswith(after)


def test_a_taken_place_is_refused(files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"heedful pretrain has begun here already\. Continue with --resume, or choose another"
    ):
        train("pretrain", files, whole("pretrain"))
    (tmp_path / "thesis.txt").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        for resume in (False, True):
            with pytest.raises(UserError, match=r"already exists and is not a run\. Choose another --out"):
                train("pretrain", files, out, resume=resume)
    with pytest.raises(UserError, match="Not a directory"):
        train("pretrain", files, tmp_path / "thesis.txt" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.medium
def test_two_processes_cannot_write_one_run(files: worlds.Files, tmp_path: Path) -> None:
    def a_second_one() -> None:
        child = FORK.Process(target=refused, args=(files, tmp_path / "run"))
        child.start()
        child.join(300)
        assert child.exitcode == 2

    with at_step(2, a_second_one):
        train("pretrain", files, tmp_path / "run")


def refused(files: worlds.Files, out: Path) -> None:
    try:
        train("pretrain", files, out, resume=True)
    except UserError as error:
        sys.exit(2 if "another process is writing here" in str(error) else 3)


@pytest.mark.medium
def test_a_torn_line_and_litter_of_a_killed_process_go_away(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".manifest.json.123.tmp").write_text("{")
    with pytest.raises(Crash), at_step(2, crash):
        train("pretrain", files, run, resume=True)  # nothing had begun: --resume begins
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 3, "lo')
    (run / "checkpoints" / ".step-00000009.123.tmp").mkdir()
    (run / "..model.tmp.123.tmp").mkdir()
    (run / ".model.123.tmp").mkdir()
    (run / ".model.123.old").mkdir()
    train("pretrain", files, run, resume=True)
    assert_same(run, whole("pretrain"))


@pytest.mark.medium
def test_a_full_disk_is_one_line_and_loses_nothing(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "run"))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError, match=r"No space left on device.*continue with --resume"):
            train("pretrain", files, tmp_path / "run")
    train("pretrain", files, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", whole("pretrain"))


def start(stage: str, files: worlds.Files, out: Path, kill_at: int = 0) -> BaseProcess:
    began = FORK.Event()
    process = FORK.Process(target=in_child, args=(stage, files, out, kill_at, began))
    process.start()
    assert began.wait(60)
    return process


def in_child(stage: str, files: worlds.Files, out: Path, kill_at: int, began: Event) -> None:
    try:
        began.set()
        if kill_at:
            die_at_touch(kill_at, str(out))
        train(stage, files, out, resume=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late to be a test of anything
    except Interrupted:
        sys.exit(3)
    except KeyboardInterrupt:  # before the stage listens for it, or a second time
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def die_at_touch(kill_at: int, place: str) -> None:
    """kill -9 just before the n-th file operation at `place`."""
    touches = iter(range(1, 1 << 30))

    def watch(event: str, args: tuple[Any, ...]) -> None:
        touching = event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(args[0]).startswith(
            place
        )
        if touching and next(touches) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


@pytest.mark.slow
@pytest.mark.parametrize("stage", worlds.STAGES)
def test_kill_9_at_random_moments(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str
) -> None:
    began = time.monotonic()
    start(stage, files, tmp_path / "timed").join(300)
    lasts, draw, killed = time.monotonic() - began, random.Random(f"kill {stage}"), 0
    while killed < 6:
        process = start(stage, files, tmp_path / "run")
        process.join(draw.uniform(0.0, 0.5 * lasts))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join(300)
        if process.exitcode == 0:
            if killed > 1:
                break
            shutil.rmtree(tmp_path / "run")  # it was faster than when it was timed: once more, killed sooner
            lasts, killed = 0.5 * lasts, 0
            continue
        assert process.exitcode == -signal.SIGKILL
    train(stage, files, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", whole(stage))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "ppo"])
def test_kill_9_before_any_touch_of_the_disk(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str
) -> None:
    """One run, killed again and again, each time a few file operations further on."""
    killed, process, kill_at = 0, start(stage, files, tmp_path / "run", 1), 1
    while (process.join(300) or process.exitcode) == -signal.SIGKILL:
        killed += 1
        kill_at += 1 if kill_at < 12 else 5
        process = start(stage, files, tmp_path / "run", kill_at)
    assert process.exitcode == 0
    assert killed > 12
    assert_same(tmp_path / "run", whole(stage))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("pretrain", signal.SIGTERM),
        ("sft", signal.SIGINT),
        ("reward", signal.SIGTERM),
        ("ppo", signal.SIGINT),
        ("grpo", signal.SIGTERM),
    ],
)
def test_signals_at_random_moments(
    files: worlds.Files, whole: Callable[[str], Path], tmp_path: Path, stage: str, number: int
) -> None:
    """As a terminal or a scheduler sends them, each time a little later."""
    draw, patience, stopped = random.Random(f"signals {stage}"), 0.3, 0
    while True:
        process = start(stage, files, tmp_path / "run")
        process.join(draw.uniform(0.0, patience))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
        process.join(300)
        if process.exitcode == 0 and stopped:
            break
        if process.exitcode == 0:
            shutil.rmtree(tmp_path / "run")  # before there was a signal: once more, sooner
            patience /= 2
            continue
        assert process.exitcode in (3, -number)
        stopped, patience = stopped + 1, 1.1 * patience
    assert_same(tmp_path / "run", whole(stage), checkpoints=False)  # a signal adds one that was not due


@pytest.mark.medium
def test_json_lines_hold_each_step_once(whole: Callable[[str], Path]) -> None:
    for stage in worlds.STAGES:
        lines = (whole(stage) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(len(lines)))
