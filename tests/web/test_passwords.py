from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from heedful.config import UserError
from heedful.web.security import passwords
from heedful.web.security.passwords import Tries


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def test_argon2id_with_the_libraries_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert passwords.hash_password("ten letters").startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_only_the_right_password_of_somebody_is_right() -> None:
    stored = passwords.hash_password("correct horse")
    assert stored != passwords.hash_password("correct horse")
    assert passwords.is_right(stored, "correct horse")
    assert not passwords.is_right(stored, "correct horse ")
    assert not passwords.is_right(None, "correct horse")
    assert not passwords.is_right("no hash", "correct horse")


def test_a_name_that_nobody_has_costs_a_hash_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords.is_right(None, "x")
    checked = []

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            checked.append(stored)
            return True

    monkeypatch.setattr(passwords, "_hasher", Counting())
    assert not passwords.is_right(None, "whatever")
    assert len(checked) == 1


@pytest.mark.parametrize("password", ["", "nine char", "x" * 201])
def test_passwords_of_a_wrong_length_are_refused(password: str) -> None:
    with pytest.raises(UserError, match=f"has {len(password)} characters; choose one of 10 to 200"):
        passwords.hash_password(password)


def test_waits_double_by_name_and_by_address_until_it_was_right() -> None:
    tries = Tries(allowed=3)
    for now in range(3):
        assert tries.wait(("name ada", "from 1"), now) == 0
        tries.wrong(("name ada", "from 1"), now)
    assert tries.wait(("name ada", "from 2"), 2.0) == 5
    assert tries.wait(("name bob", "from 1"), 4.0) == 3
    assert tries.wait(("name bob", "from 2"), 2.0) == 0
    tries.wrong(("name ada",), 10.0)
    assert tries.wait(("name ada",), 10.0) == 10
    for _ in range(50):
        tries.wrong(("name ada",), 20.0)
    assert tries.wait(("name ada",), 20.0) == 900
    tries.right(("name ada",))
    assert tries.wait(("name ada",), 20.0) == 0


def test_slips_of_an_office_do_not_add_up_for_ever() -> None:
    tries = Tries(allowed=3)
    for day in range(30):
        assert tries.wait(("from office",), 86_400.0 * day) == 0
        tries.wrong(("from office",), 86_400.0 * day)
    for second in range(10):
        tries.wrong(("from office",), 1e7 + second)
    assert tries.wait(("from office",), 1e7 + 10) > 600
    assert tries.wait(("from office",), 1e7 + 9 + 899) == 0  # the wait is over, what led to it is not forgotten
    tries.wrong(("from office",), 1e7 + 9 + 899)
    assert tries.wait(("from office",), 1e7 + 9 + 899) > 600
    assert tries.wait(("from office",), 1e7 + 9 + 899 + 900) == 0
    tries.wrong(("from office",), 1e7 + 9 + 899 + 900)
    assert tries.wait(("from office",), 1e7 + 9 + 899 + 900) == 0


def test_what_is_remembered_of_tries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "REMEMBERED", 3)
    tries = Tries(allowed=1)
    for i in range(10):
        tries.wrong((f"from {i}",), 0.0)
    assert [tries.wait((f"from {i}",), 0.0) for i in (6, 7, 8, 9)] == [0, 5, 5, 5]
