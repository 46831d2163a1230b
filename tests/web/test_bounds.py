"""No value that a request can carry breaks the server: numbers are bounded, texts are read in bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from heedful.feedback.projects import ProjectSettings
from heedful.web.text import markdown
from heedful.web.text.changes import MOST_LINES, changes

from .site import Site, rank

TEA = "/api/projects/tea"
NUMBERS = {"integer", "number"}
LOW, HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def numbers(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a JSON schema, with its place."""
    if isinstance(schema, dict):
        if schema.get("type") in NUMBERS:
            yield where, schema
        for key, inner in schema.items():
            yield from numbers(inner, f"{where}/{key}")
    elif isinstance(schema, list):
        for key, inner in enumerate(schema):
            yield from numbers(inner, f"{where}/{key}")


def unbounded(schema: Any) -> list[str]:
    return [
        where
        for where, one in numbers(schema)
        if not any(key in one for key in LOW) or not any(key in one for key in HIGH)
    ]


def test_every_setting_has_bounds() -> None:
    schema = ProjectSettings.model_json_schema()
    assert len(list(numbers(schema))) > 20
    assert unbounded(schema) == []


@pytest.mark.medium
def test_every_number_of_a_request_has_bounds(site: Site) -> None:
    spec = site.browser("lead").get("/api/openapi.json").json()
    schemas, taken = spec["components"]["schemas"], []
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            for one in operation.get("parameters", []):
                taken.append((f"{method} {path} {one['name']}", one["schema"]))
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                taken.append((f"{method} {path}", schemas.get(name, content["schema"])))
    assert len(taken) > 60
    found = {where: unbounded(schema) for where, schema in taken if unbounded(schema)}
    assert found == {}


def extremes(settings: dict[str, Any], schema: dict[str, Any], high: bool) -> dict[str, Any]:
    """The settings with every number at its lowest or highest."""
    found = {}
    for name, value in settings.items():
        field = schema["properties"][name]
        if "$ref" in field:
            found[name] = extremes(
                value, schema["$defs"][field["$ref"].rpartition("/")[2]] | {"$defs": schema["$defs"]}, high
            )
        elif field.get("type") in NUMBERS:
            bound = next(field[key] for key in (HIGH if high else LOW) if key in field)
            found[name] = bound + (0.001 if "exclusiveMinimum" in field and not high else 0)
        else:
            found[name] = value
    return found


@pytest.mark.medium
@pytest.mark.parametrize("high", [False, True])
def test_a_project_works_with_every_setting_at_its_bound(site: Site, high: bool) -> None:
    site.add_rankings(2)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    settings = ProjectSettings().model_dump(mode="json")
    edge = extremes(settings, ProjectSettings.model_json_schema(), high)
    edge["demonstration_chars"] = [1_000_000] * 2 if high else [1, 1]
    assert lead.patch(TEA, json={"settings": edge}).status_code == 200
    rank(labeler)
    for page in ("/work/tea", "/work/tea/ranking", "/work/tea/progress"):
        assert labeler.get(page, follow_redirects=True).status_code == 200
    for page in ("", "/people", "/quality", "/settings", f"/people/{site.ids['labeler']}"):
        assert lead.get(f"/lead/tea{page}").status_code == 200, page


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "value"),
    [("lease_minutes", 10**10), ("copies", 10), ("daily_goal", 10**30), ("alerts", {"least": 10**9}), ("most_skips", 0),
     ("screening", {"demonstrations": 8}), ("demonstration_chars", [5, 2]), ("demonstration_chars", [1, 10**12])],
)  # fmt: skip
def test_a_value_beyond_its_bounds_is_one_line(site: Site, name: str, value: Any) -> None:
    found = site.browser("lead").patch(TEA, json={"settings": {name: value}})
    assert (found.status_code, found.json()["error"].count("\n")) == (400, 0)
    assert name in found.json()["error"]


