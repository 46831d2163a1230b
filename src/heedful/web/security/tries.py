"""Limits of sign-in: wrong passwords by name and address, with delays that grow.

A try is counted before the password is checked, so that a burst of tries at once gets no more than the limit. What
other people do never keeps a correct password out on a device on which its account has signed in before.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0  # seconds
REMEMBERED = 10_000  # names, addresses and devices
SHARED = 10  # so many times more tries of one address, or of one name from all addresses
OF_A_DEVICE = 100  # wrong passwords in a row, after which a known device is forgotten


def limits(name: str, address: str, allowed: int) -> dict[str, int]:
    """The keys under which a try counts, and how many tries each has before the delays begin.

    `allowed` is for a name at an address. People behind one address may all slip. One name may be tried from many
    addresses.
    """
    name, address = name[:100].casefold(), network(address)
    return {
        f"{name} at {address}": allowed,
        f"name {name}": SHARED * allowed,
        f"address {address}": SHARED * allowed,
    }


def network(address: str) -> str:
    """The address that counts: of IPv6 the first 64 bits, since a household has all that begin with them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


@dataclass
class Tries:
    """Tries in a row by key. After its limit, each one of a key doubles the wait.

    After LONGEST_WAIT without one they are forgotten: an address, which a whole office may share, is never seen to be
    right, and would else add up everybody's slips for as long as the server runs.
    """

    _counts: dict[str, tuple[int, float]] = field(default_factory=dict)  # key -> (how many, seconds of the last)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, limits: Mapping[str, int], now: float | None = None) -> float:
        """Count a try under all keys and return 0. If a key has to wait, count nothing and return the seconds."""
        now = time.monotonic() if now is None else now
        with self._lock:
            wait = max((self._until(key, allowed, now) - now for key, allowed in limits.items()), default=0.0)
            if wait > 0:
                return wait
            for key in limits:
                count = self._counted(key, now)[0]
                self._counts.pop(key, None)  # the newest is last
                self._counts[key] = (count + 1, now)
            while len(self._counts) > REMEMBERED:
                del self._counts[next(iter(self._counts))]
            return 0.0

    def right(self, limits: Mapping[str, int]) -> None:
        """The try was right: its first key begins again, and under the others this try does not count."""
        with self._lock:
            for place, key in enumerate(limits):
                count, last = self._counts.pop(key, (0, 0.0))
                if place and count > 1:
                    self._counts[key] = (count - 1, last)

    def _counted(self, key: str, now: float) -> tuple[int, float]:
        count, last = self._counts.get(key, (0, now))
        return (count, last) if now - last < LONGEST_WAIT else (0, now)

    def _until(self, key: str, allowed: int, now: float) -> float:
        count, last = self._counted(key, now)
        if count < allowed:
            return 0.0
        return last + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(30, count - allowed))
