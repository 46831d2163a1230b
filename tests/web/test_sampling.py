"""Sampling jobs from the app: several models, progress, errors where they happen, a killed server, who may ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoints.scripted import Endpoint, Reply, error, said, serving
from heedful.data import formats
from heedful.data.records import Completions
from heedful.web.sampling.jobs import Sampler
from stages import worlds
from web.site import Site

API = "/api/projects/tea/sampling"
BODY = {"k": 2, "max_new_tokens": 5, "temperature": 0.5, "seed": 1}


def echo(number: int, body: dict[str, Any]) -> Reply:
    return said(f"{body['model']} says {body['seed']} to {body['messages'][-1]['content']}")


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEEDFUL_API_KEY", raising=False)
    with serving(echo) as found:
        yield found


@pytest.fixture
def fast_starts(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    """The processes of a job fork. Tests of how processes live and end start real ones."""
    monkeypatch.setattr(sys, "executable", str(python))


def until(true: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return found


def ended(client: Any, seconds: float = 40) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(API).json()["jobs"][0]
        return None if job["state"] == "running" else job

    return until(look, seconds)  # type: ignore[no-any-return]


@pytest.mark.medium
@pytest.mark.usefixtures("fast_starts")
def test_several_models_at_once(site: Site, endpoint: Endpoint) -> None:
    site.add_prompts(3)
    admin, hold = site.browser("admin"), threading.Event()

    def script(number: int, body: dict[str, Any]) -> Reply:
        if number:
            hold.wait(30)
        return echo(number, body)

    endpoint.script = script
    models = [f"{endpoint.url}/v1#one", f"{endpoint.url}/v1#two"]
    started = admin.post(API, json=BODY | {"models": models})
    assert started.status_code == 201, started.text
    assert [part["model"] for part in started.json()["parts"]] == models
    until(lambda: len(endpoint.requests) == 12)  # both models are asked at the same time
    assert {body["model"] for body in endpoint.requests} == {"one", "two"}
    assert admin.get(API).json()["jobs"][0]["state"] == "running"
    page = admin.get("/lead/tea/sampling").text
    assert "data-live" in page
    assert "0 of 3" in page
    again = site.browser("admin").post(API, json=BODY | {"models": models})
    assert (again.status_code, "another job is running (sampling 1 of tea)" in again.text) == (400, True)
    hold.set()
    job = ended(admin)
    assert [(part["state"], part["done"], part["said"]) for part in job["parts"]] == [("done", 3, "")] * 2
    assert {(body["max_tokens"], body["temperature"]) for body in endpoint.requests} == {(5, 0.5)}
    rows = formats.read(site.folder / "samples/tea/1/completions.jsonl", Completions)
    assert [row.models for row in rows] == [[models[0]] * 2 + [models[1]] * 2] * 3
    assert rows[0].completions[0].startswith("one says")
    assert rows[0].completions[3].startswith("two says")
    assert not (site.folder / "samples/tea/1/cache").exists()
    assert not list((site.folder / "cache").rglob("*.json"))  # what redaction cannot reach
    added = admin.post(f"{API}/1/queue").json()
    assert (added["items"], added["known"]) == (3, 0)
    page = admin.get(API, headers={"Accept": "text/html"}).text
    assert "3 rankings of this job are in the queue" in page
    assert "Add to the queue" not in page
    assert "data-live" not in page


@pytest.mark.medium
@pytest.mark.usefixtures("fast_starts")
def test_an_error_is_shown_at_its_model_and_only_it_is_tried_again(site: Site, endpoint: Endpoint) -> None:
    site.add_prompts(2)
    admin = site.browser("admin")
    endpoint.script = lambda number, body: error(404, "no model two") if body["model"] == "two" else echo(number, body)
    models = [f"{endpoint.url}/v1#{name}" for name in ("one", "two")]
    admin.post(API, json=BODY | {"models": models})
    one, two = (job := ended(admin))["parts"]
    assert (job["state"], one["state"], two["state"]) == ("stopped", "done", "failed")
    assert job["said"] == "a model failed"
    assert two["said"] == "status 404, no model two. Check URL and model. The URL of most endpoints ends in /v1"
    page = admin.get("/lead/tea/sampling").text
    assert "no model two" in page
    assert ">Continue<" in page
    refused = admin.post(f"{API}/1/queue")
    assert (refused.status_code, "it is not done" in refused.text) == (400, True)
    before = len(endpoint.requests)
    endpoint.script = echo
    assert admin.post(f"{API}/1/resume").status_code == 200
    assert ended(admin)["state"] == "done"
    assert {body["model"] for body in endpoint.requests[before:]} == {"two"}


@pytest.mark.medium
@pytest.mark.usefixtures("fast_starts")
def test_what_one_model_did_not_answer_is_told(site: Site, endpoint: Endpoint) -> None:
    site.add_prompts(2)
    admin = site.browser("admin")

    def script(number: int, body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]["content"] == "Write about 1."
        return error(400, "never") if last and body["model"] == "two" else echo(number, body)

    endpoint.script = script
    admin.post(API, json=BODY | {"models": [f"{endpoint.url}/v1#{name}" for name in ("one", "two")]})
    job = ended(admin)
    assert (job["state"], job["parts"][1]["said"]) == ("done", "prompts without an answer: 1")
    rows = formats.read(site.folder / "samples/tea/1/completions.jsonl", Completions)
    assert [(row.prompt, len(row.completions)) for row in rows] == [("Write about 1.", 2), ("Write about 0.", 4)]


START = """
import datetime, os, signal, sys
from pathlib import Path
from heedful.data.records import Prompt
from heedful.web.sampling.jobs import Sampler
how = dict(admin=True, settings=dict(seed=0, max_new_tokens=5, temperature=1.0))
now = datetime.datetime.now(datetime.UTC)
Sampler(Path(sys.argv[1])).start("tea", [sys.argv[2]], [Prompt(prompt="Why?")], 2, now, **how)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.medium
def test_a_job_outlives_a_killed_server(site: Site, endpoint: Endpoint) -> None:
    """The next server shows it as running, starts no second one, and can stop it and go on with it."""
    site.add_prompts(1)
    hold = threading.Event()
    endpoint.script = lambda number, body: (hold.wait(30), echo(number, body))[1]
    killed = subprocess.run([sys.executable, "-c", START, str(site.folder), f"{endpoint.url}/v1#one"], timeout=40)
    assert killed.returncode == -signal.SIGKILL
    until(lambda: endpoint.requests)
    admin = site.browser("admin")
    assert admin.get(API).json()["jobs"][0]["state"] == "running"
    refused = admin.post(API, json=BODY | {"models": [f"{endpoint.url}/v1#two"]})
    assert (refused.status_code, "another job is running" in refused.text) == (400, True)
    assert admin.post(f"{API}/1/resume").status_code == 400
    admin.post(f"{API}/1/stop")
    job = ended(admin)
    assert (job["state"], job["parts"][0]["state"], job["said"]) == ("stopped", "waiting", "stopped")
    hold.set()
    admin.post(f"{API}/1/resume")
    assert ended(admin)["state"] == "done"
    assert not (site.folder / "samples/tea/1/.lock").exists()


