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
        ("Name a cat", "Name a cat"),
        ("Name a cat:\n", "Name a cat:\n"),
        ("Name a cat: ", "Name a cat: "),
        ([Message(role="user", content="Name a cat ")], "Name a cat "),
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


@pytest.mark.medium
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


def test_stop_ids_are_the_special_ones_that_the_model_names() -> None:
    from transformers import GenerationConfig

    tokenizer = tiny.tokenizer(template=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = tiny.config("llama", eos_token_id=200)  # an ordinary token: a leftover of the config's defaults
    other = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert render.stop_ids(PLAIN, config) == [0]
    assert render.stop_ids(tokenizer, config) == [0, end]
    assert render.stop_ids(tokenizer, config, GenerationConfig(eos_token_id=[end, other])) == sorted([0, end, other])


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


def test_a_reader_may_have_further_special_tokens() -> None:
    more = tiny.tokenizer()
    more.add_special_tokens({"extra_special_tokens": ["<|extra|>"]})
    assert render.same_tokens(more, PLAIN)
    assert not render.same_tokens(PLAIN, more)
    more.add_tokens(["miller"])  # a word: texts have other ids
    assert not render.same_tokens(more, PLAIN)
