"""What stands before every route, on a small application of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from heedful.web.pages import entry
from heedful.web.security import guard
from heedful.web.security.guard import Guard, is_same_origin


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


def client(secure: bool = False) -> TestClient:
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in ("/", "/import")]
    app = Starlette(routes=routes)
    app.add_middleware(
        Guard, body_mb=0.001, upload_mb=0.01, uploads=re.compile("POST /import"),
        address="https://testserver" if secure else "http://testserver",
        refuse=lambda request, status, words: PlainTextResponse(words, status),
    )  # fmt: skip
    return TestClient(app, headers={"Origin": "http://testserver"})


def test_headers_are_on_every_answer_even_a_refusal() -> None:
    there = client()
    for answer in (there.get("/"), there.get("/nowhere"), there.post("/", content=b"x" * 2000)):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy["script-src"], policy["style-src"], policy["form-action"]} == {"'self'"}
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers
    assert "max-age=31536000" in client(secure=True).get("/").headers["strict-transport-security"]


def test_a_request_is_as_large_as_its_address_allows() -> None:
    there = client()
    assert there.post("/", content=b"x" * 1000).text == "1000"
    assert there.post("/", content=b"x" * 1001).status_code == 413
    assert there.post("/import", content=b"x" * 10_000).text == "10000"
    assert there.post("/import", content=b"x" * 10_001).status_code == 413


def test_a_request_in_pieces_is_counted() -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 300

    answer = client().post("/", content=pieces())
    assert (answer.status_code, "0.001 MB" in answer.text) == (413, True)


def test_only_routes_that_take_files_take_large_bodies() -> None:
    """A body of JSON is parsed before anybody is asked who they are. 60 MB of it stop a server for half a minute."""
    from heedful.web.app import ROUTERS, UPLOADS

    routes = [(method, route) for router in ROUTERS for route in router.routes for method in route.methods]  # type: ignore[attr-defined]
    taking = {(method, route.path) for method, route in routes if UPLOADS.fullmatch(f"{method} {route.path}")}  # type: ignore[attr-defined]
    assert taking == {("POST", f"/api/projects/{{project}}/{path}") for path in ("items", "items/preview", "scores")}
    json = [route for method, route in routes if getattr(route, "body_field", None) is not None]
    assert len(json) > 30
    for name in ("items", "scores", "preview"):  # of projects, items and people
        for route in json:
            path = re.sub(r"\{\w+\}", name, route.path)  # type: ignore[attr-defined]
            assert not any(UPLOADS.fullmatch(f"{method} {path}") for method in route.methods), path  # type: ignore[attr-defined]


def test_lists_and_objects_of_a_request_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_PARTS", 100)
    there = client()
    assert there.post("/", content=b"[{" * 50).text == "100"
    answer = there.post("/", content=b"[{" * 50 + b"[")
    assert (answer.status_code, "More than 100 lists and objects" in answer.text) == (413, True)
    assert there.post("/import", content=b"[{" * 500).text == "1000"


SAME, OTHER = "http://app.example:8000", "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin", "origin": SAME}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": SAME}, True),
        ({"sec-fetch-site": "cross-site", "origin": OTHER}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://other.app.example:8000"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-origin", "origin": OTHER}, False),
        ({"origin": "http://app.example:9000"}, False),
        ({"origin": "null"}, False),
        ({}, False),
        ({"authorization": "Basic eA=="}, False),
        ({"authorization": "Bearer x"}, True),
    ],
)
def test_a_write_comes_from_a_page_of_this_server_or_shows_a_token(headers: dict[str, str], allowed: bool) -> None:
    assert is_same_origin(Headers({"host": "app.example:8000", **headers})) is allowed


@pytest.mark.parametrize(
    ("host", "origin", "address", "allowed"),
    [
        ("upstream", "http://localhost:8913", "http://localhost:8913", True),  # a proxy that asks for another host
        ("label.example.org:443", "https://label.example.org", "https://label.example.org", True),
        ("Label.Example.org", "https://label.example.org", "https://label.example.org/label", True),
        ("label.example.org:80", "http://label.example.org", "http://localhost:8000", True),
        ("[::1]:8000", "http://[::1]:8000", "http://localhost:8000", True),
        ("upstream", "http://localhost:8914", "http://localhost:8913", False),
        ("upstream", "http://label.example.org", "https://label.example.org", False),
        ("upstream", "https://evil.example", "https://label.example.org", False),
        ("label.example.org", "https://label.example.org.evil.example", "https://label.example.org", False),
        ("label.example.org", "https://label.example.org:x", "https://label.example.org", False),
        ("", "null", "https://label.example.org", False),
        ("label.example.org", "ftp://label.example.org", "https://label.example.org", False),
    ],
)
def test_the_address_that_people_type_is_this_server(host: str, origin: str, address: str, allowed: bool) -> None:
    assert is_same_origin(Headers({"host": host, "origin": origin}), address) is allowed


def test_a_foreign_write_does_not_arrive_and_a_foreign_read_does() -> None:
    there = client()
    assert there.post("/", headers={"Origin": OTHER}).status_code == 403
    assert there.get("/", headers={"Origin": OTHER}).status_code == 200


@pytest.mark.parametrize(
    ("address", "followed"),
    [
        ("/work/tea?a=b", "/work/tea?a=b"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/{x}/evil.example", "/"),  # a script fills braces, and nothing would be left of these
        ("/a\nb", "/"),
        ("/../other", "/"),
        ("/%2E%2e/other", "/"),
    ],
)
def test_the_sign_in_page_leads_nobody_to_another_site(address: str, followed: str) -> None:
    assert entry._local("", address) == followed
    assert entry._local("/label", f"/label{address}") == ("/label" + followed if followed != "/" else "/label/")
    assert entry._local("/label", address) == "/label/"