@pytest.mark.medium
def test_a_job_that_another_server_resumed_is_running(site: Site, endpoint: Endpoint) -> None:
    """The server that started it neither resumes it a second time nor starts another one."""
    site.add_prompts(1)
    hold = threading.Event()
    endpoint.script = lambda number, body: (hold.wait(30), echo(number, body))[1]
    admin = site.browser("admin")
    admin.post(API, json=BODY | {"models": [f"{endpoint.url}/v1#one"]})
    until(lambda: endpoint.requests)
    admin.post(f"{API}/1/stop")
    assert ended(admin)["state"] == "stopped"
    other = Sampler(site.folder)
    other.resume("tea", 1)
    until(lambda: admin.get(API).json()["jobs"][0]["state"] == "running")
    refused = admin.post(f"{API}/1/resume")
    assert (refused.status_code, "another job is running (sampling 1 of tea)" in refused.text) == (400, True)
    hold.set()
    assert ended(admin)["state"] == "done"
    until(lambda: other.job("tea", 1).state == "done")


@pytest.mark.medium
def test_a_runner_that_was_killed_is_shown_as_stopped(site: Site, endpoint: Endpoint) -> None:
    site.add_prompts(1)
    hold = threading.Event()
    endpoint.script = lambda number, body: (hold.wait(30), echo(number, body))[1]
    admin = site.browser("admin")
    admin.post(API, json=BODY | {"models": [f"{endpoint.url}/v1#one"]})
    until(lambda: endpoint.requests)
    sampler: Sampler = site.app.state.sampler
    (process,) = sampler._ours.values()
    os.killpg(process.pid, signal.SIGKILL)
    job = ended(admin)
    assert (job["state"], job["said"]) == ("stopped", "the process is gone")
    hold.set()


@pytest.mark.medium
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": []}, "choose a run, or name a model"),
        ({"models": [" "]}, "choose a run, or name a model"),
        ({"models": ["runs/none here"]}, "not a finished run in this server"),
        ({"models": ["../elsewhere"]}, "not a finished run in this server"),
        ({"models": ["unfinished"]}, "not a finished run in this server"),
        ({"models": ["http://h/v1"]}, "names no model"),
        ({"models": ["http://h/v1#m"], "k": 1}, "1 x 1 answers to each prompt: people rank 2 to 9"),
        ({"models": ["http://h/v1#m", "http://h/v1#n"], "k": 5}, "2 x 5 answers to each prompt: people rank 2 to 9"),
    ],
)
def test_what_cannot_be_sampled(site: Site, endpoint: Endpoint, change: dict[str, Any], says: str) -> None:
    site.add_prompts(1)
    (site.folder / "unfinished").mkdir()
    answer = site.browser("admin").post(API, json=BODY | change)
    assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text
    assert not (site.folder / "samples").exists()


