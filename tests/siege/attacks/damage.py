"""Damaged files: runs that are resumed, and the database under a running server. Never other content in silence."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from heedful.config import UserError
from heedful.feedback import backup
from heedful.feedback.store import Store
from siege.places import API, running
from siege.table import Outcome
from siege.work import Work
from stages import test_damage as cases
from stages import worlds
from stages.test_resume import Crash, at_step, crash

STAGES = ("pretrain", "sft", "ppo")
PAGES = (f"{API}/next", f"{API}/items", f"{API}/progress", f"{API}/agreement", f"{API}/people", f"{API}/audit")


def runs(folder: Path, work: Work) -> None:
    """The damages of the suite, and others at random in any file of a run."""
    files = worlds.make(folder / "world")
    begun: dict[str, Path] = {}
    for stage in STAGES:
        begun[stage] = folder / "begun" / stage
        with contextlib.suppress(Crash), at_step(2, crash):
            worlds.train(stage, files, begun[stage])
    whole = {stage: worlds.hashes(worlds.train(stage, files, folder / "whole" / stage)) for stage in begun}
    named = [(name, stage, damage) for name, (stage, damage, _) in cases.CASES.items()] if work.share >= 0.1 else []
    for number in work.parts(len(named) + work.of(300, 6)):
        name, stage, damage = named[number] if number < len(named) else _at_random(number, begun)
        run = folder / "run"
        shutil.copytree(begun[stage], run)
        damage(run)
        wrong = []
        try:
            worlds.train(stage, files, run, resume=True)
            wrong = [] if worlds.hashes(run) == whole[stage] else ["continued to other weights"]
        except UserError as error:
            wrong = ["a message of several lines"] if "\n" in str(error) else []
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"[:200]]
        work.outcome.add([f"{name} ({stage}): {line}" for line in wrong])
        shutil.rmtree(run)


def _at_random(number: int, begun: dict[str, Path]) -> tuple[str, str, cases.Damage]:
    """A damage of some file of some run: its name, the stage, and what does it."""
    draw = random.Random(f"damage {number}")
    stage = draw.choice(sorted(begun))
    target = draw.choice(sorted(path for path in begun[stage].rglob("*") if path.is_file() and path.stat().st_size))
    inside, kind = str(target.relative_to(begun[stage])), draw.choice(sorted(KINDS))
    return f"{number}: {kind} {inside}", stage, KINDS[kind](inside, draw)


def _changed(inside: str, change: Callable[[bytes], bytes]) -> cases.Damage:
    return lambda run: (run / inside).write_bytes(change((run / inside).read_bytes()))


def _swapped(inside: str, draw: random.Random) -> cases.Damage:
    """The file has the content of another one of the run."""

    def damage(run: Path) -> None:
        others = sorted(path for path in run.rglob("*") if path.is_file() and path != run / inside)
        (run / inside).write_bytes(draw.choice(others).read_bytes())

    return damage


def _other_number(inside: str, draw: random.Random) -> cases.Damage:
    """A digit is another one, as after a careless edit."""

    def change(content: bytes) -> bytes:
        digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
        place = draw.choice(digits or [0])
        return content[:place] + str(draw.randrange(10)).encode() + content[place + 1 :]

    return _changed(inside, change)


KINDS: dict[str, Callable[[str, random.Random], cases.Damage]] = {
    "a bit of": lambda inside, draw: cases.flipped(inside, draw.random()),
    "without the end of": lambda inside, draw: _changed(inside, lambda all_: all_[: draw.randrange(len(all_))]),
    "bytes after the end of": lambda inside, draw: _changed(inside, lambda all_: all_ + draw.randbytes(9)),
    "zeros in": lambda inside, draw: _changed(inside, lambda all_: all_[: len(all_) // 2] + bytes(len(all_) // 2)),
    "nothing in": lambda inside, draw: _changed(inside, lambda _: b""),
    "another file for": _swapped,
    "another digit in": _other_number,
    "deleted": lambda inside, draw: lambda run: (run / inside).unlink(),
}


def database(folder: Path, work: Work) -> None:
    """Pages of the file are overwritten while the server runs, and then it is backed up and restored."""
    for number in work.parts(work.of(20, 1)):
        home = folder / str(number)
        home.mkdir()
        _damaged(home, random.Random(f"pages {number}"), work.outcome)


def _damaged(home: Path, draw: random.Random, outcome: Outcome) -> None:
    with running(home, tasks=200) as place:
        place.ask("POST", PAGES[0], None, place.tokens[0])
        with contextlib.closing(sqlite3.connect(home / "heedful.db")) as file:
            file.execute("pragma wal_checkpoint(truncate)")
        content = bytearray((home / "heedful.db").read_bytes())
        first = 4096 * draw.randrange(2, len(content) // 4096 // 2)
        content[first : first + len(content) // 3] = draw.randbytes(len(content) // 3)
        (home / "heedful.db").write_bytes(content)
        for turn in range(30):
            path = PAGES[turn % len(PAGES)]
            method, token = ("POST", place.tokens[turn % 5]) if path == PAGES[0] else ("GET", place.lead)
            status, told = place.ask(method, path, None, token)
            fine = status in (200, 401, 404) or (status == 503 and '"error"' in told)
            outcome.add([] if fine else [f"{path}: {status} {told[:100]}"])
        log = place.log
        outcome.failed += [f"{len(log.splitlines())} lines in the log"] if len(log.splitlines()) > 10 else []
        outcome.failed += ["a traceback in the log"] if "Traceback" in log else []
    outcome.add(_backed_up(home))


def _backed_up(home: Path) -> list[str]:
    try:
        with contextlib.closing(Store.open(home / "heedful.db", create=False)) as store:
            backup.backup(store, home / "copy.db")
    except UserError as error:
        return ["a message of several lines"] if "\n" in str(error) else []
    except Exception as error:
        return [f"backup: {type(error).__name__}: {error}"[:200]]
    return ["a damaged database was backed up"]
