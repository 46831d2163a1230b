"""How the labelling server bears many labelers at once, and what it keeps when it is killed.

    python benchmarks/labelling_load.py [--database sqlite|postgres] [--labelers 200] [--think 2] [--seconds 60]
    python benchmarks/labelling_load.py --faults 50 --think 0.5 [--database sqlite|postgres]

Starts `heedful label` on a SQLite file or on a fresh PostgreSQL that waits for the disk, and lets every labeler take
and submit rankings (K = 4) through the JSON API with a token and a connection of her own, `--think` seconds on the
average for each. With `--faults` the server is meanwhile killed (SIGKILL) so many times and started again; whoever got
no answer sends the same once more, with the same key. In the end every acknowledged judgement must be in the database
exactly once and the chain of events must fit; the exit code is 1 otherwise, or where a request was refused.

The clients run in one thread at a niceness of 19: on Linux that is a thread's own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from api_client import Client, Refused

from heedful.config import UserError
from heedful.data.records import Completions
from heedful.feedback import events, items, people, projects
from heedful.feedback.schema import Assignment, Event, Item, Project
from heedful.feedback.store import Store
from heedful.web.new_project import create_project

ROOT = Path(__file__).resolve().parent.parent
NAME, K, START_SECONDS = "load", 4, 120
TEXT = "The miller's cat slept on the warm stones by the river while the wind went through the seven apple trees. "
DURABLE = {"max_connections": "300"}  # fsync and synchronous_commit as PostgreSQL sets them


def fill(store: Store, labelers: int, tasks: int) -> list[str]:
    """A project with that many labelers and items; the labelers' tokens."""
    now = datetime.now(UTC)
    rows = [
        Completions(prompt=f"Question {number}: {TEXT}", completions=[f"{k} {TEXT}" for k in range(K)])
        for number in range(tasks)
    ]
    with store.writing() as db:
        project = create_project(db, NAME, "Load", now, by=None)
        consent = projects.instruction(db, project.id, "consent")
        assert consent is not None
        tokens = []
        for number in range(labelers):
            person = people.add_person(db, f"labeler-{number}", None, now)
            people.join(db, project.id, person.id, "labeler", now)
            people.consent(db, project.id, person.id, consent.version, now)
            tokens.append(people.new_token(db, person.id, "api", now, name="load")[1])
        items.add(db, project.id, "ranking", rows, now, by=None)
    return tokens


def serve(arguments: list[str], log: Path) -> None:
    """What the server's process does."""
    from heedful import cli

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    cli.main(arguments)


