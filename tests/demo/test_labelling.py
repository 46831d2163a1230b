"""`heedful label`: what a newcomer is told, and that the links lead where they say."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from heedful import terminal
from heedful.cli import app
from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Completions
from heedful.demo import labelling
from heedful.demo.labelling import welcome
from heedful.feedback.store import Store
from heedful.web.app import create_app
from heedful.web.settings import WebSettings

HOST = "http://testserver"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(tmp_path / "heedful.db")
    yield made
    made.close()


def newcomer(store: Store) -> TestClient:
    app = create_app(store, WebSettings(base_url=HOST))
    app.state.clock = lambda: NOW
    return TestClient(app, base_url=HOST, headers={"Origin": HOST})


def join(client: TestClient, line: str, name: str) -> httpx.Response:
    """Accepts the invitation that a line of `welcome` names, and opens the page that follows."""
    address = re.search(r"http\S+/join/(\S+)", line)
    assert address is not None
    sent = client.post("/api/join", json={"token": address[1], "name": name, "password": "three quiet words"})
    return client.get(sent.json()["page"]) if sent.is_success else sent


def agree(client: TestClient) -> httpx.Response:
    assert client.post("/api/projects/demo/consent", json={"version": 1}).status_code == 204
    return client.get("/work/demo")


@pytest.mark.medium
def test_the_first_start_has_one_link_for_a_lead_and_no_account(store: Store) -> None:
    where, link = welcome(store, HOST, None, NOW)
    assert where == "heedful is at http://testserver. Press Ctrl-C to stop it."
    assert join(newcomer(store), link, "ada").url.path == "/projects"
    assert "was used" in join(newcomer(store), link, "eve").text
    assert welcome(store, HOST, None, NOW) == [where]


@pytest.mark.medium
def test_the_only_lead_gets_a_link_to_a_new_password(store: Store) -> None:
    _, link = welcome(store, HOST, None, NOW)
    before = newcomer(store)
    join(before, link, "ada")
    _, told = welcome(store, HOST, None, NOW, "ada")
    address = told.split()[-1]
    client = newcomer(store)
    body = {"token": address.rpartition("/")[2], "password": "four other quiet words"}
    assert client.post("/api/password", json=body).status_code == 204
    assert client.post("/api/password", json=body).status_code == 404
    assert before.get("/projects").url.path == "/login"
    given = {"name": "ada", "password": "four other quiet words"}
    assert client.post("/api/login", json=given).status_code == 204
    assert client.get("/").url.path == "/projects"


def test_a_new_password_is_for_somebody_who_is_there(store: Store) -> None:
    with pytest.raises(UserError, match=r"^--new-password eve: no such person"):
        welcome(store, HOST, None, NOW, "eve")


@pytest.mark.medium
def test_a_demo_is_told_to_be_made_up_and_two_links_are_enough_to_rank(store: Store, tmp_path: Path) -> None:
    _, told, rank, _lead = welcome(store, HOST, tmp_path, NOW)
    assert told == (
        "The project 'The demo's small world' is ready to try, with made-up answers, because"
        f" {tmp_path}/demo has no finished demo (make demo)."
    )
    client = newcomer(store)
    asked = join(client, rank, "bea")
    assert asked.url.path == "/work/demo/consent"
    page = agree(client)
    assert page.url.path == "/work/demo/ranking"
    assert page.text.count('class="answer') >= 4
    assert len(welcome(store, HOST, tmp_path, NOW)) == 3  # the project is made once


@pytest.mark.medium
def test_a_finished_demo_gives_the_answers_of_its_model(store: Store, tmp_path: Path) -> None:
    row = Completions(
        prompt="Who paints?", completions=["mia.", "tom.", "ben.", "ann."], token_ids=[[1], [2], [3], [4]]
    )
    formats.write(tmp_path / "demo" / "world" / "ranked_prompts_4_sampled.jsonl", [row])
    assert "made-up answers" in welcome(store, HOST, tmp_path, NOW)[1]  # not finished: no report
    (tmp_path / "demo" / "report.html").touch()
    other = Store.open(tmp_path / "other.db")
    _, told, rank, _lead = welcome(other, HOST, tmp_path, NOW)
    assert told.endswith(f"with answers of the SFT model in {tmp_path}/demo.")
    client = newcomer(other)
    join(client, rank, "bea")
    page = agree(client).text
    assert all(answer in page for answer in ("Who paints?", "mia.", "tom.", "ben.", "ann."))
    other.close()


@pytest.mark.parametrize("place", [["--port", "70000"], []])
def test_a_place_that_cannot_be_taken_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        given = place or ["--port", str(other.getsockname()[1])]
        assert terminal.run(app, ["label", *given]) == 2
    assert re.search(r"\. Choose another --host or --port$", capsys.readouterr().err.strip())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_serves_from_an_empty_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heedful", "label", "--port", "0"]
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ, preexec_fn=heeded
    ) as process:
        assert process.stdout is not None
        where, link = process.stdout.readline(), process.stdout.readline()
        address = re.search(r"http://localhost:\d+", where)
        assert address is not None
        assert address[0] in link
        answer = httpx.get(link.split()[-1], timeout=60)
        assert answer.status_code == 200
        assert "Password" in answer.text
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert (tmp_path / "heedful.db").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text-chars", "0"], "'text_chars': must be at least 1, not 0"),
        (["--text-chars", "-5"], "'text_chars': must be at least 1, not -5"),
        (["--url", "foo"], "--url foo: not the address of a server. Write https://HOST or https://HOST/PATH"),
        (["--url", "https://"], "--url https://: not the address of a server"),
        (["--url", "https://x/work/"], "--url https://x/work: heedful has pages at /work itself"),
        (["--new-password", "ada"], "typo.db: no such database. Start one with `heedful label`"),
    ],
)
def test_a_mistake_is_a_line_and_makes_no_database(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labelling, "serve", lambda app, *_, **__: app(8000))
    assert terminal.run(app, ["label", "--db", "typo.db", *options]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.medium
def test_links_are_made_of_the_address_that_people_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labelling, "serve", lambda app, *_, **__: app(8123))
    assert terminal.run(app, ["label", "--url", "https://label.example.org/"]) == 0
    said = capsys.readouterr().out
    assert "https://label.example.org/join/" in said
    assert said.startswith(f"{labelling.NO_PROXIES}\n")
    assert terminal.run(app, ["label", "--url", "https://x.org/label", "--proxies", "127.0.0.1"]) == 0
    assert capsys.readouterr().out.startswith("heedful is at https://x.org/label. ")
    for host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        assert terminal.run(app, ["label", "--host", host]) == 0
        assert "http://localhost:8123/join/" in capsys.readouterr().out
    assert terminal.run(app, ["label", "--host", "2001:db8::1"]) == 0
    assert "http://[2001:db8::1]:8123/join/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "behind"),
    [
        ("http://example.org:8000", False), ("http://example.org", True), ("https://example.org:8000", True),
        ("http://example.org:8000/label", True),
    ],
)  # fmt: skip
def test_a_proxy_is_seen_from_the_address(address: str, behind: bool) -> None:
    assert labelling.behind_proxy(address, 8000) is behind


@pytest.mark.parametrize("port", [70_000, -1])
@pytest.mark.slow
def test_a_port_that_is_none_is_a_line(tmp_path: Path, port: int) -> None:
    command = [sys.executable, "-m", "heedful", "label", "--port", str(port)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(". Choose another --host or --port")
    assert "Traceback" not in done.stderr
