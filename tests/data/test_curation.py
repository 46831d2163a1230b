"""Curation in the paper's order (D2), on prompts written for the purpose and on drawn ones."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.config import UserError
from heedful.data.curation import (
    CurationConfig,
    cap_per_user,
    curate,
    deduplicate,
    filter_personal_data,
    split_by_user,
    warn_of_empty,
)
from heedful.data.records import Comparison, Demonstration, Message, Prompt, as_text

PLAIN = {"train": 0.5, "valid": 0.3, "test": 0.2}


def normal(prompt: Prompt) -> str:
    return " ".join(as_text(prompt.prompt).lower().split())


words = st.sampled_from(["Tell", "tell ", "me", " ME", "a", "story", "about\n", "tea", "bob@tea.org"])
drawn = st.lists(
    st.builds(
        Prompt,
        prompt=st.lists(words, min_size=1, max_size=6).map(" ".join),
        user=st.none() | st.sampled_from(["ann", "bob", "cy", "di"]),
    ),
    max_size=25,
)


# --- deduplicate


def test_the_first_of_those_that_share_a_long_prefix_stays() -> None:
    texts = ["Write a poem about tea", "write  a\nPOEM about coffee", "Write a pome about tea", "Write a poem"]
    kept = deduplicate([Prompt(prompt=text) for text in texts], prefix_length=12)
    assert [prompt.prompt for prompt in kept] == [texts[0], texts[2]]
    kept = deduplicate([Prompt(prompt=text) for text in texts], prefix_length=13)
    assert [prompt.prompt for prompt in kept] == [texts[0], texts[2], texts[3]]


def test_short_prompts_are_compared_whole() -> None:
    texts = ["hi", "Hi ", "hi there", "hi there you"]
    kept = deduplicate([Prompt(prompt=text) for text in texts], prefix_length=100)
    assert [prompt.prompt for prompt in kept] == ["hi", "hi there", "hi there you"]


def test_an_applications_system_message_makes_no_duplicates() -> None:
    system = Message(role="system", content="You are a careful assistant. " * 10)
    chats = [Prompt(prompt=[system, Message(role="user", content=text)]) for text in ("tea?", "coffee?", "TEA?")]
    assert deduplicate(chats, prefix_length=50) == chats[:2]


@pytest.mark.medium
@settings(max_examples=30)
@given(drawn, st.integers(1, 30))
def test_no_two_survivors_share_the_prefix_and_every_other_is_represented(prompts: list[Prompt], length: int) -> None:
    kept = deduplicate(prompts, length)
    prefixes = [normal(prompt)[:length] for prompt in kept]
    assert len(set(prefixes)) == len(prefixes)
    assert {normal(prompt)[:length] for prompt in prompts} == set(prefixes)
    assert all(any(prompt is given for given in prompts) for prompt in kept)


def test_a_prefix_of_no_length_is_refused() -> None:
    with pytest.raises(UserError, match="prefix_length must be at least 1"):
        deduplicate([], 0)


# --- cap


@settings(max_examples=30)
@given(drawn, st.integers(1, 5))
def test_no_user_exceeds_the_limit_and_the_first_ones_stay(prompts: list[Prompt], limit: int) -> None:
    kept = cap_per_user(prompts, limit)
    given_by, kept_by = Counter(prompt.user for prompt in prompts), Counter(prompt.user for prompt in kept)
    assert kept_by == {user: count if user is None else min(count, limit) for user, count in given_by.items()}
    for user in given_by:
        before = [prompt for prompt in prompts if prompt.user == user]
        after = [prompt for prompt in kept if prompt.user == user]
        assert all(ours is theirs for ours, theirs in zip(after, before, strict=False))


def test_the_papers_limit_is_two_hundred() -> None:
    assert len(cap_per_user([Prompt(prompt=str(n), user="ann") for n in range(300)])) == 200


# --- split


@pytest.mark.medium
@settings(max_examples=30)
@given(drawn, st.integers(0, 9))
def test_no_user_is_in_two_splits(prompts: list[Prompt], seed: int) -> None:
    split = split_by_user(prompts, PLAIN, seed)
    assert len(split) == len(prompts)
    assert {prompt.split for prompt in split} <= PLAIN.keys()
    owned = {(prompt.user, prompt.split) for prompt in split if prompt.user is not None}
    assert len(owned) == len({user for user, _ in owned})
    alone = {(normal(prompt), prompt.split) for prompt in split if prompt.user is None}
    assert len(alone) == len({text for text, _ in alone})


def test_fractions_are_of_users() -> None:
    prompts = [Prompt(prompt="p", user=f"user {n}") for n in range(5000)]
    shares = Counter(prompt.split for prompt in split_by_user(prompts, PLAIN, seed=3))
    assert {name: shares[name] / 5000 for name in PLAIN} == pytest.approx(PLAIN, abs=0.03)


def test_prompts_without_a_user_are_spread_too() -> None:
    numbered = [Prompt(prompt="p", id=str(n)) for n in range(200)]
    written = [Prompt(prompt=f"p {n}") for n in range(200)]
    for prompts in (numbered, written):
        assert min(Counter(prompt.split for prompt in split_by_user(prompts, PLAIN)).values()) > 20


def test_a_split_depends_on_the_user_and_the_seed_alone() -> None:
    prompts = [Prompt(prompt=f"p {n}", user=f"user {n}") for n in range(200)]
    first = {prompt.user: prompt.split for prompt in split_by_user(prompts, PLAIN, seed=1)}
    again = {prompt.user: prompt.split for prompt in split_by_user(prompts[::-7], PLAIN, seed=1)}
    other = {prompt.user: prompt.split for prompt in split_by_user(prompts, PLAIN, seed=2)}
    assert again.items() <= first.items()
    assert first != other


def test_splits_stay_where_they_were() -> None:
    """These were read off once: a change of the hash would move people's prompts between splits."""
    users = ["ann", "bob", "cy", "di", "eve", "fay", "gus", "hal"]
    split = split_by_user([Prompt(prompt="p", user=user) for user in users], PLAIN, seed=0)
    assert " ".join(str(prompt.split) for prompt in split) == "test valid train train valid train test test"


