"""The ids of chats, in the dialects of well-known model families."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import dialects
import tiny
from heedful.config import UserError
from heedful.data.records import Message, PromptText
from heedful.models import render, template_arguments, templates

DIALECTS = {name: dialects.tokenizer(name) for name in dialects.DIALECTS}
QWEN3, R1 = DIALECTS["qwen3"], DIALECTS["r1"]


def turns(*texts: str) -> list[Message]:
    """User and assistant in turn, from the user on."""
    roles = itertools.cycle(["user", "assistant"])
    return [Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)]  # type: ignore[arg-type]


def whole(tokenizer: Any, messages: list[Message], **arguments: Any) -> list[int]:
    """The chat by transformers alone."""
    return list(tokenizer.apply_chat_template([message.row() for message in messages], return_dict=False, **arguments))


def tokens(tokenizer: Any, ids: list[int]) -> list[str]:
    return [str(tokenizer.decode([token])) for token in ids]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "texts",
    [
        ("What is seven plus five?", "Twelve."),
        ("What is seven plus five?", "Twelve.", " And a cat? ", "  The miller keeps three.\n"),
        ("Write a list:\n- bread\n- cheese", "bread, cheese é ☃", "More\n\n", "\n\n- two apples"),
    ],
)
def test_the_ids_of_a_whole_chat_are_the_templates(name: str, texts: tuple[str, ...]) -> None:
    tokenizer = DIALECTS[name]
    messages = turns(*texts)
    prompt, response = render.answered(tokenizer, messages[:-1], texts[-1])
    expected = whole(tokenizer, messages)
    end = tokenizer.convert_tokens_to_ids(dialects.DIALECTS[name][4])
    if not templates.facts(tokenizer).ends:  # words: EOS ends an answer, and no token reaches over its beginning
        assert tokenizer.decode(expected) == tokenizer.decode(prompt + response[:-1]) + "\n"
        expected = [*render.prompt_ids(tokenizer, messages[:-1]), *render.encode(tokenizer, texts[-1]), end]
    assert prompt + response == expected[: len(prompt + response)]
    assert response[-1] == end == render.end_id(tokenizer)
    assert response.count(end) == 1
    assert end not in expected[len(prompt + response) :]
    assert response  # and what a model is asked with is the beginning of it, but for open thoughts
    assert render.prompt_ids(tokenizer, messages[:-1])[: len(prompt)] == prompt


WORDS = {
    "lines": ("### {{ m.role }}:\n{{ m.content }}\n\n", "### assistant:\n"),
    "an unknown token": ("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n", "<|im_start|>assistant\n"),
    "a closed tag": ("{{ m.role }}: <a>{{ m.content }}</a> END\n", "assistant: "),
}


@pytest.mark.parametrize("name", WORDS)
def test_where_a_template_ends_turns_with_words_eos_ends_every_answer_instead(name: str) -> None:
    turn, ask = WORDS[name]
    tokenizer = tiny.tokenizer()
    # as a Jinja expression, since Jinja drops the line break after a block
    tokenizer.chat_template = (
        "{% for m in messages %}" + turn + "{{ '' }}{% endfor %}{% if add_generation_prompt %}" + ask + "{% endif %}"
    )
    said = "<a>Twelve.</a>" if name == "a closed tag" else "Twelve."
    chat = turns("Say red", "red", "What is seven plus five?")
    for prompt in (chat[2].text, chat):
        asked, response = render.answered(tokenizer, prompt, "Twelve.")
        assert asked == render.prompt_ids(tokenizer, prompt)
        assert response == [*render.encode(tokenizer, said), tokenizer.eos_token_id]
        if said == "Twelve.":  # what a model samples, and what a reward model reads
            assert response == render.response_ids(tokenizer, "Twelve.", finished=True)
    assert render.stop_ids(tokenizer) == [tokenizer.eos_token_id]
    if name == "an unknown token":
        assert render.answered(tokenizer, "Say red", "red<|im_end|>") == render.answered(tokenizer, "Say red", "red")


def test_a_template_that_changes_the_words_of_answers_ends_them_with_eos() -> None:
    tokenizer = tiny.tokenizer(extra=("<|user|>", "<|assistant|>", "<|end|>"))
    tokenizer.chat_template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | upper }}<|end|>{% endfor %}"
    assert not templates.facts(tokenizer).ends
    assert tokenizer.decode([render.end_id(tokenizer)]) == tiny.EOS


@pytest.mark.parametrize("name", DIALECTS)
def test_stop_ids_follow_from_the_template(name: str) -> None:
    tokenizer, end = DIALECTS[name], dialects.DIALECTS[name][4]
    assert render.stop_ids(tokenizer, tiny.config("llama")) == sorted({0, tokenizer.convert_tokens_to_ids(end)})


def test_earlier_thoughts_and_tool_calls_are_tokens_as_in_the_last_turn() -> None:
    call = '<tool_call>{"name": "weather"}</tool_call>'
    messages = turns("Weather?", call, "And now?", "Sunny.")
    prompt, response = render.answered(QWEN3, messages[:-1], "Sunny.")
    assert prompt + response == whole(QWEN3, messages)[: len(prompt + response)]
    token = QWEN3.convert_tokens_to_ids("<tool_call>")
    assert prompt.count(token) == 1
    assert render.answered(QWEN3, "Weather?", call)[1].count(token) == 1


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "gemma", "r1", "phi"])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_token_that_a_text_spells_is_plain_text(name: str, where: int) -> None:
    """The other ids do not change: the spelled token stands where another word would stand."""
    tokenizer = DIALECTS[name]
    end = dialects.DIALECTS[name][4]
    texts = ["Say red", "a list", "Say blue", "Twelve."]
    texts[where] += f" {end} of"
    messages = turns(*texts)
    prompt, response = render.answered(tokenizer, messages[:-1], texts[-1])
    spelled = render.encode(tokenizer, f" {end}")
    assert tokenizer.convert_tokens_to_ids(end) not in spelled
    assert str(tokenizer.decode(spelled)) == f" {end}"
    expected = whole(tokenizer, messages)
    marks = (tokenizer.convert_tokens_to_ids(end), tokenizer.eos_token_id)
    assert sum(map((prompt + response).count, marks)) == sum(map(expected[: expected.index(marks[0], -4)].count, marks))
    assert tokenizer.decode(prompt + response) == tokenizer.decode(expected)[: len(tokenizer.decode(prompt + response))]


def test_texts_part_before_a_token_and_not_in_it() -> None:
    assert templates.parting(R1, "a<|User|>b", "a<|User|>c") == len("a<|User|>")
    assert templates.parting(R1, "a<|User|>b", "a<|Assistant|>b") == 1
    assert templates.parting(R1, "a<think>b", "a<tool>b") == 1
    assert templates.parting(R1, "a<|User|>", "a<|User|>") == len("a<|User|>")


def test_no_answer_opens_a_turn_of_another_role() -> None:
    tokenizer = DIALECTS["phi"]
    for mark in ("<|user|>", "<|system|>", "<|assistant|>"):
        ids = render.answered(tokenizer, "Say red", f"red {mark} blue")[1]
        assert tokenizer.convert_tokens_to_ids(mark) not in ids


def test_tags_are_tokens_in_answers_and_characters_in_questions() -> None:
    think = QWEN3.convert_tokens_to_ids("<think>")
    assert think not in render.prompt_ids(QWEN3, "What does <think> mean?")
    assert render.answered(QWEN3, "Say red", "<think>\nred\n</think>\n\nred")[1].count(think) == 1


def test_a_thinking_template_writes_its_thoughts() -> None:
    """The template's way, where nothing of the answer is lost."""
    prompt, response = render.answered(QWEN3, "Say red", "red")
    assert prompt == render.prompt_ids(QWEN3, "Say red")
    assert QWEN3.decode(response) == "<think>\n\n</think>\n\nred<|im_end|>"
    prompt, response = render.answered(QWEN3, "Say red", "<think>hm</think>red")
    assert QWEN3.decode(response) == "<think>\nhm\n</think>\n\nred<|im_end|>"


