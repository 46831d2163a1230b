"""`heedful serve`: clients that leave in mid-stream, and kills and a full disk while prompts, thumbs and picks come."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import sqlalchemy as sa
import streaming  # siege.places has put benchmarks/ on the path

from heedful.collection import react
from heedful.collection.settings import CollectionConfig
from heedful.config import UserError
from heedful.feedback import events, keys, people, projects
from heedful.feedback.collected import Exchange
from heedful.feedback.schema import Item
from heedful.feedback.store import Store
from heedful.serve.upstream import UpstreamBackend
from serve import live, scripted
from serve.place import Place
from siege.places import load, share_path, tracebacks
from siege.table import Outcome
from siege.work import Work

USERS = 6
EACH = 10  # kills of a server with its database
LEFT_AFTER = 2.0  # seconds: when nothing of a client that left may be there any more
WAIT = 30.0  # seconds that a slow machine has for it, in the short form


def leavers(folder: Path, work: Work) -> None:
    """Clients that leave before an answer or in the middle of it: of a model of this process, and of an upstream."""
    for _ in work.parts(1):
        _left(folder, work.outcome, work.of(1000, 60), in_time=work.share >= 0.1)


def _left(folder: Path, outcome: Outcome, many: int, *, in_time: bool) -> None:
    upstream = scripted.Upstream()
    limits = {"queue": 4096, "requests_a_minute": 0}
    with live.running(upstream) as theirs:
        local = live.local("llama", **limits)
        place = Place(folder, {"m": local, "p": UpstreamBackend(f"{theirs}/v1#slow")}, limits=limits)
        with live.running(place.app) as address:
            lane: Any = local.lanes[0]
            before, pause, step = len(asyncio.all_tasks(lane.loop)), 0.02, lane._loop_rows.step

            def slow() -> Any:  # so slow that no row ends by itself
                time.sleep(pause)
                return step()

            lane._loop_rows.step = slow
            port = int(address.rpartition(":")[2])
            asyncio.run(_leave(port, place.secrets, many))
            pause = 0.5
            outcome.add([], tried=many)
            begin, held = time.monotonic(), {"": 1}
            while any(held.values()) and time.monotonic() - begin < WAIT:
                time.sleep(0.02)
                held = {
                    "answers": local.waiting, "rows": len(lane._rows), "rows of the engine": len(lane._loop_rows._rows),
                    "tasks": len(asyncio.all_tasks(lane.loop)) - before, "connections": _connections(port),
                    "connections to the upstream": _connections(int(theirs.rpartition(":")[2])),
                }  # fmt: skip
            took = time.monotonic() - begin
            outcome.failed += [f"{count} {name} are left after {took:.0f} s" for name, count in held.items() if count]
            if in_time and took > LEFT_AFTER:
                outcome.failed.append(f"the last row, task or connection went after {took:.1f} s")
            running = [line for line in _metrics(place) if line.startswith("heedful_running{") and line[-4:] != " 0.0"]
            outcome.failed += [f"metrics: {line}" for line in running]
            outcome.failed += [] if upstream.left else ["nobody left an upstream"]
        place.store.close()


async def _leave(port: int, secrets: dict[str, str], many: int) -> None:
    async def client(number: int) -> None:
        draw = random.Random(number)
        body = {
            "model": "p" if number % 3 == 0 else "m", "messages": [{"role": "user", "content": "Go on"}],
            "max_tokens": 200, "temperature": 2.0, "stream": number % 7 != 0, "n": 1 + number % 2, "seed": number,
        }  # fmt: skip
        body |= {"n": 1} if body["model"] == "p" else {}
        key = secrets["ada" if number % 2 else "bo"]
        asking = streaming.ask(port, key, body, leave_after=draw.randint(1, 6))
        soon = number % 5 == 0 or not body["stream"]  # before the first token
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asking, draw.uniform(0.05, 1.0) if soon else 60)

    await asyncio.gather(*map(client, range(many)))


def _connections(port: int) -> int:
    """Connections that a server in this process still holds."""
    ours = (each for each in psutil.Process().net_connections("tcp") if each.laddr and each.laddr.port == port)
    return sum(each.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT) for each in ours)


def _metrics(place: Place) -> list[str]:
    shown: str = place.app.state.service.metrics.shown().decode()
    return shown.splitlines()


def kills_sqlite(folder: Path, work: Work) -> None:
    _kills("sqlite", folder, work)


def kills_postgresql(folder: Path, work: Work) -> None:
    _kills("postgres", folder, work)


def _kills(kind: str, folder: Path, work: Work) -> None:
    faults = work.of(50, 2)
    for number in work.parts(-(-faults // EACH)):
        home = folder / str(number)
        home.mkdir()
        _killed(kind, home, work.outcome, number, min(EACH, faults - EACH * number))


def _killed(kind: str, folder: Path, outcome: Outcome, number: int, faults: int) -> None:
    """Users who ask, react and repeat what got no answer, while the server is killed again and again."""
    draw = random.Random(f"serve {number}")
    with _served(kind, folder) as (server, store, secrets):
        users = Users(server.port, secrets)
        try:
            for _ in range(faults):
                enough, end = users.done + draw.randint(3, 12), time.monotonic() + 60
                while users.done < enough and time.monotonic() < end:
                    time.sleep(0.01)
                time.sleep(draw.uniform(0, 0.05))
                server.stop(signal.SIGKILL)
                server.start()
        finally:
            users.stop()
        outcome.add(users.compare(store), tried=faults)
        outcome.add(tracebacks(server._log.read_text(errors="replace")), tried=0)


def full_disk(folder: Path, work: Work) -> None:
    """No file of the server may grow any further (RLIMIT_FSIZE): answers go on, and /healthz says what is missing."""
    for _ in work.parts(1):
        _filled(folder, work.outcome, turns=work.of(200, 60))


def _filled(folder: Path, outcome: Outcome, turns: int) -> None:
    with _served("sqlite", folder) as (server, store, secrets):

        def ask(text: str) -> int:
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            return _ask(server.port, "POST", "/v1/chat/completions", secrets[0], body)[0]

        def storing() -> str:
            return str(json.loads(_ask(server.port, "GET", "/healthz")[1])["storing"])

        outcome.add([] if (ask("before"), storing()) == (200, "ok") else [f"before: {storing()}"])
        largest = max(path.stat().st_size for path in folder.iterdir() if path.is_file())
        resource.prlimit(server._process.pid, resource.RLIMIT_FSIZE, (largest + 100_000, resource.RLIM_INFINITY))
        said = "ok"
        for turn in range(turns):
            status = ask(f"{turn}" + " x" * 10_000)
            outcome.add([] if status == 200 else [f"status {status} when the disk is full"])
            said = storing()
        outcome.failed += (
            [] if said.startswith("nothing is stored") else [f"the disk is full, and /healthz says {said}"]
        )
        resource.prlimit(server._process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        outcome.add([] if (ask("after"), storing()) == (200, "ok") else [f"with room again: {storing()}"])
        with store.reading() as db:
            found = [str(prompt) for prompt in db.scalars(sa.select(Exchange.prompt))]
        outcome.failed += [
            f"{word!r} is not stored" for word in ("before", "after") if not any(word in p for p in found)
        ]
        outcome.add(tracebacks(server._log.read_text(errors="replace")), tried=0)


@contextmanager
def _served(kind: str, folder: Path) -> Iterator[tuple[Any, Store, list[str]]]:
    """A server in a process of its own, in front of an upstream in this one: (server, store, keys of its users)."""
    share_path()
    with load.database(kind, folder) as where, live.running(_upstream) as theirs:
        store, now = Store.open(where), datetime.now(UTC)
        with store.writing() as db:
            secrets = [
                keys.new(db, people.add_person(db, f"user-{number}", None, now).id, "test", now,
                         consent=CollectionConfig().version)[1]
                for number in range(USERS)
            ]  # fmt: skip
        command = ("serve", "--upstream", f"m={theirs}/v1#m", "--limits.requests-a-minute", "0")
        server = load.Server(where, folder, command)
        server.start()
        try:
            yield server, store, secrets
        finally:
            server.stop()
            store.close()


async def _upstream(scope: Any, receive: Any, send: Any) -> None:
    """Says the last message again, under an id of its own."""
    if scope["type"] != "http":
        return
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":  # the server was killed while it wrote
            return
        content, more = content + message.get("body", b""), message.get("more_body", False)
    asked = json.loads(content)
    said, name = asked["messages"][-1]["content"], f"chatcmpl-{uuid4().hex}"
    if asked.get("stream"):
        parts = [{"delta": {"content": text}, "finish_reason": None} for text in (said[:3], said[3:])]
        parts.append({"delta": {}, "finish_reason": "stop"})
        lines = [json.dumps({"id": name, "choices": [{"index": 0, **part}]}).encode() for part in parts]
        answer, kind = b"".join(b"data: " + line + b"\n\n" for line in [*lines, b"[DONE]"]), b"text/event-stream"
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        answer, kind = json.dumps({"id": name, "choices": [choice]}).encode(), b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": answer})


class Users:
    """People who ask, rate and choose, each in a thread, until `stop`."""

    def __init__(self, port: int, secrets: list[str]) -> None:
        self.port = port
        self.prompts: dict[str, str] = {}
        """Acknowledged: the prompt with the id of its answer."""
        self.asked: set[str] = set()
        self.thumbs: dict[str, bool] = {}
        self.picks: dict[str, str] = {}
        """Prompt of a pick, with its reference."""
        self.errors: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._user, args=(*each,)) for each in enumerate(secrets)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        return len(self.prompts) + len(self.thumbs) + len(self.picks)

    def stop(self) -> None:
        """Everybody finishes what they are at."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _user(self, number: int, secret: str) -> None:
        draw, turn = random.Random(number), 0
        while not self._over.is_set():
            turn += 1
            word = f"canary-{number}-{turn}-"
            self.asked.add(word)
            body = {"model": "m", "messages": [{"role": "user", "content": word}], "stream": turn % 2 == 0}
            status, told = _ask(self.port, "POST", "/v1/chat/completions", secret, body)
            whole = status == 200 and (not body["stream"] or told.endswith("data: [DONE]\n\n"))
            if not whole:  # the server was killed: the next question is another one
                self.errors[f"prompt: {status} {told[:100]}"] += status not in (0, 200)
                time.sleep(0.05)
                continue
            name = self.prompts[word] = str(json.loads(told.removeprefix("data: ").partition("\n")[0])["id"])
            up = draw.random() < 0.5
            if self._until_answered(secret, f"/v1/exchanges/{name}/thumb", {"up": up}) is not None:
                self.thumbs[name] = up
            sides = {side: {"text": side, "model": "m"} for side in ("left", "right")}
            pick = {"prompt": word, **sides, "outcome": "left", "blind": True, "key": word}
            made = self._until_answered(secret, "/v1/picks", pick)
            if made is not None:
                self.picks[word] = made["ref"]

    def _until_answered(self, secret: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Send it again as long as no answer comes. None: it was refused."""
        status, told = 0, ""
        while status in (0, 503):
            status, told = _ask(self.port, "POST", path, secret, body)
            if status == 0:
                time.sleep(0.05)
        if status != 200:
            self.errors[f"{path.rpartition('/')[2]}: {status} {told[:100]}"] += 1
            return None
        found: dict[str, Any] = json.loads(told)
        return found

    def compare(self, store: Store) -> list[str]:
        """What was acknowledged and is not there exactly once."""
        with store.reading() as db:
            stored = Counter(prompt[-1]["content"] for prompt in db.scalars(sa.select(Exchange.prompt)))
            chosen = sa.select(Item.payload, Item.ref).where(Item.kind == "pick")
            picks = [(payload["prompt"], ref) for payload, ref in db.execute(chosen)]
            thumbs = {name: react.of_exchange(db, name) for name in self.thumbs}
            project = projects.by_name(db, react.PROJECT)
            assert project is not None, "nobody reacted"
            wrong = [f"{often} x {error}" for error, often in self.errors.items() if often]
            try:
                events.verify(db, project.id)
            except UserError as error:
                wrong.append(str(error))
        wrong += [f"prompt {word}: stored {stored[word]} times" for word in self.prompts if stored[word] != 1]
        wrong += [f"prompt {word}: stored {stored[word]} times" for word in self.asked if stored[word] > 1]
        wrong += [
            f"pick {word}: not the one acknowledged" for word, ref in self.picks.items() if (word, ref) not in picks
        ]
        often = Counter(word for word, _ in picks)
        wrong += [f"pick {word}: stored {count} times" for word, count in often.items() if count > 1]
        for name, up in self.thumbs.items():
            found = [(kind, content.get("up")) for kind, _, content in thumbs[name]]
            wrong += [] if found == [("thumb", up)] else [f"thumb of {name}: {found}"]
        missing = [what for what in ("prompts", "thumbs", "picks") if not getattr(self, what)]
        return wrong + [f"no {what} were acknowledged" for what in missing]


def _ask(port: int, method: str, path: str, secret: str = "", body: Any = None) -> tuple[int, str]:
    """Status and text of an answer. Status 0: none came, or not all of it."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    given = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    try:
        link.request(method, path, None if body is None else json.dumps(body), given)
        answer = link.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        link.close()
