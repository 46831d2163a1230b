"""Requests that nobody would write: made from our own description, and a corpus of broken ones. Never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from serve.broken import broken
from serve.live import local, running
from serve.place import Place

OURS = r"^/(v1/(models|chat|completions)|api/keys|healthz|metrics)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    limits = {"requests_a_minute": 0, "context": 48, "choices": 8}
    made = Place(tmp_path_factory.mktemp("fuzz"), {"m": local("llama", **limits)}, limits=limits)
    with running(made.app) as address:
        made.address = address  # type: ignore[attr-defined]
        yield made
    made.store.close()


@pytest.mark.slow
def test_what_our_description_allows_is_never_an_error_of_ours(place: Place) -> None:
    import schemathesis  # takes seconds, which this test alone needs

    headers = {"Authorization": f"Bearer {place.secrets['ada']}"}
    schema = schemathesis.openapi.from_url(place.address + "/v1/openapi.json", headers=headers)  # type: ignore[attr-defined]
    statuses: dict[str, set[int]] = {}
    for found in schema.include(path_regex=OURS).get_all_operations():
        operation = found.ok()

        @given(operation.as_strategy())
        @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            if isinstance(case.body, dict) and "model" in case.body:
                case.body["model"] = "m"  # else no request comes as far as the model
            answer = case.call(headers=headers, timeout=20)
            assert answer.status_code < 500, answer.text
            statuses.setdefault(case.path, set()).add(answer.status_code)
            if case.path.startswith("/v1") and answer.status_code >= 400:
                assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}

        check()
    assert len(statuses) >= 8
    assert {200, 400} <= statuses["/v1/completions"]


@pytest.mark.medium
def test_broken_requests_are_refused_and_never_an_error_of_ours(place: Place) -> None:
    headers = {"Authorization": f"Bearer {place.secrets['ada']}", "Content-Type": "application/json"}
    seen: set[int] = set()
    with httpx.Client(base_url=place.address + "/v1", headers=headers, timeout=20) as http:  # type: ignore[attr-defined]
        for number, (content, more) in enumerate(broken()):
            where = "/completions" if number % 2 else "/chat/completions"
            answer = http.post(where, content=content, headers=more)
            assert answer.status_code < 500, (content[:200], answer.text)
            if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            seen.add(answer.status_code)
    assert {200, 400, 401} <= seen
