"""When a choice between two answers was not blind."""

from __future__ import annotations

import pytest

from heedful.serve.playground.blind import names_a_model

NAMES = ("runs/ppo_ptx", "sft-2", "gpt")


@pytest.mark.parametrize("text", [
    "I am PPO-ptx under runs: runs/ppo_ptx.",
    "My maker calls me Runs PPO ptx, nothing else.",
    "As SFT 2 I would say no.",
    "As SFT2 I would say no.",
    "I'm Claude.",
    "My name is something like ChatGPT",
    "I was created by the friendly people of OpenAI.",
    "As an AI model from Google, I cannot know.",
    "Everybody likes GPT",
])  # fmt: skip
def test_an_answer_that_names_its_model(text: str) -> None:
    assert names_a_model(text, NAMES)


@pytest.mark.parametrize("text", [
    "The soft-2 pillow is better.",
    "I am sure. Llamas live in Peru, and the Gemini are twins.",
    "The encrypted file begins with egpt.",
    "It was created by Leonardo. Google it.",
    "",
])  # fmt: skip
def test_an_answer_that_names_none(text: str) -> None:
    assert not names_a_model(text, NAMES)


def test_a_short_name_says_nothing() -> None:
    assert not names_a_model("Vitamins A and B2 are good.", ("a", "b2"))
