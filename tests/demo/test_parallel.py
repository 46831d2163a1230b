"""Calls in processes of their own, on their share of the threads."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from heedful.config import UserError
from heedful.demo.parallel import side_by_side


def where(name: str) -> tuple[str, int, int]:
    return name, os.getpid(), torch.get_num_threads()


def fail() -> tuple[str, int, int]:
    raise UserError("rankings.jsonl: not there; make it")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_on_one_thread_everything_stays_here() -> None:
    assert side_by_side([partial(where, "a"), partial(where, "b")]) == [("a", os.getpid(), 1), ("b", os.getpid(), 1)]


def test_each_call_gets_a_process_and_its_share_of_the_threads(two_threads: None) -> None:
    found = side_by_side([partial(where, name) for name in "abc"])
    assert [(name, threads) for name, _, threads in found] == [("a", 1), ("b", 1), ("c", 1)]
    assert os.getpid() not in {process for _, process, _ in found}


def test_an_error_keeps_its_words(two_threads: None) -> None:
    with pytest.raises(UserError, match=r"rankings\.jsonl: not there; make it"):
        side_by_side([fail, partial(where, "b")])
