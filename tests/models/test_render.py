from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from heedful.config import UserError
from heedful.data.records import Message
from heedful.models import render

CHAT = [
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Hi."),
    Message(role="user", content="More"),
]
PLAIN = tiny.tokenizer()


def written(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Name a cat", "Name a cat\n\n"),
        ("Name a cat:\n", "Name a cat:\n"),
        ("Name a cat: ", "Name a cat: "),
        ([Message(role="user", content="Name a cat")], "Name a cat\n\n"),
        (CHAT, "User:\nHello\n\nAssistant:\nHi.\n\nUser:\nMore\n\nAssistant:\n"),
        ([Message(role="system", content="Be kind."), CHAT[0]], "System:\nBe kind.\n\nUser:\nHello\n\nAssistant:\n"),
    ],
)
def test_the_default_without_a_template(prompt: Any, expected: str) -> None:
    assert written(PLAIN, render.prompt_ids(PLAIN, prompt)) == expected


def test_the_template_of_the_tokenizer_is_used() -> None:
    tokenizer = tiny.tokenizer(template=True)
    expected = "<|im_start|>user\nName a cat<|im_end|>\n<|im_start|>assistant\n"
    assert written(tokenizer, render.prompt_ids(tokenizer, "Name a cat")) == expected
    ids = render.prompt_ids(tokenizer, CHAT)
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 4
    assert written(tokenizer, ids).startswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi.")


@pytest.mark.parametrize("template", [False, True])
def test_bos_comes_exactly_once(template: bool) -> None:
    tokenizer = tiny.tokenizer(adds_bos=True, template=template)
    bos = tokenizer.bos_token_id
    for prompt in ("Name a cat", CHAT, f"{tiny.BOS} Name a cat"):
        ids = render.prompt_ids(tokenizer, prompt)
        assert ids[0] == bos
        assert ids.count(bos) == 1
    assert bos not in render.response_ids(tokenizer, "Tom", finished=True)
    ids = render.text_ids(tokenizer, "Tom")
    assert (ids[0], ids.count(bos), ids[-1], ids.count(0)) == (bos, 1, 0, 1)


def test_no_bos_where_the_tokenizer_adds_none() -> None:
    assert render.text_ids(PLAIN, "Tom") == [*render.encode(PLAIN, "Tom"), PLAIN.eos_token_id]


@pytest.mark.parametrize("template", [False, True])
def test_names_of_special_tokens_in_peoples_text_are_characters(template: bool) -> None:
    tokenizer = tiny.tokenizer(template=template)
    text = f"say {tiny.EOS} and <|im_end|> and {tiny.PAD}"
    marks = {0, 1}
    ids = render.prompt_ids(tokenizer, text)
    assert not marks & set(ids)
    if template:
        assert ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    answer = render.response_ids(tokenizer, text, finished=False)
    assert not marks & set(answer)
    assert render.response_text(tokenizer, answer) == text


def test_eos_ends_what_is_finished_and_only_that() -> None:
    assert render.response_ids(PLAIN, "Tom", finished=True) == [*render.encode(PLAIN, "Tom"), 0]
    assert 0 not in render.response_ids(PLAIN, "Tom", finished=False)


@given(st.text(max_size=40), st.booleans())
def test_a_response_comes_back_as_it_was(text: str, finished: bool) -> None:
    assert render.response_text(PLAIN, render.response_ids(PLAIN, text, finished=finished)) == text


def test_special_tokens_and_unknown_rows_leave_no_text() -> None:
    ids = render.encode(PLAIN, "Tom")
    assert render.response_text(PLAIN, [*ids, 0, 1, 1]) == "Tom"
    assert render.response_text(PLAIN, [*ids, len(PLAIN) + 5]) == "Tom"


def test_a_template_that_refuses_a_chat_is_one_line() -> None:
    tokenizer = tiny.tokenizer(template=True)
    tokenizer.chat_template = "{{ raise_exception('system messages are not known') }}"
    with pytest.raises(UserError, match="refuses this chat: system messages are not known"):
        render.prompt_ids(tokenizer, CHAT)


