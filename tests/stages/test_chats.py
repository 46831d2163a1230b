"""Chats in the stages: arguments of the template, tool calls, every answer of a chat, what is told about texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import dialects
import tiny
from heedful.config import UserError, build
from heedful.configs.chat import ChatConfig
from heedful.configs.dpo import DPOConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Demonstration
from heedful.evaluation import answers
from heedful.inference import sample, score
from heedful.inference.chat import ChatSession
from heedful.learning import examples, likelihood
from heedful.learning.examples import Example, TokenLimits
from heedful.learning.passes import Passes
from heedful.models import load, render, template_arguments, vocabulary
from heedful.stages import dpo
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks
from stages import plain, worlds
from stages.worlds import Files

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)
QWEN3, CHATML = dialects.tokenizer("qwen3"), dialects.tokenizer("chatml")
WIDE = TokenLimits(128, 128, 128)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Orm"}}}
THOUGHTLESS = {"enable_thinking": False}


def chat(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def whole(tokenizer: Any, messages: list[dict[str, Any]], **arguments: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **arguments))


def read(
    path: Path, rows: list[dict[str, Any]], tokenizer: Any, limits: TokenLimits = WIDE, **how: Any
) -> list[Example]:
    found = examples.demonstrations(worlds.write(path / "d.jsonl", rows), tokenizer, limits, **how)
    return [example for _, example in found]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = tiny.policy(vocab=len(QWEN3), context=256)
    return worlds.save(tmp_path_factory.mktemp("thinker") / "model", model, dialects.tokenizer("qwen3"))


def test_a_last_turn_with_a_tool_call_is_the_call_as_the_template_writes_it(tmp_path: Path) -> None:
    messages = [*chat("Weather?"), {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    (example,) = read(tmp_path, [{"messages": messages, "tools": TOOLS}], QWEN3, TokenLimits(256, 256, 128))
    ids = whole(QWEN3, messages, tools=TOOLS)
    assert example.prompt_ids + example.response_ids == ids[:-1]  # all but the last line break
    written = str(QWEN3.decode(example.response_ids))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Orm"}}\n</tool_call><|im_end|>'
    assert written == "<think>\n\n</think>\n\n" + call


def test_answers_of_tools_and_content_that_is_null(tmp_path: Path) -> None:
    """OpenAI's wire form: null next to tool calls, arguments as JSON text, content parts, a developer's message."""
    wire = CALL | {"function": {"name": "weather", "arguments": json.dumps({"city": "Orm"})}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [wire]},
        {"role": "tool", "content": "sunny", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is sunny."},
    ]
    rows = [{"messages": messages, "tools": json.dumps(TOOLS)}, {"prompt": messages[:-1], "completion": "It is sunny."}]
    with_tools, without = read(tmp_path, rows, QWEN3, TokenLimits(256, 256, 128))
    simple = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [CALL]},
        *messages[3:],
    ]
    assert with_tools.prompt_ids + with_tools.response_ids == whole(QWEN3, simple, tools=TOOLS)[:-1]
    assert without.prompt_ids + without.response_ids == whole(QWEN3, simple)[:-1]


def test_a_template_that_takes_arguments_as_text_gets_text(tmp_path: Path) -> None:
    tokenizer = dialects.tokenizer("r1")
    (example,) = read(tmp_path, [{"prompt": "Hm?", "completion": {"tool_calls": [CALL]}}], tokenizer)
    written = str(tokenizer.decode(example.prompt_ids + example.response_ids))
    assert written == tiny.BOS + '<|User|>Hm?<|Call|>weather{"city": "Orm"}<|Assistant|>' + tiny.EOS


@pytest.mark.parametrize(
    ("row", "dialect", "reason"),
    [
        ({"prompt": "Weather?", "tools": TOOLS}, "chatml", "writes no `tools`"),
        ({"prompt": "Weather?", "tools": TOOLS}, None, "no chat template, which `tools` need"),
        (
            {"prompt": [*chat("Hm?"), {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "x"}]},
            "llama3", "writes no `tool_calls`",
        ),
        ({"prompt": [*chat("Hi", "Yes"), {"role": "tool", "content": "sunny"}]}, None, "which tool calls and the role"),
        # r1 writes the messages of users and of the assistant, and nothing of others
        ({"prompt": [*chat("Hi", "Yes"), {"role": "tool", "content": "sunny"}]}, "r1", r"message 2 \(role tool\)"),
        ({"prompt": [{"role": "system", "content": "Be brief."}, *chat("Hi")]}, "r1", r"message 0 \(role system\)"),
        ({"prompt": "Hi", "completion": " "}, "chatml", "d.jsonl:1: the answer is empty"),
        ({"messages": [*chat("Hi"), {"role": "assistant", "tool_calls": [CALL]}]}, "phi", "writes no `tool_calls`"),
        ({"messages": [*chat("Hi"), {"role": "assistant", "tool_calls": [CALL]}]}, None, "which `tool_calls` need"),
    ],
)  # fmt: skip
def test_what_a_template_cannot_write_is_refused_by_name(
    tmp_path: Path, row: dict[str, Any], dialect: str | None, reason: str
) -> None:
    tokenizer = tiny.tokenizer() if dialect is None else dialects.tokenizer(dialect)
    with pytest.raises(UserError, match=reason):
        read(tmp_path, [{"completion": "It is sunny."} | row if "messages" not in row else row], tokenizer)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "message 1 holds a part of type image_url",
        ),
        ({"role": "user", "content": None}, "message 1 must be an object"),
        ({"role": "assistant", "content": None}, "message 1 must be an object"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "message 1: a tool call must be an object"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "message 1: the arguments of f must be an object",
        ),
        ({"role": "observer", "content": "x"}, "the roles are system, developer, user, assistant, tool"),
    ],
)
def test_messages_that_cannot_be_read_say_why(tmp_path: Path, message: dict[str, Any], reason: str) -> None:
    row = {"prompt": [*chat("Hi"), message, *chat("More")], "completion": "x"}
    with pytest.raises(UserError, match=f"(?i){reason}"):
        read(tmp_path, [row], QWEN3)


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["sft", "dpo", "ppo"])
def test_arguments_of_the_template_are_used_and_saved(
    files: Files, thinker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The prompts of training end with empty thoughts, and so do those of the saved model, which is told nothing."""
    seen: list[Example] = []
    batch = Passes.batch
    monkeypatch.setattr(Passes, "batch", lambda self, rows: seen.extend(rows) or batch(self, rows))
    template = THOUGHTLESS
    if stage == "dpo":
        values = {"model": thinker, "data": files.rankings, "valid_fraction": 0.2, "epochs": 1, "template": template}
        run = dpo.train(build(DPOConfig, values, "test"), tmp_path / "run")
    elif stage == "sft":
        run = worlds.train(
            "sft", files, tmp_path / "run", model=thinker, template=template, pretrain_data=None, epochs=1
        )
    else:
        run = worlds.train(
            "ppo", files, tmp_path / "run", policy=thinker, template=template, reward=[worlds.__name__ + ":count_e"],
            pretrain_data=None, episodes=8,
        )  # fmt: skip
    end = render.encode(QWEN3, "assistant\n")[-1:] + [
        QWEN3.convert_tokens_to_ids("<think>"), *render.encode(QWEN3, "\n\n"), QWEN3.convert_tokens_to_ids("</think>"),
        *render.encode(QWEN3, "\n\n"),
    ]  # fmt: skip
    assert seen
    assert all(row.prompt_ids[-len(end) :] == end for row in seen)
    _, tokenizer = load.load_policy(run)
    asked = render.prompt_ids(tokenizer, "Say red")
    assert asked == whole(QWEN3, chat("Say red"), add_generation_prompt=True, enable_thinking=False)
    assert asked == whole(tokenizer, chat("Say red"), add_generation_prompt=True)
    thinking = whole(tokenizer, chat("Say red"), add_generation_prompt=True, enable_thinking=True)
    assert thinking == whole(QWEN3, chat("Say red"), add_generation_prompt=True)


