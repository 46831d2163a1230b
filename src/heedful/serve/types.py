"""What goes into a model that is served and comes out of it, and who keeps what was said. No torch here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from heedful.collection.settings import Terms

Route = Literal["chat", "completions"]


@dataclass(frozen=True)
class ServedExchange:
    """A request that was answered: what a collector may keep.

    `id`: the `id` of the response, such as "chatcmpl-…", which thumbs name. An upstream chooses its own.
    `user`: the name of the account. If the request names a user of its own (`user`), it is "ACCOUNT/USER".
    `consent`: the version of the text that the holder of the key agreed to.
    `messages` of a chat, or `prompt` of a completion. A prompt of several texts is an exchange for each.
    """

    id: str
    user: str
    key_id: int | None
    consent: str | None
    model: str
    upstream: bool
    messages: list[dict[str, Any]] | None
    prompt: str | None
    answers: list[str]
    finish: list[str]
    settings: dict[str, Any]
    started: datetime
    seconds: float


class Collector(Protocol):
    """Decides what is kept of the requests, and keeps it."""

    def wants(self, user: str, consent: str | None, refused: bool) -> bool:
        """Whether to keep a request, before anything of it is held.

        `refused`: the request says `Heedful-Store: no` or `store: false`.
        """
        ...

    def keep(self, exchange: ServedExchange) -> None:
        """Store an exchange. It is called in a thread, before the end of the answer is sent.

        An OSError or an error of the database is shown at /healthz. The answer goes on.
        """
        ...

    def terms(self) -> Terms | None:
        """What people agree to when they let their prompts be kept. None: nothing is ever kept."""
        ...

    def sweep(self) -> None:
        """Delete what is too old. It is called in a thread, at the start and then every hour."""
        ...


class KeepsNothing:
    """The collector of a server that collects nothing."""

    def wants(self, user: str, consent: str | None, refused: bool) -> bool:
        return False

    def keep(self, exchange: ServedExchange) -> None:
        raise AssertionError("nothing is wanted")

    def terms(self) -> Terms | None:
        return None

    def sweep(self) -> None:
        pass


class ApiError(Exception):
    """A refusal in OpenAI's shape. The message never holds what the user sent, but for the name of a parameter."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(frozen=True)
class Caller:
    """Who asks: a person, with one of their keys or from this server's pages."""

    person_id: int
    name: str
    key_id: int
    consent: str | None
    requests_a_minute: int | None = None
    """None: the server's limit."""
    tokens_a_day: int | None = None
    admin: bool = False


@dataclass
class CallOutcome:
    """What came of a call. The backend fills it in."""

    id: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first: float | None = None
    """When the first token came, by `time.perf_counter`."""
    answers: list[str] | None = None
    """The texts, for the collector. None: nobody may hold them."""
    finish: list[str] = field(default_factory=list)
    failed: int | None = None
    """The status that a stream would have had, if it failed in the middle."""


@dataclass(frozen=True)
class Call:
    """A request to a model: `body` as it was sent, already read as JSON."""

    route: Route
    body: Mapping[str, Any]
    model: str
    outcome: CallOutcome
    deadline: float
    """When the answer must be there, by `time.perf_counter`."""


class Pieces(Protocol):
    """The parts of an answer as they come."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """Drop what is still to come. It may be called again, and before the first piece."""
        ...


@dataclass
class Reply:
    """An answer, whole or in pieces. Close the pieces (`aclose`) when you stop reading them, also before the first."""

    content: bytes | Pieces
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """A model behind a name."""

    upstream: bool
    created: int
    """When it began to serve, in seconds since 1970."""
    one_message: bool
    """Whether it reads one message, and no chat with earlier turns."""

    async def respond(self, call: Call) -> Reply:
        """Answer a call. Raises ApiError. A stream that fails later ends with an event that holds the error."""
        ...

    async def start(self) -> None: ...

    async def close(self, grace: float) -> None:
        """Let running answers end for `grace` seconds, then end them."""
        ...

    async def swap(self, path: str) -> bool:
        """Load another checkpoint and put it in place. Returns whether the old one had to end first.

        New requests get the new one, running ones end on the old. Raises UserError if it cannot be loaded.
        """
        ...

    def state(self) -> dict[str, Any]:
        """ "status" is "ok" or says what is wrong, as /healthz shows it. "path": what is loaded, "" for an upstream."""
        ...
