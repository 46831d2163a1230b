"""How long `next task` takes with ten thousand judgements and with a million, on SQLite.

    python benchmarks/next_task.py [--small 10000] [--large 1000000] [--calls 3000]

Builds both databases (40 labelers, K = 4, a fifth of the items doubled, skipped items and half-done pairs among the
open ones, gold items mixed in), then lets labelers take and submit tasks on both in turn, so that whatever else the
machine does happens to both. Times are of whole transactions, the wait for the disk included. A write of 4 kB with
fsync beside them says what the disk alone takes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import secrets
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from heedful.data.records import Completions
from heedful.feedback import derive, items, people, projects, work
from heedful.feedback.assignment import had_by
from heedful.feedback.columns import digest
from heedful.feedback.schema import Assignment, Event, Item, Tally
from heedful.feedback.store import Store

LABELERS, K, BATCH, GOLD = 40, 4, 5000, 200
DAYS = 120
NOW = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
TEXT = "The miller's cat slept on the warm stones by the river while the wind went through the seven apple trees. "


def build(path: Path, judgements: int, waiting: int) -> Store:
    """A project at work: `judgements` done, `waiting` items open."""
    store = Store.open(path)
    with store.writing() as db:
        project = projects.create(db, "bench", NOW, settings={"rate_first": False})
        for number in range(LABELERS):
            person = people.add_person(db, f"labeler-{number}", None, NOW)
            people.join(db, project.id, person.id, "labeler", NOW)
    tallies: dict[tuple[int, Any], int] = {}
    rows: dict[Any, list[dict[str, Any]]] = {Item: [], Event: [], Assignment: []}
    for item, events, assignments in made(judgements, waiting):
        rows[Item].append(item)
        rows[Event] += events
        rows[Assignment] += assignments
        for event in events:
            if event["kind"] == "judgement":
                key = (event["person_id"], event["when"].date())
                tallies[key] = tallies.get(key, 0) + 1
        if len(rows[Item]) == BATCH:
            flush(store, rows)
    flush(store, rows)
    with store.writing() as db:
        day = {"project_id": 1, "kind": "ranking", "purpose": "train"}
        for (person, when), count in tallies.items():
            db.add(Tally(**day, person_id=person, day=when, judgements=count, milliseconds=40_000 * count))
        known = [Completions(prompt=f"Gold {i}", completions=[TEXT + str(k) for k in range(K)]) for i in range(GOLD)]
        answers = [{"ranking": [[k] for k in range(K)]}] * GOLD
        items.add(db, 1, "ranking", known, NOW, by=None, purpose="gold", gold=answers)
    return store


def made(judgements: int, waiting: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]]:
    """Items with their events and assignments, until there are so many judgements; then the open ones."""
    rng = random.Random(judgements)
    events = itertools.count(1)
    done = fresh = 0
    for number in itertools.count(1):
        wanted = 2 if rng.random() < 0.2 else 1
        if done >= judgements:
            fresh += 1
            if fresh > waiting:
                return
        left = wanted if done < judgements else int(wanted == 2 and rng.random() < 0.5)
        who = rng.sample(range(1, LABELERS + 1), left + (rng.random() < 0.02))
        skipped, judged = who[left:], who[:left]
        done += len(judged)
        given = [event(next(events), number, person, "judgement", rng) for person in judged]
        given += [event(next(events), number, person, "skip", rng) for person in skipped]
        states = ["done"] * len(judged) + ["skipped"] * len(skipped)
        held = [assignment(one, state) for one, state in zip(given, states, strict=True)]
        yield item(number, wanted, len(judged), who, rng), given, held


def item(number: int, wanted: int, taken: int, who: list[int], rng: random.Random) -> dict[str, Any]:
    payload = {"prompt": f"Question {number}: {TEXT}", "completions": [f"{k} {TEXT}" for k in range(K)]}
    draw = rng.random()
    return {
        "ref": f"item-{number}", "project_id": 1, "kind": "ranking", "purpose": "train", "payload": payload,
        "payload_sha256": digest(payload), "prompt_sha256": digest(payload["prompt"]), "texts_sha256": digest(number),
        "created": NOW, "priority": 0, "draw": draw, "double_draw": 0.1 if wanted == 2 else 0.9, "rank": draw,
        "wanted": wanted, "taken": taken, "had_by": had_by(who), "open": taken < wanted,
    }  # fmt: skip


def event(id: int, item: int, person: int, kind: str, rng: random.Random) -> dict[str, Any]:
    content = {"ranking": [[0], [1, 2], [3]]} if kind == "judgement" else {"reason": "unclear"}
    when = NOW - timedelta(days=rng.randrange(1, DAYS), seconds=rng.randrange(30_000))
    return {
        "id": id, "project_id": 1, "kind": kind, "item_id": item, "person_id": person, "when": when, "seconds": 40.0,
        "order": rng.sample(range(K), K), "payload_sha256": digest(item), "content": content,
        "salt": f"{rng.getrandbits(128):032x}", "content_sha256": digest(id), "previous": digest(id - 1),
        "hash": digest([id, "hash"]), "idempotency_key": f"key-{id}",
    }  # fmt: skip


def assignment(event: dict[str, Any], state: str) -> dict[str, Any]:
    return {
        "token": secrets.token_urlsafe(18), "project_id": 1, "item_id": event["item_id"], "kind": "ranking",
        "person_id": event["person_id"], "order": event["order"], "state": state, "created": event["when"],
        "expires": event["when"] + timedelta(hours=2), "event_id": event["id"],
    }  # fmt: skip


def flush(store: Store, rows: dict[Any, list[dict[str, Any]]]) -> None:
    with store.writing() as db:
        for table, some in rows.items():
            if some:
                db.execute(sa.insert(table), some)
            some.clear()


def measure(stores: dict[int, Store], calls: int) -> dict[int, dict[str, np.ndarray]]:
    """Milliseconds of `next_task` and `submit`, and of both's transaction."""
    times: dict[int, dict[str, list[float]]] = {size: {"next task": [], "submit": []} for size in stores}
    rng, now = random.Random(0), NOW
    for call in range(calls):
        person = rng.randint(1, LABELERS)
        now += timedelta(seconds=1)
        for size, store in stores.items():
            start = time.perf_counter()
            with store.writing() as db:
                task = work.next_task(db, 1, person, now)
            took = time.perf_counter() - start
            assert isinstance(task, work.Task), task
            begin = time.perf_counter()
            with store.writing() as db:
                answer = {"ranking": [[place] for place in range(K)]}
                work.submit(db, person, task.lease, answer, now, idempotency_key=f"call-{call}", seconds=40.0)
            if call >= calls // 10:  # the first ones warm the caches
                times[size]["next task"].append(took * 1000)
                times[size]["submit"].append((time.perf_counter() - begin) * 1000)
    return {size: {name: np.array(values) for name, values in found.items()} for size, found in times.items()}


