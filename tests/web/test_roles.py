"""Every route for every role. A route without an entry here fails; so does an entry without a route."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from web.site import Site

WHO = ("anonymous", "outsider", "reader", "labeler", "held_out", "lead", "admin")
# Whom the server lets in: it may still refuse what they send (400, 404, 409, 422), but not them.
EVERYBODY = set(WHO)
SIGNED_IN = EVERYBODY - {"anonymous"}
ADMINS = {"admin"}
LEADS = {"lead", "admin"}  # an administrator leads every project
READERS = LEADS | {"reader"}
WORKERS = {"lead", "labeler", "held_out"}  # who is in the project; a lead may try the work
MEMBERS = READERS | WORKERS

EXPECTED: dict[tuple[str, str], set[str]] = {
    ("GET", "/static/{digest}/{name:path}"): EVERYBODY,
    ("GET", "/"): SIGNED_IN,
    ("GET", "/login"): EVERYBODY,
    ("GET", "/join/{token}"): EVERYBODY,
    ("GET", "/password/{token}"): EVERYBODY,
    ("GET", "/projects"): SIGNED_IN,
    ("GET", "/account"): SIGNED_IN,
    ("GET", "/api/openapi.json"): EVERYBODY,
    ("GET", "/api/docs"): EVERYBODY,
    ("POST", "/api/login"): EVERYBODY,
    ("POST", "/api/logout"): EVERYBODY,
    ("POST", "/api/join"): EVERYBODY,
    ("POST", "/api/password"): EVERYBODY,
    ("POST", "/api/markdown"): SIGNED_IN,
    ("GET", "/api/me"): SIGNED_IN,
    ("POST", "/api/me/password"): SIGNED_IN,
    ("GET", "/api/me/tokens"): SIGNED_IN,
    ("POST", "/api/me/tokens"): SIGNED_IN,
    ("DELETE", "/api/me/tokens/{token_id}"): SIGNED_IN,
    ("GET", "/api/projects"): SIGNED_IN,
    ("POST", "/api/projects"): ADMINS,
}
OF_PROJECT: dict[str, dict[str, set[str]]] = {
    "/api/projects/{project}": {
        "GET ": MEMBERS,
        "PATCH ": LEADS,
        "POST /next": WORKERS,
        "GET /tasks/{lease}": WORKERS,
        "PUT /tasks/{lease}/draft": WORKERS,
        "POST /tasks/{lease}/submit": WORKERS,
        "POST /tasks/{lease}/skip": WORKERS,
        "POST /tasks/{lease}/personal-data": WORKERS,
        "POST /undo": WORKERS,
        "GET /history": WORKERS,
        "GET /my-progress": WORKERS,
        "GET /guide": MEMBERS,
        "GET /consent": MEMBERS,
        "POST /consent": WORKERS,
        "PUT /topics": WORKERS,
        "GET /progress": READERS,
        "GET /agreement": READERS,
        "POST /items": LEADS,
        "POST /items/preview": LEADS,
        "POST /prompt-requests": LEADS,
        "POST /scores": LEADS,
        "GET /items": READERS,
        "GET /items/{ref}": READERS,
        "PATCH /items": LEADS,
        "PATCH /items/{ref}": LEADS,
        "POST /items/{ref}/gold": LEADS,
        "POST /items/{ref}/redact": LEADS,
        "POST /events/{event}/redact": LEADS,
        "POST /events/{event}/send-back": LEADS,
        "GET /people/{person_id}/screening": READERS,
        "POST /models": LEADS,
        "GET /models": READERS,
        "GET /unrated": LEADS,
        "POST /events/{event}/rating": LEADS,
        "POST /people/{person_id}/password-link": LEADS,
        "GET /decisions": READERS,
        "POST /decisions/{decision_id}/reverse": LEADS,
        "POST /decisions/{decision_id}/restore": LEADS,
        "POST /edits/{exchange_id}": LEADS,
        "GET /sampling": READERS,
        "POST /sampling": LEADS,
        "POST /sampling/{number}/queue": LEADS,
        "POST /sampling/{number}/stop": LEADS,
        "POST /sampling/{number}/resume": LEADS,
        "POST /rubric-preview": LEADS,
        "GET /people": READERS,
        "PATCH /people/{person_id}": LEADS,
        "DELETE /people/{person_id}": LEADS,
        "POST /invitations": LEADS,
        "DELETE /invitations/{invitation_id}": LEADS,
        "GET /snapshots": READERS,
        "POST /snapshots": LEADS,
        "GET /snapshots/{snapshot_id}/{file}": READERS,
        "GET /instructions/{kind}": READERS,
        "POST /instructions/{kind}": LEADS,
        "GET /audit": READERS,
    },
    "/lead/{project}": {
        "GET ": READERS,
        "GET /people": READERS,
        "GET /people/{person_id}": READERS,
        "GET /import": LEADS,
        "GET /items": READERS,
        "GET /items/{ref}": READERS,
        "GET /users": READERS,
        "GET /quality": READERS,
        "GET /snapshots": READERS,
        "GET /sampling": READERS,
        "GET /rounds": READERS,
        "GET /instructions": READERS,
        "GET /settings": LEADS,
        "GET /settings/{tab}": LEADS,
        "GET /settings/rubric": LEADS,
        "GET /log": READERS,
    },
    "/work/{project}": dict.fromkeys(
        "GET ;GET /consent;GET /guide;GET /history;GET /history/{event};GET /progress;GET /text/{lease}/{part};"
        "GET /topics;GET /{kind}".split(";"),
        WORKERS,
    ),
}
for prefix, routes in OF_PROJECT.items():
    for name, allowed in routes.items():
        EXPECTED[name.split(" ")[0], prefix + name.split(" ")[1]] = allowed
FILLED = {
    "project": "tea", "token": "none", "token_id": "1", "lease": "none", "ref": "none", "event": "999",
    "person_id": "999", "invitation_id": "999", "decision_id": "999",
    "exchange_id": "none", "snapshot_id": "999", "file": "records.jsonl",
    "kind": "guide", "number": "9", "part": "prompt", "digest": "none", "name:path": "none",
}  # fmt: skip
MISSING = (401, 303)  # the sign-in page, or the API's word for it


def routes_of(site: Site) -> set[tuple[str, str]]:
    found = set()
    for route in iter_route_contexts(site.app.routes):
        assert isinstance(route.original_route, APIRoute), f"a route of another kind: {route}"
        found |= {(method, str(route.path)) for method in (route.methods or set()) - {"HEAD"}}
    return found


@pytest.mark.medium
def test_every_route_has_its_entry(site: Site) -> None:
    assert routes_of(site) ^ set(EXPECTED) == set()


@pytest.mark.medium
def test_only_the_api_writes(site: Site) -> None:
    """Pages are read."""
    assert {path for method, path in routes_of(site) if method != "GET" and not path.startswith("/api/")} == set()


@pytest.mark.medium
@pytest.mark.parametrize("who", WHO)
def test_who_may_come_in(site: Site, who: str) -> None:
    """By cookie, and, under /api/, by token too."""
    site.add_rankings(2)
    wrong = []
    for by_token in (False, True):
        if by_token and who == "anonymous":
            continue
        for (method, path), allowed in sorted(EXPECTED.items()):
            if path == "/api/logout" or (by_token and not path.startswith("/api/")):
                continue
            client = site.script(who) if by_token else site.browser(None if who == "anonymous" else who)
            address = path
            for name, value in FILLED.items():
                address = address.replace(f"{{{name}}}", value)
            status, there = _status(client, method, address)
            if who in allowed:
                good = status < 500 and status not in (401, 403) and there != "/login"
                good = good or path in ("/api/login", "/api/join")
            elif who == "anonymous":
                good = status == 401 or (status == 303 and there.startswith("/login"))
            elif "{project}" in path:
                good = status == (404 if who == "outsider" else 403)
            else:
                good = status == 403
            if not good:
                wrong.append(f"{method} {path} by {'token' if by_token else 'cookie'}: {status} {there}")
    assert wrong == []


def _status(client: object, method: str, address: str) -> tuple[int, str]:
    from starlette.testclient import TestClient

    assert isinstance(client, TestClient)
    answer = client.request(method, address, json={} if address.startswith("/api/") and method != "GET" else None)
    return answer.status_code, answer.headers.get("location", "").partition("?")[0]