@pytest.mark.medium
def test_sampling_and_chat_take_arguments_of_the_template(
    thinker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    prompt_ids = render.prompt_ids
    monkeypatch.setattr(render, "prompt_ids", lambda *a: asked.append(prompt_ids(*a)) or asked[-1])
    prompts = worlds.write(tmp_path / "p.jsonl", [{"prompt": "Say red"}])
    values = {"model": thinker, "prompts": prompts, "template": THOUGHTLESS, "generation": {"max_new_tokens": 2}}
    sample.run(build(SampleConfig, values, "test"), tmp_path / "s.jsonl")
    del values["prompts"]
    ChatSession(build(ChatConfig, values, "test")).answer("Say red", lambda piece: None)
    expected = whole(QWEN3, chat("Say red"), add_generation_prompt=True, enable_thinking=False)
    assert asked == [expected, expected]


@pytest.mark.parametrize(
    ("arguments", "dialect", "reason"),
    [
        ({"enable_thought": False}, "qwen3", "template.enable_thought: .* does not use it. It uses enable_thinking"),
        ({"x": 1}, "chatml", "template.x: .* does not use it. It takes none"),
        ({"tools": []}, "qwen3", "template.tools: heedful gives this argument itself"),
        ({"enable_thinking": False}, None, "has no chat template. Give template.chat_template"),
        ({"chat_template": 3}, "chatml", "must be Jinja text"),
        ({"chat_template": "nowhere.jinja"}, "chatml", "nowhere.jinja: cannot be read"),
    ],
)
def test_arguments_that_a_template_does_not_use_are_refused(
    arguments: dict[str, Any], dialect: str | None, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        template_arguments.give(tiny.tokenizer() if dialect is None else dialects.tokenizer(dialect), arguments)


def test_a_template_can_be_given(tmp_path: Path) -> None:
    tokenizer, model = tiny.tokenizer(extra=("<|turn|>",)), tiny.policy()
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}{{ m.content ~ name ~ '<|turn|>' }}{% endfor %}", encoding="utf-8")
    vocabulary.use_template(model, tokenizer, {"chat_template": str(file), "name": ["a", {"b": None}, 0.5, "'\"\n"]})
    values = "['a', {'b': None}, 0.5, '\\'\"\\n']"
    assert str(tokenizer.decode(render.prompt_ids(tokenizer, "Hm"))) == f"Hm{values}<|turn|>"
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids("<|turn|>"), 0]


