"""Tasks as the labelers' templates show them. Nothing here tells who wrote an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from heedful.data.records import Completions, Message, Prompt, PromptText, Record, as_text
from heedful.feedback import projects, work
from heedful.feedback.judgements import PromptRequest, completions, constraint
from heedful.web.text import vocabulary

SHORT_ANSWER = 400  # characters: up to here, three columns of answers can be read
BEGINNING = 160  # characters of a prompt in a list
SOURCES = {"api": "API", "few_shot": "few-shot", "user_based": "user-based"}


@dataclass(frozen=True)
class View:
    """A task, open or done, as the templates of `labeler/` show it."""

    kind: str
    lease: str
    here: str
    """The address of the labelers' pages of the project."""
    prompt: PromptText
    about: list[str]
    constraint: str | None
    answers: tuple[str, ...]
    draft: Any
    form: str
    use_case: str | None
    drafted: int = 0
    """When the draft was saved, in milliseconds of the server's clock; 0: never."""
    lasts: float = 0
    """Seconds until the lease ends."""
    seconds: float = 0
    """Spent on the judgement that this one will replace."""
    practice: bool = False
    again: bool = False
    """The labeler took it back and submits it again, or a lead sent it back."""
    note: str | None = None
    """What a lead wrote when they sent it back."""
    rate_first: bool = False
    markdown: bool = False
    length_hint: str | None = None
    rich: bool = False
    """Whether prompt and answers are shown as Markdown."""
    guide: int | None = None
    """Version of the guide under which the task is given."""

    @property
    def short(self) -> bool:
        return max(map(len, self.answers), default=0) <= SHORT_ANSWER

    def whole(self, part: str | int) -> str | None:
        """The address of a whole text that is too long for a page."""
        return f"{self.here}/text/{self.lease}/{part}" if self.lease else None


def view(task: work.Task, here: str, settings: projects.ProjectSettings, lasts: float, seconds: float = 0) -> View:
    """The view of a task. `lasts`: seconds until its lease ends."""
    least, most = settings.demonstration_chars
    hint = f"at least {least:,} characters" if least > 1 else None
    if most < type(settings)().demonstration_chars[1]:
        hint = f"{least:,} to {most:,} characters"
    return View(
        kind=task.kind,
        lease=task.lease,
        here=here,
        answers=task.completions,
        draft=task.draft,
        drafted=round(task.drafted.timestamp() * 1000) if task.drafted else 0,
        lasts=lasts,
        seconds=seconds,
        practice=task.practice,
        again=task.corrects is not None,
        note=task.sent_back,
        rate_first=settings.rate_first,
        markdown=settings.markdown,
        rich=settings.rich_text,
        guide=task.instructions,
        length_hint=hint if task.kind == "demonstration" else None,
        **_of_payload(task.payload),
    )


EXAMPLE = Completions(
    prompt="Write a short thank-you note to a neighbour who watered my plants.",
    use_case="generation",
    completions=["Thank you for looking after my plants. They have never been greener!", "Plants need water."],
    constraint="under 60 words",
)


def example() -> View:
    """A ranking that is in no project, to show what a rubric looks like."""
    answers = tuple(EXAMPLE.completions)
    return View(kind="ranking", lease="", here="", answers=answers, draft=None, **_of_payload(EXAMPLE))


def past_view(past: work.Past, here: str, settings: projects.ProjectSettings) -> View:
    """The view of a past task, as it was when the judgement was made."""
    assert past.payload is not None
    texts = completions(past.payload)
    shown = tuple(texts[index] for index in past.order)
    about = _of_payload(past.payload)
    return View(
        kind=past.kind, lease="", here=here, answers=shown, draft=past.answer, rich=settings.rich_text, **about
    )  # fmt: skip


def _of_payload(payload: Record) -> dict[str, Any]:
    assert isinstance(payload, Prompt | PromptRequest)
    if isinstance(payload, PromptRequest):
        return {
            "prompt": payload.about or "",
            "about": [payload.use_case] if payload.use_case else [],
            "constraint": constraint(payload),
            "form": payload.form,
            "use_case": payload.use_case,
        }
    source, use_case = payload.source, payload.use_case
    words = [SOURCES.get(source, source.replace("_", " ")) if source else None, use_case]
    return {
        "prompt": payload.prompt,
        "about": [word for word in words if word],
        "constraint": constraint(payload),
        "form": "",
        "use_case": use_case,
    }


