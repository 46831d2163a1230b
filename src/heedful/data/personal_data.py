"""Find personal data in text by its written form. The heuristic would rather drop a prompt than keep an address.

It verifies the checksums of cards and IBANs. It ignores versions, dates, ISBNs, prices and sums.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

Span = tuple[int, int]


class Finding(NamedTuple):
    """One piece of personal data: its kind and its place, text[start:end]."""

    kind: str
    span: Span


def personal_data(text: str, more: Sequence[Callable[[str], Iterable[Finding]]] = ()) -> list[Finding]:
    """E-mail and postal addresses, phone, card, account and social security numbers, IP addresses, stated full names.

    `more` are further finders. The findings come in the order of their places. Of two that overlap, the longer counts.
    """
    found = [Finding(kind, span) for kind, find in _FINDERS.items() for span in find(text)]
    found += [finding for find in more for finding in find(text)]
    found.sort(key=lambda finding: finding.span[0] - finding.span[1])
    kept: list[Finding] = []
    for finding in found:
        start, end = finding.span
        if all(end <= other.span[0] or other.span[1] <= start for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.span)


def redact(text: str) -> str:
    """The text with each piece of personal data replaced by its kind, as in "[phone]"."""
    for kind, (start, end) in reversed(personal_data(text)):
        text = f"{text[:start]}[{kind}]{text[end:]}"
    return text


_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]+ ?(?:@|\(at\)|\[at\]) ?(?:[\w-]+ ?(?:\.|\(dot\)|\[dot\]) ?)+[^\W\d_]{2,}(?!\w)", re.I
)
# Numbers in shapes that phone numbers have and few other numbers.
_PHONE = re.compile(
    r"""(?<![\w+.$€£-])(?<!\d[ ])(?:
        \+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){7,12}   # +44 20 7946 0958
      | (?:(?:00)?1[ .-])?\(\d{3}\)[ -]?\d{3}[ .-]\d{4}               # (555) 123-4567
      | (?:(?:00)?1-)?\d{3}-\d{3}-\d{4}                               # 555-123-4567
      | (?:(?:00)?1\.)?\d{3}\.\d{3}\.\d{4}
      | 0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4} | 0\d{2,4}[ /-]\d{5,8}         # 020 7946 0958, 030/1234567
      | 0\d(?:[ .-]\d{2}){4}                                         # 06 12 34 56 78
    )(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?(?![\w-]|[ .]\d)""",
    re.X,
)
# Any grouped or long number right after a word that announces a phone number.
_CALLED_PHONE = re.compile(
    r"\b(?:(?:tele)?phone|mobile|cell|fax|whatsapp|tel|call|ring|text|(?:my|his|her|our|their) number)\b"
    r"[^\n\d$€£]{0,20}"
    r"((?<![$€£+])\(?\d{2,5}\)?(?:[ .-]\d{2,5})+|\d{9,12})(?![\w-]|[.,]\d)",
    re.I,
)
_DATE_OR_QUANTITY = re.compile(
    r"\d{4}[ .-]\d{1,2}[ .-]\d{1,2}|\d{1,2}[ .-]\d{1,2}[ .-]\d{4}|(?:1[5-9]|20)\d\d[ -](?:1[5-9]|20)\d\d"
    r"|\d{1,3}(?:[ .]\d{3})*[ .]000"
)
_CARD = re.compile(
    r"(?<![\w.,+-])(?:[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -]?)\d{6}\2\d{5})(?![\w-]|[.,]\d)"
)
_OTHER_CARD = re.compile(  # Diners Club, JCB, Maestro
    r"(?<![\w.,+-])(?:3(?:0[0-5]|[689]\d)\d([ -]?)\d{6}\1\d{4}|(?:1800|2131)\d{11}|(?:50|5[6-9]|6\d)\d{10})"
    r"(?![\w-]|[.,]\d)"
)
_IBAN = re.compile(r"\b([A-Z]{2})\d{2}(?: ?[A-Z0-9]){11,30}", re.I)
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "SA": 24, "SE": 24, "SI": 19, "SK": 24, "TR": 26, "UA": 29,
}  # fmt: skip
_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])[23f][0-9a-f]{3}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.I
)  # global, unique local and link-local addresses
_ABOUT_VERSIONS = re.compile(r"(?:\bv|\bver\.?|version|release|section|chapter|clause|build|firmware|§)\s*$", re.I)
_ABOUT_NETWORKS = re.compile(r"\bip\b|\bipv?4?\b|address|server|host|ping|ssh|router|://|login|logged|connect", re.I)
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-]|\.\d|\s*=)")
_CALLED_SSN = re.compile(r"\b(?:ssn|social security)\b[^\n\d]{0,25}(\d{3}[ -]?\d{2}[ -]?\d{4})(?![\w-])", re.I)

_NAMED_ROADS = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln)"
_OTHER_ROADS = r"(?:Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Close|Crescent|Parkway|Pkwy|Highway|Hwy|Gardens)"
_HOUSE = r"(?<![\w.,$€£/-])\d{1,5}[a-zA-Z]?,? (?:[NSEW]\.? )?(?:(?:[A-Z][\w'’.-]*|\d{1,3}(?:st|nd|rd|th)) ){1,4}"
_LIVES_AT = r"\b(?:live[sd]?|living|reside[sd]?|address|ship|send|deliver\w*|moved)\b[^\n\d$€£]{0,30}"
_STREET = re.compile(rf"{_HOUSE}{_NAMED_ROADS}\b|{_HOUSE}{_OTHER_ROADS}(?=,? [A-Z][a-z]+,|,? [A-Z]{{2}}\b|, \d)")
_CALLED_STREET = re.compile(
    rf"{_LIVES_AT}(\d{{1,5}}[a-z]? (?:[\w'’.-]+ ){{1,4}}(?:{_NAMED_ROADS}|{_OTHER_ROADS}))\b", re.I
)
_OTHER_STREET = re.compile(r"\bP\. ?O\. ?Box \d+|\bPO Box \d+")
_GERMAN_STREET = re.compile(
    r"\b[A-ZÄÖÜ][\w-]{0,60}(?:(?:straße|strasse|gasse|weg|platz|allee|damm|ufer)|str\.|"
    r"-(?:Straße|Strasse|Str\.|Gasse|Weg|Platz|Allee|Ring|Damm|Ufer)) ?\d{1,4}(?: ?[a-z]|[/-]\d{1,3})?\b"
)
_CAPITAL = r"[A-ZÀ-Þ][\w'’-]+"
_FRENCH_STREET = re.compile(
    r"(?<![\w.,$€£/-])\d{1,4}(?: ?(?:bis|ter))?,? "
    r"(?:(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Cc]hemin|[Ii]mpasse|[Aa]llée|[Qq]uai) "
    r"(?:(?:des?|du|la|les?) |(?:de )?[ld]['’]){0,2}|"
    r"(?:[Pp]lace|[Rr]oute|[Cc]ours|[Pp]assage) (?:(?:des?|du) (?:la )?|(?:de )?[ld]['’]))"
    rf"{_CAPITAL}(?: (?:(?:des?|du|la) |[ld]['’])?{_CAPITAL}){{0,3}}"
)
_SPANISH_STREET = re.compile(
    r"\b(?:Calle|C/|Avenida|Avda\.|Paseo|Plaza|Camino|Ronda|Rambla|Pasaje|Pasadizo|Callejón|Cuesta|Cañada|Glorieta|"
    r"Travesía|Urbanización|Carretera|V[ií]a|Alameda|Acceso|Vial) ?(?:(?:de|del|las?|los|el) ){0,2}"
    rf"{_CAPITAL}(?: (?:(?:de|del|las?|los|y) ){{0,2}}{_CAPITAL}){{0,3}},? (?:n[º°]\.? ?)?\d{{1,4}}\b"
    r"(?: (?:Piso|Puerta|Apt\.?|Bloque) ?\d{1,3}\b)*"
)
_TIME_BEFORE = re.compile(
    r"\b(?:in|since|by|until|till|from|of|after|before|around|during|year|late|early|the)\s+$", re.I
)

_WORD = r"[A-ZÀ-Þ][\w'’-]+"
_FULL_NAME = rf"({_WORD}(?: (?:[A-ZÀ-Þ]\.|de|da|del|di|la|van|von|der|den|bin|al|{_WORD})){{0,3}} {_WORD})"
_NAME = re.compile(rf"\b(?i:my (?:full |real |legal |whole )?name(?: is|['’]s|:)|i(?: am|['’]m) called) {_FULL_NAME}")


def _before(text: str, match: re.Match[str], characters: int) -> str:
    return text[max(0, match.start() - characters) : match.start()]


def _phones(text: str) -> Iterator[Span]:
    yield from (match.span() for match in _PHONE.finditer(text))
    for match in _CALLED_PHONE.finditer(text):
        number = match.group(1)
        if 7 <= sum(map(str.isdigit, number)) <= 15 and not _DATE_OR_QUANTITY.fullmatch(number):
            yield match.span(1)


def _cards(text: str) -> Iterator[Span]:
    for pattern, lengths in ((_CARD, (13, 15, 16, 19)), (_OTHER_CARD, (12, 14, 15))):
        for match in pattern.finditer(text):
            digits = [int(character) for character in match.group() if character.isdigit()]
            doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
            if len(digits) in lengths and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0:
                yield match.span()


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match.group(1).upper(), 0)
        at = [match.start() + offset for offset, character in enumerate(match.group()) if character != " "][:length]
        if length and len(at) == length:
            compact = "".join(text[position] for position in at).upper()
            if int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1:
                yield match.start(), at[-1] + 1


def _ip_addresses(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        parts = [int(part) for part in match.group().split(".")]
        # 127.0.0.1, 0.0.0.0 and 255.255.255.0 belong to no person. Small numbers may be a version or a section.
        if max(parts) > 255 or parts[0] in (0, 127, 255) or _ABOUT_VERSIONS.search(_before(text, match, 20)):
            continue
        if max(parts) >= 100 or _ABOUT_NETWORKS.search(_before(text, match, 40)):
            yield match.span()
    for match in _IPV6.finditer(text):
        try:
            ipaddress.IPv6Address(match.group())
        except ValueError:
            continue
        yield match.span()


def _social_security_numbers(text: str) -> Iterator[Span]:
    yield from (match.span() for match in _SSN.finditer(text))
    yield from (match.span(1) for match in _CALLED_SSN.finditer(text))


def _street_addresses(text: str) -> Iterator[Span]:
    for match in _STREET.finditer(text):
        if not (re.match(r"(?:1[5-9]|20)\d\d\b", match.group()) and _TIME_BEFORE.search(_before(text, match, 20))):
            yield match.span()
    yield from (match.span(1) for match in _CALLED_STREET.finditer(text))
    for pattern in (_OTHER_STREET, _GERMAN_STREET, _FRENCH_STREET, _SPANISH_STREET):
        yield from (match.span() for match in pattern.finditer(text))


_FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "email": lambda text: (match.span() for match in _EMAIL.finditer(text)),
    "social_security_number": _social_security_numbers,
    "phone": _phones,
    "card": _cards,
    "iban": _ibans,
    "ip_address": _ip_addresses,
    "street_address": _street_addresses,
    "name": lambda text: (match.span(1) for match in _NAME.finditer(text)),
}