class Server:
    """`heedful label`, or another command, in a process of its own, always on the same port. It is forked from one that
    has imported the program before, so another start takes little time.
    """

    def __init__(self, where: str, folder: Path, command: Sequence[str] = ("label",)) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = folder / "server.log"
        self._arguments = [*command, "--db", where, "--folder", str(folder), "--port", str(self.port)]
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["heedful.cli", "heedful.demo.labelling", "labelling_load"])
        self._process: Any = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = self._forks.Process(target=serve, args=(self._arguments, self._log), daemon=True)
        self._process.start()
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.is_alive(), f"the server is gone:\n{self._log.read_text()}"
            assert time.monotonic() < end, f"the server does not answer:\n{self._log.read_text()}"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        os.kill(self._process.pid, how)
        self._process.join(60)

    def cpu_seconds(self) -> float:
        """Processor time of the running process."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                link.settimeout(5)
                link.sendall(b"GET /api/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return link.recv(9) == b"HTTP/1.1 "
        except OSError:
            return False


@dataclass
class Seen:
    """What the clients saw. `acknowledged`: key -> event. Times in seconds, until the answer, retries included."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: {"submission": [], "next task": []})
    repeated: int = 0
    retries: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Clients:
    """All labelers, in one thread, from `start` to `stop`."""

    def __init__(self, port: int, tokens: Sequence[str], think: float, *, retry: bool, seed: int = 0) -> None:
        self.seen = Seen()
        self._port, self._tokens, self._think, self._retry, self._seed = port, tokens, think, retry, seed
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Seen:
        """Each labeler finishes the call that she is at."""
        self._over.set()
        self._thread.join()
        return self.seen

    def _run(self) -> None:
        os.nice(19)
        begin = time.perf_counter()
        asyncio.run(self._all())
        self.seen.seconds, self.seen.cpu_seconds = time.perf_counter() - begin, time.thread_time()

    async def _all(self) -> None:
        await asyncio.gather(*(self._labeler(number, token) for number, token in enumerate(self._tokens)))

    async def _labeler(self, number: int, token: str) -> None:
        client, rng, path = Client(self._port, token), random.Random(f"{self._seed} {number}"), f"/api/projects/{NAME}"
        await self._pause(rng.random() * max(self._think, 0.5))
        try:
            for turn in range(10**9):
                if self._over.is_set():
                    break
                answer = await self._call(client, "next task", f"{path}/next", None)
                task = answer["task"] if answer else None
                if answer and task is None:
                    self.seen.errors[f"no task: {answer['why']}"] += 1
                await self._pause(self._think * rng.uniform(0.5, 1.5) if task else 0.5)
                if task is not None and not self._over.is_set():
                    key = f"labeler-{number}-turn-{turn}"
                    done = await self._call(
                        client, "submission", f"{path}/tasks/{task['lease']}/submit", given(key, rng)
                    )
                    if done:
                        self.seen.acknowledged[key] = done["event"]
                        self.seen.repeated += done["repeated"]
        finally:
            client.close()

    async def _call(self, client: Client, what: str, path: str, body: Any) -> Any:
        """The answer; None where it was refused, or where none came and this is not to be borne."""
        begin = time.perf_counter()
        while True:
            try:
                answer = await client.post(path, body)
            except ConnectionError as error:
                if not self._retry:
                    self.seen.errors[f"{what}: no answer, {error}"] += 1
                    return None
                self.seen.retries += 1
                await asyncio.sleep(0.5)
            except Refused as error:
                self.seen.errors[f"{what}: {error}"] += 1
                return None
            else:
                self.seen.times[what].append(time.perf_counter() - begin)
                return answer

    async def _pause(self, seconds: float) -> None:
        """Think, but not beyond the end."""
        end = time.monotonic() + seconds
        while not self._over.is_set() and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.5))


def given(key: str, rng: random.Random) -> dict[str, Any]:
    """A submission: a ranking by places, with a rating of each."""
    places = list(range(K))
    rng.shuffle(places)
    answer = {"ranking": [[place] for place in places], "ratings": [{"overall": rng.randint(1, 7)} for _ in places]}
    return {"answer": answer, "idempotency_key": key, "seconds": 40.0}


def kill(server: Server, seen: Seen, faults: int, until: float, limit: float, seed: int = 0) -> int:
    """So many times, or up to the limit: let it acknowledge some, kill it at work, start it. Then wait to the end."""
    rng, done = random.Random(f"faults {seed}"), 0
    while done < faults and time.monotonic() < limit:
        enough, end = len(seen.acknowledged) + rng.randint(1, 10), time.monotonic() + 20
        while len(seen.acknowledged) < enough and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05))
        server.stop(signal.SIGKILL)
        server.start()
        done += 1
        if done % 10 == 0:
            print(f"{done} kills, {len(seen.acknowledged):,} acknowledged", flush=True)
    time.sleep(max(0.0, until - time.monotonic()))
    return done