@dataclass(frozen=True)
class Empty:
    """The page of a labeler who gets no task."""

    title: str
    lines: tuple[str, ...]
    again: bool = True
    undo: bool = True
    """Whether a submission can be taken back here."""
    retry: datetime | None = None
    """When there may be a task."""


@dataclass(frozen=True)
class PastEntry:
    """One line of a labeler's history."""

    event: int
    kind: str
    when: datetime
    stands: bool
    beginning: str
    """Of the prompt."""
    said: str
    """The judgement in words."""
    seconds: float | None
    may_undo: bool
    sent_back: bool = False


def entry(past: work.Past) -> PastEntry:
    payload = past.payload
    prompt = payload.prompt if isinstance(payload, Prompt) else (past.answer or {}).get("prompt", "")
    beginning = " ".join(_text(prompt)[: 3 * BEGINNING].split())[:BEGINNING]
    may_undo = past.stands and past.event_kind in ("judgement", "skip")
    return PastEntry(
        past.event,
        past.kind,
        past.when,
        past.stands,
        beginning,
        _said(past),
        past.seconds,
        may_undo,
        past.sent_back is not None,
    )


def _text(prompt: str | list[Any]) -> str:
    """The text of a prompt, from a record or from a judgement."""
    return prompt if isinstance(prompt, str) else as_text([Message.model_validate(turn) for turn in prompt])


def _said(past: work.Past) -> str:
    if past.event_kind == "skip":
        reason = (past.answer or {}).get("reason", "")
        return f"Skipped: {dict(vocabulary.SKIP_REASONS).get(reason, reason)}"
    answer = past.answer
    if answer is None:
        return "deleted by the lead"
    if past.kind == "ranking":
        tiers = " > ".join(
            " = ".join(vocabulary.LETTERS[place] for place in sorted(tier)) for tier in answer["ranking"]
        )
        return f"{tiers}, none acceptable" if answer.get("none_acceptable") else tiers
    if past.kind == "choice":
        if answer["preferred"] == "tie" and answer.get("none_acceptable"):
            return "both are bad"
        return {"a": "A is better", "b": "B is better", "tie": "equally good"}[answer["preferred"]]
    text = answer["completion"] if past.kind == "demonstration" else _text(answer["prompt"])
    return f"{len(text.split()):,} words"


EMPTY = {
    "empty": Empty(
        "No more {kind} for now",
        ("You have done every item that is there for you. The lead of the project can add more.",),
    ),
    "in_other_hands": Empty(
        "Others are working on the remaining {kind}",
        ("Other labelers hold the items that are left. Items that they do not finish come back to the queue.",),
    ),
    "paused": Empty(
        "Your account is paused",
        (
            "A lead of this project has paused it. Your submissions are safe, and your drafts are kept.",
            "If you do not know why, ask them.",
        ),
        again=False,
        undo=False,
    ),
    "archived": Empty(
        "This project is closed",
        ("It gives out no more work. You can still read your history. Thank you for your work.",),
        again=False,
        undo=False,
    ),
    "no_role": Empty(
        "No such work for your account",
        ("Your role in this project does not include {kind}. A lead can change your role.",),
        again=False,
    ),
    "screened": Empty(
        "Your answers are with the lead",
        ("You have done every item of the screening. The work begins when the lead has read your answers.",),
    ),
    "consent": Empty("Please agree first", ("The terms have changed. Read them, then continue.",)),
}


def empty(nothing: work.Nothing, kind: str) -> Empty:
    found = EMPTY[nothing.why]
    lines = [line.format(kind=vocabulary.KINDS[kind].lower()) for line in found.lines]
    title = found.title.format(kind=vocabulary.KINDS[kind].lower())
    return replace(found, title=title, lines=tuple(lines), retry=nothing.retry)
