"""Bodies of OpenAI's requests: what heedful's own models take. Everything else is refused by its name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heedful.configs.serve import ServeLimits
from heedful.data.records import Message, Prompt
from heedful.serve.types import ApiError, Route

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
"""Parameters of OpenAI and of vLLM that heedful lacks, and the values at which they change nothing."""

Stop = Annotated[str, Field(min_length=1, max_length=1000)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream holds besides the answer."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool = False
    """End with the number of tokens."""
    include_obfuscation: bool = False
    """Accepted and without effect: heedful sends no padding."""


class RequestBody(BaseModel):
    """What both routes take."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str
    """One of /v1/models."""
    n: int = Field(1, ge=1, le=128)
    """How many answers."""
    temperature: float = Field(1.0, ge=0, le=2)
    """0 takes the most probable token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the most probable tokens with this total probability."""
    top_k: int = Field(0, ge=0, lt=2**31)
    """Sample from this many most probable tokens. 0 = off. Not one of OpenAI's."""
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = []
    """Texts before which an answer ends. Up to 16."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed gives the same answer."""
    stream: bool = False
    """Send the answer as it is sampled, as server-sent events."""
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Your own user, under whose name the collector keeps the request."""
    metadata: dict[str, str] | None = None
    """Accepted and without effect."""
    store: bool | None = None
    """false: nothing of this request may be kept."""


class Chat(RequestBody):
    """The body of /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    """The chat so far. The last message is the user's."""
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    """Most tokens of the answer. Without it: what the context leaves."""
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    """The same as max_tokens."""
    logprobs: bool = False
    """Send the log-probability of each token."""
    top_logprobs: int | None = Field(None, ge=0, le=20)
    """Also send those of so many most probable tokens. Needs logprobs."""


class Completion(RequestBody):
    """The body of /v1/completions."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1)]
    )  # fmt: skip
    """A text, several, the ids of its tokens, or several lists of them."""
    max_tokens: int = Field(16, ge=0, lt=2**31)
    """Most tokens of the answer. 0 with echo gives the prompt alone."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """Send the log-probability of each token, and of so many most probable ones."""
    echo: bool = False
    """Send the prompt in front of the answer."""


BODIES: dict[Route, type[Chat] | type[Completion]] = {"chat": Chat, "completions": Completion}


@dataclass(frozen=True)
class Plan:
    """A request, checked."""

    route: Route
    messages: list[Message] | None
    prompts: list[str | list[int]]
    """Of a completion."""
    n: int
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    stops: tuple[str, ...]
    seed: int
    top: int | None
    """How many most probable tokens to send. None: no log-probabilities at all."""
    echo: bool
    stream: bool
    usage: bool


def read(route: Route, values: Mapping[str, Any], limits: ServeLimits) -> Plan:
    """Check a request. Raises ApiError 400, which names the parameter."""
    given = {name: value for name, value in values.items() if value is not None and not _is_neutral(name, value)}
    for name in given:
        if name in NEUTRAL:
            raise ApiError(400, f"'{name}' is not supported here. Leave it out.", param=name, code="unsupported")
    try:
        body = BODIES[route].model_validate(given)
    except ValidationError as error:
        raise _refused(error) from None
    if values.get("best_of") is not None and body.n > 1:
        raise ApiError(400, "'best_of' is less than 'n'. Leave it out.", param="best_of")
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "'stream_options' needs stream: true.", param="stream_options")
    messages, prompts, max_tokens, top, echo = _of_route(body)
    choices = body.n * max(1, len(prompts))
    if choices > limits.choices:
        raise ApiError(400, f"{choices} answers: a request may ask for {limits.choices}. Send several.", param="n")
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    return Plan(
        route=route, messages=messages, prompts=prompts, n=body.n, max_tokens=max_tokens, temperature=body.temperature,
        top_p=body.top_p, top_k=body.top_k, stops=stops, top=top, echo=echo, stream=body.stream,
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        usage=body.stream_options is not None and body.stream_options.include_usage,
    )  # fmt: skip


def _of_route(
    body: Chat | Completion,
) -> tuple[list[Message] | None, list[str | list[int]], int | None, int | None, bool]:
    """(messages, prompts, max_tokens, top, echo)"""
    if isinstance(body, Completion):
        given: Any = body.prompt
        several = isinstance(given, list) and not isinstance(given[0], int)
        if body.max_tokens == 0 and not body.echo:
            raise ApiError(400, "'max_tokens' 0 needs echo: true.", param="max_tokens")
        if body.echo and body.stream and body.logprobs is not None:
            raise ApiError(400, "'echo' with logprobs cannot be streamed.", param="stream")
        return None, given if several else [given], body.max_tokens, body.logprobs, body.echo
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise ApiError(
            400, "'max_tokens' and 'max_completion_tokens' differ. Send one of them.", param="max_completion_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "'top_logprobs' needs logprobs: true.", param="top_logprobs")
    top = (body.top_logprobs or 0) if body.logprobs else None
    return _messages(body.messages), [], body.max_completion_tokens or body.max_tokens, top, False


def _messages(given: list[dict[str, Any]]) -> list[Message]:
    for place, part, name in _unread(given):
        where = f"messages.{place}.content.{part}.{name[:100]}"
        raise ApiError(
            400, f"'{where}' is not a parameter here. Leave it out.", param="messages", code="unknown_parameter"
        )
    try:
        prompt = Prompt.model_validate({"prompt": given}).prompt
    except ValidationError as error:
        words = str(error.errors()[0]["msg"]).removeprefix("Value error, ").replace("the row", "it")
        raise ApiError(400, f"'messages' {words}", param="messages") from None
    assert not isinstance(prompt, str)
    return prompt


def _unread(given: list[dict[str, Any]]) -> Iterator[tuple[int, int, str]]:
    """(message, part, name) of each field of a part of text that nothing reads."""
    for place, message in enumerate(given):
        parts = message.get("content")
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                held = (name for name, value in part.items() if value not in (None, [], {}))
                yield from ((place, number, name) for name in held if name not in ("type", "text"))


def _is_neutral(name: str, value: Any) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in NEUTRAL.get(name, ()))


def _refused(error: ValidationError) -> ApiError:
    """The first problem, without what was sent."""
    problem = error.errors(include_input=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        name = ".".join(str(part) for part in problem["loc"])[:100]
        return ApiError(400, f"'{name}' is not a parameter here. Leave it out.", param=name, code="unknown_parameter")
    if problem["type"] == "missing":
        return ApiError(400, f"'{name}' is missing.", param=name, code="missing_parameter")
    if name == "prompt":
        words = "must be a text, texts, token ids, or lists of token ids, and not empty"
    elif name == "stop":
        words = "must be a text or up to 16 texts, each of 1 to 1,000 characters"
    else:
        words = str(problem["msg"])
        words = words[0].lower() + words[1:]
    where = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int)) if name != "prompt" else name
    where = name if name == "stop" else where
    return ApiError(400, f"'{where}': {words}.", param=name, code="invalid_value")
