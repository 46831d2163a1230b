"""The guards of conftest.py do guard."""

from __future__ import annotations

import os
import socket
import threading

import pytest


def test_the_network_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"tried to reach '192\.0\.2\.1'"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with socket.socket() as plain, pytest.raises(RuntimeError, match="tests use no network"):
        plain.connect(("192.0.2.1", 80))
    with socket.socket() as plain, pytest.raises(RuntimeError, match="tests use no network"):
        plain.connect_ex(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match="tests use no network"):
        socket.getaddrinfo("example.invalid", 443)


def test_this_machine_may_talk_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=lambda: server.accept()[0].close())
        answer.start()
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
        answer.join(timeout=5)


def test_one_thread_and_no_hub() -> None:
    import torch

    assert torch.get_num_threads() == 1
    assert os.environ["HF_HUB_OFFLINE"] == "1"