def test_all_answers_of_a_chat_share_one_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """turns = all: the loss of one pass is that of the answers one by one."""
    messages = chat("Say red", "red", "Say blue", "blue and green", "Again", "dog")
    rows = [{"messages": messages}]
    (last,) = read(tmp_path, rows, CHATML)
    assert "earlier answers of 1 of 1 chat are context. turns = all learns from them too" in caplog.text
    (example,) = read(tmp_path, rows, CHATML, turns="all")
    assert example.prompt_ids + example.response_ids == last.prompt_ids + last.response_ids
    alone = [
        Example(*render.answered(CHATML, examples.Prompt(prompt=messages[:i]).prompt, messages[i]["content"]))
        for i in (1, 3, 5)
    ]
    assert example.count == sum(row.count for row in alone)
    model, passes = tiny.policy(vocab=len(CHATML)), Passes(1, 1000, ALONE)
    expected = plain.mean_response_loss(model, alone).item()
    assert likelihood.mean_loss(model, [example], passes) == pytest.approx(expected, abs=1e-5)
    # with others in the batch, also in the gradient
    other = read(tmp_path, [{"prompt": "Say dog", "completion": "dog"}], CHATML)
    likelihood.add_gradients(model, [example, *other], passes, Means(), "loss")
    norm = plain.gradient_norm(model)
    model.zero_grad()
    plain.mean_response_loss(model, [*alone, *other]).backward()
    assert norm == pytest.approx(plain.gradient_norm(model), rel=1e-4)