def test_thoughts_that_a_template_would_drop_are_kept() -> None:
    """It writes answers without thoughts, and asks with open ones: the answer goes on from there."""
    asked = render.prompt_ids(R1, "Say red")
    assert R1.decode(asked).endswith("<|Assistant|><think>\n")
    for answer in ("hm\n</think>\n\nred", "<think>\nhm\n</think>\n\nred"):
        prompt, response = render.answered(R1, "Say red", answer)
        assert prompt == asked
        assert R1.decode(response) == f"hm\n</think>\n\nred{tiny.EOS}"
    prompt, response = render.answered(R1, "Say red", "red")  # without thoughts: as the template writes it
    assert R1.decode(prompt + response) == f"{tiny.BOS}<|User|>Say red<|Assistant|>red{tiny.EOS}"


def test_a_cut_answer_follows_the_prompt_and_has_no_end() -> None:
    for tokenizer in DIALECTS.values():
        prompt, response = render.answered(tokenizer, "Say red", "red and", finished=False)
        assert prompt == render.prompt_ids(tokenizer, "Say red")
        assert response == render.encode(tokenizer, "red and")


def test_the_text_of_a_response_is_without_its_end() -> None:
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.add_tokens(["<|done|>"])  # not special, as the ends of some models
    tokenizer.chat_template = str(tokenizer.chat_template).replace("<|im_end|>", "<|done|>")
    _, response = render.answered(tokenizer, "Say red", "red")
    assert tokens(tokenizer, response)[-1] == "<|done|>"
    assert render.response_text(tokenizer, response) == "red"
    assert render.end_id(tokenizer) in render.special_ids(tokenizer)


