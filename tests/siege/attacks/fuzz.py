"""Inputs at random, from a fixed seed: each is used, or refused in one line. Nothing ends in a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from heedful import cli
from heedful.config import UserError, load
from heedful.configs import registry
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt, Text
from siege.attacks.routes import City
from siege.work import TooLong, Work, limited
from web.test_roles import routes_of

SEED = 16
WORKING = 20.0  # seconds after which a command is stopped that has begun to work
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, 1e300, -1e-300, "", " ", "\0", "\ud800", "\u202e", "a" * 5000, [], {}, [[]],
    [None], {"": None}, {"a": {"b": [1]}}, [True], "NaN", "1e999", "../../etc/passwd", "{{ 7 * 7 }}", "<script>", "'--",
    "\r\n", "\ufeff", "🜁", 2**63, -(2**63) - 1, 0.1, [[0], [0]], [[1, 2], [0]], "http://127.0.0.1:1/#m", "a=b",
)  # fmt: skip
ROWS: tuple[dict[str, Any], ...] = (
    {"prompt": "Why?", "completion": "So."}, {"prompt": "Why?", "completions": ["a", "b"], "ranking": [[0], [1]]},
    {"prompt": "Why?", "chosen": "a", "rejected": "b"}, {"text": "A text."}, {"prompt": "Why?"},
    {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    {"instruction": "Do", "input": "", "output": "Done"}, {"prompt": "Why?", "completion": "So.", "label": True},
)  # fmt: skip
ENDINGS = ("jsonl", "json", "csv", "tsv", "txt", "jsonl.gz", "parquet", "arrow", "ndjson", "zst", "", "npy")


def files(folder: Path, work: Work) -> None:
    """Files of rows with odd values, odd bytes and odd names, read as every kind of record."""
    for number in work.parts(work.of(4000, 40)):
        draw = _drawing(number)
        rows = [_odd(draw, draw.choice(ROWS)) for _ in range(draw.randint(0, 4))]
        content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        if draw.random() < 0.3:
            content = json.dumps(rows, indent=draw.choice((None, 2))).encode()
        path = folder / f"{number}.{draw.choice(ENDINGS)}"
        path.write_bytes(_torn(draw, content) if draw.random() < 0.5 else content)
        kind = draw.choice((Demonstration, Completions, Comparison, Prompt, Text))
        wrong = _one_line(f"{path.name} as {kind.__name__}", lambda path=path, kind=kind: formats.read(path, kind))
        work.outcome.add(wrong)
        path.unlink()


def api(folder: Path, work: Work) -> None:
    """Bodies, addresses and files with odd values, to every route of the API, by a lead and a labeler."""
    outcome, city = work.outcome, City(folder)
    described = city.site.browser("lead").get("/api/openapi.json").json()
    routes = sorted(route for route in routes_of(city.site) if route[1] not in ("/api/logout", "/api/login"))
    clients = {name: city.client(name, by_token=False) for name in ("lead", "labeler")}
    try:
        for number in work.parts(work.of(4000, 60)):
            draw = _drawing(number)
            method, path = draw.choice(routes)
            address = path
            for name, value in city.filled.items():
                chosen = value if draw.random() < 0.7 else str(draw.choice(ODD)).encode("utf-8", "replace").hex()[:40]
                address = address.replace(
                    f"{{{name}}}", chosen if draw.random() < 0.9 else str(draw.randrange(-9, 2**70))
                )
            content = _body(draw, described, method, path)
            headers = {"Content-Type": draw.choice(("application/json", "application/json", "text/html", "x"))}
            name = draw.choice(sorted(clients))
            answer = clients[name].request(method, address, content=content, headers=headers)
            fine = answer.status_code < 500 or (answer.status_code == 503 and "Retry-After" in answer.headers)
            outcome.add([] if fine else [f"{method} {address} by {name}: {answer.status_code}, {content[:200]!r}"])
            if draw.random() < 0.1 and path.startswith("/api/projects/{project}/people"):
                city.site.settle(kinds=["ranking", "demonstration", "choice", "prompt"])
    finally:
        city.site.store.close()


def configs(folder: Path, work: Work) -> None:
    """Settings of every stage with odd values, as TOML files and as --set."""
    stages = registry.stages()
    for number in work.parts(work.of(1500, 30)):
        draw = _drawing(number)
        config = stages[draw.choice(sorted(stages))].config
        keys = [
            *config.model_fields,
            "optimiser.lr",
            "compute.device",
            "checkpoint.every",
            "generation.top_p",
            "nowhere",
        ]
        path = folder / f"{number}.toml"
        lines = [f"{draw.choice(keys)} = {json.dumps(draw.choice(ODD))}" for _ in range(draw.randint(0, 3))]
        content = "\n".join(lines).encode("utf-8", "replace")
        path.write_bytes(_torn(draw, content) if draw.random() < 0.3 else content)
        given = [f"{draw.choice(keys)}={draw.choice(ODD)}" for _ in range(draw.randint(0, 2))]
        source = path if draw.random() < 0.7 else None
        work.outcome.add(_one_line(f"{lines} {given}", lambda c=config, s=source, g=given: load(c, s, g)))


def commands(folder: Path, work: Work) -> None:
    """Every command with odd options. It must end with 0, or with 2 and one line, or still work after some seconds.

    Left out are those that start hours of work, or wait for somebody, with no option at all.
    """
    names = sorted(set(cli.app.commands) - {"label", "demo", "chat", "serve", "overoptimisation", "reproduce"})
    before = Path.cwd()
    os.chdir(folder)
    (folder / "rows.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    try:
        for number in work.parts(work.of(800, 20)):
            draw = _drawing(number)
            name = draw.choice(names)
            command = cli.app.commands[name]
            options = [opt for one in command.params if isinstance(one, click.Option) for opt in one.opts[-1:]]
            arguments = [name]
            for _ in range(draw.randint(0, 4)):
                if options and draw.random() < 0.8:
                    arguments.append(draw.choice(options))
                value = draw.choice((*ODD, "rows.jsonl", "nowhere", folder, "/", "."))
                arguments.append(str(value).replace("\0", "").encode("utf-8", "replace").decode()[:200])
            work.outcome.add(_command(arguments))
    finally:
        os.chdir(before)


def _drawing(number: int) -> random.Random:
    """What draws the input with this number, whatever came before it."""
    return random.Random(f"{SEED} {number}")


def _command(arguments: list[str]) -> list[str]:
    said, keys = io.StringIO(), sys.stdin
    sys.stdin = io.StringIO()  # nobody types
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), limited(WORKING):
            cli.main(arguments)
    except TooLong:
        return []  # the options were fine
    except SystemExit as left:
        lines = said.getvalue().strip().splitlines()
        fine = left.code in (0, None) or (left.code == 2 and len(lines) == 1)
        return [] if fine else [f"{arguments}: exit code {left.code}, {lines[-1:]}"]
    except BaseException as error:
        return [f"{arguments}: {type(error).__name__}: {error}"[:300]]
    finally:
        sys.stdin = keys
    return []


def _one_line(what: str, do: Callable[[], Any]) -> list[str]:
    try:
        do()
    except UserError as error:
        return [f"{what}: several lines"] if "\n" in str(error) else []
    except Exception as error:
        return [f"{what}: {type(error).__name__}: {error}"[:300]]
    return []


def _odd(draw: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    """The row with odd values, fields left out, and fields too many."""
    odd = dict(row)
    for _ in range(draw.randint(0, 2)):
        key = draw.choice([*row, "extra", "", "id", "labeler", "scores"])
        if draw.random() < 0.2:
            odd.pop(key, None)
        else:
            odd[key] = draw.choice(ODD)
    return odd


def _torn(draw: random.Random, content: bytes) -> bytes:
    """The content with bytes changed, cut or repeated."""
    torn = bytearray(content or b"x")
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(torn))
        torn[place : place + draw.randint(0, 3)] = draw.choice(
            (b"", b"\0", b"\xff\xfe", b"[" * 3000, b'"', b"\x1f\x8b", b"1e999")
        )
        torn = torn or bytearray(b"x")
    return bytes(torn)


def _body(draw: random.Random, described: dict[str, Any], method: str, path: str) -> bytes:
    """A body in the shape that the route describes, with odd values."""
    operation = described["paths"].get(path, {}).get(method.lower(), {})
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    fields = described["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
    body = {name: _value(draw, field) for name, field in fields.items() if draw.random() < 0.8}
    if draw.random() < 0.1:
        body = draw.choice(ODD)
    content = json.dumps(body).encode()
    return _torn(draw, content) if draw.random() < 0.15 else content


def _value(draw: random.Random, field: dict[str, Any]) -> Any:
    """A value for a field: often one of its type."""
    if draw.random() < 0.4:
        return draw.choice(ODD)
    kinds = [one.get("type") for one in field.get("anyOf", [field])]
    if "enum" in field:
        return draw.choice(field["enum"])
    plain: dict[Any, Any] = {
        "integer": draw.choice((0, 1, 3, 7, -1, 2**40)), "number": draw.choice((0.0, 0.5, 3.5, -2.0)), "boolean": True,
        "string": draw.choice(("rankings", "a word", "2 > 1 = 3", "ranking", "lead")), "array": [draw.choice(ODD)],
        "object": {draw.choice(("completion", "ranking", "daily_goal", "rubric", "kinds")): draw.choice(ODD)},
    }  # fmt: skip
    return plain.get(draw.choice(kinds), draw.choice(ODD))
