"""A Ray cluster of two "machines": network namespaces with a cable, each with a /tmp of its own. `make test-ray`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hosts
from heedful.runs.run import metrics
from on_ray.test_ray import PYTHON, ROOT, ended, options, ranks, started, wait_for
from rollout.servers import stand_in
from stages import worlds

NOT_ASKED = "" if PYTHON else "Ray: run make test-ray, which sets RAY_PYTHON"
pytestmark = [
    pytest.mark.skipif(bool(why := NOT_ASKED or hosts.forbidden()), reason=why),
    pytest.mark.timeout(900),
]
PORT = 6399
PATIENT = {"RAY_raylet_start_wait_time_s": "300", "RAY_gcs_server_port_wait_time_s": "300"}  # where the machine is busy
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
NODE = "--num-cpus 1 --object-store-memory 134217728 --block".split()


@dataclass
class Place:
    """What all machines see (`shared`), and what the first alone has (`alone`)."""

    shared: Path
    alone: Path
    env: dict[str, str]
    server: str
    """The stand-in for the Python of a server's environment."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The first machine has two GPUs, by its own account, and the second has one."""
    shared, alone, second = (tmp_path_factory.mktemp(name) for name in ("shared", "alone", "second"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CUDA_"))}
    env = kept | QUIET | PATIENT | {"PYTHONPATH": str(ROOT / "src"), "GLOO_SOCKET_IFNAME": "cable"}
    ray = [str(Path(PYTHON).parent / "ray"), "start"]
    seen = [path for path in (ROOT, Path(PYTHON).parents[1], shared) if path.is_relative_to("/tmp")]
    mounts = ""
    for path in seen:
        there = second / path.relative_to("/tmp")
        mounts += f"mkdir -p {there} && mount --bind {path} {there} && "
    mounts += f"mount --rbind {second} /tmp && "
    with hosts.connected():
        at = [f"--node-ip-address={address}" for address in hosts.ADDRESSES]
        head = [*ray, "--head", f"--port={PORT}", at[0], "--num-gpus", "2", "--include-dashboard", "false", *NODE]
        other = [*ray, f"--address={hosts.ADDRESSES[0]}:{PORT}", at[1], "--num-gpus", "1", *NODE]
        with (alone / "ray.log").open("wb") as log:
            first = subprocess.Popen(hosts.on(0, *head), env=env, stdout=log, stderr=log)
            until(lambda: b"Ray runtime started" in (alone / "ray.log").read_bytes(), first)
            script = f"{mounts}cd / && exec {' '.join(other)}"
            node = subprocess.Popen(hosts.on(1, "sh", "-c", script), env=env, stdout=log, stderr=log)
            until(lambda: (alone / "ray.log").read_bytes().count(b"Ray runtime started") == 2, node)
        yield Place(shared, alone, env | {"RAY_ADDRESS": f"{hosts.ADDRESSES[0]}:{PORT}"}, str(stand_in(shared)))
    first.wait()
    node.wait()


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)


def launch(*given: str, more: tuple[str, ...] = ()) -> list[str]:
    return hosts.on(0, PYTHON, "-m", "heedful", "launch", "--ray", *more, "--", *given)


def test_servers_stand_beside_workers_on_two_machines(place: Place) -> None:
    """The server has a GPU that no worker has. Then: one Ctrl-C ends workers and server."""
    files, run = worlds.make(place.shared), place.shared / "run"
    given = [*options(files, "ppo"), "--engine.shared-dir", str(place.shared)]
    more = ("--servers", "1", "--server-python", place.server)
    code, shown, said = ended(launch(*given, "--out", str(run), "--json", more=more), place.env, place.shared)
    assert code == 0, said
    assert json.loads(shown)["status"] == "finished"
    assert f"launch: vllm loads {files.policy}" in said
    log = (place.shared / "logs" / "server-0.log").read_text("utf-8").splitlines()[0]
    assert f"--host {hosts.ADDRESSES[0]} --port 8100" in log
    assert log.startswith(("0 ", "1 "))
    assert [row["servers"] for row in metrics(run)] == [1.0, 1.0]
    assert all(row["engine_gap"] < 1e-4 for row in metrics(run))
    places = [(place.shared / "logs" / f"rank-{n}.log").exists() for n in range(3)]
    assert places == [True, True, False]  # the third GPU is the server's

    given = [*options(files, "ppo"), "--episodes", "4000", "--engine.shared-dir", str(place.shared)]
    run = place.shared / "stopped"
    with started(launch(*given, "--out", str(run), more=more), place.env, place.shared) as process:
        wait_for(run, 2, process)
        there = len(ranks(run))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert (process.returncode, there) == (130, 2), said
    assert "launch: SIGINT to 2 processes" in said
    assert "Traceback" not in said
    assert ranks(run) == {}
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"servers.main" in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("lacks", ["folder", "model", "data"])
def test_what_the_second_machine_lacks_is_one_line(place: Place, lacks: str) -> None:
    files = worlds.make((place.alone if lacks in ("model", "data") else place.shared) / lacks)
    there = worlds.make(place.shared / f"{lacks}-there")
    given = options(files, "sft")
    if lacks == "data":
        given[given.index("--model") + 1] = there.policy
    folder = place.alone if lacks == "folder" else place.shared
    missing = {"folder": str(folder), "model": files.policy, "data": files.demos}[lacks]
    code, _, said = ended(launch(*given, "--out", f"run-{lacks}"), place.env, folder)
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    assert missing in said


def test_weights_need_a_folder_that_all_machines_see(place: Place) -> None:
    given = [*options(worlds.make(place.shared / "no-folder"), "ppo"), "--out", "run-no-folder"]
    more = ("--servers", "1", "--server-python", place.server)
    code, _, said = ended(launch(*given, more=more), place.env, place.shared)
    assert (code, said) == (
        2,
        "launch: the servers run on this machine and the trainer may run on another one. Name a folder that all "
        "machines see as --engine.shared-dir behind --, or give --engine.sync group\n",
    )
    code, _, said = ended(launch(*given, more=("--servers", "3")), place.env, place.shared)
    assert code == 2
    assert said.startswith("launch: 1 process and 3 servers need 4 GPUs, and the Ray cluster has 3.")