def with_a_truth(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """A body for each number of a schema of settings, in which it is true."""
    for name, field in schema["properties"].items():
        inner = schema.get("$defs", {}).get(field.get("$ref", "").rpartition("/")[2])
        if inner and "properties" in inner:
            yield from ({name: one} for one in with_a_truth(inner | {"$defs": schema["$defs"]}, value[name]))
        elif field.get("type") in NUMBERS:
            yield {name: True}


@pytest.mark.medium
def test_a_truth_is_no_number(site: Site) -> None:
    site.add_rankings(1)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    changes = list(with_a_truth(ProjectSettings.model_json_schema(), ProjectSettings().model_dump(mode="json")))
    assert len(changes) > 15
    for change in changes:
        found = lead.patch(TEA, json={"settings": change})
        assert (found.status_code, "number is needed, not true" in found.json()["error"]) == (400, True), change
    lease = labeler.post(f"{TEA}/next").json()["task"]["lease"]
    answer = {"answer": {"ranking": [[0], [1], [2]]}, "idempotency_key": "12345678", "seconds": True}
    for client, path, body in (
        (lead, "prompt-requests", {"count": True}), (lead, "sampling", {"models": [], "k": True}),
        (lead, "invitations", {"hours": True}), (labeler, f"tasks/{lease}/submit", answer),
        (labeler, "undo", {"event": True}), (labeler, "consent", {"version": True}),
    ):  # fmt: skip
        found = client.post(f"{TEA}/{path}", json=body)
        assert (found.status_code, "number is needed, not true" in found.json()["error"]) == (422, True), path


def nested(levels: int, inner: Any = 1) -> Any:
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


@pytest.mark.medium
@pytest.mark.parametrize("levels", [51, 500, 900, 5000, 100_000])
def test_what_is_nested_too_deep_is_refused(site: Site, levels: int) -> None:
    site.add_rankings(1)
    labeler = site.browser("labeler")
    lease = labeler.post(f"{TEA}/next").json()["task"]["lease"]
    deep = '{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2)
    bodies = {
        "draft": ("PUT", f'{{"draft": {deep}}}'),
        "submit": ("POST", f'{{"answer": {deep}, "idempotency_key": "12345678"}}'),
    }
    for action, (method, body) in bodies.items():
        headers = {"Content-Type": "application/json"}
        found = labeler.request(method, f"{TEA}/tasks/{lease}/{action}", content=body, headers=headers)
        assert found.status_code in (400, 422), action
        assert list(found.json()) == ["error"]
    assert labeler.get(f"{TEA}/tasks/{lease}").json()["draft"] is None


@pytest.mark.medium
def test_a_draft_that_fits_comes_back(site: Site) -> None:
    site.add_rankings(1)
    labeler = site.browser("labeler")
    lease = labeler.post(f"{TEA}/next").json()["task"]["lease"]
    draft = nested(45, "x")
    assert labeler.put(f"{TEA}/tasks/{lease}/draft", json={"draft": draft}).status_code == 200
    assert labeler.get(f"{TEA}/tasks/{lease}").json()["draft"] == draft


@pytest.mark.medium
@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(site: Site, value: str) -> None:
    site.add_rankings(1)
    labeler = site.browser("labeler")
    lease = labeler.post(f"{TEA}/next").json()["task"]["lease"]
    body = f'{{"draft": {{"seconds": {value}}}}}'
    found = labeler.put(f"{TEA}/tasks/{lease}/draft", content=body, headers={"Content-Type": "application/json"})
    assert (found.status_code, "infinite" in found.json()["error"]) == (422, True)


@pytest.mark.medium
def test_a_deleted_person_cannot_be_changed(site: Site) -> None:
    lead, gone = site.browser("lead"), site.ids["held_out"]
    assert lead.request("DELETE", f"{TEA}/people/{gone}", json={"name": "held_out"}).status_code == 200
    found = lead.patch(f"{TEA}/people/{gone}", json={"paused": True})
    assert (found.status_code, "not a member" in found.json()["error"]) == (400, True)


# Guides


def test_changes_by_hand() -> None:
    assert changes("a\nb\nc\nd", "a\nx\nc\nd\ne") == [("-", "b"), ("+", "x"), ("+", "e")]
    assert changes("a", "a") == []
    assert changes("", "a\nb") == [("-", ""), ("+", "a"), ("+", "b")]
    assert changes("a\na\na", "a\na") == [("-", "a")]


def test_too_many_changes_are_all_lines_of_both() -> None:
    old = [f"old {i}" for i in range(MOST_LINES + 1)]
    found = changes("\n".join(["same", *old]), "same\nnew")
    assert found == [("-", line) for line in old] + [("+", "new")]


@pytest.mark.parametrize("kind", ["alike", "few words", "random", "long"])
def test_changes_take_bounded_time(kind: str) -> None:
    rng = random.Random(1)

    def text() -> str:
        if kind == "alike":
            return "\n".join(f"A line that is much like the others, {rng.randrange(10**6)}" for _ in range(2000))
        if kind == "few words":
            return "\n".join(rng.choice("abcdefgh") for _ in range(MOST_LINES))
        if kind == "long":
            return "\n".join("x" * 500 + str(rng.random()) for _ in range(MOST_LINES))
        return "\n".join(str(rng.randrange(80)) for _ in range(MOST_LINES))

    began = time.process_time()
    for _ in range(3):
        changes(text(), text())
    assert time.process_time() - began < 3


@pytest.mark.parametrize("unit", ["**a ", "_a ", "[", "`a ", "<a ", "* ", "> ", "|a"])
def test_markdown_takes_bounded_time(unit: str) -> None:
    text = (unit * 200_000)[:188_000]
    began = time.process_time()
    markdown.as_html(text)
    assert time.process_time() - began < 3
