"""Hand-written texts with and without personal data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data.personal_data import personal_data, redact

HELD = [
    ("email", "jane.doe+x@mail.example.co.uk"),
    ("email", "jane (at) example (dot) com"),
    ("phone", "555-123-4567"),
    ("phone", "(555) 123-4567"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "+1-555-123-4567"),
    ("phone", "+4915112345678"),
    ("phone", "020 7946 0958"),
    ("phone", "07700 900123"),
    ("phone", "06 12 34 56 78"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111111111111111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "gb82 west 1234 5698 7654 32"),
    ("ip_address", "203.0.113.7"),
    ("ip_address", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    ("ip_address", "fe80::1ff:fe23:4567:890a"),
    ("social_security_number", "123-45-6789"),
    ("street_address", "12 Oak Street"),
    ("street_address", "123 N. Main St"),
    ("street_address", "350 5th Avenue"),
    ("street_address", "P.O. Box 1234"),
    ("street_address", "Hauptstraße 12"),
    ("street_address", "Jens-Weber-Allee 4/2"),
    ("street_address", "Röhrichtweg 52a"),
    ("street_address", "12 bis, rue de la Paix"),
    ("street_address", "8, avenue Jeanne d'Arc"),
    ("street_address", "3 place de l'Étoile"),
    ("street_address", "Calle de Alcalá, 12"),
    ("street_address", "Avenida María Segura 70 Puerta 1"),
    ("phone", "001-555-123-4567"),
    ("phone", "(555)123-4567x8901"),
    ("phone", "555.123.4567 ext. 12"),
    ("card", "3056 930902 5904"),
    ("card", "30569309025904"),
    ("card", "180079032892180"),
    ("card", "501849576563"),
]


@pytest.mark.parametrize(("kind", "value"), HELD)
@pytest.mark.parametrize("around", ["{}", "Note {}.", "so: {}, thanks", '"{}"\n', "({})"])
def test_it_is_found_where_it_stands(kind: str, value: str, around: str) -> None:
    text = around.format(value)
    start = text.index(value)
    assert personal_data(text) == [(kind, (start, start + len(value)))]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("phone", "ring me on 555-1234", "555-1234"),
        ("phone", "Phone: 5551234567", "5551234567"),
        ("phone", "Tel. 030/1234567", "030/1234567"),
        ("ip_address", "the server is at 10.0.0.5", "10.0.0.5"),
        ("social_security_number", "my SSN is 123 45 6789", "123 45 6789"),
        ("street_address", "i live at 12 oak street in town", "12 oak street"),
        ("street_address", "742 Evergreen Terrace, Springfield, IL", "742 Evergreen Terrace"),
        ("name", "Hello, my name is John Smith and I sell tea.", "John Smith"),
        ("name", "My full name is María de la Cruz.", "María de la Cruz"),
        ("name", "my name's Jean-Luc O'Neill", "Jean-Luc O'Neill"),
        ("name", "I'm called Ann B. Lee", "Ann B. Lee"),
    ],
)
def test_it_is_found_by_the_words_before_it(kind: str, text: str, value: str) -> None:
    assert [(found, text[slice(*span)]) for found, span in personal_data(text)] == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        # versions and sections
        "Python 3.11.4",
        "version 1.2.3.4",
        "release 10.20.130.4",
        "upgrade from 2.4.1.0 to 2.5.0.1",
        "Chrome 114.0.5735.90",
        "see section 10.100.3.2",
        # books
        "ISBN 978-3-16-148410-0",
        "ISBN 0-306-40615-2",
        "ISBN-13: 9783161484100",
        # years, dates, times, scores
        "from 1990-1995 and 1939 - 1945",
        "the phone of 2010-2015",
        "on 2021-03-04, 12.05.2020 or 4-7-1999",
        "between 10:30-12:45 at 12:34:56",
        "21-19, 18-21, 21-15",
        # sums and sequences
        "12 + 34 = 46",
        "1234567 * 7654321 + 1234567890",
        "what is 100 - 50 - 2000?",
        "100-50-2000 = ?",
        "3.14159265358979",
        "0.4111111111111111",
        "2^31 = 2147483648",
        "0 1 1 2 3 5 8 13 21 34 55",
        "1 2 3 4 5 6 7 8 9 10",
        "2 4 8 16 32 64 128 256",
        "1,2,3,4,5,6,7,8,9,10",
        "the number 12 34 56 78 squared",
        # prices and amounts
        "$1,234,567.89",
        "the phone costs $1,299.00 or 1299.00 dollars",
        "£020 7946 0958",
        "331,449,281 people",
        "call 100 000 000 people",
        "call it 1000000 times",
        "call 911",
        # the checksum is wrong
        "4111 1111 1111 1112",
        "1234 5678 9012 3456",
        "DE89 3704 0044 0532 0130 01",
        # nobody's addresses
        "127.0.0.1, 0.0.0.0 and 255.255.255.0",
        "the host ::1",
        "300.200.100.400",
        "00:1A:2B:3C:4D:5E",
        "std::vector<int>::size",
        "f(a::b)",
        # not quite
        "@user",
        "a@b",
        "x = y@z",
        "My name is Bob.",
        "my name is important to me",
        "The function's name is Foo Bar",
        "Call me Ishmael",
        "In 1929 Wall Street crashed",
        "I ate 3 Red Square tiles",
        "5 Simple Ways to live",
        "Spring 2024, String 5 and During 1999",
        "bet on the 3 place Winners, change 10 route Entries",
        "a Plaza 5 in town, Via 7 and 12 avenue of trees",
        "501849576564 and 30569309025905",
        "a home is 98 per square foot",
        "the 3 Little Pigs",
        "000-12-3456 and 123-00-4567",
        "",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert personal_data(text) == []


def test_all_of_it_is_found_in_order_and_redacted() -> None:
    text = "My name is Ann Lee, ann@lee.org, 555-123-4567; not 3.11.4."
    assert [finding.kind for finding in personal_data(text)] == ["name", "email", "phone"]
    assert redact(text) == "My name is [name], [email], [phone]; not 3.11.4."


@given(st.lists(st.sampled_from([value for _, value in HELD] + ["a tea pot", "in 1984", "3.11.4"]), max_size=6))
def test_nothing_is_left_after_redaction(parts: list[str]) -> None:
    text = redact("; ".join(parts))
    assert personal_data(text) == []
    assert all(part in text for part in parts if part in ("a tea pot", "in 1984", "3.11.4"))


@pytest.mark.parametrize("unit", ["a", "1 ", "12 Aa ", "a@", "::", "DE00", "Aa ", "live ", "1-", "P. "])
def test_long_texts_take_no_more_than_their_share_of_time(unit: str) -> None:
    """Ten thousand repeats would take minutes if a pattern backtracked over the whole text for every start."""
    assert personal_data(unit * 10_000) is not None
