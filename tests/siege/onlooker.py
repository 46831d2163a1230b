"""Somebody else: loads a page again and again from another address, in a process of its own, until its input ends."""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from siege.table import Outcome

PAUSE = 0.1  # seconds between two loads
ADDRESS = "127.0.0.2"


@contextmanager
def watching(outcome: Outcome, port: int, cookie: str, path: str) -> Iterator[None]:
    """Load a page during the block, and count into `outcome` what came of it."""
    command = [sys.executable, "-m", "siege.onlooker", str(port), cookie, path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # the first page is loaded
    try:
        yield
    finally:
        told, _ = process.communicate(timeout=120)
    outcome.watched(*json.loads(told))


def main(port: int, cookie: str, path: str) -> None:
    times: list[float] = []
    errors: list[str] = []
    while not times or not select.select([sys.stdin], [], [], PAUSE)[0]:
        begin = time.perf_counter()
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(ADDRESS, 0))
            link.request("GET", path, headers={"Cookie": cookie})
            answer = link.getresponse()
            answer.read()
            status = answer.status
            link.close()
        except (OSError, http.client.HTTPException) as error:
            errors.append(repr(error))
            times.append(time.perf_counter() - begin)
            continue
        if status != 200:
            errors.append(f"status {status}")
        times.append(time.perf_counter() - begin)
        if len(times) == 1:
            print(flush=True)
    print(json.dumps([times, errors[:5]]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
