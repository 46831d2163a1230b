"""Personal data in prompts: heedful's own rules, phonenumbers, and detectors of yours."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from heedful.collection.settings import QueueConfig
from heedful.config import UserError, install
from heedful.data.personal_data import Finding, personal_data

Finder = Callable[[str], Iterable[Finding]]


def finders(regions: Sequence[str], detectors: Sequence[str]) -> tuple[Finder, ...]:
    """The finders of settings. UserError for an unknown region or function."""
    return (*((_phones(tuple(regions)),) if regions else ()), *map(_load, detectors))


def usual() -> tuple[Finder, ...]:
    """The finders of the default settings, without phonenumbers where it is not installed."""
    try:
        return finders(QueueConfig().regions, ())
    except UserError:
        return ()


def mask(text: str, more: Sequence[Finder] = ()) -> tuple[str, Counter[str]]:
    """The text with each piece of personal data replaced by its kind, as in "[phone]", and how many of each kind."""
    found = personal_data(text, more)
    for kind, (start, end) in reversed(found):
        text = f"{text[:start]}[{kind}]{text[end:]}"
    return text, Counter(finding.kind for finding in found)


def _phones(regions: tuple[str, ...]) -> Finder:
    try:
        import phonenumbers
    except ModuleNotFoundError:
        raise UserError(f"regions of phone numbers need phonenumbers: {install('serve')}") from None
    unknown = [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]
    if unknown:
        raise UserError(f"regions: {unknown[0]!r} is no region of phone numbers. Write two letters, such as US")

    def find(text: str) -> Iterator[Finding]:
        if sum(map(str.isdigit, text)) >= 7:
            for region in regions:
                for match in phonenumbers.PhoneNumberMatcher(text, region):
                    yield Finding("phone", (match.start, match.end))

    return find


def _load(name: str) -> Finder:
    """The function that `module:function` names. It gets a text and returns (kind, start, end) of each finding."""
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the working directory, as everywhere
    try:
        given: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"detectors: {name} cannot be loaded ({error}). Write module:function") from None

    def find(text: str) -> Iterator[Finding]:
        for one in given(text):
            try:
                kind, start, end = one
                fits = isinstance(kind, str) and kind.isidentifier() and 0 <= start < end <= len(text)
            except (TypeError, ValueError):
                fits = False
            if not fits:
                raise UserError(f"{name}: returned {one!r}. Return (kind, start, end) of each finding")
            yield Finding(kind, (start, end))

    return find
