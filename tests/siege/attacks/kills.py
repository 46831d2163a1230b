"""kill -9: of the server while people submit, and of runs. Nothing may be lost, doubled, or end with other bytes."""

from __future__ import annotations

import random
import shutil
import signal
import time
import warnings
from pathlib import Path

from heedful.feedback.store import Store
from siege.places import load, share_path
from siege.table import Outcome, Scale
from stages import test_resume as resume
from stages import worlds

LABELERS, TASKS = 10, 4000


def sqlite(folder: Path, scale: Scale) -> Outcome:
    return _server("sqlite", folder, scale)


def postgresql(folder: Path, scale: Scale) -> Outcome:
    return _server("postgres", folder, scale)


def _server(kind: str, folder: Path, scale: Scale) -> Outcome:
    """Labelers who submit and repeat what got no answer, while the server is killed again and again."""
    share_path()
    outcome, faults = Outcome(), scale.of(50, 2)
    with load.database(kind, folder) as where:
        store = Store.open(where)
        try:
            tokens = load.fill(store, LABELERS, max(200, scale.of(TASKS)))
            server = load.Server(where, folder)
            server.start()
            clients = load.Clients(server.port, tokens, 0.2, retry=True)
            clients.start()
            try:
                killed = load.kill(server, clients.seen, faults, time.monotonic(), time.monotonic() + 1500)
            finally:
                seen = clients.stop()
                server.stop()
            outcome.add(load.faults_of(store, seen.acknowledged), tried=killed)
            outcome.failed += [f"{often} x {error}" for error, often in seen.errors.items()]
            outcome.failed += [] if seen.acknowledged else ["nothing was acknowledged"]
            outcome.failed += [] if killed == faults else [f"{killed} kills of {faults}"]
        finally:
            store.close()
    return outcome


def stages(folder: Path, scale: Scale) -> Outcome:
    """Kills of training at random moments. The resumed run must end with the bytes of one that was not killed."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside torch's threads
    files, outcome, draw = worlds.make(folder / "world"), Outcome(), random.Random("kills of stages")
    wanted = scale.of(100, 2)
    each = {stage: wanted // 6 + (place < wanted % 6) for place, stage in enumerate(worlds.STAGES)}
    for stage, kills in each.items():
        if not kills:
            continue
        whole, run, begin = folder / "whole" / stage, folder / "run" / stage, time.monotonic()
        resume.start(stage, files, whole).join(600)
        lasts, killed = time.monotonic() - begin, 0
        while killed < kills:
            process = resume.start(stage, files, run)
            process.join(draw.uniform(0.0, 0.7 * lasts))
            if process.is_alive():
                process.kill()
                killed += 1
            process.join(600)
            if process.exitcode == 0:
                outcome.add(_differs(run, whole, stage), tried=0)
                shutil.rmtree(run)
            elif process.exitcode != -signal.SIGKILL:
                outcome.failed.append(f"{stage}: exit code {process.exitcode} after a kill")
                break
        process = resume.start(stage, files, run)
        process.join(600)
        outcome.add(_differs(run, whole, stage), tried=killed)
    return outcome


def _differs(run: Path, whole: Path, stage: str) -> list[str]:
    try:
        resume.assert_same(run, whole)
    except (AssertionError, OSError) as error:
        return [f"{stage}: {str(error).splitlines()[0]}"]
    return []
