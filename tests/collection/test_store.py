"""What is kept, of whom and for how long, and that it is gone when its user or the calendar says so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from heedful.collection import react
from heedful.collection import store as collected
from heedful.collection.settings import CollectionConfig
from heedful.collection.store import Collection
from heedful.config import UserError
from heedful.feedback import events, keys, people
from heedful.feedback.collected import Exchange, Origin
from heedful.feedback.schema import ApiKey, Item
from heedful.feedback.store import Store

from .served import CONFIG, START, exchange, keep


def ids(store: Store) -> list[str]:
    with store.reading() as db:
        return sorted(db.scalars(sa.select(Exchange.id)))


@pytest.mark.parametrize(
    ("consent", "refused", "drawn", "wanted"),
    [
        (CONFIG.version, False, 0.29, True),
        (CONFIG.version, False, 0.3, False),  # the draw is below the rate
        (CONFIG.version, True, 0.0, False),
        (None, False, 0.0, False),
        ("another text", False, 0.0, False),
    ],
)
def test_only_what_is_agreed_to_not_refused_and_drawn_is_wanted(
    store: Store, consent: str | None, refused: bool, drawn: float, wanted: bool
) -> None:
    collection = Collection(store, CollectionConfig(rate=0.3), draw=lambda: drawn)
    assert collection.wants("ada", consent, refused) is wanted


def test_another_text_of_consent_is_another_version() -> None:
    other = CollectionConfig(consent="You agree to less.")
    assert other.version != CONFIG.version == CollectionConfig(rate=0.5).version


def test_an_exchange_is_kept_once_and_a_foreign_id_twice(store: Store) -> None:
    assert keep(store, exchange("x"), exchange("x"), exchange("x", answers=["Other."]), exchange("x", "bob")) == [
        "x", "x", "x#2", "x#3"
    ]  # fmt: skip
    with store.reading() as db:
        (mine,) = collected.of_user(db, "bob")
    assert (mine.user, mine.exchange.prompt) == ("bob", [{"role": "user", "content": "Why is x blue?"}])
    with pytest.raises(UserError, match="without consent"):
        keep(store, exchange("y", consent=None))


def test_consent_withdrawn_or_an_account_deleted_while_the_model_answers(store: Store) -> None:
    with store.writing() as db:
        ada = people.person_named(db, "ada")
        assert ada is not None
        key = keys.new(db, ada.id, "test", START, consent=CONFIG.version)[0].id
        people.add_person(db, "bob b", None, START)
        # the account follows from the key, whatever the name of the program's user
        assert collected.add(db, exchange("a", "ada/bob b", key_id=key), START) == "a"
        assert collected.add(db, exchange("b", "ada/ada", key_id=key), START) == "b"
        assert [kept.user for kept in collected.of_user(db, "ada")] == ["ada/ada", "ada/bob b"]
        keys.agree(db.get_one(ApiKey, key), None, START)
        assert collected.add(db, exchange("c", key_id=key), START) is None
        keys.agree(db.get_one(ApiKey, key), CONFIG.version, START)
        events.delete_person(db, ada.id, START, by=None)
        assert collected.add(db, exchange("d", key_id=key), START) is None


def test_users_whom_a_program_names_are_apart_and_belong_to_its_account(store: Store) -> None:
    keep(store, exchange("a", "ada"), exchange("b", "ada/7"), exchange("c", "ada/8/9"), exchange("d", "bob"))
    with store.reading() as db:
        assert [kept.exchange.id for kept in collected.of_user(db, "ada")] == ["c", "b", "a"]
        assert [(kept.exchange.id, kept.user) for kept in collected.of_user(db, "ada/8/9")] == [("c", "ada/8/9")]
        with pytest.raises(UserError, match="no account has this name"):
            collected.of_user(db, "eve/7")


def test_users_see_their_exchanges_page_by_page_with_reactions(store: Store) -> None:
    late = [exchange(f"x{n}", started=START + timedelta(minutes=n)) for n in range(3)]
    keep(store, *late)
    with store.writing() as db:
        react.thumb(db, "x2", "ada", False, ["wrong"], now=START)
        first = collected.of_user(db, "ada", limit=2)
        rest = collected.of_user(db, "ada", before=first[-1].exchange.id)
    assert [kept.exchange.id for kept in first + rest] == ["x2", "x1", "x0"]
    assert [kept.reactions for kept in first] == [(("thumb", {"up": False, "reasons": ["wrong"]}),), ()]


def test_users_delete_their_own_exchanges_only(store: Store, tmp_path: Path) -> None:
    keep(store, exchange("a"), exchange("b", "bob"))
    with store.writing() as db:
        ref = react.thumb(db, "a", "ada", True, comment="Lovely canary.", now=START).ref
    with pytest.raises(UserError, match="nothing of yours"):
        collected.delete(store, "bob", "a", [tmp_path], START)
    collected.delete(store, "ada", "a", [tmp_path], START)
    assert ids(store) == ["b"]
    with store.reading() as db:
        assert db.scalar(sa.select(Item.payload).where(Item.ref == ref)) == {}
        assert db.scalar(sa.select(sa.func.count()).select_from(Origin)) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"Lovely canary" in path.read_bytes()]


def test_what_is_too_old_is_deleted(store: Store) -> None:
    now = START
    collection = Collection(store, CollectionConfig(days=30, rate=0), clock=lambda: now)  # stores nothing new
    collection.keep(exchange("old"))
    with store.writing() as db:
        react.thumb(db, "old", "ada", True, now=now)
        react.pick(
            db, "ada", "Q?", react.Side("A", "m", {}), react.Side("B", "n", {}), "tie", blind=True, now=now
        )  # fmt: skip
    now += timedelta(days=30)
    collection.keep(exchange("new", started=now))
    collection.sweep()
    assert ids(store) == ["new", "old"]
    now += timedelta(hours=1)
    collection.sweep()
    assert ids(store) == ["new"]
    assert collection.terms() is None
    with store.reading() as db:
        assert {payload == {} for payload in db.scalars(sa.select(Item.payload))} == {True}
