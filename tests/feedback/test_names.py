from __future__ import annotations

import pytest

from heedful.config import UserError
from heedful.feedback import names, people
from heedful.feedback.store import Store

from .team import Team


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Ada", "ada"),
        ("\N{CYRILLIC SMALL LETTER A}da", "ada"),
        ("\N{CYRILLIC CAPITAL LETTER VE}ob", "Bob"),
        ("\N{GREEK CAPITAL LETTER ALPHA}da", "ada"),
        ("\N{CYRILLIC SMALL LETTER DZE}\N{CYRILLIC SMALL LETTER A}ra", "sara"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}da", "ada"),
        ("\N{LATIN SMALL LETTER ALPHA}da", "ada"),
        ("\u0418\u0412\u0410\u041d", "\u0438\u0432\u0430\u043d"),  # Ivan, in capitals and small letters
        ("pauI", "paul"),
        ("ann1", "annl"),
        ("B0b", "bob"),
    ],
)
def test_names_that_look_alike(name: str, other: str) -> None:
    assert names.look_alike(name, ["cyd", other])
    assert names.look_alike(other, [name])


@pytest.mark.parametrize(
    ("name", "other"),
    [("Jos\u00e9", "Jose"), ("mara", "maria"), ("\u7530\u4e2d", "\u7530\u4ef2"), ("ada 2", "ada 3"), ("Ann", "An n")],
)
def test_names_that_do_not(name: str, other: str) -> None:
    assert not names.look_alike(name, [other])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\u200bda", r"cannot see \(U\+200B\)"),
        ("ada\u202e", r"cannot see \(U\+202E\)"),
        ("ada\u200f", r"cannot see \(U\+200F\)"),
        ("", "1 to 100 characters"),
        ("x" * 101, "1 to 100 characters"),
        ("...", "a letter or a digit"),
        ("Deleted-7", "deleted accounts"),
    ],
)
def test_what_is_not_a_name(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        names.checked(name)


def test_joiners_that_a_script_needs_are_part_of_a_name() -> None:
    assert names.checked("\u0645\u06cc\u200c\u062e\u0648") == "\u0645\u06cc\u200c\u062e\u0648"


def test_an_account_that_looks_like_another_is_refused(store: Store) -> None:
    team = Team(store, "ada")
    with store.writing() as db:
        with pytest.raises(UserError, match="looks like the name of another account"):
            people.add_person(db, "Ada", None, team.now)
        assert people.person_named(db, " ada ") is not None
        people.add_person(db, "adam", None, team.now)
