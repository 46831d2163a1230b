"""The one client of models behind an address: OpenAI-compatible endpoints, written `URL#model`.

    client = Client("http://127.0.0.1:8000/v1#Qwen/Qwen3-0.6B")
    for answer in client.ask([{"messages": [...], "max_tokens": 64, "temperature": 0.0}]):
        ...                                     # an Answer, or a Failure with its reason

A request goes to URL/chat/completions. What may pass is tried again: status 429 or 5xx, a lost connection, a reply that
cannot be read. What concerns every request is a UserError: a refused key, an unknown model, nobody at the address.
Anything else is the Failure of that request. The key comes from the environment and goes into a header alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx

from heedful.config import UserError
from heedful.configs.endpoint import EndpointConfig
from heedful.endpoints import replies
from heedful.endpoints.cache import Cache
from heedful.endpoints.replies import Again, EndpointAnswer, RequestRefused

KEY = "HEEDFUL_API_KEY"
FIRST_WAIT = 1.0  # seconds before the second try. Each further wait is twice as long
LONGEST_WAIT = 60.0
LONGEST_ORDERED_WAIT = 300.0  # what a server may ask for with Retry-After
MOST_FAILURES = 10  # failures in a row after which no further request is sent
LOCAL = ("localhost", "127.0.0.1", "::1")

Request = dict[str, Any]
"""The body of a request without its model: `messages`, and settings such as `max_tokens`."""
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why one request has no answer."""

    reason: str


@dataclass(frozen=True)
class Address:
    """Where a model is, and its name there."""

    url: str
    model: str

    def __str__(self) -> str:
        return f"{self.url}#{self.model}"


def is_address(ref: str) -> bool:
    """Whether a reference to a model means one behind an address, not a folder or a hub name."""
    return "://" in ref


def address(ref: str) -> Address:
    """The parts of `URL#model`. Raises UserError if one is missing, or if the URL holds what belongs elsewhere."""
    url, _, model = ref.strip().partition("#")
    url, model = url.rstrip("/").removesuffix("/chat/completions"), model.strip()
    try:
        parts = urlsplit(url)
        found = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        found = False
    if found and "@" in parts.netloc:
        raise UserError(f"the address of a model must not hold a password. Put the key into {KEY}")
    if not found or parts.query:
        raise UserError(f"{ref}: not the address of a model. Write it as https://HOST/v1#MODEL")
    if not model:
        raise UserError(f"{ref}: names no model. Write it as {url}#MODEL")
    return Address(url, model)