def faults_of(store: Store, acknowledged: dict[str, int]) -> list[str]:
    """Compare what was acknowledged with what is there; prints counts, returns what does not fit."""
    with store.reading() as db:
        project = db.scalars(sa.select(Project).where(Project.name == NAME)).one()
        mine = sa.and_(Event.project_id == project.id, Event.kind == "judgement")
        stored: dict[str, list[int]] = {}
        for key, event in db.execute(sa.select(Event.idempotency_key, Event.id).where(mine)):
            stored.setdefault(key, []).append(event)
        standing = set(db.scalars(sa.select(Assignment.event_id).where(Assignment.state == "done")))
        twice = sa.select(sa.func.count()).where(mine).group_by(Event.item_id, Event.person_id).having(
            sa.func.count() > 1
        )  # fmt: skip
        wrong = {
            "lost": sum(key not in stored for key in acknowledged),
            "under another event": sum(stored.get(key, [event]) != [event] for key, event in acknowledged.items()),
            "stored twice": sum(len(found) > 1 for found in stored.values()) + len(list(db.scalars(twice))),
            "not standing": sum(event not in standing for event in acknowledged.values()),
            "items beyond their number": db.scalar(
                sa.select(sa.func.count()).where(Item.project_id == project.id, Item.taken > Item.wanted)
            ),
        }
        told = ", ".join(f"{count} {name}" for name, count in wrong.items())
        print(f"{len(acknowledged):,} acknowledged, {len(stored):,} in the database; {told}")
        found = [f"{count} {name}" for name, count in wrong.items() if count]
        try:
            print(f"the chain of {events.verify(db, project.id):,} events fits")
        except UserError as error:
            found.append(str(error))
    return found


def report(seen: Seen, server_cpu: float | None) -> None:
    count = len(seen.acknowledged)
    print(f"{count:,} submissions in {seen.seconds:.1f} s: {count / seen.seconds:.1f} a second")
    for what, times in seen.times.items():
        p50, p99 = np.percentile(times, [50, 99]) * 1000 if times else (np.nan, np.nan)
        most = max(times, default=np.nan) * 1000
        print(f"{what:<10}  p50 {p50:8.1f}  p99 {p99:8.1f}  max {most:8.1f} ms  ({len(times):,} calls)")
    if server_cpu is not None:
        print(f"processor time: server {server_cpu:.1f} s, clients {seen.cpu_seconds:.1f} s")
    print(f"{seen.retries:,} calls without an answer sent again, {seen.repeated} of them taken in before", end="; ")
    print(f"{seen.errors.total()} errors")
    for error, often in seen.errors.most_common(5):
        print(f"  {often} x {error}")


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Where `heedful label` finds a new, empty database."""
    if kind == "sqlite":
        yield str(folder / "heedful.db")
        return
    sys.path.insert(0, str(ROOT / "tests"))
    import postgres

    with postgres.server(DURABLE) as url:
        yield url.format("postgres")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--labelers", type=int, default=200)
    parser.add_argument("--items", type=int, default=8000)
    parser.add_argument("--think", type=float, default=2.0, help="seconds for a task; 0: as fast as answers come")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it is killed no more")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, database(options.database, Path(name)) as where:
        store = Store.open(where)
        tokens = fill(store, options.labelers, options.items)
        server = Server(where, Path(name))
        server.start()
        print(f"{options.database}, {options.labelers} labelers, think {options.think:g} s")
        clients = Clients(server.port, tokens, options.think, retry=options.faults > 0)
        before = server.cpu_seconds()
        clients.start()
        try:
            now = time.monotonic()
            killed = kill(server, clients.seen, options.faults, now + options.seconds, now + options.limit)
            used = None if options.faults else server.cpu_seconds() - before
        finally:
            seen = clients.stop()
            server.stop()
        print(f"killed {killed} times of {options.faults}")
        report(seen, used)
        wrong = faults_of(store, seen.acknowledged)
        store.close()
    if killed < options.faults:
        wrong.append("fewer kills than asked for; raise --limit")
    for line in wrong:
        print(f"WRONG: {line}")
    return int(bool(wrong or seen.errors or not seen.acknowledged))


if __name__ == "__main__":
    sys.exit(main())
