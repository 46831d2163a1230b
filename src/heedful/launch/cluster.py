"""A launch on a Ray cluster: Ray Train places the processes and keeps them together. Servers run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful import files
from heedful.config import UserError, install
from heedful.launch import servers as inference
from heedful.launch import worker
from heedful.launch.processes import Say, ended, forwarding, nothing
from heedful.launch.servers import Servers
from heedful.launch.worker import End

ADDRESS = "RAY_ADDRESS"
_SAME = "Install heedful and Ray in the same versions on all machines of the cluster"
SMALL_STORE = 128 << 20
"""Bytes of shared memory of an instance that we start: nothing large is sent through Ray."""


def run(
    arguments: Sequence[str], logs: Path, say: Say, *, processes: int | None = None, on_cpu: bool = False,
    servers: Servers | None = None, program: Sequence[str] = ("-m", "heedful"),
) -> int:  # fmt: skip
    """Run a heedful command in `processes` Ray workers, and servers on this machine. Returns the trainer's exit code.

    Without `processes`: one for each GPU of the cluster that no server has, or one. `on_cpu`: GPUs are not asked for.
    `program`: what gets the arguments.
    """
    ray = _ray()
    logs.mkdir(parents=True, exist_ok=True)
    carried = _carried(os.environ)
    with _joined(ray, processes, say), contextlib.ExitStack() as held:
        there = ray.cluster_resources()
        gpus = 0 if on_cpu else int(there.get("GPU", 0))
        count = counted(processes, gpus, there, servers.count if servers is not None else 0)
        needed = count + (servers.count if servers is not None and gpus else 0)
        kind = "GPU" if gpus else "CPU"
        if ray.available_resources().get(kind, 0) < needed:
            say(f"launch: others use the cluster. Waiting for {needed} {kind}{'s' if needed > 1 else ''}")
        look, command = nothing, [*program, *arguments]
        if servers is not None:
            host, seats = _place(ray, servers, gpus)
            held.callback(len, seats)  # an actor lives as long as something refers to it
            taken = ray.get([seat.gpu.remote() for seat in seats]) or servers.count * [""]
            look = held.enter_context(inference.running(servers, taken, logs, say, host))
            command += servers.settings(host)
        order = worker.Order(command, os.getcwd(), str(logs.resolve()), carried)
        board = ray.remote(worker.Board).options(num_cpus=0).remote()
        signals: list[int] = []
        folder = held.enter_context(files.scratch(logs / "ray"))
        with forwarding(count, signals.append, say):
            fit = _Fit(_trainer(order, board, count, bool(gpus), folder, arguments[0]))
            seen = _watch(ray, board, fit, signals, look)
        return _code(fit, seen, signals, logs, say)


def counted(processes: int | None, gpus: int, there: Mapping[str, float], servers: int = 0) -> int:
    """The number of processes. Raises UserError if the cluster has too little for them and the servers."""
    wanted = processes or max(1, gpus - servers)
    if gpus and servers and wanted + servers > gpus:
        raise UserError(
            f"launch: {_several(wanted, 'process', 'es')} and {_several(servers, 'server', 's')} need "
            f"{wanted + servers} GPUs, and the Ray cluster has {gpus}. Lower --processes or --servers"
        )
    needed = {"GPU": gpus} if gpus else {}
    for what, has in {**needed, "CPU": int(there.get("CPU", 0))}.items():
        if wanted > has:
            who = f"{wanted} processes need a {what} each" if wanted > 1 else f"the process needs a {what}"
            raise UserError(f"launch: {who}, and the Ray cluster has {has}. Lower --processes, or add machines")
    return wanted


def _several(count: int, name: str, ending: str) -> str:
    return f"{count} {name}{ending if count > 1 else ''}"


class Seat:
    """A GPU that Ray gives to a server: the server is no process of Ray."""

    def gpu(self) -> str:
        """Its name, as CUDA_VISIBLE_DEVICES has it."""
        import ray

        return str(ray.get_runtime_context().get_accelerator_ids()["GPU"][0])


def _place(ray: Any, servers: Servers, gpus: int) -> tuple[str, list[Any]]:
    """(the address at which the workers find the servers, a seat of each server where the cluster has GPUs).

    Raises UserError if this machine has too few GPUs, or if the trainer could not give the servers its weights.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    own = ray.get_runtime_context().get_node_id()
    if len(nodes) > 1 and servers.folder == "":
        raise UserError(
            "launch: the servers run on this machine and the trainer may run on another one. Name a folder that all "
            "machines see as --engine.shared-dir behind --, or give --engine.sync group"
        )
    here = next(node for node in nodes if node["NodeID"] == own)
    has = int(here["Resources"].get("GPU", 0))
    if gpus and has < servers.count:
        raise UserError(
            f"launch: {_several(servers.count, 'server', 's')} of this machine need as many of its GPUs, and Ray has "
            f"{has} here. Lower --servers, or start the command on a machine with more"
        )
    strategy = NodeAffinitySchedulingStrategy(own, soft=False)
    seat = ray.remote(Seat).options(num_cpus=0, num_gpus=1, scheduling_strategy=strategy)
    seats = [seat.remote() for _ in range(servers.count)] if gpus else []
    return (str(here["NodeManagerAddress"]) if len(nodes) > 1 else inference.HERE), seats


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


@dataclass
class _Seen:
    """What the board has said so far."""

    started: int = 0
    ends: Sequence[End] = ()
    errors: str = ""
    """The end of what the terminal got on standard error."""


def _watch(ray: Any, board: Any, fit: _Fit, signals: list[int], look: Callable[[], None]) -> _Seen:
    """Show output, send signals and look at the servers until Ray Train ends."""
    sent, seen = 0, _Seen()
    while True:
        last = not fit.running
        try:
            for number in signals[sent:]:
                ray.get(board.signal.remote(number))
                sent += 1
            said, seen.started, seen.ends = ray.get(board.take.remote())
        except ray.exceptions.RayError as error:
            fit.error = fit.error or error
            return seen
        for stream, text in said:
            seen.errors = (seen.errors + text)[-20_000:] if stream == "stderr" else seen.errors
            with contextlib.suppress(OSError, ValueError):  # nobody reads the terminal
                getattr(sys, stream).write(text)
                getattr(sys, stream).flush()
        look()
        if last or (signals and not seen.started):  # a cluster that is busy may never start them
            return seen
        time.sleep(worker.PAUSE)


def _code(fit: _Fit, seen: _Seen, signals: Sequence[int], logs: Path, say: Say) -> int:
    """The exit code: that of the process that failed first."""
    failed = next((end for end in seen.ends if end.code), None)
    if fit.error is not None and not signals and (failed is None or failed.code == 128 + signal.SIGTERM):
        if isinstance(fit.error.__cause__, ModuleNotFoundError) or "No module named" in str(fit.error):
            raise UserError(f"launch: the Python of a Ray worker lacks something ({_first(fit.error)}). {_SAME}")
        raise UserError(  # its process has got SIGTERM, and with it all others
            f"launch: Ray has lost a worker ({_first(fit.error)}). The last checkpoint is kept. Look at ray status, "
            "then continue with --resume"
        )
    if failed is not None:
        name = f"rank {failed.rank} on {failed.machine}" if failed.machine else f"rank {failed.rank}"
        return ended(name, failed.code, logs / f"rank-{failed.rank}.log", say, failed.line, seen.errors)
    return 128 + signals[0] if signals and not seen.started else 0


def _first(error: Exception) -> str:
    """The last line of an error, which in Ray's says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