def test_a_split_leaves_everything_else_alone() -> None:
    shown = Demonstration.model_validate({"prompt": "p", "completion": "c", "user": "ann", "topic": "tea"})
    (split,) = split_by_user([shown], {"train": 1.0, "valid": 0.0})
    assert split == shown.model_copy(update={"split": "train"})


@pytest.mark.parametrize(
    "fractions",
    [{}, {"train": 0.9}, {"train": 1.2, "valid": -0.2}, {"train": float("nan"), "valid": 0.2}, {"train": float("inf")}],
)
def test_fractions_that_make_no_whole_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be at least 0 and sum to 1"):
        split_by_user([Prompt(prompt="p")], fractions)


# --- personal data


def test_personal_data_leaves_the_named_splits_only() -> None:
    held = [Prompt(prompt="mail bob@tea.org", split=split) for split in ("train", "valid", None)]
    clean = [Prompt(prompt="what is tea", split="train")]
    assert filter_personal_data(held + clean) == [*held[1:], *clean]
    assert filter_personal_data(held + clean, splits=("train", "valid")) == [held[2], *clean]
    assert filter_personal_data(held + clean, splits=()) == held + clean


def test_answers_and_every_message_are_searched() -> None:
    chat = [Message(role="system", content="I am bob@tea.org"), Message(role="user", content="Who are you?")]
    assert filter_personal_data([Prompt(prompt=chat)], splits=(None,)) == []  # type: ignore[arg-type]
    shown = Demonstration(prompt="Mail?", completion="bob@tea.org", split="train")
    ranked = Comparison(prompt="Mail?", completions=["no", "bob@tea.org"], ranking=[[0], [1]], split="train")
    assert filter_personal_data([shown, ranked]) == []


# --- all of it


def world() -> list[Prompt]:
    prompts = [Prompt(prompt=f"{n}: tell me about number {n}", user="ann") for n in range(20)]
    prompts += [Prompt(prompt=f"{n}: what is my number, 555-123-4567?", user=f"user {n}") for n in range(100, 130)]
    return prompts + [Prompt(prompt="7:  TELL me about number 7, please", user="cy")]


