"""kill -9: of the server while people submit, and of runs. Nothing may be lost, doubled, or end with other bytes."""

from __future__ import annotations

import random
import shutil
import signal
import time
import traceback
import warnings
from pathlib import Path

from heedful.feedback.store import Store
from siege.places import load, share_path
from siege.table import Outcome
from siege.work import Work
from stages import test_resume as resume
from stages import worlds

LABELERS, TASKS = 10, 800
EACH = 10  # kills of a server with its database
IN_A_ROW = 4  # kills of a run


def sqlite(folder: Path, work: Work) -> None:
    _servers("sqlite", folder, work)


def postgresql(folder: Path, work: Work) -> None:
    _servers("postgres", folder, work)


def _servers(kind: str, folder: Path, work: Work) -> None:
    share_path()
    faults = work.of(50, 2)
    for number in work.parts(-(-faults // EACH)):
        home = folder / str(number)
        home.mkdir()
        _server(kind, home, work.outcome, number, min(EACH, faults - EACH * number))


def _server(kind: str, folder: Path, outcome: Outcome, number: int, faults: int) -> None:
    """Labelers who submit and repeat what got no answer, while the server is killed again and again."""
    with load.database(kind, folder) as where:
        store = Store.open(where)
        try:
            tokens = load.fill(store, LABELERS, TASKS)
            server = load.Server(where, folder)
            server.start()
            clients = load.Clients(server.port, tokens, 0.2, retry=True, seed=number)
            clients.start()
            try:
                now = time.monotonic()
                killed = load.kill(server, clients.seen, faults, now, now + 250, seed=number)
            finally:
                seen = clients.stop()
                server.stop()
            outcome.add(load.faults_of(store, seen.acknowledged), tried=killed)
            outcome.failed += [f"{often} x {error}" for error, often in seen.errors.items()]
            outcome.failed += [] if seen.acknowledged else ["nothing was acknowledged"]
            outcome.failed += [] if killed == faults else [f"{killed} kills of {faults}"]
        finally:
            store.close()


def stages(folder: Path, work: Work) -> None:
    """Kills of training at random moments. The resumed run must end with the bytes of one that was not killed."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside torch's threads
    files, wanted = worlds.make(folder / "world"), work.of(100, 2)
    whole: dict[str, tuple[Path, float]] = {}
    for number in work.parts(-(-wanted // IN_A_ROW)):
        stage = worlds.STAGES[number % len(worlds.STAGES)]
        if stage not in whole:
            begin = time.monotonic()
            resume.start(stage, files, folder / "whole" / stage).join(600)
            whole[stage] = folder / "whole" / stage, time.monotonic() - begin
        kills = min(IN_A_ROW, wanted - IN_A_ROW * number)
        _killed(stage, files, folder / "run", whole[stage], kills, number, work.outcome)


def _killed(
    stage: str, files: worlds.Files, run: Path, whole: tuple[Path, float], kills: int, number: int, outcome: Outcome
) -> None:
    """One run, killed so many times and resumed. `whole`: a run that was not killed, and its seconds."""
    draw, killed, lasts = random.Random(f"kills of stages {number}"), 0, whole[1]
    while killed < kills:
        process = resume.start(stage, files, run)
        process.join(draw.uniform(0.0, 0.7 * lasts))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join(600)
        if process.exitcode == 0:  # it ended sooner than it was killed: once more
            outcome.add(_differs(run, whole[0], stage), tried=0)
            shutil.rmtree(run)
            lasts *= 0.9
        elif process.exitcode != -signal.SIGKILL:
            outcome.failed.append(f"{stage}: exit code {process.exitcode} after a kill")
            break
    process = resume.start(stage, files, run)
    process.join(600)
    outcome.add(_differs(run, whole[0], stage), tried=killed)
    shutil.rmtree(run)


def _differs(run: Path, whole: Path, stage: str) -> list[str]:
    try:
        resume.assert_same(run, whole)
    except (AssertionError, OSError) as error:
        why = str(error).splitlines() or [traceback.format_exc().splitlines()[-3].strip()]
        return [f"{stage}: {why[0]}"]
    return []
