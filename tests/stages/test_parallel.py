"""The number of ranks changes nothing: losses, gradient norms and weights are those of one process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from heedful.files import read_json
from heedful.runs.resumable import Interrupted
from heedful.runs.run import metrics
from heedful.training.parallel import Ranks
from heedful.training.stage_run import StageRun
from stages import worlds
from stages.test_resume import at_step

# GPT-2's key biases have gradients that are 0 but for rounding, of which Adam makes full steps: the order of every sum
# would show.
CASES = (
    "pretrain-",
    "sft-llama",
    "sft-gpt2",
    "reward-llama",
    "reward-gpt2",
    "ppo-llama",
    "ppo-llama-2",
    "ppo-gpt2",
    "rloo-gpt2",
    "grpo-llama",
    "grpo-llama-0-1",
)


def run_rank(rank: int, port: int, files: worlds.Files, out: Path, case: str, factor: int) -> None:
    join(rank, port)
    if factor != 1:
        spoil(factor)
    worlds.parallel_case(case, files, out)


def join(rank: int, port: int, size: int = 2) -> None:
    """The place of a rank, as torchrun announces it."""
    place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})


def spoil(factor: int) -> None:
    """The classic mistake: every rank's gradient counted once too often."""
    right = Ranks.sum_gradients

    def wrong(world: Ranks, model: nn.Module) -> None:
        right(world, model)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad *= factor

    Ranks.sum_gradients = wrong  # type: ignore[method-assign]


def two_ranks(files: worlds.Files, out: Path, case: str, factor: int = 1) -> Path:
    """The case on two ranks."""
    assert processes(run_rank, (files, out, case, factor)) == [0, 0]
    return out / case


def processes(target: Callable[..., None], args: tuple[Any, ...], size: int = 2) -> list[int | None]:
    """Exit codes of two ranks with gloo, forked so that nothing is imported anew: target(rank, port, *args)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=target, args=(rank, port, *args)) for rank in range(size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
    return [rank.exitcode for rank in ranks]


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_sft_on_two_ranks_and_a_doubled_gradient(files: worlds.Files, tmp_path: Path) -> None:
    one = worlds.parallel_case("sft-gpt2", files, tmp_path / "one")
    assert worlds.disagreements(one, two_ranks(files, tmp_path / "two", "sft-gpt2")) == []
    found = worlds.disagreements(one, two_ranks(files, tmp_path / "wrong", "sft-gpt2", factor=2))
    assert "gradient_norm" in found
    assert any("lm_head" in name or "wte" in name for name in found)


def stopped_rank(rank: int, port: int, files: worlds.Files, out: Path, number: int) -> None:
    """Rank 1 alone gets a signal during the third step."""
    log = StageRun.log

    def then(run: StageRun, step: int, *args: Any, **kwargs: Any) -> None:
        log(run, step, *args, **kwargs)
        if step == 2 and rank == 1:
            os.kill(os.getpid(), number)

    StageRun.log = then  # type: ignore[method-assign]
    try:
        run_rank(rank, port, files, out, "sft-gpt2", 1)
    except Interrupted as stop:
        sys.exit(stop.signal_number)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_stopped_on_two_ranks_and_resumed_on_one(files: worlds.Files, tmp_path: Path) -> None:
    run = tmp_path / "two" / "sft-gpt2"
    codes = processes(stopped_rank, (files, tmp_path / "two", int(signal.SIGTERM)))
    assert codes == [signal.SIGTERM, signal.SIGTERM]
    assert read_json(run / "manifest.json")["status"] == "interrupted"
    assert len(metrics(run)) == 3
    worlds.parallel_case("sft-gpt2", files, tmp_path / "two", resume=True)
    assert worlds.hashes(run) == worlds.hashes(worlds.parallel_case("sft-gpt2", files, tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_what_the_main_rank_refuses_ends_all(files: worlds.Files, tmp_path: Path) -> None:
    (tmp_path / "two" / "sft-gpt2").mkdir(parents=True)
    (tmp_path / "two" / "sft-gpt2" / "thesis.txt").write_text("years of work")
    began = time.monotonic()
    assert all(code != 0 for code in processes(run_rank, (files, tmp_path / "two", "sft-gpt2", 1)))
    assert time.monotonic() - began < 100


@pytest.mark.slow
def test_every_stage_under_torchrun(files: worlds.Files, tmp_path: Path, python: Path) -> None:
    """The whole run, or every iteration of a stage that samples.

    There the weights of two runs differ by rounding after an iteration. A token may then be sampled differently where
    two nearly tie, and the runs go apart. From the same weights each iteration is the same, whatever the seed.
    """
    script = ["--no-python", python, "-m", "stages.ranks", files.root, tmp_path / "two", *CASES]
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, *script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        two = tmp_path / "two" / case
        if case.startswith(worlds.ONLINE):
            for step in range(len(metrics(two))):
                one = iteration_again(two, case, files, tmp_path / f"from-{step}", step)
                assert worlds.disagreements(one, two, step=step) == [], (case, step)
        else:
            assert worlds.disagreements(worlds.parallel_case(case, files, tmp_path / "one"), two) == [], case


def iteration_again(run: Path, case: str, files: worlds.Files, out: Path, step: int) -> Path:
    """A copy of a run in which one process has done this iteration again, from the checkpoint before it."""
    if step:
        shutil.copytree(run, out / case, ignore=shutil.ignore_patterns("model"))
        for later in sorted((out / case / "checkpoints").iterdir())[step:]:
            shutil.rmtree(later)
    with contextlib.suppress(Interrupted), at_step(step, lambda: os.kill(os.getpid(), signal.SIGINT)):
        worlds.parallel_case(case, files, out, resume=step > 0)
    return out / case


def test_gradients_add_up_whatever_their_order() -> None:
    """1e8 + 1 - 1e8 in float32 depends on the order; in float64 it is 1."""
    sums = []
    for terms in ((1e8, 1.0, -1e8), (1e8, -1e8, 1.0)):
        model = nn.Linear(1, 1, bias=False)
        world = Ranks(0, 1, torch.device("cpu"), torch.float32)
        for term in terms:
            world.backward((model.weight * term).sum(), model)
        world.sum_gradients(model)
        sums.append(model.weight.grad.item())
    assert sums == [1.0, 1.0]


def test_what_no_loss_touched_gets_zeros_and_low_precision_is_summed_in_float32() -> None:
    model = tiny.policy("gpt2")
    world = Ranks(0, 1, torch.device("cpu"), torch.bfloat16)
    for _ in range(2):
        world.backward(model.transformer.ln_f.bias.sum(), model)
    world.sum_gradients(model)
    assert torch.equal(model.transformer.ln_f.bias.grad, torch.full((32,), 2.0))
    assert not model.transformer.wte.weight.grad.any()
