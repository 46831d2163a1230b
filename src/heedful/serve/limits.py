"""Limits of keys: requests in a minute, tokens in a day."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from heedful.configs.serve import ServeLimits
from heedful.feedback import keys
from heedful.feedback.store import Store
from heedful.serve.types import ApiError, Caller

MOST_KEYS = 100_000  # whose rates are remembered


class Gate:
    """Counts what each key uses. The counts of a day are in memory, and `save` adds what is new to the database."""

    def __init__(
        self, store: Store, limits: ServeLimits, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.store, self.limits, self.clock = store, limits, clock
        self._buckets: dict[int, tuple[float, float]] = {}  # key -> (requests left, when)
        self._day: date = clock().date()
        self._tokens: dict[int, int] = {}  # key -> tokens of the day so far
        self._new: dict[tuple[int, date], tuple[int, int]] = {}  # what is not in the database yet
        self._lock = threading.Lock()

    def enter(self, caller: Caller, now: float | None = None) -> None:
        """Count a request. Raises ApiError 429 if its key has asked too much."""
        now = time.monotonic() if now is None else now
        rate = self.limits.requests_a_minute if caller.requests_a_minute is None else caller.requests_a_minute
        quota = self.limits.tokens_a_day if caller.tokens_a_day is None else caller.tokens_a_day
        if rate:
            left, last = self._buckets.pop(caller.key_id, (float(rate), now))
            left = min(float(rate), left + (now - last) * rate / 60)
            self._buckets[caller.key_id] = (left - 1 if left >= 1 else left, now)
            while len(self._buckets) > MOST_KEYS:
                del self._buckets[next(iter(self._buckets))]
            if left < 1:
                raise ApiError(
                    429,
                    f"This key may send {rate} requests a minute. Send the next one a little later.",
                    code="rate_limit_exceeded",
                    retry_after=(1 - left) * 60 / rate,
                )
        if quota and self._used(caller.key_id) >= quota:
            at = self.clock()
            tomorrow = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), UTC)
            raise ApiError(
                429,
                f"This key may use {quota:,} tokens a day (UTC), and has used them.",
                code="insufficient_quota",
                retry_after=(tomorrow - at).total_seconds(),
            )
        self._count(caller.key_id, 1, 0)

    def spend(self, caller: Caller, tokens: int) -> None:
        """Count the tokens of a request at its end."""
        if tokens:
            self._used(caller.key_id)
            self._tokens[caller.key_id] += tokens
            self._count(caller.key_id, 0, tokens)

    def save(self) -> None:
        """Add what is new to the database."""
        with self._lock:
            new, self._new = self._new, {}
        if not new:
            return
        try:
            with self.store.writing() as db:
                for (key_id, day), (requests, tokens) in new.items():
                    keys.add_use(db, key_id, day, requests, tokens)
        except BaseException:
            for (key_id, day), (requests, tokens) in new.items():
                self._count(key_id, requests, tokens, day)
            raise

    def _used(self, key_id: int) -> int:
        today = self.clock().date()
        if today != self._day:
            self._day, self._tokens = today, {}
        if key_id not in self._tokens:
            with self._lock:
                unsaved = self._new.get((key_id, today), (0, 0))[1]
            with self.store.reading() as db:
                self._tokens[key_id] = keys.used(db, key_id, today)[1] + unsaved
        return self._tokens[key_id]

    def _count(self, key_id: int, requests: int, tokens: int, day: date | None = None) -> None:
        place = (key_id, day or self.clock().date())
        with self._lock:
            had = self._new.get(place, (0, 0))
            self._new[place] = (had[0] + requests, had[1] + tokens)
