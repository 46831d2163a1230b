"""Ranks that die: the others notice at once, whatever they wait for.

A collective operation on GPUs waits for a rank that is gone. So every rank keeps a connection to the main rank, and the
system closes it when a process ends, however it ends. The main rank then tells the others. A rank that is still there
20 seconds later ends with one line. A machine that vanishes closes nothing. It counts as lost after 40 to 45 silent
seconds, and the others end 5 seconds later: within a minute, while a cut of 30 seconds ends nothing.
"""

from __future__ import annotations

import atexit
import os
import secrets
import selectors
import socket
import threading
from typing import Any, NamedTuple

from heedful.runs.progress import Reporter

WAIT = 60.0  # seconds for all ranks to connect
EXIT = 2
KEPT = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 8}
"""The system asks a silent machine every 5 seconds, and gives it up 5 seconds after the eighth question."""
_BYE = b"b"
_MOST = 512


class Parting(NamedTuple):
    """How a rank was lost."""

    said: str
    grace: float
    """Seconds in which the others may end by themselves, each with a line of its own."""
    remedy: str


_LOOK = "See what stopped it, such as too little memory, and start all ranks again with --resume"
DEAD = Parting("has died", 20.0, _LOOK)
FAILED = Parting("has stopped with an error", 20.0, "Correct that, and start all ranks again with --resume")
SILENT = Parting(
    "cannot be reached", 5.0, "See whether its machine and the network work, and start all ranks again with --resume"
)
PARTINGS = {one.said: one for one in (DEAD, FAILED, SILENT)}


class Lifeline:
    """The connections of this rank, watched by a thread. `lost` names what has ended, once something has."""

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.lost, self._how = rank, size, "", DEAD
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
        """What has ended, and what to do, for a rank that something has failed on. Waits for the news. "": nothing."""
        self._noticed.wait(seconds)
        return self._line() if self.lost else ""

    def leave(self) -> None:
        """This rank ends by itself. What it has to say it says itself."""
        self._ending = True
        self._tell(_BYE)

    def fail(self, why: str) -> None:
        """This rank ends with an error: the others do not wait for it, and say what it was."""
        self._tell(_message(str(self.rank), FAILED.said, why))

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
                message, how = b"", DEAD
                try:
                    message = link.recv(_MOST, socket.MSG_WAITALL).strip(b" ")
                except ConnectionError:  # closed with something unread
                    pass
                except OSError:  # no answer to all questions, or no way to its machine
                    how = SILENT
                if message not in (b"", _BYE):
                    lost, said, why = message.decode().split("\t")
                    self._end(lost, PARTINGS[said], why)
                    continue
                peer = self._peers.pop(link)
                self._selector.unregister(link)
                link.close()
                if not message:
                    self._end(str(peer), how)

    def _end(self, peer: str, how: Parting, why: str = "") -> None:
        if self.lost or self._ending:
            return
        self.lost, self._how = f"rank {peer} of {self.size} {how.said}{f' ({why})' if why else ''}", how
        self._noticed.set()
        if self.rank == 0:
            self._tell(_message(peer, how.said, why))
        timer = threading.Timer(how.grace, self._stop)
        timer.daemon = True
        timer.start()

    def _stop(self) -> None:
        if not self._ending:
            Reporter("", 0).say(self._line())
            os._exit(EXIT)

    def _line(self) -> str:
        return f"{self.lost}. {self._how.remedy}"


def _message(peer: str, said: str, why: str) -> bytes:
    """What ranks tell each other, of at most `_MOST` bytes: an error in one line, cut where it is long."""
    text = f"{peer}\t{said}\t{' '.join(why.split())}"
    return text.encode()[:_MOST].decode("utf-8", "ignore").encode()
