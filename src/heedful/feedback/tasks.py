"""A task as its labeler sees it, or why there is none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, computed_field
from pydantic.dataclasses import dataclass as record

from heedful.config import UserError
from heedful.data.records import Prompt, PromptText, Record
from heedful.feedback import judgements
from heedful.feedback.schema import Kind

T = TypeVar("T")
Hidden = Annotated[T, Field(exclude=True)]
"""A field for pages that the API leaves out."""
SHOWN = ConfigDict(use_attribute_docstrings=True)
"""Of the records that the API returns: it shows the docstrings of their fields."""

Why = Literal["paused", "consent", "archived", "no_role", "screened", "in_other_hands", "empty"]
"""Why a labeler gets no task.

paused: a lead paused the account. consent: the labeler has not agreed to the current text. archived: the project is
closed. no_role: the role includes no work. screened: the onboarding test is done, and a lead decides. in_other_hands:
others hold what is left. empty: nothing is left.
"""


class Refused(UserError):
    """The store did not take a submission, draft, skip or undo.

    `code` is for programs: unknown (no such lease of this person), lost (somebody else has the item now), done,
    invalid, nothing_to_undo, or one of `Why`: paused, archived, no_role.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@record(frozen=True, config=SHOWN)
class Task:
    """An item as its labeler sees it. Nothing here tells a gold item from another, or who wrote a completion."""

    lease: str
    """The token that names the lease."""
    kind: Kind
    ref: str
    """The item's name in addresses."""
    payload: Hidden[Record]
    """The item's record (`judgements.PAYLOADS`). Its completions are not shuffled."""
    completions: tuple[str, ...]
    """In the order to be shown. Of a choice the two answers. Empty for demonstrations and prompts."""
    order: Hidden[tuple[int, ...]]
    """Place -> index in the payload."""
    draft: Any
    """What `save_draft` got last. None: nothing yet."""
    drafted: datetime | None
    """When the draft was saved."""
    expires: datetime
    practice: bool
    """Practice items answer back after submission, and may say so."""
    corrects: int | None
    """The event that the answer will replace: it was undone or sent back. `draft` is then what was submitted."""
    sent_back: str | None
    """What a lead wrote when they sent the judgement back. null: nobody sent it back."""
    instructions: int | None
    """Version of the guide under which the task is given. The judgement will name it."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def prompt(self) -> PromptText | None:
        """None where the labeler writes the prompt."""
        return self.payload.prompt if isinstance(self.payload, Prompt) else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def request(self) -> dict[str, str | None] | None:
        """Of an item that asks for a prompt: form, use_case, about."""
        if not isinstance(self.payload, judgements.PromptRequest):
            return None
        return {"form": self.payload.form, "use_case": self.payload.use_case, "about": self.payload.about}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def constraint(self) -> str | None:
        """What the prompt asks for beyond its task, in words."""
        return judgements.constraint(self.payload)


@record(frozen=True, config=SHOWN)
class Nothing:
    """No task, the reason, and when there may be one (the end of another labeler's lease)."""

    why: Why
    retry: datetime | None = None
