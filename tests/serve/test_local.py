"""OpenAI's client against a tiny model of our own: what it gets is what the engine samples."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

import tiny
from heedful.configs.serve import ServeLimits
from heedful.configs.shared import Generation
from heedful.data.records import Message
from heedful.demo.base import CHAT_TEMPLATE
from heedful.models import render
from heedful.rollout.types import Stream
from heedful.serve import batching, fields
from heedful.serve.local import LocalBackend
from heedful.serve.types import ApiError
from serve.live import load, local, running, wait_for
from serve.place import Place

MODELS = {"plain": "llama", "chatty": "llama template", "cached": "gpt2"}
PROMPTS = ["The old miller", "What is seven plus five?", "Write a list", "a", "Bread, cheese and two apples: "]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    models = {name: local(path, rows=8, queue=24) for name, path in MODELS.items()}
    limits = {"requests_a_minute": 0, "rows": 8, "queue": 24}
    made = Place(tmp_path_factory.mktemp("serve"), models, limits=limits)
    with running(made.app) as address:
        made.address = address  # type: ignore[attr-defined]
        yield made
    made.store.close()


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1", max_retries=0) as made:  # type: ignore[attr-defined]
        yield made


def expected(name: str, prompt: Any, seed: int, tokens: int, choice: int = 0, **settings: Any) -> tuple[str, str, int]:
    """(text, finish, tokens) by the engine alone."""
    engine, tokenizer = load(MODELS[name])
    ids = render.prompt_ids(tokenizer, prompt) if isinstance(prompt, list) else [*tokenizer.encode(prompt)]
    asked = Generation(max_new_tokens=tokens, **settings)
    (sample,) = engine.generate([ids], [Stream(seed, choice, 0)], asked)
    return render.response_text(tokenizer, sample.response_ids), sample.finish, len(sample.response_ids)


def chat_of(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


@pytest.mark.medium
@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_what_the_engine_samples(client: openai.OpenAI, name: str) -> None:
    for route, prompt in (("chat", PROMPTS[0]), ("text", PROMPTS[1])):
        settings = {"temperature": 0.8, "top_p": 0.9}
        if route == "chat":
            text, finish, tokens = expected(name, [Message(role="user", content=prompt)], 7, 24, 1, **settings)
            answer: Any = client.chat.completions.create(
                model=name, messages=chat_of(prompt), seed=7, max_completion_tokens=24, n=2, **settings
            )
            assert answer.choices[1].message.content == text
        else:
            text, finish, tokens = expected(name, prompt, 7, 24, 1, **settings)
            answer = client.completions.create(model=name, prompt=prompt, seed=7, max_tokens=24, n=2, **settings)
            assert answer.choices[1].text == text
        assert answer.choices[1].finish_reason == finish
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert tokens < answer.usage.completion_tokens <= tokens + 24


@pytest.mark.medium
def test_a_chat_without_template_is_rendered_as_everywhere(client: openai.OpenAI) -> None:
    turns: Any = [*chat_of("Hi"), {"role": "assistant", "content": "Yes."}, *chat_of("And?")]
    text = expected("plain", [Message.model_validate(turn) for turn in turns], 3, 12)[0]
    answer = client.chat.completions.create(model="plain", messages=turns, seed=3, max_tokens=12)
    assert answer.choices[0].message.content == text


@pytest.mark.medium
@pytest.mark.parametrize("name", ["plain", "chatty"])
def test_streamed_is_unstreamed(client: openai.OpenAI, name: str) -> None:
    for seed, prompt in enumerate(PROMPTS):
        given: Any = {"model": name, "messages": chat_of(prompt), "seed": seed, "max_tokens": 40, "n": 2}
        given |= {"logprobs": True, "top_logprobs": 2, "stop": ["e ", "qz"]}
        whole = client.chat.completions.create(**given)
        texts, ends, tokens, usages = ["", ""], [None, None], [[], []], []
        for chunk in client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}):
            assert chunk.id.startswith("chatcmpl-")
            usages.append(chunk.usage)
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ends[choice.index] = choice.finish_reason or ends[choice.index]
                tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
        assert texts == [choice.message.content for choice in whole.choices]
        assert ends == [choice.finish_reason for choice in whole.choices]
        for choice, streamed in zip(whole.choices, tokens, strict=True):
            assert streamed == (choice.logprobs.content if choice.logprobs else [])
            written = b"".join(bytes(one.bytes or []) for one in streamed if one.token[:2] != "<|")  # no text
            assert written.decode("utf-8", "replace").startswith(choice.message.content or "")
        assert usages[-1] == whole.usage
        assert set(usages[:-1]) == {None}


@pytest.mark.medium
@pytest.mark.parametrize("pause", [0.0, 1000.0], ids=["each token", "first and last"])
def test_a_row_among_many_sends_several_tokens_at_once(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    monkeypatch.setattr(batching, "EVENT_SECONDS", pause)
    given: Any = {"model": "plain", "prompt": PROMPTS[0], "seed": 8, "max_tokens": 60, "temperature": 0.7}
    text, finish, tokens = expected("plain", PROMPTS[0], 8, 60, temperature=0.7)
    assert tokens > 20
    chunks = list(client.completions.create(**given, logprobs=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == finish
    assert chunks[0].choices[0].text != ""
    # random tokens often end within a character; how often differs between kinds of processors
    assert tokens / 5 < len(chunks) <= tokens + 1 if pause == 0.0 else len(chunks) == 2
    whole: Any = client.completions.create(**given, logprobs=1).choices[0].logprobs
    streamed = [one for chunk in chunks for one in chunk.choices[0].logprobs.token_logprobs]  # type: ignore[union-attr]
    assert streamed == whole.token_logprobs


@pytest.mark.medium
def test_a_stop_text_ends_an_answer_across_tokens(client: openai.OpenAI) -> None:
    whole, _, _ = expected("plain", PROMPTS[0], 5, 40)
    place = next(at for at in range(5, len(whole) - 3) if whole.find(whole[at : at + 3]) == at)
    stop = whole[place : place + 3]
    given: Any = {"model": "plain", "prompt": PROMPTS[0], "seed": 5, "max_tokens": 40}
    answer = client.completions.create(**given, stop=["never there", stop])
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (whole[:place], "stop")
    assert (
        "".join(chunk.choices[0].text for chunk in client.completions.create(**given, stop=stop, stream=True))
        == (whole[:place])
    )


@pytest.mark.medium
def test_batched_is_alone(place: Place, client: openai.OpenAI) -> None:
    """The same seed gives the same text, whoever else is served."""
    given = [
        {"model": "plain", "prompt": PROMPTS[number % 5], "seed": number, "max_tokens": 10 + number,
         "temperature": (0.0, 0.7, 1.0)[number % 3], "top_p": (1.0, 0.8)[number % 2]}
        for number in range(20)
    ]  # fmt: skip
    alone = [client.completions.create(**one).choices[0].text for one in given]  # type: ignore[call-overload]

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(api_key=place.secrets["ada"], base_url=place.address + "/v1") as other:  # type: ignore[attr-defined]
            answers = await asyncio.gather(*(other.completions.create(**one) for one in given))  # type: ignore[call-overload]
            return [answer.choices[0].text for answer in answers]

    assert asyncio.run(together()) == alone


def test_prompts_as_lists_and_as_tokens(client: openai.OpenAI) -> None:
    tokenizer = load("llama")[1]
    ids = [tokenizer.encode(prompt) for prompt in PROMPTS[:3]]
    given: Any = {"model": "plain", "seed": 4, "max_tokens": 9}
    one_by_one = [client.completions.create(**given, prompt=prompt).choices[0].text for prompt in PROMPTS[:3]]
    for prompt in (PROMPTS[:3], ids):
        answer = client.completions.create(**given, prompt=prompt)  # type: ignore[arg-type]
        assert [choice.text for choice in answer.choices] == one_by_one
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert client.completions.create(**given, prompt=ids[0]).choices[0].text == one_by_one[0]


@pytest.mark.parametrize("name", ["plain", "cached"])
def test_logprobs_of_prompt_and_answer(client: openai.OpenAI, name: str) -> None:
    """As lm_eval's local-completions asks: against the log-softmax of the model's own forward."""
    engine, tokenizer = load(MODELS[name])
    ids = tokenizer.encode(PROMPTS[4] + "é")
    answer = client.completions.create(
        model=name, prompt=ids, max_tokens=1, temperature=0.0, logprobs=1, echo=True, seed=1234
    )
    found: Any = answer.choices[0].logprobs
    with torch.no_grad():
        logits_SV = engine.model(torch.tensor([[*ids]])).logits[0].double()
    logprobs_SV = engine.ids.logits(logits_SV).log_softmax(-1)
    assert found.token_logprobs[0] is None
    expected_S = [float(logprobs_SV[place, token]) for place, token in enumerate(ids[1:])]
    assert found.token_logprobs[1 : len(ids)] == pytest.approx(expected_S, abs=1e-4)
    assert found.token_logprobs[-1] == pytest.approx(float(logprobs_SV[-1].max()), abs=1e-4)
    assert found.token_logprobs[-1] == max(found.top_logprobs[-1].values())  # greedy, to the last bit
    assert found.top_logprobs[3].keys() >= {tokenizer.decode([int(logprobs_SV[2].argmax())])}
    text = answer.choices[0].text
    assert text.startswith(PROMPTS[4] + "é")
    offsets = found.text_offset
    assert [text[a:b] for a, b in itertools.pairwise(offsets[:12])] == found.tokens[:11]
    scored = client.completions.create(model=name, prompt=[ids, ids], max_tokens=0, logprobs=0, echo=True)
    assert scored.choices[1].text == PROMPTS[4] + "é"
    assert scored.choices[1].logprobs.token_logprobs[1:] == pytest.approx(expected_S, abs=1e-4)  # type: ignore[union-attr]
    assert scored.usage.completion_tokens == 0  # type: ignore[union-attr]


def test_logprobs_are_the_models_own_at_any_temperature(client: openai.OpenAI) -> None:
    given: Any = {"model": "plain", "messages": chat_of("Go"), "seed": 1, "max_tokens": 3, "temperature": 0.3}
    answer = client.chat.completions.create(**given, logprobs=True, top_logprobs=320 // 16)
    engine, tokenizer = load("llama")
    first = answer.choices[0].logprobs.content[0]  # type: ignore[index, union-attr]
    with torch.no_grad():
        logits_V = engine.model(torch.tensor([tokenizer.encode("Go")])).logits[0, -1].double()
    best = engine.ids.logits(logits_V).log_softmax(-1).topk(20)
    assert [one.logprob for one in first.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert first.logprob == next(one.logprob for one in first.top_logprobs if one.bytes == first.bytes)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"extra_body": {"made_up": 1}}, "made_up"),
    ({"n": 0}, "n"),
    ({"n": 65}, "n"),
    ({"n": "2"}, "n"),
    ({"temperature": 2.5}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
    ({"max_tokens": 1000}, "max_tokens"),
    ({"stop": ["ok", ""]}, "stop"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]}]},
        "messages",
    ),
    ({"n": 2, "extra_body": {"best_of": 1}}, "best_of"),
    ({"stop": "x" * 1001}, "stop"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"extra_body": {"min_p": 0.1}}, "min_p"),
    ({"seed": 2**63}, "seed"),
    ({"store": "no"}, "store"),
]


@pytest.mark.parametrize(("changes", "param"), BAD, ids=[str(change)[:40] for change, _ in BAD])
def test_what_we_do_not_have_is_refused_by_name(client: openai.OpenAI, changes: dict[str, Any], param: str) -> None:
    given: Any = {"model": "chatty", "messages": chat_of("x"), "max_tokens": 2} | changes
    if "max_completion_tokens" not in changes and "max_tokens" not in changes:
        given["max_tokens"] = 2
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**given)
    assert error.value.param == param
    assert param in error.value.message


def test_neutral_values_are_taken(client: openai.OpenAI) -> None:
    client.chat.completions.create(
        model="chatty", messages=chat_of("x"), max_tokens=1, frequency_penalty=0.0, presence_penalty=0, logit_bias={},
        response_format={"type": "text"}, tools=[], metadata={"a": "b"}, user="u", parallel_tool_calls=False,
        extra_body={"top_k": 3, "min_p": 0.0, "repetition_penalty": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message", "told"),
    [
        ("chatty", {"role": "assistant", "content": "y", "refusal": None, "annotations": []}, ""),
        ("chatty", {"role": "assistant", "content": "y", "mood": "glad"}, "messages.1.mood"),
        ("chatty", {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, "of this model writes no"),
        ("plain", {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, "this model has no chat temp"),
        ("plain", {"role": "assistant", "content": "y", "name": "bob"}, "messages.1.name"),
    ],
)
def test_no_part_of_a_chat_is_ignored(client: openai.OpenAI, name: str, message: Any, told: str) -> None:
    turns: Any = [*chat_of("x"), message, *chat_of("z")]
    if not told:
        client.chat.completions.create(model=name, messages=turns, max_tokens=1)
        return
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=name, messages=turns, max_tokens=1)
    assert told in error.value.message
    assert "row" not in error.value.message


def test_a_template_that_writes_names_gets_them() -> None:
    tokenizer = tiny.tokenizer(template=True)
    named = [Message(role="user", content="x", name="bob")]  # type: ignore[call-arg]
    tokenizer.chat_template = "{% for message in messages %}{{ message['name'] }}{% endfor %}"
    fields.check(tokenizer, named)
    tokenizer.chat_template = "{% for tool in tools %}{{ tool.name }}{{ tool['name'] }}{% endfor %}"
    with pytest.raises(ApiError, match=r"messages\.0\.name"):
        fields.check(tokenizer, named)


@pytest.mark.parametrize(("template", "one"), [(None, False), (CHAT_TEMPLATE, True)])
def test_a_model_that_reads_one_message_is_known(template: str | None, one: bool) -> None:
    engine, tokenizer = load("llama template")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template or tokenizer.chat_template
    backend = LocalBackend("m", lambda _: (engine, tokenizer), ServeLimits())

    async def known() -> bool:
        await backend.start()
        await backend.close(5.0)
        return backend.one_message

    assert asyncio.run(known()) is one


def test_a_client_that_leaves_frees_its_row_within_a_step(place: Place) -> None:
    backend: Any = place.app.state.service.models["plain"]
    rows = backend.lanes[0]._loop_rows
    body = {"model": "plain", "prompt": "Go on", "max_tokens": 240, "n": 8, "temperature": 2.0, "stream": True}
    headers = {"Authorization": f"Bearer {place.secrets['ada']}"}
    for stream in (True, False):
        engine, slow = backend.lanes[0].engine, backend.lanes[0]._loop_rows.step
        with httpx.Client(base_url=place.address, headers=headers, timeout=20) as http:  # type: ignore[attr-defined]
            if stream:
                with http.stream("POST", "/v1/completions", json=body) as response:
                    next(response.iter_raw())
            else:
                with pytest.raises(httpx.TimeoutException):
                    http.post("/v1/completions", json=body | {"stream": False}, timeout=0.05)
        wait_for(lambda: not rows.busy and backend.waiting == 0, 2)
        assert engine is backend.lanes[0].engine
        assert slow == backend.lanes[0]._loop_rows.step


def test_the_queue_is_bounded(place: Place, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        client.completions.create(model="plain", prompt=["a"] * 33, max_tokens=2)
    assert error.value.status_code == 503
    assert error.value.response.headers["retry-after"] == "1"
    assert client.completions.create(model="plain", prompt=["a"] * 32, max_tokens=2).usage.completion_tokens > 31  # type: ignore[union-attr]
    assert place.app.state.service.models["plain"].waiting == 0  # type: ignore[attr-defined]


@pytest.mark.medium
def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    backend = local("llama")
    made = Place(tmp_path, {"m": backend}, limits={"seconds": 0.5, "requests_a_minute": 0})
    with running(made.app) as address:
        lane: Any = backend.lanes[0]
        step = lane._loop_rows.step

        def slow() -> Any:
            asyncio.run(asyncio.sleep(0.1))
            return step()

        lane._loop_rows.step = slow
        with openai.OpenAI(api_key=made.secrets["ada"], base_url=address + "/v1", max_retries=0) as client:
            given: Any = {"model": "m", "prompt": "x", "max_tokens": 200, "temperature": 2.0, "n": 8}
            with pytest.raises(openai.InternalServerError) as late:
                client.completions.create(**given)
            assert (late.value.status_code, late.value.code) == (504, "timeout")
            with pytest.raises(openai.APIError, match="too long"):
                list(client.completions.create(**given, stream=True))
            wait_for(lambda: backend.waiting == 0)
    made.store.close()


@pytest.mark.medium
def test_a_model_that_fails_fails_its_requests_and_goes_on(tmp_path: Path) -> None:
    backend = local("llama")
    made = Place(tmp_path, {"m": backend})
    with running(made.app) as address:
        lane: Any = backend.lanes[0]
        decoder = lane.engine.model.forward
        with openai.OpenAI(api_key=made.secrets["ada"], base_url=address + "/v1", max_retries=0) as client:
            lane._loop_rows.step, step = _broken, lane._loop_rows.step
            with pytest.raises(openai.InternalServerError, match="The model failed"):
                client.completions.create(model="m", prompt="x", max_tokens=3)
            lane._loop_rows.step = step
            assert client.completions.create(model="m", prompt="x", max_tokens=3).choices[0].text is not None
        assert decoder is not None
    made.store.close()


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("error", "ends"), [(ValueError, False), (LookupError, True)])
def test_a_request_that_cannot_join_fails_at_once(tmp_path: Path, error: type[Exception], ends: bool) -> None:
    backend = local("llama")
    made = Place(tmp_path, {"m": backend}, limits={"seconds": 600})
    with running(made.app) as address:
        lane: Any = backend.lanes[0]
        add = lane._loop_rows.add

        def broken(*_: Any) -> int:
            raise error("no room")

        with openai.OpenAI(api_key=made.secrets["ada"], base_url=address + "/v1", max_retries=0, timeout=20) as client:
            lane._loop_rows.add = broken
            with pytest.raises(openai.InternalServerError, match="The model failed"):
                client.completions.create(model="m", prompt="x", max_tokens=3)
            lane._loop_rows.add = add
            if ends:  # of an error that nobody foresaw: what comes later must not wait for the deadline
                with pytest.raises(openai.InternalServerError):
                    client.completions.create(model="m", prompt="x", max_tokens=3)
            else:
                assert client.completions.create(model="m", prompt="x", max_tokens=3).choices[0].text is not None
    made.store.close()


def _broken() -> Any:
    raise RuntimeError("out of memory")
