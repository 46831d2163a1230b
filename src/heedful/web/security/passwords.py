"""Passwords: argon2 (RFC 9106), the same time for a wrong name as for a wrong password, and waits after wrong ones."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heedful.config import UserError

SHORTEST, LONGEST = 10, 200  # characters
FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0  # seconds
REMEMBERED = 10_000  # names and addresses

_hasher = PasswordHasher()
_at_once = threading.BoundedSemaphore(2)  # argon2 takes 64 MiB each time
_nobody: str | None = None


def hash_password(password: str) -> str:
    """Hash a password for the database. Raises UserError if it is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UserError(f"password: it has {len(password)} characters; choose one of {SHORTEST} to {LONGEST}")
    with _at_once:
        return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """Whether a password matches a hash. None (an unknown name) takes as long and never matches."""
    global _nobody
    with _at_once:
        if _nobody is None:
            _nobody = _hasher.hash(secrets.token_urlsafe())
        try:
            return _hasher.verify(stored or _nobody, password[: LONGEST + 1]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


@dataclass
class Tries:
    """Wrong passwords in a row by name and by address; after `allowed` of them, each one doubles the wait.

    After LONGEST_WAIT without one they are forgotten: an address, which a whole office may share, is never seen to be
    right, and would else add up everybody's slips for as long as the server runs.
    """

    allowed: int
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)  # key -> (how many, seconds of the last)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, keys: tuple[str, ...], now: float) -> float:
        """Seconds until one of these may try again."""
        with self._lock:
            return max(0.0, *(self._until(key, now) - now for key in keys))

    def wrong(self, keys: tuple[str, ...], now: float) -> None:
        with self._lock:
            for key in keys:
                count = self._counted(key, now)[0]
                self._wrong.pop(key, None)  # the newest is last
                self._wrong[key] = (count + 1, now)
            while len(self._wrong) > REMEMBERED:
                del self._wrong[next(iter(self._wrong))]

    def right(self, keys: tuple[str, ...]) -> None:
        with self._lock:
            for key in keys:
                self._wrong.pop(key, None)

    def _counted(self, key: str, now: float) -> tuple[int, float]:
        count, last = self._wrong.get(key, (0, now))
        return (count, last) if now - last < LONGEST_WAIT else (0, now)

    def _until(self, key: str, now: float) -> float:
        count, last = self._counted(key, now)
        if count < self.allowed:
            return 0.0
        return last + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(30, count - self.allowed))
