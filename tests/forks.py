"""Commands without their imports: a server that has imported heedful forks for each, and a program in place of python.

A command imports torch and transformers for some six seconds of a core, and a recipe has twenty of them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import runpy
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLIENT = """#!{python} -ES
import array, os, socket, struct, sys
if sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
parts = [os.getcwd(), str(len(sys.argv) - 2), *sys.argv[2:], *(f"{{k}}={{v}}" for k, v in os.environ.items())]
body = "\\0".join(parts).encode()
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect({place!r})
    socket.send_fds(peer, [struct.pack("I", len(body))], [0, 1, 2])
    peer.sendall(body)
    sys.exit(peer.recv(1)[0])
"""


@contextlib.contextmanager
def forking(folder: Path) -> Iterator[Path]:
    """A program that takes `-m MODULE ARGUMENTS` as python does. Only for systems with fork."""
    place = folder / "forks"
    server = subprocess.Popen([sys.executable, __file__, str(place)], cwd=ROOT)
    try:
        while not place.exists():
            if server.poll() is not None:
                raise RuntimeError(f"the server of forks ended with {server.returncode}")
            time.sleep(0.05)
        program = folder / "python"
        program.write_text(CLIENT.format(python=sys.executable, place=str(place)), encoding="utf-8")
        program.chmod(0o755)
        yield program
    finally:
        server.kill()
        server.wait()


def serve(place: str) -> None:
    for package in ("heedful.stages", "heedful.inference", "heedful.evaluation", "heedful.data"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
            importlib.import_module(module.name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + ".soon")
    listener.listen()
    os.rename(place + ".soon", place)
    while True:
        peer, _ = listener.accept()
        if os.fork() == 0:  # answers for the command, which is its child
            command = os.fork()
            if command == 0:
                listener.close()
                run(peer)
            for_peer = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
            with contextlib.suppress(OSError):
                peer.send(bytes([for_peer % 256]))
            os._exit(0)
        peer.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def run(peer: socket.socket) -> None:
    code = 1
    try:
        length, streams, _, _ = socket.recv_fds(peer, 4, 3)
        body = b""
        while len(body) < struct.unpack("I", length)[0]:
            body += peer.recv(1 << 16)
        folder, count, *rest = body.decode().split("\0")
        module, *arguments = rest[: int(count)]
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(line.split("=", 1) for line in rest[int(count) :])
        sys.path[0], sys.argv = folder, [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
