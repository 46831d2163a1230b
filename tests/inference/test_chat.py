"""Conversations: streaming, history, interruption, the end of the context."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful import files
from heedful.config import load
from heedful.configs.chat import ChatConfig
from heedful.demo.base import CHAT_TEMPLATE
from heedful.inference.chat import ChatSession, converse
from heedful.models import render
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Sample, SampledToken, Stream
from stages import worlds

TOKENIZER = tiny.tokenizer()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return worlds.save(tmp_path_factory.mktemp("plain") / "policy", tiny.policy())


@pytest.fixture(scope="module")
def templated(tmp_path_factory: pytest.TempPathFactory) -> str:
    return worlds.save(tmp_path_factory.mktemp("templated") / "policy", tiny.policy(), tiny.tokenizer(template=True))


class Terminal:
    """What a person sees."""

    def __init__(self, model: str, *sets: str, **changes: Any) -> None:
        self.chat = ChatSession(load(ChatConfig, None, ["generation.max_new_tokens=8", *sets], model=model, **changes))
        self.written: list[str] = []
        self.remarks: list[str] = []

    def say(self, *lines: str) -> str:
        before = len(self.written)
        converse(self.chat, lines, self.written.append, self.remarks.append)
        return "".join(self.written[before:])


def script(monkeypatch: pytest.MonkeyPatch, answers: list[list[int | BaseException]]) -> list[list[int]]:
    """Let the engine give these ids (or raise); the list collects the prompts it was given."""
    asked: list[list[int]] = []

    def stream(self: LocalEngine, prompt_ids: list[int], stream: Stream, settings: Any) -> Iterator[SampledToken]:
        asked.append(prompt_ids)
        answer = answers[len(asked) - 1]
        for place, token in enumerate(answer):
            if isinstance(token, BaseException):
                raise token
            whole = Sample(prompt_ids, answer, "stop") if place == len(answer) - 1 else None
            yield SampledToken(0, token, 0.0, whole)

    monkeypatch.setattr(LocalEngine, "stream", stream)
    return asked


@pytest.mark.medium
def test_an_answer_is_what_the_engine_samples(plain: str) -> None:
    terminal = Terminal(plain, "seed=5")
    shown = terminal.say("Say red\n")
    engine = terminal.chat.engine
    tokens = engine.stream(TOKENIZER.encode("Say red"), Stream(5, 1, 0), terminal.chat.config.generation)
    text = render.response_text(TOKENIZER, [token.id for token in tokens])
    assert shown == "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text) + "\n"
    assert Terminal(plain, "seed=5").say("Say red") == shown
    assert Terminal(plain, "seed=6").say("Say red") != shown


def test_history_is_kept_where_there_is_a_template(templated: str, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.tokenizer(template=True)
    answer = [*tokenizer.encode("a cat"), tokenizer.eos_token_id]
    asked = script(monkeypatch, [answer] * 4)
    Terminal(templated).say("one", "two", "/reset", "three")
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "a cat"}]
    prompts = [turns[:1], [*turns, {"role": "user", "content": "two"}], [{"role": "user", "content": "three"}]]
    expected = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
    assert asked == expected

    asked = script(monkeypatch, [[*TOKENIZER.encode("a cat"), TOKENIZER.eos_token_id]] * 4)
    Terminal(plain).say("one", "two")
    assert asked == [TOKENIZER.encode("one"), TOKENIZER.encode("two")]
    asked = script(monkeypatch, [[*TOKENIZER.encode("a cat"), TOKENIZER.eos_token_id]] * 4)
    Terminal(plain, history=True).say("one", "two")
    assert asked[1] == TOKENIZER.encode("User:\none\n\nAssistant:\na cat\n\nUser:\ntwo\n\nAssistant:\n")


def test_ctrl_c_stops_the_answer_and_not_the_conversation(templated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.tokenizer(template=True)
    words = tokenizer.encode("a cat")
    asked = script(monkeypatch, [[*words, KeyboardInterrupt()], [*words, tokenizer.eos_token_id]])
    terminal = Terminal(templated)
    assert terminal.say("one", "two") == "a cat\na cat\n"
    assert terminal.remarks == ["stopped"]
    assert "a cat" in tokenizer.decode(asked[1])  # what was said stays said


def test_quit_reset_and_empty_lines(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = script(monkeypatch, [[TOKENIZER.eos_token_id]] * 3)
    terminal = Terminal(plain)
    terminal.say("one\n", "\n", "  ", "/reset", "/quit", "two")
    assert len(asked) == 1
    assert terminal.remarks == ["started over"]


@pytest.mark.medium
def test_the_end_of_the_context_is_said(plain: str) -> None:
    terminal = Terminal(plain, "generation.max_new_tokens=500", "generation.temperature=0", history=True)
    long = "house " * 12
    for _ in range(6):
        terminal.say(long)
    assert "the context of 128 tokens is full (128 used, /reset starts over), the answer is cut off" in terminal.remarks
    assert terminal.remarks[-1].startswith("the context of 128 tokens is full (")
    assert terminal.remarks[-1].endswith(" used, /reset starts over), not answered")
    assert terminal.say("/reset", "Say red") != ""
    fresh = Terminal(plain)
    assert fresh.say("house " * 200) == ""
    assert fresh.remarks[0].endswith(" used, ask something shorter), not answered")


def test_an_answer_cut_by_the_limit_says_how_to_get_more(plain: str) -> None:
    terminal = Terminal(plain, "generation.max_new_tokens=3")
    terminal.say("Say red")
    assert terminal.remarks == ["cut off at 3 tokens. More with --generation.max-new-tokens 6"]


def test_the_terminal_is_not_commanded(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, [[*TOKENIZER.encode("red\x1b[2J\x07blue\n\tgreen"), TOKENIZER.eos_token_id]])
    assert Terminal(plain).say("one") == "red�[2J�blue\n\tgreen\n"


def test_a_run_can_be_talked_to(plain: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    worlds.save(tmp_path / "run" / "model", tiny.policy())
    assert Terminal(str(tmp_path / "run")).say("Say red") == Terminal(plain).say("Say red")


def test_a_run_offers_prompts_and_help_lists_them(plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(plain, run)
    files.append_rows(
        run / "samples.jsonl", [{"step": 0, "prompt": text} for text in ("a", "b" * 200, "a", "c", "d", "e")]
    )
    terminal = Terminal(str(run))
    assert terminal.chat.prompts == ["a", "c", "d"]  # without try.json: what was logged in training, if it is short
    files.write_json(run / "try.json", ["Hello there.", "How are you?"])
    terminal, asked = Terminal(str(run)), script(monkeypatch, [[5], [5]])
    terminal.say("/help")
    assert terminal.remarks[0].startswith("/reset starts a new conversation, /quit")
    assert terminal.remarks[1:] == ["/1 asks: Hello there.", "/2 asks: How are you?"]
    terminal.say("/2", "/3")
    assert asked == [render.prompt_ids(terminal.chat.tokenizer, text) for text in ("How are you?", "/3")]
    assert "How are you?" in terminal.remarks
    assert Terminal(plain).chat.prompts == []


def test_no_history_where_the_template_takes_no_earlier_turns(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    assert not Terminal(worlds.save(tmp_path / "single", tiny.policy(), tokenizer)).chat.history
