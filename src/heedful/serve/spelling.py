"""Log-probabilities in OpenAI's two shapes, and how a token is written there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from heedful.rollout.types import Top
from heedful.serve.batching import TokenEntry

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Spelling:
    """Writes the tokens of one tokenizer. A token may be a part of a character: its bytes are exact, its text not."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._byte_level = backend is not None and "ByteLevel" in str(backend.decoder)
        self._special = {id_ for id_, token in tokenizer.added_tokens_decoder.items()}
        self.bytes = lru_cache(50_000)(self._bytes)

    def text(self, token: int) -> str:
        return self.bytes(token).decode("utf-8", "replace")

    def _bytes(self, token: int) -> bytes:
        written = self.tokenizer.convert_ids_to_tokens(token)
        if written is None:
            return b""
        if token in self._special:
            return written.encode()
        if self._byte_level and all(character in _BYTES for character in written):
            return bytes(_BYTES[character] for character in written)
        if (byte := _BYTE.fullmatch(written)) is not None:
            return bytes([int(byte[1], 16)])
        if "▁" in written:
            return written.replace("▁", " ").encode()
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False)).encode()

    def offsets(self, ids: Sequence[int]) -> list[int]:
        """Where the text of each token begins."""
        starts, characters = [], 0
        for token in ids:
            starts.append(characters)
            characters += sum(byte & 0xC0 != 0x80 for byte in self.bytes(token))  # the first byte of each
        return starts

    def chat(self, entries: Sequence[TokenEntry], most: int) -> dict[str, Any] | None:
        """Log-probabilities as /v1/chat/completions has them."""
        if not entries:
            return None
        content = [
            {**self._one(one.id, one.top.logprob), "top_logprobs": [self._one(*each) for each in one.top.most[:most]]}
            for one in entries
        ]
        return {"content": content, "refusal": None}

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self.text(token), "logprob": _finite(logprob), "bytes": list(self.bytes(token))}

    def completion(self, tokens: Sequence[tuple[int, int, Top | None]], most: int) -> dict[str, Any] | None:
        """Log-probabilities as /v1/completions has them. `tokens`: (where its text begins, id, Top)."""
        if not tokens:
            return None
        return {
            "tokens": [self.text(token) for _, token, _ in tokens],
            "token_logprobs": [None if top is None else _finite(top.logprob) for _, _, top in tokens],
            "top_logprobs": [None if top is None else self._most(token, top, most) for _, token, top in tokens],
            "text_offset": [start for start, _, _ in tokens],
        }

    def _most(self, token: int, top: Top, most: int) -> dict[str, float]:
        """The most probable tokens, and the one that came."""
        found: dict[str, float] = {}
        for id_, logprob in [*top.most[:most], (token, top.logprob)]:
            found.setdefault(self.text(id_), _finite(logprob))
        return found


def _finite(logprob: float) -> float:
    """OpenAI's number for a token that cannot come: JSON has no infinity."""
    return max(logprob, -9999.0)
