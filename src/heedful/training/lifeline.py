"""Ranks that die: the others notice at once, whatever they wait for.

A collective operation on GPUs waits for a rank that is gone. So every rank keeps a connection to the main rank, and the
system closes it when a process ends, however it ends. The main rank then tells the others. A rank that is still there
`GRACE` seconds later ends with one line.
"""

from __future__ import annotations

import atexit
import os
import secrets
import selectors
import socket
import threading
from typing import Any

from heedful.runs.progress import Reporter

GRACE = 20.0  # seconds in which a rank may end by itself, with a line of its own
WAIT = 60.0  # seconds for all ranks to connect
EXIT = 2
KEPT = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 8}
"""A machine that is gone closes nothing. It counts as gone after 40 to 50 silent seconds: a cut of 30 ends nothing."""
REMEDY = "See what stopped it, such as too little memory, and start all ranks again with --resume"
_BYE = b"b"
_MOST = 64


class Lifeline:
    """The connections of this rank, watched by a thread. `lost` names what has ended, once something has."""

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.lost = rank, size, ""
        self._noticed = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, int] = {}
        self._ending = False
        if rank == 0:
            self._accept(store)
        else:
            self._connect(store)
        for link in self._peers:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEPT.items():
                if hasattr(socket, option):
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            link.setblocking(True)
            self._selector.register(link, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()
        atexit.register(self.leave)

    def _accept(self, store: Any) -> None:
        host = os.environ["MASTER_ADDR"]
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        word = secrets.token_bytes(16)
        with socket.create_server(("", 0), family=family) as server:
            server.settimeout(WAIT)
            store.set("lifeline", word + str(server.getsockname()[1]).encode())
            while len(self._peers) < self.size - 1:
                link, _ = server.accept()
                link.settimeout(WAIT)
                said = link.recv(20, socket.MSG_WAITALL)
                if secrets.compare_digest(said[:16], word):
                    self._peers[link] = int.from_bytes(said[16:], "little")
                else:  # no rank of ours
                    link.close()

    def _connect(self, store: Any) -> None:
        found = store.get("lifeline")
        link = socket.create_connection((os.environ["MASTER_ADDR"], int(found[16:])), timeout=WAIT)
        link.sendall(found[:16] + self.rank.to_bytes(4, "little"))
        self._peers[link] = 0

    def wait_lost(self, seconds: float) -> str:
        """What has ended, for a rank that something has failed on. Waits for the news. "": nothing."""
        self._noticed.wait(seconds)
        return self.lost

    def leave(self) -> None:
        """This rank ends by itself. What it has to say it says itself."""
        self._ending = True
        self._tell(_BYE)

    def fail(self) -> None:
        """This rank ends with an error: the others do not wait for it."""
        self._tell(f"{self.rank} has stopped with an error".encode())

    def _tell(self, message: bytes) -> None:
        for link in list(self._peers):
            try:
                link.sendall(message.ljust(_MOST))
            except OSError:
                continue

    def _watch(self) -> None:
        while self._peers:
            for key, _ in self._selector.select():
                link: Any = key.fileobj
                try:
                    message = link.recv(_MOST, socket.MSG_WAITALL).strip()
                except OSError:
                    message = b""
                if message not in (b"", _BYE):
                    self._end(*message.decode().split(" ", 1))
                    continue
                peer = self._peers.pop(link)
                self._selector.unregister(link)
                if not message:
                    self._end(str(peer), "has died")

    def _end(self, peer: str, how: str) -> None:
        if self.lost or self._ending:
            return
        self.lost = f"rank {peer} of {self.size} {how}"
        self._noticed.set()
        if self.rank == 0:
            self._tell(f"{peer} {how}".encode())
        timer = threading.Timer(GRACE, self._stop)
        timer.daemon = True
        timer.start()

    def _stop(self) -> None:
        if not self._ending:
            Reporter("", 0).say(f"{self.lost}. {REMEDY}")
            os._exit(EXIT)