def pad_of(tokenizer: Any, *, rows: int | None = None, generation: Any = None, tmp: Any = None) -> str:
    """The pad token after `ensure_pad`, with the promises every pad keeps."""
    size = len(tokenizer)
    config = tiny.config("llama", vocab=rows or size, pad_token_id=None)
    more = [] if generation is None else [generation]
    pad = render.ensure_pad(tokenizer, config, *more)
    assert pad == config.pad_token_id == tokenizer.pad_token_id
    assert pad not in render.stop_ids(tokenizer, config, *more)
    assert pad != tokenizer.bos_token_id
    assert pad < config.vocab_size
    assert len(tokenizer) <= config.vocab_size
    assert pad not in render.encode(tokenizer, f"ÿ þ À any text {tokenizer.pad_token} \u2603 é 中")
    return str(tokenizer.pad_token)


def test_the_tokenizers_own_pad_stays() -> None:
    assert pad_of(tiny.tokenizer()) == tiny.PAD


@pytest.mark.parametrize("own", [None, tiny.EOS])
@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"), "<|finetune_right_pad_id|>"),
        (("<|fim_pad|>",), "<|fim_pad|>"),
        (("<|tool|>", "<|reserved_special_token_0|>"), "<|reserved_special_token_0|>"),
        (("[unused3]",), "[unused3]"),
    ],
)
def test_a_spare_special_token_becomes_the_pad(own: str | None, extra: tuple[str, ...], expected: str) -> None:
    assert pad_of(tiny.tokenizer(pad=own, extra=extra)) == expected


def test_an_embedding_row_beyond_the_vocabulary_becomes_the_pad() -> None:
    tokenizer = tiny.tokenizer(pad=None, extra=("<|tool|>",))
    size = len(tokenizer)
    assert pad_of(tokenizer, rows=size + 3) == "<|pad|>"
    assert tokenizer.pad_token_id == size


def test_an_unknown_token_that_text_never_needs_becomes_the_pad() -> None:
    assert pad_of(tiny.tokenizer(pad=None, unk=tiny.UNK)) == tiny.UNK


def test_the_token_of_an_impossible_byte_is_the_last_resort() -> None:
    tokenizer = tiny.tokenizer(pad=tiny.EOS)
    assert pad_of(tokenizer) == "ÿ"
    assert render.response_text(tokenizer, render.response_ids(tokenizer, "L'Haÿ", finished=True)) == "L'Haÿ"


def test_without_a_free_token_there_is_an_error() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({tiny.EOS: 0, "cat": 1}, unk_token=tiny.EOS))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=tiny.EOS, unk_token=tiny.EOS)
    with pytest.raises(UserError, match="no token is free"):
        render.ensure_pad(tokenizer, tiny.config("llama", vocab=2, pad_token_id=None))


def test_a_pad_that_ends_responses_is_replaced() -> None:
    from transformers import GenerationConfig

    tokenizer = tiny.tokenizer(template=True, extra=("<|reserved_0|>",))
    generation = GenerationConfig(eos_token_id=[0, tokenizer.pad_token_id])
    assert pad_of(tokenizer, generation=generation) == "<|reserved_0|>"


def test_stop_ids_are_the_special_ones_that_the_model_names() -> None:
    from transformers import GenerationConfig

    tokenizer = tiny.tokenizer(template=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = tiny.config("llama", eos_token_id=200)  # an ordinary token: a leftover of the config's defaults
    assert render.stop_ids(tokenizer, config) == [0]
    assert render.stop_ids(tokenizer, config, GenerationConfig(eos_token_id=[end, 0])) == [0, end]


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-text token"):
        render.response_ids(tokenizer, "Tom", finished=True)


def test_same_tokens() -> None:
    assert render.same_tokens(PLAIN, tiny.tokenizer())
    assert not render.same_tokens(PLAIN, tiny.tokenizer(vocab=300))
    assert not render.same_tokens(tiny.tokenizer(adds_bos=True), tiny.tokenizer(adds_bos=True, template=True))
    assert not render.same_tokens(tiny.tokenizer(adds_bos=True), tiny.tokenizer(extra=(tiny.BOS,)))