def fsync(folder: Path, times: int = 200) -> float:
    """Median milliseconds of a write of 4 kB with fsync."""
    took = []
    with (folder / "probe").open("wb") as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(os.urandom(4096))
            file.flush()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - start) * 1000)
    return float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, stores = Path(name), {}
        for size in (options.small, options.large):
            start = time.perf_counter()
            stores[size] = build(folder / f"{size}.db", size, max(size // 10, 2 * options.calls))
            size_mb = (folder / f"{size}.db").stat().st_size / 1e6
            print(f"{size:,} judgements: built in {time.perf_counter() - start:.0f} s, {size_mb:,.0f} MB")
        with stores[options.small].writing() as db:  # the caches as built are those that follow from the events
            before = db.execute(sa.select(Item.id, Item.taken, Item.had_by, Item.open)).all()
            derive.rebuild(db, 1)
            assert before == db.execute(sa.select(Item.id, Item.taken, Item.had_by, Item.open)).all()
        times = measure(stores, options.calls)
        print(f"fsync of 4 kB: {fsync(folder):.2f} ms")
        for what in ("next task", "submit"):
            p99 = {}
            for size, found in times.items():
                p50, p90, p99[size] = np.percentile(found[what], [50, 90, 99])
                row = f"p50 {p50:6.2f}  p90 {p90:6.2f}  p99 {p99[size]:6.2f} ms"
                print(f"{what:<10} {size:>10,} judgements  {row}  ({found[what].size:,} calls)")
            print(f"{what:<10} p99 of the large over the small: {p99[options.large] / p99[options.small]:.2f}")
        for store in stores.values():
            store.close()


if __name__ == "__main__":
    main()
