"""What the playground's API takes and returns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from heedful.feedback.chats import TurnState
from heedful.web.api.base import Body, Out
from heedful.web.security.access import Id

MOST_TEXT = 200_000  # characters of a message
MOST_MESSAGES = 1_000  # of a conversation that is not stored
Verdict = Literal["left", "right", "tie", "bad"]
Key = Annotated[str, Field(pattern=r"^[!-~]{1,100}$")]
Message = Annotated[str, Field(pattern=r"\S", max_length=MOST_TEXT)]


class ChatSettings(Body):
    """How the models of a conversation answer."""

    model: str | None = Field(None, max_length=200)
    """Name of the model. None: the first that is served."""
    compare: bool = False
    """Whether two models answer at once, without their names."""
    system: str = Field("", max_length=20_000)
    """The system prompt."""
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1, le=32_768)
    seed: int | None = Field(None, ge=0, lt=2**31)

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings that a model gets."""
        chosen = self.model_dump(include={"temperature", "top_p", "max_tokens"})
        return chosen | ({"seed": self.seed} if self.seed is not None else {})


class NewChat(Body):
    """The first message of a conversation that is stored."""

    text: Message
    settings: ChatSettings = ChatSettings()


class NewTurn(Body):
    """A message. `parent` is the answer that it follows, None at the beginning. An edited one has the same parent."""

    parent: Id | None
    text: Message
    key: Key
    """Of this request. A request that comes twice is taken once."""


class Again(Body):
    """Another answer to the message `parent`."""

    parent: Id
    key: Key


class ChatChange(Body):
    """Changes of a conversation. What is left out stays."""

    title: str | None = Field(None, pattern=r"\S", max_length=200)
    tip: Id | None = None
    """The last turn of the branch that is shown."""
    settings: ChatSettings | None = None


class Thumb(Body):
    """A thumb for an answer. None takes it back."""

    thumb: Literal["up", "down"] | None
    reasons: list[Annotated[str, Field(max_length=40)]] = Field([], max_length=10)
    comment: str = Field("", max_length=5_000)


class Edit(Body):
    """An answer as it should be."""

    text: Message


class Choice(Body):
    """Which of two answers is better."""

    verdict: Verdict


class PassingMessage(Body):
    role: Literal["user", "assistant"]
    content: str = Field(max_length=MOST_TEXT)


class Passing(Body):
    """A conversation that is not stored: all of it comes with each request."""

    messages: list[PassingMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    settings: ChatSettings = ChatSettings()


class ChatLine(Out):
    """A conversation in the list."""

    ref: str
    title: str
    updated: datetime


class TurnOut(Out):
    """A turn. `html` is made from a text that is whole."""

    id: int
    parent: int | None
    role: Literal["user", "assistant"]
    text: str
    html: str | None
    rich: bool
    """Whether the HTML is Markdown, or plain text with signs for invisible characters."""
    state: TurnState
    note: str | None
    """What its reader is told about it, such as why it ends early."""
    model: str | None
    """None for a message, and for compared answers before the choice."""
    pair: str | None
    place: int | None
    verdict: dict[str, Any] | None
    thumb: dict[str, Any] | None
    edit: str | None


class ChatOut(Out):
    """A conversation with all its branches."""

    ref: str
    title: str
    settings: ChatSettings
    tip: int | None
    turns: list[TurnOut]


class TurnsOut(Out):
    """The turns that a request made, and the new tip."""

    tip: int | None
    turns: list[TurnOut]


class ChatConsent(Body):
    """Consent to storing. `version` is that of the text, null withdraws."""

    version: str | None = Field(max_length=100)
