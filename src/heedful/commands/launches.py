"""heedful launch: a command on several GPUs or machines, with the servers that it samples from."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

import click

from heedful import terminal
from heedful.commands.base import TRAIN, command, option
from heedful.commands.plans import config_of
from heedful.configs import registry
from heedful.errors import UserError

SPREAD = ("sample", "score", "best-of-n")
"""Commands besides the stages whose processes share the work."""


@command(
    "launch", TRAIN,
    click.Argument(["given"], metavar="-- COMMAND [OPTIONS]", nargs=-1, type=click.UNPROCESSED),
    option("--processes", type=click.IntRange(1, 1024), metavar="N", help="Processes of the trainer on each machine, "
           "with --ray in all. Without it: one for each GPU that no server has, or one."),
    option("--logs", type=Path, default=Path("logs"), metavar="DIR", help="Folder for the logs, one for each process."),
    option("--port", type=click.IntRange(1, 65_535), metavar="N", help="Port at which the processes meet. Without it: "
           "a free one."),
    option("--servers", type=click.IntRange(0, 64), default=0, metavar="N", help="Inference servers to start, each on "
           "a GPU of its own: the last ones. Without GPUs on the processor."),
    option("--server-kind", type=click.Choice(["vllm", "sglang"]), default="vllm", help="What the servers are."),
    option("--server-python", default="python", metavar="FILE", help="Python of the servers' own environment."),
    option("--server-port", type=click.IntRange(1, 65_000), default=8100, metavar="N", help="Port of the first server. "
           "The others have the next ones."),
    option("--ray", is_flag=True, help="Run on a Ray cluster: that of RAY_ADDRESS, or of this machine. Where there is "
           "none, one starts here and ends with the command."),
    option("--server-options", metavar="TEXT", help="Further options of the server's own command, in one text: "
           "'--max-model-len 4096 --gpu-memory-utilization 0.8'."),
    option("--slurm", type=Path, metavar="FILE", help="Write an sbatch file, and start nothing."),
    option("--nodes", type=click.IntRange(1, 4096), metavar="N", help="With --slurm: machines."),
    option("--gpus", type=click.IntRange(0, 64), metavar="N", help="With --slurm: GPUs of each machine."),
    option("--hours", type=click.FloatRange(0.02, 10_000), metavar="NUMBER", help="With --slurm: the longest that the "
           "job may run."),
)  # fmt: skip
def _launch(given: tuple[str, ...], processes: int | None, logs: Path, port: int | None, **how: Any) -> None:
    """Run a command in several processes on this machine or on a Ray cluster, or write the file for Slurm.

    What stands behind -- is a heedful command with its options, such as `heedful launch -- ppo --config ppo.toml`. The
    first process prints to the terminal, and every process has a log. One Ctrl-C ends all of them: the run saves a
    checkpoint first. The exit code is that of the trainer.
    """
    name = _known(given)
    if how["server_options"] is not None and not how["servers"]:
        raise UserError("--server-options: only with --servers N")
    if how["ray"]:
        raise click.exceptions.Exit(_on_ray(name, given, processes, logs, port, how))
    if how["slurm"] is not None:
        _write(given, processes, logs, port, how)
        return
    unused = [f"--{key}" for key in ("nodes", "gpus", "hours") if how[key] is not None]
    if unused:
        raise UserError(f"{unused[0]}: only for --slurm FILE. On this machine give --processes")
    from heedful.launch import local

    servers = _servers(name, given, how) if how["servers"] else None
    code = local.run(given, logs, terminal.say, processes=processes, servers=servers, port=port)
    raise click.exceptions.Exit(code)


def _on_ray(
    name: str, given: tuple[str, ...], processes: int | None, logs: Path, port: int | None, how: dict[str, Any]
) -> int:
    """Run the command on a Ray cluster: its exit code."""
    others = {"--slurm": how["slurm"], "--nodes": how["nodes"], "--gpus": how["gpus"], "--hours": how["hours"]}
    if unused := [key for key, value in {**others, "--port": port}.items() if value is not None]:
        raise UserError(f"{unused[0]}: not with --ray. Leave it out, and give --processes")
    if how["servers"]:
        raise UserError("--servers: not with --ray. Start servers yourself, and give --engine.urls behind --")
    from heedful.launch import cluster

    on_cpu = "--compute.device=cpu" in given or ("--compute.device", "cpu") in itertools.pairwise(given)
    if name in registry.stages():  # a wrong setting is an error before anything starts
        on_cpu = config_of(name, _settings(given)).compute.device == "cpu"
    return cluster.run(given, logs, terminal.say, processes=processes, on_cpu=on_cpu)


def _settings(given: tuple[str, ...]) -> tuple[str, ...]:
    """The settings of a stage among its options."""
    return tuple(_without([part for part in given[1:] if part not in ("--resume", "--json")], "--out"))


def _known(given: tuple[str, ...]) -> str:
    """The name of the command. Raises UserError if it cannot run in several processes."""
    commands = [*registry.stages(), *SPREAD]
    if not given:
        raise UserError("launch: name a command behind --, such as heedful launch -- ppo --config ppo.toml")
    if given[0] not in commands:
        raise UserError(f"launch: {given[0]} does not run in several processes. Choose from {', '.join(commands)}")
    return given[0]


def _servers(name: str, given: tuple[str, ...], how: dict[str, Any]) -> Any:
    """The servers of an online stage, which load its policy."""
    from heedful.launch.local import Servers
    from heedful.runs.manifest import model_path

    if name not in registry.stages() or not registry.stages()[name].online:
        raise UserError(f"--servers: heedful {name} samples nothing while it learns. Leave it out")
    config = config_of(name, _settings(given))
    if config.engine.urls:
        raise UserError("--servers: the settings name servers already. Leave --servers or engine.urls out")
    rank = config.lora.rank if config.engine.sync == "adapter" else 0
    try:
        options = tuple(shlex.split(how["server_options"] or ""))
    except ValueError as error:
        raise UserError(f"--server-options: {error}. Quote it as in a shell") from None
    return Servers(
        how["server_kind"], how["servers"], how["server_python"], model_path(config.policy), how["server_port"], rank,
        options,
    )  # fmt: skip


def _without(given: list[str], option: str) -> list[str]:
    """The options without one that takes a value."""
    found, skip = [], False
    for part in given:
        if skip:
            skip = False
        elif part == option:
            skip = True
        elif not part.startswith(f"{option}="):
            found.append(part)
    return found


def _out(given: tuple[str, ...]) -> str | None:
    """The folder of the run."""
    for number, part in enumerate(given):
        if part == "--out" and number + 1 < len(given):
            return given[number + 1]
        if part.startswith("--out="):
            return part.removeprefix("--out=")
    return None


def _write(given: tuple[str, ...], processes: int | None, logs: Path, port: int | None, how: dict[str, Any]) -> None:
    """Write the sbatch file."""
    from heedful import files
    from heedful.launch import slurm

    file: Path = how["slurm"]
    if how["servers"]:
        raise UserError(
            "--servers: not with --slurm. Start servers as jobs of their own, and give --engine.urls behind --"
        )
    if port is not None:
        raise UserError("--port: not with --slurm, where it follows from the number of the job. Leave it out")
    terminal.check_free(file, overwrite=False)
    gpus = 8 if how["gpus"] is None else how["gpus"]
    batch = slurm.SlurmJob(how["nodes"] or 1, gpus, processes or gpus or 1, how["hours"] or 24.0, logs)
    if gpus and batch.processes > gpus:
        raise UserError(f"--processes {processes}: each needs a GPU, and --gpus is {gpus}. Make them equal")
    files.write_text(file, slurm.script(given, batch, _out(given) if given[0] in registry.stages() else None))
    terminal.say(f"{file}: written. Start it with: sbatch {file}")
