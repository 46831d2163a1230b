"""A labeler's own history, as pages."""

from __future__ import annotations

import pytest

from heedful.data.records import Completions, Prompt, Record
from heedful.feedback import items, work
from heedful.feedback.judgements import PromptRequest, Versus
from heedful.feedback.schema import Kind
from web.site import Site

SHOWN: dict[Kind, tuple[Record, str]] = {
    "ranking": (Completions(prompt="Why?", completions=["One.", "Two."]), "Two."),
    "choice": (Versus.model_validate({"prompt": "Why?", "a": {"text": "One."}, "b": {"text": "Two."}}), "Two."),
    "demonstration": (Prompt(prompt="Write about tea."), "Write about tea."),
    "prompt": (PromptRequest(form="user_based", use_case="chat", about="A desk for visitors."), "A desk for visitors."),
}


@pytest.mark.medium
@pytest.mark.parametrize("kind", SHOWN)
def test_a_skip_is_shown_and_can_be_taken_back(site: Site, kind: Kind) -> None:
    person, now = site.ids["labeler"], site.now
    site.settle(kinds=list(SHOWN))
    row, text = SHOWN[kind]
    with site.store.writing() as db:
        items.add(db, site.project_id, kind, [row], now, by=None)
        task = work.next_task(db, site.project_id, person, now)
        assert isinstance(task, work.Task)
        event = work.skip(db, person, task.lease, "language", now, idempotency_key="skip one")
    labeler = site.browser("labeler")
    page = labeler.get(f"/work/tea/history/{event}")
    assert page.status_code == 200
    assert "You skipped it" in page.text
    assert text in page.text
    assert f'data-take-back="{event}"' in page.text
    back = labeler.post("/api/projects/tea/undo", json={"event": event})
    assert (back.status_code, back.json()["lease"]) == (200, task.lease)
