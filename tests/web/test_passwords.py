from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from heedful.config import UserError
from heedful.web.security import passwords


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.mark.medium
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
    with pytest.raises(UserError, match=f"has {len(password)} characters. Choose one of 10 to 200"):
        passwords.hash_password(password)