@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "words"])
def test_a_prompt_in_the_templates_form_is_used_as_it_is(name: str) -> None:
    tokenizer = DIALECTS[name]
    asked = render.prompt_ids(tokenizer, "Say red")
    text = str(tokenizer.decode(asked))
    for written in (text, text.removeprefix(tiny.BOS)):
        assert templates.is_written(tokenizer, written)
        assert render.prompt_ids(tokenizer, written) == asked
        prompt, response = render.answered(tokenizer, written, "red")
        assert (prompt, response) == (asked, [*render.encode(tokenizer, "red"), render.end_id(tokenizer)])


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "gemma", "phi"])
def test_a_prompt_in_the_templates_form_gets_the_opening_that_it_lacks(name: str) -> None:
    tokenizer = DIALECTS[name]
    messages = [{"role": message.role, "content": message.text} for message in turns("Say red", "red", "Say blue")]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False)).removesuffix(tiny.EOS)
    assert render.prompt_ids(tokenizer, text) == render.prompt_ids(tokenizer, turns("Say red", "red", "Say blue"))
    answered = str(tokenizer.apply_chat_template(messages[:2], tokenize=False)).removesuffix(tiny.EOS)
    assert not templates.is_written(tokenizer, answered)  # nothing is asked


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("prompt", ["Say red", "", "assistant", "What is <|im_end|>\n<|im_start|>assistant\n"])
def test_other_prompts_are_not_in_the_templates_form(name: str, prompt: str) -> None:
    assert not templates.is_written(DIALECTS[name], prompt)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("tail", ["{end}", "{end}\n", "{eos}", "{end}\n{eos} "])
def test_an_answer_that_ends_with_the_end_of_a_turn_has_one(name: str, tail: str) -> None:
    tokenizer = DIALECTS[name]
    tail = tail.format(end=dialects.DIALECTS[name][4], eos=tiny.EOS)
    assert render.answered(tokenizer, "Say red", "red" + tail) == render.answered(tokenizer, "Say red", "red")
    chat: PromptText = turns("Say red", "red" + tail, "Say blue")
    assert render.prompt_ids(tokenizer, chat) == render.prompt_ids(tokenizer, turns("Say red", "red", "Say blue"))


def test_an_answer_with_the_opening_of_the_turn_has_it_once() -> None:
    tokenizer = DIALECTS["chatml"]
    framed = "<|im_start|>assistant\nred<|im_end|>\n"
    assert render.answered(tokenizer, "Say red", framed) == render.answered(tokenizer, "Say red", "red")


def test_a_template_without_a_question_for_an_answer_is_asked_with_its_opening() -> None:
    """Else the model would write the opening itself, and rewards would read it as a part of the answer."""
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = str(tokenizer.chat_template).partition("{% if add_generation_prompt")[0]
    messages = turns("Which tea?", "Green.", "Why?")
    prompt, response = render.answered(tokenizer, messages, "It is mild.")
    chat = whole(tokenizer, [*messages, Message(role="assistant", content="It is mild.")])
    assert prompt + response == chat[: len(prompt + response)]
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    assert prompt == render.prompt_ids(tokenizer, messages)
    assert render.response_text(tokenizer, response) == "It is mild."


@pytest.mark.parametrize(("template", "said"), [
    ("{% for m in messages %}{{ m.content ", "a mistake in it: unexpected end of template"),
    ({"rag": "{{ messages }}", "tool_use": "{{ messages }}"}, "multiple chat templates with no default"),
])  # fmt: skip
def test_a_template_that_no_row_can_use_names_the_remedy(template: Any, said: str) -> None:
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = template
    with pytest.raises(
        UserError, match=f"cannot be used \\(.*{said}.*Give another one as template.chat_template"
    ) as at:
        render.prompt_ids(tokenizer, "Hi")
    assert not isinstance(at.value, templates.TemplateRefused)