def test_answers_that_a_template_writes_in_another_way_later_have_passes_of_their_own(tmp_path: Path) -> None:
    """Thoughts before the last question are left out: an earlier answer is learned from as it was given."""
    thoughts = "<think>\nhm\n</think>\n\nred"
    messages = chat("Say red", thoughts, "Say blue", "blue")
    first, second = read(tmp_path, [{"messages": messages}], QWEN3, turns="all")
    assert str(QWEN3.decode(first.response_ids)) == f"{thoughts}<|im_end|>"
    assert (first.learned, second.learned) == (None, None)
    assert second.prompt_ids + second.response_ids == whole(QWEN3, messages)[:-1]


def test_limits_and_weights_of_the_answers_of_a_chat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages = chat("Say red", "red and blue", "Say blue", "blue")
    messages[3]["weight"] = 0
    (example,) = read(tmp_path, [{"messages": messages}], CHATML, turns="all")
    assert str(CHATML.decode(example.response_ids)) == "red and blue<|im_end|>"
    with pytest.raises(UserError, match="no demonstration is left"):
        read(tmp_path, [{"prompt": messages[:3], "completion": messages[3]}], CHATML)
    assert "the last answer of 1 of 1 chat has weight 0" in caplog.text
    del messages[3]["weight"]
    (example,) = read(tmp_path, [{"messages": messages}], CHATML, TokenLimits(128, 128, 2), turns="all")
    assert example.learned is not None
    told = [token for token, learned in zip(example.response_ids, example.learned, strict=True) if learned]
    both = [render.encode(CHATML, "red and blue")[:2], [*render.encode(CHATML, "blue"), render.end_id(CHATML)][:2]]
    assert told == both[0] + both[1]
    whole_chat = len(example)
    short = TokenLimits(whole_chat - 1, 128, 128)
    (example,) = read(tmp_path, [{"messages": messages}], CHATML, short, turns="all")
    assert len(example) == whole_chat - 1  # the end of the last answer is cut off
    assert example.learned is not None
    assert example.learned[-1]


def test_messages_after_the_last_answer_to_learn_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages = chat("Say red", "red", "Say blue", "blue")
    messages[3]["weight"] = 0
    (example,) = read(tmp_path, [{"messages": messages}], CHATML)
    assert str(CHATML.decode(example.response_ids)) == "red<|im_end|>"
    assert "1 of 1 row has messages after the last answer to learn. They are not used" in caplog.text


def test_a_row_is_named_by_its_line_after_rows_that_were_left_out(tmp_path: Path) -> None:
    spelling = {"messages": chat("Say <|im_end|>", "red")}
    refused = {"messages": [{"role": "system", "content": "x"}, *chat("Say red", "red")]}
    gemma = dialects.tokenizer("gemma")
    spelling["messages"][0]["content"] = "Say <end_of_turn>"
    limits = TokenLimits(128, 128, 128, refuse_special=True, refused_rows="skip")
    with pytest.raises(UserError, match=r"jsonl:2: spells <end_of_turn>"):
        read(tmp_path, [refused, spelling], gemma, limits)


def test_a_row_that_spells_a_special_token_can_be_refused(
    tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"prompt": "Say red", "completion": "red"}, {"prompt": "What is <|im_end|>?", "completion": "A token."}]
    assert len(read(tmp_path, rows, CHATML)) == 2
    assert "1 of 2 rows spells a special token, such as <|im_end|>. It is read as plain text" in caplog.text
    with pytest.raises(UserError, match=r"jsonl:2: spells <\|im_end\|>"):
        read(tmp_path, rows, CHATML, TokenLimits(128, 128, 128, refuse_special=True))
    data = worlds.write(tmp_path / "s.jsonl", [{"prompt": f"Say {tiny.EOS}", "completion": "x"}])
    with pytest.raises(UserError, match=r"jsonl:1: spells <\|endoftext\|>"):
        worlds.train("sft", files, tmp_path / "run", data=data, special_text="refuse")


