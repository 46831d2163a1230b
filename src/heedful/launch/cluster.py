"""A launch on a Ray cluster: Ray Train places the processes and keeps them together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful import files
from heedful.config import UserError, install
from heedful.launch import worker
from heedful.launch.processes import Say, ended, forwarding

ADDRESS = "RAY_ADDRESS"
SMALL_STORE = 128 << 20
"""Bytes of shared memory of an instance that we start: nothing large is sent through Ray."""


def run(
    arguments: Sequence[str], logs: Path, say: Say, *, processes: int | None = None, on_cpu: bool = False,
    program: Sequence[str] = ("-m", "heedful"),
) -> int:  # fmt: skip
    """Run a heedful command in `processes` Ray workers. Returns the exit code of the trainer.

    Without `processes`: one for each GPU of the cluster, or one. `on_cpu`: GPUs are not asked for. `program`: what gets
    the arguments.
    """
    ray = _ray()
    logs.mkdir(parents=True, exist_ok=True)
    order = worker.Order([*program, *arguments], os.getcwd(), str(logs.resolve()), _carried(os.environ))
    with _joined(ray, processes, say):
        gpus = 0 if on_cpu else int(ray.cluster_resources().get("GPU", 0))
        count = counted(processes, gpus, ray.cluster_resources())
        kind = "GPU" if gpus else "CPU"
        if ray.available_resources().get(kind, 0) < count:
            say(f"launch: others use the cluster. Waiting for {count} {kind}{'s' if count > 1 else ''}")
        board = ray.remote(worker.Board).options(num_cpus=0).remote()
        signals: list[int] = []
        with files.scratch(logs / "ray") as folder, forwarding(count, signals.append, say):
            fit = _Fit(_trainer(order, board, count, bool(gpus), folder, arguments[0]))
            started, ends = _watch(ray, board, fit, signals)
        return _code(fit, started, ends, signals, logs, say)


def counted(processes: int | None, gpus: int, there: Mapping[str, float]) -> int:
    """The number of processes. Raises UserError if the cluster has too little for them."""
    wanted = processes or gpus or 1
    needed = {"GPU": gpus} if gpus else {}
    for what, has in {**needed, "CPU": int(there.get("CPU", 0))}.items():
        if wanted > has:
            who = f"{wanted} processes need a {what} each" if wanted > 1 else f"the process needs a {what}"
            raise UserError(f"launch: {who}, and the Ray cluster has {has}. Lower --processes, or add machines")
    return wanted


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.train.torch
    except ModuleNotFoundError as error:
        raise UserError(f"launch: --ray needs {error.name}: {install('ray')}") from None
    return ray


def _carried(environment: Mapping[str, str]) -> dict[str, str]:
    """heedful's own variables, which a cluster does not have."""
    return {name: value for name, value in environment.items() if name.startswith("HEEDFUL_")}


@contextlib.contextmanager
def _joined(ray: Any, processes: int | None, say: Say) -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS or of this machine. Where there is none, start one here, and end it."""
    given = os.environ.get(ADDRESS, "")
    if "://" in given:
        raise UserError(
            f"{ADDRESS} is {given}, which is for clients outside. Start heedful launch on a machine of the cluster, or "
            "with ray job submit"
        )
    _try(given)
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if given != "local":
            ray.init(address="auto", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if given:
            raise UserError(f"{ADDRESS}: no Ray cluster answers at {given} ({_first(error)}). Check it") from None
    if not ray.is_initialized():
        say("launch: no Ray cluster runs here, so this command starts one for itself")
        cpus = max(processes or 1, os.cpu_count() or 1)
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=SMALL_STORE, **quiet
        )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def _try(address: str) -> None:
    """Raise UserError if nothing answers at an address: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"{ADDRESS}: no Ray cluster answers at {address} ({error}). Check it") from None


def _trainer(order: worker.Order, board: Any, count: int, gpus: bool, folder: Path, name: str) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    class Config(TorchConfig):
        """Ray's processes only start others, so they take no memory of a GPU."""

        @property
        def train_func_context(self) -> Any:
            return contextlib.nullcontext

    each = {"CPU": 1, **({"GPU": 1} if gpus else {})}
    return TorchTrainer(
        lambda: worker.in_ray(order, board),
        torch_config=Config(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpus, resources_per_worker=each),
        run_config=RunConfig(name=f"heedful-{name}", storage_path=str(folder.resolve())),
    )


class _Fit:
    """Ray Train at work, in a thread: in the main thread it would take Ctrl-C for itself."""

    def __init__(self, trainer: Any) -> None:
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(trainer,), daemon=True)
        self._thread.start()

    def _run(self, trainer: Any) -> None:
        from ray.exceptions import RayError
        from ray.train import TrainingFailedError

        try:
            trainer.fit()
        except (TrainingFailedError, RayError, RuntimeError, OSError) as error:
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()


def _watch(ray: Any, board: Any, fit: _Fit, signals: list[int]) -> tuple[int, list[tuple[int, int]]]:
    """Show output and send signals until Ray Train ends: (processes that began, ends in their order)."""
    sent, started, ends = 0, 0, list[tuple[int, int]]()
    while True:
        last = not fit.running
        try:
            for number in signals[sent:]:
                ray.get(board.signal.remote(number))
                sent += 1
            said, started, ends = ray.get(board.take.remote())
        except ray.exceptions.RayError as error:
            fit.error = fit.error or error
            return started, ends
        for stream, text in said:
            with contextlib.suppress(OSError, ValueError):  # nobody reads the terminal
                getattr(sys, stream).write(text)
                getattr(sys, stream).flush()
        if last or (signals and not started):  # a cluster that is busy may never start them
            return started, ends
        time.sleep(worker.PAUSE)


def _code(
    fit: _Fit, started: int, ends: Sequence[tuple[int, int]], signals: Sequence[int], logs: Path, say: Say
) -> int:
    """The exit code: that of the process that failed first."""
    failed = next(((rank, code) for rank, code in ends if code), None)
    if fit.error is not None and not signals and (failed is None or failed[1] == 128 + signal.SIGTERM):
        raise UserError(  # its process has got SIGTERM, and with it all others
            f"launch: Ray has lost a worker ({_first(fit.error)}). The last checkpoint is kept. Look at ray status, "
            "then continue with --resume"
        )
    if failed is not None:
        return ended(f"rank {failed[0]}", failed[1], logs / f"rank-{failed[0]}.log", say)
    return 128 + signals[0] if signals and not started else 0


def _first(error: Exception) -> str:
    """The last line of an error, which in Ray's says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