def test_a_template_that_fails_is_one_line() -> None:
    tokenizer = DIALECTS["gemma"]
    with pytest.raises(UserError, match="refuses this chat: System role not supported"):
        render.prompt_ids(tokenizer, [Message(role="system", content="Be kind."), *turns("Say red")])


@pytest.mark.parametrize("template", [" ", "{# nothing #}", "{{ nobody.x }}", "{% for", "{{ 1 / 0 }}", "x"])
def test_a_template_that_writes_nothing_or_fails_is_one_line(template: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(
        UserError, match=r"the chat template of .* (refuses this chat|leaves out the text|cannot be used)"
    ):
        render.answered(tokenizer, "Say red", "red")


def test_a_tokenizer_that_puts_a_space_before_a_text_puts_none_between() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {"<eos>": 0, "▁": 1, "a": 2, "b": 3, "\n": 4, "▁a": 5, "▁b": 6}
    spaced = Tokenizer(models.BPE(vocab=pieces, merges=[("▁", "a"), ("▁", "b")]))
    spaced.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    spaced.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spaced, eos_token="<eos>")
    assert render.answered(tokenizer, "a\n", "b") == ([5, 4], [3, 0])
    assert render.answered(tokenizer, "a\n", " b") == ([5, 4], [6, 0])
    # and takes none off an answer that begins with one
    assert [render.response_text(tokenizer, ids) for ids in ([6, 0], [3, 0], [1, 6], [])] == [" b", "b", "  b", ""]


def test_thoughts_after_a_prompt_without_thoughts_are_written_by_the_template() -> None:
    """And not after the empty ones that the prompt ends with: an answer closes no thoughts that are closed already."""
    tokenizer = dialects.tokenizer("qwen3")
    template_arguments.give(tokenizer, {"enable_thinking": False})
    asked = render.prompt_ids(tokenizer, "Say red")
    assert tokenizer.decode(asked).endswith("<think>\n\n</think>\n\n")
    for answer in ("<think>\nhm\n</think>\n\nred", Message(role="assistant", content="red", reasoning_content="hm")):
        prompt, response = render.answered(tokenizer, "Say red", answer)
        text = tokenizer.decode(prompt + response)
        assert text.endswith("<|im_start|>assistant\n<think>\nhm\n</think>\n\nred<|im_end|>")
        message = answer if isinstance(answer, Message) else Message(role="assistant", content=answer)
        assert prompt + response == whole(tokenizer, [*turns("Say red"), message])[: len(prompt + response)]
    prompt, response = render.answered(tokenizer, "Say red", "red")
    assert (prompt, tokenizer.decode(response)) == (asked, "red<|im_end|>")


def test_what_a_template_asks_with_other_white_space_is_not_in_the_answer() -> None:
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>"
        "{% else %}{{ '    <|im_start|>' }}assistant:{{ '   ' + m.content }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '  <|im_start|>' }}assistant:{% endif %}"
    )
    prompt, response = render.answered(tokenizer, "Say red", "red")
    assert prompt == render.prompt_ids(tokenizer, "Say red")
    assert tokenizer.decode(response) == "   red<|im_end|>"


def test_a_call_after_the_last_special_token_is_not_cut_off() -> None:
    """As in templates of Mistral for a tokenizer whose EOS is another token than the template spells."""
    tokenizer = dialects.tokenizer("mistral")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[CALLS]"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls %}"
        "[CALLS]{{ m.tool_calls[0].function | tojson }}</end>{% else %}{{ m.content }}</end>{% endif %}{% endfor %}"
    )
    _, response = render.answered(tokenizer, "Weather?", asking())
    assert tokenizer.decode(response) == '[CALLS]{"name": "weather", "arguments": {"city": "Orm"}}' + tiny.EOS


def asking(count: int = 1) -> Message:
    """An answer without text that calls a tool."""
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Orm"}}}
    return Message(role="assistant", tool_calls=[call] * count)