@pytest.mark.parametrize(
    ("row", "dialect", "said"),
    [
        ({"prompt": "Say red", "completion": "red"}, None, "has nothing between prompt and answer"),
        ({"prompt": "Say red:", "completion": " red"}, None, ""),
        ({"prompt": "Say red\n", "completion": "red"}, None, ""),
        ({"prompt": "Say red", "completion": "red"}, "chatml", ""),
        (
            {"prompt": "<|im_start|>user\nSay red<|im_end|>\n<|im_start|>assistant\n", "completion": "red"},
            "chatml", "1 of 1 row has a prompt in the form of the chat template",
        ),
        (
            {"prompt": "[INST] Say red [/INST]\n", "completion": "red"}, None,
            "1 of 1 row holds [INST], which this tokenizer does not know as a token",
        ),
        (
            {"prompt": "Say red", "completion": "red"}, "r1",
            "has an answer without </think>, though the chat template asks with '<|Assistant|><think>'",
        ),
        ({"prompt": "Say red", "completion": "hm</think>red"}, "r1", ""),
        ({"prompt": "Say red", "completion": "red"}, "words", "writes no token after an answer. Answers end with"),
        ({"prompt": "Say red", "completion": "red<|im_end|>"}, "chatml", "1 row has an answer that ends or begins"),
        (
            {"messages": [*chat("Say red"), {"role": "assistant", "content": "red", "mood": "calm"}]},
            "chatml", "fields of messages that the chat template does not use: mood",
        ),
    ],
)  # fmt: skip
def test_what_is_told_about_texts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: dict[str, Any], dialect: str | None, said: str
) -> None:
    read(tmp_path, [row], tiny.tokenizer() if dialect is None else dialects.tokenizer(dialect))
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def lossy(kind: str) -> Any:
    """A tokenizer that has not every character, has not every byte, or writes small letters."""
    if kind == "small letters":
        tokenizer = tiny.tokenizer()
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
        return tokenizer
    bpe = Tokenizer(models.BPE(unk_token="<unk>" if kind == "unknown" else None))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<unk>", tiny.EOS]
    bpe.train_from_iterator(["say red"], trainers.BpeTrainer(special_tokens=special, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=tiny.EOS)


@pytest.mark.parametrize(("kind", "answer", "change"), [
    ("small letters", " red RED", "'Say' to 'say'"), ("unknown", " red red Zed", "'Zed' to '<unk>ed'"),
    ("bytes", " red Zed", "'Zed' to 'ed'"),
])  # fmt: skip
def test_text_that_a_tokenizer_changes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, answer: str, change: str
) -> None:
    prompt = "Say red" if kind == "small letters" else "say red"
    read(tmp_path, [{"prompt": "say red", "completion": " red"}, {"prompt": prompt, "completion": answer}], lossy(kind))
    said = f"1 of 2 rows holds text that this tokenizer changes, such as {change}. It is read as changed"
    assert caplog.messages == [f"{tmp_path / 'd.jsonl'}: {said}"]


def test_thoughts_that_a_template_knows_and_leaves_out_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Gemma 4, which writes thoughts only next to a tool call."""
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = str(tokenizer.chat_template).replace(
        "m.content", "(m.reasoning_content + ': ' if m.reasoning_content and 'b' in m.content else '') + m.content"
    )
    thought = [{"role": "assistant", "content": answer, "reasoning_content": "hm"} for answer in ("red", "blue", "tub")]
    read(tmp_path, [{"messages": [*chat("Say it"), one]} for one in thought], tokenizer)
    assert caplog.messages == [
        f"{tmp_path / 'd.jsonl'}: 1 of 3 rows has thoughts (reasoning_content) that the chat template leaves out of "
        "the answer. They are not used"
    ]


def test_answers_with_tool_calls_are_neither_scored_nor_compared(files: Files, tmp_path: Path) -> None:
    rows = [{"prompt": "Weather?", "completion": {"tool_calls": [CALL]}}]
    data = worlds.write(tmp_path / "d.jsonl", rows)
    reward = "stages.worlds:count_e"
    with pytest.raises(UserError, match=r"the answer of row 1 has tool calls\. Only texts can be scored"):
        score.run(build(ScoreConfig, {"reward": [reward], "data": data}, "test"), tmp_path / "s.jsonl")
    written = tmp_path / "native.jsonl"
    formats.write(written, formats.read(data, Demonstration))
    with pytest.raises(UserError, match=r"its answer has tool calls\. Only texts can be compared"):
        answers.read(str(written))
