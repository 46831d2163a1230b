"""A full disk, or no database: a refusal that says so, one line in the log, and nothing acknowledged is lost."""

from __future__ import annotations

import json
import resource
import secrets
import time
from pathlib import Path
from typing import Any

import postgres
from siege.places import API, Place, load, running, tracebacks
from siege.table import Outcome
from siege.work import Work

LIMITED = 400_000  # bytes beyond what is there, to which each file may still grow
MOST_LINES = 10  # of the log, for one event


def full_disk(folder: Path, work: Work) -> None:
    """No file of the server may grow any further (RLIMIT_FSIZE), while labelers submit. Then there is room again."""
    for _ in work.parts(1):
        _filled(folder, work.outcome, tasks=work.of(3000, 300), most=work.of(2000, 200))


def _filled(folder: Path, outcome: Outcome, tasks: int, most: int) -> None:
    kept: dict[str, int] = {}
    with running(folder, tasks=tasks) as place:
        largest = max(path.stat().st_size for path in folder.iterdir() if path.is_file())
        limit = (largest + LIMITED, resource.RLIM_INFINITY)
        resource.prlimit(place.server._process.pid, resource.RLIMIT_FSIZE, limit)
        refused = 0
        with place.watched(outcome):
            for turn in range(most):
                status, told = _submit(place, turn, kept, " x" * 20_000)
                outcome.add(_wrong(place, status, told))
                refused += status == 503
                if refused > 50:
                    break
        outcome.failed += [] if refused else ["the disk never was full"]
        lines = len(place.log.splitlines())
        outcome.failed += [f"{lines} lines in the log"] if lines > MOST_LINES else []
        resource.prlimit(place.server._process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        status, told = _submit(place, 10**6, kept, "")
        outcome.failed += [] if status == 200 else [f"with room again: {status} {told[:100]}"]
        outcome.add(load.faults_of(place.store, kept), tried=0)


def away(folder: Path, work: Work) -> None:
    """PostgreSQL stops answering and starts again under a server, several times."""
    outcome, kept = work.outcome, dict[str, int]()
    with postgres.server(load.DURABLE) as url, running(folder, url.format("postgres"), tasks=300) as place:
        home = Path(url.partition("host=")[2])
        for number in work.parts(work.of(10, 2)):
            _restarted(place, home, number, kept, outcome)
        outcome.add(tracebacks(place.log), tried=0)
        lines = [line for line in place.log.splitlines() if "refused with 503" in line]
        outcome.failed += [f"{len(lines)} lines in the log: {lines[:3]}"] if not 1 <= len(lines) <= MOST_LINES else []
        outcome.add(load.faults_of(place.store, kept), tried=0)


def _restarted(place: Place, home: Path, number: int, kept: dict[str, int], outcome: Outcome) -> None:
    for turn in range(3):
        status, told = _submit(place, 100 * number + turn, kept, "")
        outcome.failed += [] if status == 200 else [f"before: {status} {told[:100]}"]
    postgres.stop(home)
    begin = time.monotonic()
    for turn in range(10):
        status, told = place.ask("POST", f"{API}/next", None, place.tokens[turn % 5])
        outcome.add(_wrong(place, status, told) if status != 200 else ["200 without a database"])
    page, words = place.ask("GET", f"/work/{load.NAME}/ranking", None, None, Cookie=place.cookie)
    outcome.add([] if (page, "Not available" in words) == (503, True) else [f"the page: {page}"])
    took = time.monotonic() - begin
    outcome.failed += [f"11 refusals took {took:.0f} s"] if took > 22 else []
    postgres.start(home)
    end, status = time.monotonic() + 20, 0
    while status != 200 and time.monotonic() < end:
        status, told = place.ask("POST", f"{API}/next", None, place.tokens[0])
    outcome.add([] if status == 200 else [f"after the restart: {status} {told[:100]}"])


def _submit(place: Place, turn: int, kept: dict[str, int], note: str) -> tuple[int, str]:
    """Take a task and submit it. What is acknowledged comes into `kept`."""
    token, key = place.tokens[turn % len(place.tokens)], secrets.token_hex(8)
    status, told = place.ask("POST", f"{API}/next", None, token)
    if status != 200:
        return status, told
    task: dict[str, Any] = json.loads(told)["task"]
    answer = {"ranking": [[0], [1], [2], [3]], "ratings": [{"overall": 4}] * 4, "note": note}
    body = {"answer": answer, "idempotency_key": key}
    status, told = place.ask("POST", f"{API}/tasks/{task['lease']}/submit", body, token)
    if status == 200:
        kept[key] = json.loads(told)["event"]
    return status, told


def _wrong(place: Place, status: int, told: str) -> list[str]:
    """What is wrong with an answer: it must be a success, or a 503 in the shape of the API that says when to retry."""
    if status == 200:
        return []
    headers = {name.lower() for name in place.last}
    fits = status == 503 and "retry-after" in headers and list(json.loads(told)) == ["error"]
    return [] if fits else [f"{status} {told[:100]}"]
