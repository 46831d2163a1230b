"""Damaged files: runs that are resumed, and the database under a running server. Never other content in silence."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

from heedful.config import UserError
from heedful.feedback import backup
from heedful.feedback.store import Store
from siege.places import API, running
from siege.table import Outcome, Scale
from stages import test_damage as cases
from stages import worlds
from stages.test_resume import Crash, at_step, crash

PAGES = (f"{API}/next", f"{API}/items", f"{API}/progress", f"{API}/agreement", f"{API}/people", f"{API}/audit")


def runs(folder: Path, scale: Scale) -> Outcome:
    """The damages of the suite, and bits flipped at random in any file of a run."""
    files, outcome, draw = worlds.make(folder / "world"), Outcome(), random.Random("flips")
    begun: dict[str, Path] = {}
    for stage in ("pretrain", "sft", "ppo"):
        begun[stage] = folder / "begun" / stage
        with contextlib.suppress(Crash), at_step(2, crash):
            worlds.train(stage, files, begun[stage])
    whole = {stage: worlds.hashes(worlds.train(stage, files, folder / "whole" / stage)) for stage in begun}
    named = list(cases.CASES.items()) if scale.share >= 0.1 else []
    tries = [(name, stage, damage) for name, (stage, damage, _) in named]
    for number in range(scale.of(300, 6)):
        stage = draw.choice(sorted(begun))
        target = draw.choice(sorted(path for path in begun[stage].rglob("*") if path.is_file() and path.stat().st_size))
        inside = str(target.relative_to(begun[stage]))
        tries.append((f"{number}: a bit of {inside}", stage, cases.flipped(inside, draw.random())))
    for name, stage, damage in tries:
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
        outcome.add([f"{name} ({stage}): {line}" for line in wrong])
        shutil.rmtree(run)
    return outcome


def database(folder: Path, scale: Scale) -> Outcome:
    """Pages of the file are overwritten while the server runs, and then it is backed up and restored."""
    outcome, draw = Outcome(), random.Random("pages")
    for number in range(scale.of(20, 1)):
        home = folder / str(number)
        home.mkdir()
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
    return outcome


def _backed_up(home: Path) -> list[str]:
    try:
        with contextlib.closing(Store.open(home / "heedful.db", create=False)) as store:
            backup.backup(store, home / "copy.db")
    except UserError as error:
        return ["a message of several lines"] if "\n" in str(error) else []
    except Exception as error:
        return [f"backup: {type(error).__name__}: {error}"[:200]]
    return ["a damaged database was backed up"]