def test_curation_does_it_all_in_the_papers_order_and_accounts_for_it() -> None:
    config = CurationConfig(prefix_length=12, prompts_per_user=15, fractions=PLAIN, seed=5)
    kept, report = curate(world(), config)
    held = [prompt for prompt in kept if "555" in as_text(prompt.prompt)]
    assert {prompt.split for prompt in held} == {"valid", "test"}
    assert Counter(prompt.user for prompt in kept)["ann"] == 15
    assert [(step.name, step.before, step.removed) for step in report.steps] == [
        ("deduplicate", 51, 1),
        ("cap_per_user", 50, 5),
        ("filter_personal_data", 45, 30 - len(held)),
    ]
    assert (report.given, report.kept) == (51, len(kept))
    assert report.personal_data == {"phone": 30 - len(held)}
    assert report.prompts_by_split == {name: sum(prompt.split == name for prompt in kept) for name in PLAIN}
    assert sum(report.users_by_split.values()) == len({prompt.user for prompt in kept})
    assert json.loads(json.dumps(report.model_dump()))["settings"]["prefix_length"] == 12


def test_each_setting_of_curation_has_its_effect() -> None:
    usual = len(curate(world())[0])
    assert len(curate(world(), CurationConfig(personal_data_splits=[]))[0]) == 51 > usual
    assert len(curate(world(), CurationConfig(prompts_per_user=1, personal_data_splits=[]))[0]) == 32
    assert len(curate(world(), CurationConfig(prefix_length=1, personal_data_splits=[]))[0]) == 10
    splits = [[prompt.split for prompt in curate(world(), CurationConfig(seed=seed))[0]] for seed in (0, 1)]
    assert splits[0] != splits[1]


@pytest.mark.medium
@settings(max_examples=30)
@given(drawn, st.integers(1, 20), st.integers(1, 4))
def test_the_papers_promises_hold_for_any_prompts(prompts: list[Prompt], length: int, limit: int) -> None:
    config = CurationConfig(prefix_length=length, prompts_per_user=limit, fractions=PLAIN)
    kept, report = curate(prompts, config)
    assert len({normal(prompt)[:length] for prompt in kept}) == len(kept)
    assert all(count <= limit for user, count in Counter(prompt.user for prompt in kept).items() if user is not None)
    owned = {(prompt.user, prompt.split) for prompt in kept if prompt.user is not None}
    assert len(owned) == len({user for user, _ in owned})
    assert not any("bob@tea.org" in as_text(prompt.prompt) for prompt in kept if prompt.split == "train")
    assert report.given - sum(step.removed for step in report.steps) == report.kept == len(kept)
    # nothing leaves the other splits for its personal data
    before = split_by_user(cap_per_user(deduplicate(prompts, length), limit), PLAIN)
    assert [p for p in before if p.split != "train"] == [p for p in kept if p.split != "train"]


def test_fractions_are_checked_where_they_are_configured() -> None:
    with pytest.raises(ValueError, match="must be at least 0 and sum to 1"):
        CurationConfig(fractions={"train": 0.5})


@pytest.mark.parametrize(
    ("given", "named"),
    [({"personal_data_splits": ["Train"]}, "Train"), ({"fractions": {"training": 0.8, "test": 0.2}}, "train")],
)
def test_a_filter_of_a_split_that_is_none_is_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(
        ValueError, match=f"personal_data_splits names {named}, no split of fractions. Choose from .*test"
    ):
        CurationConfig(**given)


def test_a_split_that_came_out_empty_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    one = [Prompt(prompt="what is tea", user="ann")]
    warn_of_empty(curate(one, CurationConfig(fractions={"train": 0.0, "test": 1.0}))[1])
    assert caplog.messages == []
    _, report = curate(one, CurationConfig(fractions=PLAIN))  # ann is in test
    assert caplog.messages == []  # a preview curates, too
    warn_of_empty(report)
    assert caplog.messages == [
        "no prompt is left for train and valid. Give prompts of more users, or change the fractions."
    ]
