"""Text piece by piece, for tokenizers that split characters over tokens in different ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from heedful.models import render
from heedful.rollout.text import TextStream

BYTES = tiny.tokenizer(template=True)
WORDS = "Ein schöner Tag ☃! Tom's café, 日本語 and more  spaces"


def sentencepiece() -> PreTrainedTokenizerFast:
    """Words that begin with a mark for a space, and bytes as tokens of their own, as Llama 2 has them."""
    vocabulary = {"<unk>": 0, "</s>": 1, **{f"<0x{byte:02X}>": 2 + byte for byte in range(256)}}
    for piece in ("\u2581", "\u2581Ein", "\u2581Tag", "\u2581and", "\u2581more", *"Einscher!Tom'af,d Tag"):
        vocabulary.setdefault(piece, len(vocabulary))
    whole = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    whole.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    whole.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    whole.add_special_tokens([AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="</s>", unk_token="<unk>")


def wordpiece() -> PreTrainedTokenizerFast:
    """Parts of words that are joined without a space."""
    whole = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    whole.train_from_iterator([WORDS, *tiny.TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=whole, eos_token="[SEP]", unk_token="[UNK]")


def pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [piece for piece in (*map(stream.push, ids), stream.end()) if piece]


TOKENIZERS = {"bytes": BYTES, "sentencepiece": sentencepiece(), "wordpiece": wordpiece()}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_appears_as_soon_as_it_is_certain(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = [*render.encode(tokenizer, WORDS), tokenizer.eos_token_id]
    parts = pieces(tokenizer, ids)
    assert "".join(parts) == render.response_text(tokenizer, ids)
    assert len(ids) > len(parts) > 5  # streaming, though characters of several tokens wait for their last
    assert all("\ufffd" not in part for part in parts)


def test_a_character_waits_for_its_last_token() -> None:
    """The snowman has three bytes, each a token here."""
    stream, ids = TextStream(BYTES), render.encode(BYTES, "a☃")
    assert [stream.push(token) for token in ids] == ["a", "", "", "☃"]
    assert stream.end() == ""
    half = TextStream(BYTES)
    assert [half.push(token) for token in ids[:-1]] == ["a", "", ""]
    assert half.end() == "\ufffd"


def test_special_tokens_are_skipped() -> None:
    mark = BYTES.convert_tokens_to_ids("<|im_end|>")
    stream = TextStream(BYTES)
    assert [stream.push(token) for token in (*render.encode(BYTES, "a"), mark, *render.encode(BYTES, "b"))] == [
        "a", "", "b"
    ]  # fmt: skip
    assert stream.push(BYTES.eos_token_id) + stream.end() == ""


@pytest.mark.medium
@pytest.mark.parametrize("name", TOKENIZERS)
@given(numbers=st.lists(st.integers(0, 10**6), max_size=40))
def test_the_pieces_add_up_to_the_text(name: str, numbers: list[int]) -> None:
    tokenizer: Any = TOKENIZERS[name]
    ids = [number % len(tokenizer) for number in numbers]
    assert "".join(pieces(tokenizer, ids)) == render.response_text(tokenizer, ids)
