"""Commands without their imports: a server that has imported heedful forks for each, and a program in place of python.

A command imports torch and transformers for some six seconds of a core, and a recipe has twenty of them. The server is
itself a fork of the test's process, which has imported nearly everything.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import pkgutil
import resource
import runpy
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

CLIENT = """#!{python} -ES
import os, signal, socket, struct, sys
if sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
def is_open(stream):
    try:
        return bool(os.fstat(stream))
    except OSError:
        return False
streams = [stream for stream in (0, 1, 2) if is_open(stream)]
opened = [str(stream in streams) for stream in (0, 1, 2)]
environment = (f"{{k}}={{v}}" for k, v in os.environ.items())
parts = [os.getcwd(), *opened, str(len(sys.argv) - 2), *sys.argv[2:], *environment]
body = "\\0".join(parts).encode()
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect({place!r})
    socket.send_fds(peer, [struct.pack("I", len(body))], streams)
    peer.sendall(body)
    command = struct.unpack("i", peer.recv(4))[0]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(command, number))
    code = struct.unpack("i", peer.recv(4))[0]
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def forking(folder: Path) -> Iterator[Path]:
    """A program that takes `-m MODULE ARGUMENTS` as python does. Only for systems with fork."""
    place, program = folder / "forks", folder / "python"
    program.write_text(CLIENT.format(python=sys.executable, place=str(place)), encoding="utf-8")
    program.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside torch's threads
        server = os.fork()
    if server == 0:
        try:
            serve(str(place), str(program))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        while not place.exists():
            if (ended := os.waitpid(server, os.WNOHANG))[0]:
                server = 0
                raise RuntimeError(f"the server of forks ended with {os.waitstatus_to_exitcode(ended[1])}")
            time.sleep(0.01)
        yield program
    finally:
        if server:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)


def serve(place: str, program: str) -> None:
    """Fork for each client until the test's process ends. What a command starts with `sys.executable` forks, too."""
    parent, sys.executable = os.getppid(), program
    forget_the_test()
    for package in ("heedful.stages", "heedful.inference", "heedful.evaluation", "heedful.data"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
            importlib.import_module(module.name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + ".soon")
    listener.listen()
    listener.settimeout(5)
    os.rename(place + ".soon", place)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            peer, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(peer)
            peer.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def forget_the_test() -> None:
    """Leave what a test's process has and a command has not: open files, filters of warnings, handlers."""
    os.closerange(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16))
    gc.freeze()  # the file objects of closed numbers stay, so that they close no new one
    importlib.reload(warnings)
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def answer(peer: socket.socket) -> None:
    """Answer for the command, which is a child. Kill it if its client is killed."""
    peer.settimeout(None)
    length, streams, _, _ = socket.recv_fds(peer, 4, 3)
    body = b""
    while len(body) < struct.unpack("I", length)[0]:
        body += peer.recv(1 << 16)
    command = os.fork()
    if command == 0:
        peer.close()
        run(streams, body.decode().split("\0"))
    for stream in streams:
        os.close(stream)
    peer.sendall(struct.pack("i", command))

    def watch() -> None:
        with contextlib.suppress(OSError):
            while peer.recv(1 << 16):
                pass
        with contextlib.suppress(ProcessLookupError):
            os.kill(command, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):
        peer.sendall(struct.pack("i", code))
    os._exit(0)


def run(streams: list[int], asked: list[str]) -> None:
    code = 1
    try:
        folder, opened, (module, *arguments) = asked[0], asked[1:4], asked[5 : 5 + int(asked[4])]
        for number, how in enumerate("rww"):
            found = opened[number] == "True"
            os.close(number)
            if found:
                os.dup2(streams.pop(0), number)
            stream = open(number, how, 1 if number == 2 else -1) if found else None  # noqa: SIM115
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(line.split("=", 1) for line in asked[5 + int(asked[4]) :])
        sys.path.insert(0, folder)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.flush()
        os._exit(code)
