"""Whether prompts leave room for answers."""

from __future__ import annotations

import pytest

from heedful.config import UserError
from heedful.rollout.room import keep_fitting, longest_prompt, tokens_left

PROMPTS = [[1] * 3, [1] * 9, [1] * 4]


def test_prompt_and_answer_share_the_context() -> None:
    assert longest_prompt(context=128, max_new_tokens=28) == 100
    assert longest_prompt(context=128, max_new_tokens=127) == 1
    with pytest.raises(UserError, match="max_new_tokens 128 leaves no room for a prompt: the model reads 128 tokens"):
        longest_prompt(context=128, max_new_tokens=128)


def test_a_chat_takes_what_is_left() -> None:
    assert [tokens_left(128, prompt, 28) for prompt in (1, 100, 101, 127, 128, 500)] == [28, 28, 27, 1, 0, 0]


def test_a_prompt_that_does_not_fit_is_refused_or_skipped() -> None:
    assert keep_fitting(PROMPTS, 9, context=12, where="p.jsonl") == [0, 1, 2]
    assert keep_fitting(PROMPTS, 4, context=12, where="p.jsonl", skip_long=True) == [0, 2]
    with pytest.raises(UserError, match=r"p.jsonl: prompt 2 has 9 tokens, the most here is 4 \(context 12\)"):
        keep_fitting(PROMPTS, 4, context=12, where="p.jsonl")
    with pytest.raises(UserError, match=r"no prompt is short enough \(skipped, of over 2 tokens: 3\)"):
        keep_fitting(PROMPTS, 2, context=12, where="p.jsonl", skip_long=True)
