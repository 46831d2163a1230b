"""Scripts in every text that people and models give, shown in Chromium to labelers and leads. None may run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright
from starlette.testclient import TestClient

from heedful.feedback import people, projects
from siege.table import Outcome
from siege.work import Work
from web.browser import led
from web.browser.place import ARGUMENTS, CHROMIUM, Place, Server, new_place

RUN = "window.hacked=1"
AWAY = "https://example.invalid"
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<body onload={RUN}>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<a href=javascript:{RUN}>x</a>",
    f"[x](javascript:{RUN})",
    f"[x](JaVaScRiPt:{RUN})",
    f"[x](&#106;avascript:{RUN})",
    f"[x](data:text/html,<script>{RUN}</script>)",
    f"![x](javascript:{RUN})",
    f"![x]({AWAY}/x.png)",
    f'![x](x" onerror="{RUN})',
    f"<javascript:{RUN}>",
    f"[x]: javascript:{RUN}\n[x]",
    f'"><script>{RUN}</script>',
    f"'><script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"<!--><script>{RUN}</script>-->",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f"<math><mtext><script>{RUN}</script></mtext></math>",
    f"$\\text{{<script>{RUN}</script>}}$",
    f"$\\href{{javascript:{RUN}}}{{x}}$",
    f"$$\\unicode{{60}}img src=x onerror={RUN}>$$",
    f"```html\n<script>{RUN}</script>\n```",
    f"`<img src=x onerror={RUN}>`",
    f"<details open ontoggle={RUN}>x</details>",
    f"<input autofocus onfocus={RUN}>",
    f"<video><source onerror={RUN}></video>",
    f"<object data=javascript:{RUN}>",
    f"<embed src=javascript:{RUN}>",
    f"<form action=javascript:{RUN}><button>x</button></form>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>",
    f"<link rel=stylesheet href={AWAY}/x.css>",
    f"<base href={AWAY}/>",
    f"<style>@import '{AWAY}/x.css'</style>",
    f'<p style="background:url({AWAY}/x.png)">x</p>',
    "{{ 7 * 7 }}{% include 'base.html' %}",
    f"${{{RUN}}}",
    f"<template><script>{RUN}</script></template>",
    f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    f"\u202e<script>{RUN}</script>",
    f"<scr\0ipt>{RUN}</scr\0ipt>",
    f"＜script＞{RUN}＜/script＞",
    f"<x onclick={RUN} autofocus tabindex=1 onfocus={RUN}>",
)
EACH = 6  # payloads of a project
LABELER = ("ranking", "guide", "history", "progress", "topics")
LEAD = ("", "/people", "/items", "/quality", "/snapshots", "/instructions", "/settings", "/settings/rubric", "/log")


def attack(folder: Path, work: Work) -> None:
    server, groups = Server(folder), -(-len(PAYLOADS) // EACH)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for number in work.parts(groups if work.share >= 0.1 else 1):
                context = browser.new_context()
                context.set_default_timeout(30_000)
                _show(work.outcome, server, context, list(PAYLOADS[EACH * number : EACH * (number + 1)]))
                context.close()
            browser.close()
    finally:
        server.stop()
        server.store.close()


def _show(outcome: Outcome, server: Server, context: BrowserContext, texts: list[str]) -> None:
    """Put the texts wherever somebody can, and open the pages."""
    place = new_place(server, context, texts[0])
    place.settings(rate_first=False, rich_text=True, markdown=True)
    guide = "\n\n".join(texts)
    now = datetime.now(UTC)
    with server.store.writing() as db:
        projects.write_instruction(db, place.project_id, "guide", guide, now, by=None)
        lead = people.add_person(db, f"Lead {place.project_id}", None, now)
        people.join(db, place.project_id, lead.id, "lead", now)
        people.state_topics(db, place.project_id, place.person_id, [text[:200] for text in texts])
        people.audit(db, lead.id, texts[0][:60], texts[-1][:200], {"why": texts[0]}, place.project_id, now=now)
        _, session = people.new_token(db, lead.id, "session", now)
    for text in texts:
        row: dict[str, Any] = {"prompt": text, "completions": [text, text + "."], "constraint": text, "use_case": text}
        place.add("ranking", row, source=text[:100])
    ref, event = _write(server, place, lead.id, texts)
    said: list[str] = []
    _listen(place.page, said)
    for path in (*LABELER, f"history/{event}"):
        _visit(outcome, place, place.page, f"{place.address}/{path}", said)
    page = led.sign_in(server, context, session)
    _listen(page, said)
    for path in (*LEAD, f"/items/{ref}", f"/people/{place.person_id}"):
        _visit(outcome, place, page, f"{server.address}/lead/{place.name}{path}", said)


def _write(server: Server, place: Place, lead_id: int, texts: list[str]) -> tuple[str, int]:
    """The texts as notes, drafts, reports, titles, names of flags and explanations. Returns an item and a judgement."""
    api, now = f"/api/projects/{place.name}", datetime.now(UTC)
    with server.store.writing() as db:
        secrets = [people.new_token(db, who, "api", now, name=texts[0][:80])[1] for who in (place.person_id, lead_id)]
    labeler, lead = (TestClient(server.app, headers={"Authorization": f"Bearer {secret}"}) for secret in secrets)

    def send(client: TestClient, method: str, path: str, body: Any = None) -> Any:
        answer = client.request(method, f"{api}{path}", json=body)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    flags = [{"name": f"flag_{number}", "words": text[:200]} for number, text in enumerate(texts)]
    rubric = {
        "own_flags": flags,
        "order_rule": texts[0],
        "choice_rule": texts[-1],
        "use_cases": [text[:200] for text in texts],
    }
    send(lead, "PATCH", "", {"title": texts[0][:200], "settings": {"rubric": rubric}})
    send(lead, "POST", "/invitations", {"notes": [text[:200] for text in texts]})
    shown = {}
    for text in texts:
        task = send(labeler, "POST", "/next")["task"]
        answer = {"ranking": [[0], [1]], "ratings": [{"overall": 1}] * 2, "note": text}
        body = {"answer": answer, "idempotency_key": f"key of {task['lease']}"}
        shown[task["ref"]] = send(labeler, "POST", f"/tasks/{task['lease']}/submit", body)["event"]
    ref, event = next(iter(shown.items()))
    send(lead, "POST", f"/items/{ref}/gold", {"answer": "1 > 2", "explanation": texts[0]})
    send(lead, "POST", f"/events/{event}/send-back", {"note": texts[-1]})
    place.add("ranking", {"prompt": texts[0], "completions": [texts[0], texts[-1] + "."]})
    task = send(labeler, "POST", "/next")["task"]
    send(labeler, "PUT", f"/tasks/{task['lease']}/draft", {"draft": {"note": texts[0]}})
    send(labeler, "POST", f"/tasks/{task['lease']}/personal-data", {"note": texts[-1]})
    return ref, event


def _listen(page: Page, said: list[str]) -> None:
    page.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if "example.invalid" in request.url else None)


def _visit(outcome: Outcome, place: Place, page: Page, address: str, said: list[str]) -> None:
    answer = page.goto(address, wait_until="load")
    wrong = [f"asked for {one}" for one in said]
    said.clear()
    wrong += [f"status {answer.status}"] if answer is None or answer.status >= 400 else []
    wrong += ["a script ran"] if page.evaluate("window.hacked") is not None else []
    links = "[...document.querySelectorAll('a[href],img[src]')].map((e) => e.href || e.src)"
    foreign = f"{links}.filter((link) => /^(javascript|data:text)/i.test(link)).length"
    wrong += ["a link that runs a script"] if page.evaluate(foreign) else []
    outcome.add([f"{address}: {line}" for line in wrong])