class Client:
    """Asks one model. One client may be used again and again."""

    def __init__(self, ref: str, settings: EndpointConfig | None = None) -> None:
        self.address, self.settings = address(ref), settings or EndpointConfig()
        self.asked = 0
        """Requests that the endpoint has answered. Those from the cache do not count."""
        self.remarks: list[str] = []
        """What the endpoint did not take as it was asked."""
        self._key = os.environ.get(KEY, "").strip()
        self._cache = Cache() if self.settings.cache else None
        self._adapted: dict[str, str | None] = {}
        self._quiet_until = 0.0
        self._failures = 0

    def ask(
        self,
        requests: Sequence[Request],
        seen: Callable[[int, EndpointAnswer | Failure], None] = lambda place, answer: None,
    ) -> list[EndpointAnswer | Failure]:
        """The answers in the order of the requests. `seen(place, answer)` is called as each arrives."""
        return _run(self._ask_all(requests, seen))

    def kept(self, request: Request) -> bool:
        """Whether the answer to a request is on this machine already."""
        return self._from_cache(request) is not None

    def _from_cache(self, request: Request) -> EndpointAnswer | None:
        return self._cache.get(self.address.url, self._body(request)) if self._cache else None

    def _body(self, request: Request) -> Request:
        return {"model": self.address.model, **request}

    async def _ask_all(
        self, requests: Sequence[Request], seen: Callable[[int, EndpointAnswer | Failure], None]
    ) -> list[EndpointAnswer | Failure]:
        found: list[EndpointAnswer | Failure | None] = [None] * len(requests)
        waiting = iter(range(len(requests)))

        async def work(http: httpx.AsyncClient) -> None:
            for place in waiting:
                found[place] = answer = await self._one(http, requests[place])
                seen(place, answer)

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        parts = urlsplit(self.address.url)
        how: dict[str, Any] = {"timeout": self.settings.timeout, "trust_env": parts.hostname not in LOCAL}
        how["verify"] = parts.scheme == "https"  # without TLS there is no certificate, and loading them takes time
        async with httpx.AsyncClient(headers=headers, **how) as http:
            workers = [asyncio.ensure_future(work(http)) for _ in range(min(self.settings.parallel, len(requests)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return [answer for answer in found if answer is not None]

    async def _one(self, http: httpx.AsyncClient, request: Request) -> EndpointAnswer | Failure:
        """From the cache, or from the endpoint."""
        body = self._body(request)
        if (kept := self._from_cache(request)) is not None:
            return kept
        try:
            answer = await self._tried(http, body)
        except RequestRefused as refused:
            if refused.for_all and not self.asked:
                self._stop(str(refused))
            self._failed(str(refused), counts=not self.asked)
            return Failure(self._clean(str(refused)))
        except Again as again:
            if again.nobody and not self.asked:
                self._stop(str(again))
            self._failed(str(again))
            return Failure(self._clean(str(again)))
        self.asked, self._failures = self.asked + 1, 0
        if self._cache:
            self._cache.put(self.address.url, body, answer)
        return answer

    async def _tried(self, http: httpx.AsyncClient, body: Request) -> EndpointAnswer:
        """Send a request until it is answered, refused, or has failed too often."""
        failures = 0
        while True:
            await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))
            sent = self._as_taken(body)
            try:
                return await self._sent(http, sent)
            except RequestRefused as refused:
                self._learn(refused.about, sent)
                if self._as_taken(body) == sent:
                    raise
            except Again as again:
                failures += 1
                if failures > self.settings.retries or (again.nobody and not self.asked):
                    raise
                await self._wait(again, failures)

    async def _wait(self, again: Again, failures: int) -> None:
        """Wait before the next try: as long as the endpoint says, and then all requests wait, or longer each time."""
        if again.wait is None:
            wait = min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT)
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
        elif again.wait > LONGEST_ORDERED_WAIT:
            raise Again(f"{again}. The endpoint asks to wait {again.wait:,.0f} seconds")
        else:
            self._quiet_until = max(self._quiet_until, time.monotonic() + again.wait)

    async def _sent(self, http: httpx.AsyncClient, body: Request) -> EndpointAnswer:
        try:
            async with asyncio.timeout(self.settings.timeout):  # over all parts of a reply
                response = await http.post(f"{self.address.url}/chat/completions", json=body)
        except (TimeoutError, httpx.TimeoutException):
            raise Again(f"no answer within {self.settings.timeout:g} seconds. Raise --endpoint.timeout") from None
        except httpx.ConnectError as error:
            raise Again(
                f"nobody answers there ({_reason(error)}). Start the server, or check the URL", nobody=True
            ) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Again(f"the connection was lost ({_reason(error)}). Try again, or raise --endpoint.retries") from None
        except httpx.InvalidURL as error:
            raise RequestRefused(f"not an address ({error})", for_all=True) from None
        return replies.read(response, has_key=bool(self._key))

    def _as_taken(self, body: Request) -> Request:
        """The request as this endpoint takes it. A name that maps to None is left out."""
        renamed = {self._adapted.get(name, name): value for name, value in body.items()}
        return {name: value for name, value in renamed.items() if name is not None}

    def _learn(self, about: set[str], sent: Request) -> None:
        """Learn from a refusal how this endpoint calls a setting, or that it has none of this name."""
        if "max_tokens" in about & set(sent) and "max_completion_tokens" in about:
            self._adapted["max_tokens"] = "max_completion_tokens"
        elif "seed" in about & set(sent) and "seed" not in self._adapted:
            self._adapted["seed"] = None
            self.remarks.append("the endpoint takes no seed, so its answers cannot be drawn again")

    def _failed(self, reason: str, counts: bool = True) -> None:
        self._failures += counts
        if self._failures >= MOST_FAILURES:
            self._stop(f"{reason}. {MOST_FAILURES} requests in a row failed")

    def _stop(self, reason: str) -> NoReturn:
        kept = ". The answers so far are kept: the same command asks only for the others"
        raise UserError(self._clean(f"{self.address}: {reason}{kept if self.asked and self._cache else ''}"))

    def _clean(self, text: str) -> str:
        """One line without the key: endpoints repeat it in their messages."""
        text = " ".join(text.split())
        return text.replace(self._key, "***") if self._key else text


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    found: list[T] = []
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]
