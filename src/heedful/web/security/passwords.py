"""Passwords: argon2 (RFC 9106), the same time for a wrong name as for a wrong password."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heedful.config import UserError

SHORTEST, LONGEST = 10, 200  # characters
MOST_WAITING = 16  # requests: each holds a thread of the server while it waits for its turn

_hasher = PasswordHasher()
_at_once = threading.BoundedSemaphore(2)  # argon2 takes 64 MiB each time
_waiting = threading.BoundedSemaphore(MOST_WAITING)
_nobody: str | None = None


class Busy(Exception):
    """So many people sign in that this one has to try again in a moment."""


@contextmanager
def _turn() -> Iterator[None]:
    if not _waiting.acquire(blocking=False):
        raise Busy
    try:
        with _at_once:
            yield
    finally:
        _waiting.release()


def hash_password(password: str) -> str:
    """Hash a password for the database. Raises UserError if it is too short or too long, Busy."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UserError(f"password: it has {len(password)} characters. Choose one of {SHORTEST} to {LONGEST}")
    with _turn():
        return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """Whether a password matches a hash. None (an unknown name) takes as long and never matches. Raises Busy."""
    global _nobody
    with _turn():
        if _nobody is None:
            _nobody = _hasher.hash(secrets.token_urlsafe())
        try:
            return _hasher.verify(stored or _nobody, password[: LONGEST + 1]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False
