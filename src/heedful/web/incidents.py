"""One line in the log for an event, however many requests it spoils."""

from __future__ import annotations

import logging
import threading
import time

QUIET = 60.0  # seconds without a sign of an event, after which it is over
MOST = 1000  # events that are remembered
log = logging.getLogger("heedful.web")


class Once(logging.Filter):
    """Lets a warning of a library through once in an event. Errors pass."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        words, now = record.getMessage(), time.monotonic()
        last = self._last.pop(words, float("-inf"))
        self._last[words] = now
        while len(self._last) > MOST:
            del self._last[next(iter(self._last))]
        return now - last > QUIET


class Incidents:
    """Logs the first sign of an event and counts the others."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # event -> (time of its last sign, number of signs)
        self._lock = threading.Lock()

    def note(self, event: str, words: str, now: float | None = None) -> bool:
        """Log `words` unless the event goes on. Returns whether it logged.

        An event that returns after a quiet time gets a new line, which says how often it came the last time.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            last, count = self._seen.get(event, (float("-inf"), 0))
            begins = now - last > QUIET
            self._seen[event] = (now, 1 if begins else count + 1)
            while len(self._seen) > MOST:
                del self._seen[next(iter(self._seen))]
        if begins:
            before = f" (The last time this came {count:,} times.)" if count > 1 else ""
            log.warning("%s%s", words, before)
        return begins