@pytest.mark.medium
def test_a_project_without_prompts(site: Site) -> None:
    answer = site.browser("admin").post(API, json=BODY | {"models": ["http://h/v1#m"]})
    assert "the project has no prompts" in answer.text


@pytest.mark.medium
@pytest.mark.usefixtures("fast_starts")
def test_only_an_administrator_adds_an_address(site: Site, endpoint: Endpoint) -> None:
    """The server sends its key there."""
    site.add_prompts(1)
    lead, body = site.browser("lead"), BODY | {"models": [endpoint.ref]}
    refused = lead.post(API, json=body)
    assert (refused.status_code, "an administrator has to sample from it first" in refused.text) == (400, True)
    assert endpoint.requests == []
    admin = site.browser("admin")
    assert admin.post(API, json=body).status_code == 201
    assert ended(admin)["state"] == "done"
    assert lead.get(API).json()["addresses"] == [endpoint.ref]
    assert lead.post(API, json=body | {"models": [f"{endpoint.url}/v1#other"]}).status_code == 201
    assert ended(lead)["state"] == "done"


@pytest.mark.medium
def test_without_torch_a_server_asks_addresses_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_prompts(1)
    monkeypatch.setattr("heedful.web.sampling.jobs.find_spec", lambda name: None)
    page = site.browser("lead").get("/lead/tea/sampling").text
    assert "This server is installed without torch" in page
    answer = site.browser("lead").post(API, json=BODY | {"models": ["runs/sft"]})
    assert (answer.status_code, "without torch" in answer.text) == (400, True)


@pytest.mark.medium
def test_the_page_says_whether_there_is_a_key_and_never_shows_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_prompts(1)
    monkeypatch.delenv("HEEDFUL_API_KEY", raising=False)
    lead = site.browser("lead")
    assert "Start the server with it" in lead.get("/lead/tea/sampling").text
    monkeypatch.setenv("HEEDFUL_API_KEY", "sk-hidden-12")
    page = lead.get("/lead/tea/sampling").text
    assert "The server sends the key" in page
    assert "sk-hidden-12" not in page + lead.get(API).text


@pytest.mark.medium
@pytest.mark.usefixtures("fast_starts")
def test_one_answer_to_each_prompt_is_no_ranking(site: Site, endpoint: Endpoint) -> None:
    """One of two models answers nothing at all, so no prompt has two answers, and the page says so."""
    site.add_prompts(2)
    admin = site.browser("admin")

    def script(number: int, body: dict[str, Any]) -> Reply:
        first = body["messages"][-1]["content"] == "Write about 0."
        return echo(number, body) if first == (body["model"] == "one") else error(400, "no")

    endpoint.script = script
    models = [f"{endpoint.url}/v1#{name}" for name in ("one", "two")]
    admin.post(API, json=BODY | {"models": models, "k": 1})
    job = ended(admin)
    assert (job["state"], job["said"]) == ("stopped", "no prompt has two answers")
    assert "no prompt has two answers" in admin.get("/lead/tea/sampling").text


@pytest.mark.slow
@pytest.mark.usefixtures("fast_starts")
def test_a_run_and_an_address_together(site: Site, endpoint: Endpoint, tmp_path: Path) -> None:
    worlds.train("sft", worlds.make(tmp_path / "world"), site.folder / "runs" / "sft")
    site.add_prompts(3)
    admin = site.browser("admin")
    assert 'value="runs/sft"' in admin.get("/lead/tea/sampling").text
    assert admin.post(API, json=BODY | {"models": ["runs/sft", endpoint.ref]}).status_code == 201
    job = ended(admin, 120)
    assert [(part["state"], part["done"], part["said"]) for part in job["parts"]] == [("done", 3, "")] * 2, job
    rows = formats.read(site.folder / "samples/tea/1/completions.jsonl", Completions)
    assert [row.models for row in rows] == [["runs/sft"] * 2 + [endpoint.ref] * 2] * 3
    assert all(row.token_ids is None for row in rows)  # ids of several tokenizers do not mix
    admin.post(API, json=BODY | {"models": ["runs/sft"]})
    assert ended(admin, 120)["state"] == "done"
    alone = formats.read(site.folder / "samples/tea/2/completions.jsonl", Completions)
    assert [row.completions for row in alone] == [row.completions[:2] for row in rows]
    assert all(row.token_ids is not None for row in alone)
