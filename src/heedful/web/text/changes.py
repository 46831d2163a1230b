"""What changed between two versions of a text, line by line, in bounded time."""

from __future__ import annotations

from difflib import SequenceMatcher

MOST_LINES = 400  # that differ, on either side: the time grows with their product


def changes(old: str, new: str) -> list[tuple[str, str]]:
    """(sign, line) for lines that are gone ("-") and that have come ("+"). Where too much differs, all of both."""
    a, b = old.split("\n"), new.split("\n")
    start, end = 0, 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    a, b = a[start : len(a) - end], b[start : len(b) - end]
    if max(len(a), len(b)) > MOST_LINES:
        return [*(("-", line) for line in a), *(("+", line) for line in b)]
    found: list[tuple[str, str]] = []
    for kind, i, k, j, m in SequenceMatcher(None, a, b).get_opcodes():
        if kind != "equal":
            found += [*(("-", line) for line in a[i:k]), *(("+", line) for line in b[j:m])]
    return found