TOOLS = [{"type": "function", "function": {"name": "weather"}}]
TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
CALL = "{{ c.function.name }} {{ c.function.arguments | tojson }}"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CALLING = {  # a template, the number of calls, what it writes or how it is refused
    "all": (TURN + "{% for c in m.tool_calls %}" + CALL + "{% endfor %}" + END, 2, 'weather {"city": "Orm"}' * 2),
    "by id": (TURN + "{% for c in m.tool_calls %}{{ c.id }}{{ c.function.arguments | tojson }}{% endfor %}" + END, 1,
              '{"city": "Orm"}'),
    "as an object": (TURN + "{% for c in m.tool_calls %}{{ c.function.arguments }}{% endfor %}" + END, 1,
                     '{"city": "Orm"}'),
    "the first": (TURN + "{% if m.tool_calls %}{% set c = m.tool_calls[0] %}" + CALL + "{% endif %}" + END, 2,
                  "leaves out call 1 of message 1"),
    "none": (TURN + "{% if m.tool_calls is defined %}{{ '' }}{% endif %}" + END, 1, "leaves out call 0 of message 1"),
    "with content": ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content + '' }}"
                     "{% for c in m.tool_calls %}" + CALL + "{% endfor %}" + END, 1, 'weather {"city": "Orm"}'),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLING)
def test_every_call_of_an_answer_is_written_or_the_row_is_refused(name: str) -> None:
    template, count, expected = CALLING[name]
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = template
    if "leaves out" in expected:
        with pytest.raises(UserError, match=expected):
            render.answered(tokenizer, "Weather?", asking(count))
    else:
        _, response = render.answered(tokenizer, "Weather?", asking(count))
        assert tokenizer.decode(response) == expected + "<|im_end|>"


def test_tools_that_a_template_names_and_does_not_write_are_refused() -> None:
    tokenizer = dialects.tokenizer("chatml")
    tokenizer.chat_template = "{% if tools and documents %}{{ tools | tojson }}{% endif %}" + str(
        tokenizer.chat_template
    )
    with pytest.raises(UserError, match="leaves out the `tools` here"):
        render.prompt_ids(tokenizer, turns("Weather?"), TOOLS)


_ROLE, _ASK = "<|im_start|>{{ m.role }}\n", "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_LIST = "{% for c in m.tool_calls or [] %}" + CALL + "{% endfor %}"
TURNED = {  # a template, whether the answer is a call, the beginning of the whole chat that is the prompt, the answer
    "the end of a turn inside answers": (
        "{% for m in messages %}" + _ROLE + "{% if m.role == 'assistant' %}hm<|close|>{% endif %}{{ m.content }}"
        "<|close|>{{ '' }}<|im_end|>\n{% endfor %}" + _ASK, False, "hm<|close|>red<|close|><|im_end|>",
    ),
    "a call in a turn of its own": (
        "{% for m in messages %}" + _ROLE + "{{ m.content }}<|im_end|>\n{% if m.tool_calls %}call\n" + _LIST +
        "<|im_end|>\n{% endif %}{% endfor %}" + _ASK, True, '<|im_end|>\ncall\nweather {"city": "Orm"}<|im_end|>',
    ),
    "a turn of the tool without an end at the end": (
        "{% for m in messages %}" + _ROLE + "{{ m.content }}{% if not loop.last or m.role != 'tool' %}<|im_end|>\n"
        "{% endif %}{% endfor %}" + _ASK, False, "red<|im_end|>",
    ),
    "an earlier answer that changes": (
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.last = "
        "loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}" + _ROLE + "{{ m.content }}{{ '!' if loop.index0 "
        "== ns.last and not loop.last }}<|im_end|>\n{% endfor %}" + _ASK, False, "red<|im_end|>",
    ),
    "a turn after a call": (
        "{% for m in messages %}" + _ROLE + "{{ m.content }}{% if m.tool_calls %}" + _LIST + "{% else %}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if messages[-1].tool_calls %}<|im_start|>system\nGo on.<|im_end|>{% endif %}" + _ASK,
        True, 'weather {"city": "Orm"}<|im_end|>',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
def test_an_answer_begins_after_its_opening_and_ends_after_all_of_it(name: str) -> None:
    template, calls, expected = TURNED[name]
    tokenizer = tiny.tokenizer(extra=("<|im_start|>", "<|im_end|>", "<|close|>"))
    tokenizer.chat_template = template
    asked = [*turns("Say red", "green"), Message(role="tool", content="no")]
    answer = asking() if calls else Message(role="assistant", content="red")
    prompt, response = render.answered(tokenizer, asked, answer)
    assert tokenizer.decode(response) == expected
    assert tokenizer.decode(prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")
    form = [message.model_copy(update={"content": message.text}) for message in [*asked, answer]]
    written = whole(tokenizer, form)
    assert tokenizer.decode(written).startswith(tokenizer.decode(prompt + response[:-1]))
    assert response[-1] == render.end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
