"""heedful launch: a command on several GPUs or machines, with the servers that it samples from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from heedful import terminal
from heedful.commands.base import TRAIN, Command, FiniteRange, app, command, is_given, option
from heedful.configs import registry
from heedful.errors import UserError

SPREAD = ("sample", "score", "best-of-n")
"""Commands besides the stages whose processes share the work."""
_OF_SERVERS = ("server_kind", "server_python", "server_port", "server_options")
_OURS = ("--host", "--port", "--model", "--model-path", "--served-model-name")
"""Options of a server's command whose values heedful must know."""


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
    option("--hours", type=FiniteRange(0.1, 10_000), metavar="NUMBER", help="With --slurm: the longest that the "
           "job may run."),
    context_settings={"ignore_unknown_options": True},
)  # fmt: skip
def _launch(given: tuple[str, ...], processes: int | None, logs: Path, port: int | None, **how: Any) -> None:
    """Run a command in several processes on this machine or on a Ray cluster, or write the file for Slurm.

    What stands behind -- is a heedful command with its options, such as `heedful launch -- ppo --config ppo.toml`. The
    first process prints to the terminal, and every process has a log. One Ctrl-C ends all of them: the run saves a
    checkpoint first. The exit code is that of the trainer.
    """
    _check(given)
    if not how["servers"] and (unused := [name for name in _OF_SERVERS if is_given(name)]):
        raise UserError(f"--{unused[0].replace('_', '-')}: only with --servers N")
    if how["ray"]:
        raise click.exceptions.Exit(_on_ray(given, processes, logs, port, how))
    if how["slurm"] is not None:
        _write(given, processes, logs, port, how)
        return
    unused = [f"--{key}" for key in ("nodes", "gpus", "hours") if how[key] is not None]
    if unused:
        raise UserError(f"{unused[0]}: only for --slurm FILE. On this machine give --processes")
    from heedful.launch import local

    servers, _ = _asked(given, port, how)
    code = local.run(given, logs, terminal.say, processes=processes, servers=servers, port=port)
    raise click.exceptions.Exit(code)


def _on_ray(given: tuple[str, ...], processes: int | None, logs: Path, port: int | None, how: dict[str, Any]) -> int:
    """Run the command on a Ray cluster: its exit code."""
    others = {"--slurm": how["slurm"], "--nodes": how["nodes"], "--gpus": how["gpus"], "--hours": how["hours"]}
    if unused := [key for key, value in {**others, "--port": port}.items() if value is not None]:
        raise UserError(f"{unused[0]}: not with --ray. Leave it out, and give --processes")
    from heedful.launch import cluster

    servers, settings = _asked(given, port, how)
    if servers is not None and servers.sleep:
        raise UserError("engine.sleep: not with --ray, which gives each process a GPU of its own. Leave it out")
    on_cpu = settings.compute.device == "cpu"
    return cluster.run(given, logs, terminal.say, processes=processes, on_cpu=on_cpu, servers=servers)


@dataclass(frozen=True)
class Inner:
    """What the command that is launched reads from its options."""

    settings: Any
    out: Path


def _check(given: tuple[str, ...]) -> None:
    """Raise UserError if this is no command, or one that cannot run in several processes."""
    commands = [*registry.stages(), *SPREAD]
    if not given:
        raise UserError("launch: name a command behind --, such as heedful launch -- ppo --config ppo.toml")
    if given[0].startswith("-"):
        raise UserError(f"launch: {given[0]} is no option of launch. Those of the command follow its name, behind --")
    if given[0] not in commands:
        raise UserError(f"launch: {given[0]} does not run in several processes. Choose from {', '.join(commands)}")


def _read(given: tuple[str, ...]) -> Inner:
    """Read the options of a command, so that a wrong one is an error before anything starts."""
    name, found = given[0], list[dict[str, Any]]()
    known: Any = app.commands[name]
    inner = Command(
        name, callback=lambda **read: found.append(read), panel=TRAIN, config=known.config_name, preset=known.preset,
        params=known.params,
    )  # fmt: skip
    with inner.make_context(f"heedful {name}", list(given[1:])) as context:
        inner.invoke(context)
    return Inner(found[0]["settings"], found[0]["out"])


def _asked(given: tuple[str, ...], port: int | None, how: dict[str, Any]) -> tuple[Any, Any]:
    """(the servers to start, or None; the settings of the command)."""
    if how["servers"] and not (given[0] in registry.stages() and registry.stages()[given[0]].online):
        raise UserError(f"--servers: heedful {given[0]} samples nothing while it learns. Leave it out")
    settings = _read(given).settings
    return (_servers(settings, port, how) if how["servers"] else None), settings


def _servers(config: Any, port: int | None, how: dict[str, Any]) -> Any:
    """The servers of an online stage, which load its policy."""
    from heedful.launch.servers import Servers
    from heedful.runs.manifest import model_path

    kind, first = how["server_kind"], how["server_port"]
    if config.engine.urls:
        raise UserError("--servers: the settings name servers already. Leave --servers or engine.urls out")
    if config.engine.kind != kind and "kind" in config.engine.model_fields_set:
        raise UserError(f"--server-kind is {kind} and engine.kind {config.engine.kind}. Make them equal")
    if port is not None and first <= port < first + how["servers"]:
        raise UserError(f"--port {port}: a server gets it (--server-port {first}). Choose another one")
    try:
        options = tuple(shlex.split(how["server_options"] or ""))
    except ValueError as error:
        raise UserError(f"--server-options: {error}. Quote it as in a shell") from None
    if ours := [name for name in (part.partition("=")[0] for part in options) if name in _OURS]:
        raise UserError(f"--server-options: heedful sets {ours[0]} itself. Leave it out")
    rank = config.lora.rank if config.engine.sync == "adapter" else 0
    folder = None if config.engine.sync == "group" else config.engine.shared_dir or ""
    model = model_path(config.policy)
    return Servers(kind, how["servers"], how["server_python"], model, first, rank, options, folder, config.engine.sleep)


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
    if file.exists():
        raise UserError(f"--slurm {file}: already exists. Choose another name, or delete it")
    if not file.parent.is_dir():
        raise UserError(f"--slurm {file}: the folder {file.parent} does not exist. Create it, or choose another path")
    gpus = 8 if how["gpus"] is None else how["gpus"]
    batch = slurm.SlurmJob(how["nodes"] or 1, gpus, processes or gpus or 1, how["hours"] or 24.0, logs)
    if gpus and batch.processes > gpus:
        raise UserError(f"--processes {processes}: each needs a GPU, and --gpus is {gpus}. Make them equal")
    inner = _read(given)
    out = str(inner.out) if given[0] in registry.stages() else None
    logs.mkdir(parents=True, exist_ok=True)  # Slurm makes no folder for a job's log
    files.write_text(file, slurm.script(given, batch, out, Path.cwd()))
    terminal.say(f"{file}: written. Start it with: sbatch {shlex.quote(str(file))}")
