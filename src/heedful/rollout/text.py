"""The text of an answer, piece by piece, while it is sampled."""

from __future__ import annotations

import re

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from heedful.models import render, templates

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextStream:
    """Turns token ids into text as soon as it is certain. The pieces add up to the text of all ids.

    A character is held back until its last byte is there, and tokens that are no text are skipped. Some vocabularies
    have byte tokens (`<0xE2>`) and decode a run of them as one, so a run is held back to its end. A tokenizer without
    the fast backend holds everything back to the end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._hidden = templates.facts(tokenizer).hidden
        self._stream = DecodeStream(ids=render.lead_ids(tokenizer), skip_special_tokens=False)
        self._ids: list[int] = []
        self._held: list[int] = []
        self._written = 0

    def push(self, token: int) -> str:
        """The text that the next token makes certain, often empty."""
        self._ids.append(token)
        if self._backend is None or token in self._hidden:
            return ""
        self._held.append(token)
        if _BYTE.fullmatch(self._backend.id_to_token(token) or ""):
            return ""
        piece = self._stream.step(self._backend, self._held) or ""
        self._held = []
        self._written += len(piece)
        return piece

    def end(self) -> str:
        """The text that was held back."""
        return render.response_text(self.tokenizer, self._ids)[self._written :]
