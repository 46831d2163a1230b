"""Texts before which an answer ends, found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Passes text on as it comes, and holds back what may be the beginning of a stop text.

    With the stop "END", the pieces "a E", "N", "Ex" give "a ", "", "ENEx"; the pieces "a E", "ND b" give "a ", "".
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self.longest = max(map(len, texts))
        self._held = ""

    def push(self, piece: str, last: bool = False) -> tuple[str, bool]:
        """(the text that is certain, whether a stop text was found). `last`: nothing follows."""
        self._held += piece
        places = [place for text in self.texts if (place := self._held.find(text)) >= 0]
        if places:
            certain, self._held = self._held[: min(places)], ""
            return certain, True
        keep = 0 if last else self._open()
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain, False

    def _open(self) -> int:
        """How many characters at the end may begin a stop text."""
        held = self._held
        for count in range(min(self.longest - 1, len(held)), 0, -1):
            if any(text.startswith(held[-count:]) for text in self.texts):
                return count
        return 0
