"""What an OpenAI-compatible endpoint replies: an answer, a passing failure, or a refusal."""

from __future__ import annotations

import email.utils
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

import httpx

MOST_SHOWN = 300  # characters of a reply in a message
STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
CUT = ("length", "max_tokens", "model_length")
THOUGHTS = ("reasoning_content", "reasoning")
REFUSED_KEY = (401, 403)
BUSY = (408, 409, 425, 429)


@dataclass(frozen=True)
class EndpointAnswer:
    """What a model wrote."""

    text: str
    finish: Literal["stop", "length"]
    model: str
    """The model as the endpoint names it."""
    thoughts: bool = False
    """Whether the reply also held thoughts, which are not part of the answer."""


class Again(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, wait: float | None = None, *, nobody: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.nobody = wait, nobody


class RequestRefused(Exception):
    """The endpoint does not take this request."""

    def __init__(self, reason: str, *, for_all: bool = False, about: set[str] | None = None) -> None:
        super().__init__(reason)
        self.for_all = for_all
        """Whether every request would be refused: a wrong key, address or model."""
        self.about = about or set()
        """Names of settings in the refusal."""


def read(response: httpx.Response, *, has_key: bool) -> EndpointAnswer:
    """The answer of a reply. Raises Again or Refused."""
    status, body = response.status_code, _json(response)
    if status >= 400:
        raise _refusal(status, response, body, has_key)
    if status >= 300:
        raise RequestRefused(
            f"leads on to {response.headers.get('location', 'nowhere')}. Give that address", for_all=True
        )
    if body is None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and "json" not in kind:
            raise RequestRefused(
                f"replies with {kind}, not with JSON. The URL of most endpoints ends in /v1", for_all=True
            )
        raise Again(f"replies with what is not JSON: {_shown(response.text)}. Check the URL")
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):  # some say 200 to everything
        code = body["error"].get("code") if isinstance(body["error"], dict) else None
        raise _refusal(code if isinstance(code, int) and code >= 400 else 400, response, body, has_key)
    return _answer(body)


def _answer(body: Any) -> EndpointAnswer:
    try:
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Again(f"replies without an answer: {_shown(json.dumps(body, ensure_ascii=False))}") from None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(content) else None
    if finish and finish not in STOPPED + CUT:
        raise RequestRefused(f"the answer ended with {finish!r}, which is no answer in text")
    if not isinstance(content, str):
        told = message.get("refusal")
        raise RequestRefused(
            f"the model refused: {_shown(told)}" if isinstance(told, str) else "the answer holds no text"
        )
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise Again("the answer holds half of a character") from None
    return EndpointAnswer(
        text=content,
        finish="length" if finish in CUT else "stop",
        model=str(body.get("model") or ""),
        thoughts=any(message.get(name) for name in THOUGHTS),
    )


def _refusal(status: int, response: httpx.Response, body: Any, has_key: bool) -> Again | RequestRefused:
    said, about = _said(body, response)
    told = f"status {status}{f', {said}' if said else ''}"
    if status in BUSY or status >= 500:
        return Again(told, _ordered_wait(response))
    if status in REFUSED_KEY:
        remedy = "Check the key in HEEDFUL_API_KEY" if has_key else "Put a key into HEEDFUL_API_KEY"
        return RequestRefused(f"{told}. {remedy}", for_all=True)
    if status in (404, 405):
        return RequestRefused(f"{told}. Check URL and model. The URL of most endpoints ends in /v1", for_all=True)
    return RequestRefused(told, about=about)


def _said(body: Any, response: httpx.Response) -> tuple[str, set[str]]:
    """The words of an error, and the settings that it names."""
    error = body.get("error", body.get("detail", body.get("message"))) if isinstance(body, dict) else body
    if isinstance(error, list) and error and isinstance(error[0], dict):  # as FastAPI reports
        error = {"message": error[0].get("msg"), "param": ".".join(str(part) for part in error[0].get("loc", []))}
    param = None
    if isinstance(error, dict):
        param, error = error.get("param"), error.get("message", error)
    text = error if isinstance(error, str) else json.dumps(error) if error is not None else response.text
    named = str(param).rpartition(".")[2] if param else ""
    about = set(re.findall(r"['\"`](\w+)['\"`]", text)) | ({named} if named else set())
    told = _shown(f"{named}: {text}" if named and named not in text else text)
    return told.removesuffix("."), about


def _ordered_wait(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After, which gives seconds or a time."""
    given = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ..."
