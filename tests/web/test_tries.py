"""Limits of wrong passwords, with a clock of their own and through the API."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from heedful.feedback.schema import Person
from heedful.web.security import passwords, tries
from heedful.web.security.tries import Tries, limits, network

from .site import Site

PASSWORD = "correct horse battery"


def test_waits_double_by_key_until_it_was_right() -> None:
    found, key, shared = Tries(), {"ada at 1": 3}, {"ada at 1": 3, "address 1": 4}
    for now in range(3):
        assert found.begin(shared, now) == 0
    assert found.begin(shared, 2.0) == 5
    assert found.begin({"bob at 1": 3, "address 1": 4}, 3.0) == 0
    assert found.begin({"cyd at 1": 3, "address 1": 4}, 4.0) == 4
    assert found.begin(key, 7.0) == 0
    assert found.begin(key, 7.0) == 10
    for now in range(100, 40_000, 1000):
        found.begin(key, float(now))
    assert found.begin(key, 39_100.0) == 0
    found.right(key)
    assert [found.begin(key, 39_101.0) for _ in range(3)] == [0, 0, 0]


def test_the_longest_wait_is_a_quarter_of_an_hour() -> None:
    found, now = Tries(), 0.0
    waits = []
    for _ in range(14):
        assert found.begin({"k": 1}, now) == 0
        waits.append(found.begin({"k": 1}, now))
        now += waits[-1]
    assert waits[:9] == [5, 10, 20, 40, 80, 160, 320, 640, 900]


def test_a_right_password_takes_back_only_its_own_try() -> None:
    found, shared = Tries(), {"ada at 1": 3, "address 1": 4}
    for _ in range(3):
        found.begin({"bob at 1": 9, "address 1": 4}, 0.0)
    found.begin(shared, 0.0)
    assert found.begin({"address 1": 4}, 0.0) == 5
    found.right(shared)
    assert found.begin({"address 1": 4}, 0.0) == 0
    assert found.begin({"address 1": 4}, 0.0) == 5


def test_slips_of_an_office_do_not_add_up_for_ever() -> None:
    found, office = Tries(), {"office": 3}
    assert all(found.begin(office, 86_400.0 * day) == 0 for day in range(30))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "REMEMBERED", 3)
    found = Tries()
    for i in range(10):
        found.begin({f"from {i}": 1}, 0.0)
    assert [found.begin({f"from {i}": 1}, 0.0) for i in (9, 8, 7, 0)] == [5, 5, 5, 0]


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_counts_with_its_neighbours(address: str, counted: str) -> None:
    assert network(address) == counted


def test_names_are_one_in_small_letters_and_long_ones_are_cut() -> None:
    assert limits("Ada", "1", 8) == limits("ada", "1", 8) == {"ada at 1": 8, "name ada": 80, "address 1": 80}
    assert limits("x" * 2000, "1", 8) == limits("x" * 100, "1", 8)


def sign_in(client: object, name: str = "labeler", password: str = PASSWORD) -> int:
    status: int = client.post("/api/login", json={"name": name, "password": password}).status_code  # type: ignore[attr-defined]
    return status


def with_password(site: Site, *names: str) -> None:
    with site.store.writing() as db:
        for name in names:
            db.get_one(Person, site.ids[name]).password_hash = passwords.hash_password(PASSWORD)


@pytest.mark.medium
def test_a_burst_gets_no_more_tries_than_the_limit(site: Site) -> None:
    with_password(site, "labeler")
    start = threading.Barrier(20)

    def guess(number: int) -> int:
        client = site.browser()
        start.wait()
        return sign_in(client, password=f"a wrong one {number}")

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(guess, range(20)))
    assert (found.count(429), len(found) - found.count(429)) == (12, 8)


@pytest.mark.medium
def test_slips_of_one_lock_nobody_else_at_the_address(site: Site) -> None:
    with_password(site, "labeler", "lead")
    assert [sign_in(site.browser(), password="a wrong one") for _ in range(9)] == [401] * 8 + [429]
    assert sign_in(site.browser()) == 429
    assert sign_in(site.browser(), "lead") == 204


@pytest.mark.medium
def test_one_address_cannot_try_all_names(site: Site) -> None:
    found = [sign_in(site.browser(), f"name {number // 4}", "a wrong one") for number in range(81)]
    assert found == [401] * 80 + [429]


@pytest.mark.medium
def test_a_known_device_always_lets_the_right_password_in(site: Site) -> None:
    with_password(site, "labeler", "lead")
    device = site.browser()
    assert sign_in(device) == 204
    assert sign_in(device, "lead") == 204  # a second account in the same browser
    device.post("/api/logout")
    for _ in range(12):
        sign_in(site.browser(), password="a wrong one")
    assert sign_in(site.browser()) == 429
    assert sign_in(device, password="a slip here") == 401
    assert sign_in(device) == 204


@pytest.mark.medium
def test_a_stolen_device_is_forgotten_after_a_hundred_wrong_passwords(site: Site) -> None:
    with_password(site, "labeler")
    device = site.browser()
    sign_in(device)
    found = [sign_in(device, password="a wrong one") for _ in range(110)]
    assert found == [401] * 100 + [429] + [401] * 8 + [429]


@pytest.mark.medium
def test_a_new_password_forgets_all_devices(site: Site) -> None:
    with_password(site, "labeler")
    device = site.browser()
    sign_in(device)
    changed = {"old": PASSWORD, "password": "another horse battery"}
    assert site.browser("labeler").post("/api/me/password", json=changed).status_code == 204
    assert [sign_in(device) for _ in range(9)] == [401] * 8 + [429]


@pytest.mark.medium
def test_people_who_wait_for_a_hash_take_no_more_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_waiting", threading.BoundedSemaphore(1))
    with passwords._turn():
        found = site.browser().post("/api/login", json={"name": "lead", "password": PASSWORD})
    assert (found.status_code, found.headers["retry-after"]) == (503, "5")
    assert "Many people sign in" in found.json()["error"]
