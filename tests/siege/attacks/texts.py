"""Texts and comparisons that take long: quadratic Markdown, formulas, searches, and versions that differ everywhere."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from siege.places import API, PROJECT, Place, running
from siege.table import Outcome
from siege.work import Work

SIZE = 188_000  # characters
SLOW = 10.0  # seconds that a request may take
REPEATED = (
    "**a ", "_a ", "[", "`a ", "<a ", "* ", "> ", "|a", "![", "<!--", "$a ", "\\(", "&#", "- [ ] ", "1. ", "***",
    "[a](", "[a]: <", "[[a]]", "![a][b]", "~~~\n", "```\n", "- a\n  ", "> - ", "| a | b |\n", "|-", "a*_b", "*a**b_",
    "<http://a", "<a@b", "http://a.b/", "\\", "\\[x", "\t", " \n", "    a\n", "&amp;", "#", "===\n", "--- ",
    "$\\frac{", "$x^", "$$\\begin{matrix}", "\\sqrt{", "{", "\u202e", "\u200b", "a\u0301", "\ufdfa", "\U0001f469\u200d",
    "<script>", "]]>", "\n\n[", "\r", "\0",
)  # fmt: skip


def attack(folder: Path, work: Work) -> None:
    """Each text in previews, guides, items, notes and searches, and two versions of a guide compared."""
    texts = _texts()
    chosen = texts if work.share >= 0.1 else [texts[0]]
    with running(folder) as place, place.watched(work.outcome):
        lead = place.cookies("Lead")
        for number in work.parts(len(chosen)):
            _give(place, work.outcome, lead, number, *chosen[number])


def _texts() -> list[tuple[str, str]]:
    """Names and texts."""
    draw = random.Random(16)
    marks = "".join(draw.choice("*_`[]()<>!|#>-\\$ \na") for _ in range(SIZE))
    made = {
        "backticks of growing length": "".join("`" * n + "a" for n in range(1, 600)),
        "lists in lists": "".join(" " * 2 * n + "- a\n" for n in range(400)),
        "quotes in quotes": "".join(">" * n + " a\n" for n in range(500)),
        "a wide table": "|a" * 3000 + "|\n" + "|-" * 3000 + "|\n" + "|b" * 3000 + "|\n",
        "definitions": "".join(f"[{n}]: http://a/{n}\n" for n in range(6000)) + "[1][2]" * 5000,
        "marks at random": marks,
        "one long word": "a" * SIZE,
        "brackets in brackets": "[" * 20_000 + "a" + "](b)" * 20_000,
        "formulas in formulas": "$" + "{" * 5000 + "x" + "}" * 5000 + "$",
        "short formulas": "$x_{1}^{2}$ " * 15_000,
        "letters of all scripts": "".join(chr(draw.randrange(32, 0x2FFFF)) for _ in range(60_000)),
    }
    made = {name: "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000) for name, text in made.items()}
    return [*((repr(unit), (unit * SIZE)[:SIZE]) for unit in REPEATED), *made.items(), *_versions(draw)]


def _versions(draw: random.Random) -> list[tuple[str, str]]:
    """Texts that are compared with one another: each differs from the one before in every line."""
    lines = [f"Line {n} of a long guide." for n in range(390)]
    mixed = draw.sample(lines, len(lines))
    few = [draw.choice("abcdefgh") for _ in range(390)]
    long = ["x" * 480 + str(n) for n in range(390)]
    return [
        ("390 lines", "\n".join(lines)), ("390 lines from behind", "\n".join(reversed(lines))),
        ("390 mixed lines", "\n".join(mixed)), ("390 lines of few words", "\n".join(few)),
        ("390 mixed lines of few words", "\n".join(draw.sample(few, len(few)))), ("390 long lines", "\n".join(long)),
        ("390 mixed long lines", "\n".join(draw.sample(long, len(long)))), ("190,000 lines", "a\n" * 95_000),
    ]  # fmt: skip


def _give(place: Place, outcome: Outcome, lead: str, number: int, name: str, text: str) -> None:
    """Put a text wherever it may be, and look at the pages that show it."""
    row = {"prompt": text[:90_000], "completions": [text[:50_000], text[1:50_000] + "."]}
    word = (text.strip() or "x")[:200]
    token = place.tokens[number % len(place.tokens)]
    said: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("POST", "/api/markdown", {"text": text}, {"token": token}),
        ("POST", f"{API}/instructions/guide", {"text": f"{number}\n{text}"}, {"token": place.lead}),
        ("POST", f"{API}/items/preview", json.dumps(row).encode(), {"token": place.lead}),
        ("POST", f"{API}/items?priority=900", json.dumps(row).encode(), {"token": place.lead}),
        ("GET", f"/lead/{PROJECT}/instructions", None, {"Cookie": lead}),
        ("GET", f"/work/{PROJECT}/guide", None, {"Cookie": place.cookie}),
        ("GET", f"/lead/{PROJECT}/items?search={quoted(word)}", None, {"Cookie": lead}),
        ("GET", f"{API}/items?search={quoted(word)}", None, {"token": place.lead}),
    ]
    for method, path, body, given in said:
        _ask(place, outcome, name, method, path, body, **given)
    _work(place, outcome, lead, name, text, token)
    for version in (number, number + 1):
        _ask(place, outcome, name, "GET", f"/lead/{PROJECT}/instructions?version={max(1, version)}", None, Cookie=lead)


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def _work(place: Place, outcome: Outcome, lead: str, name: str, text: str, token: str) -> None:
    """A labeler gets the item, writes the text as a draft and a note, and reads the history."""
    status, told = _ask(place, outcome, name, "POST", f"{API}/next", None, token=token)
    task = json.loads(told).get("task") if status == 200 else None
    if task is None:
        outcome.failed.append(f"{name}: no task: {status} {told[:100]}")
        return
    lease = f"{API}/tasks/{task['lease']}"
    _ask(place, outcome, name, "PUT", f"{lease}/draft", {"draft": {"note": text}}, token=token)
    order = [[k] for k in range(len(task["completions"]))]
    answer = {"ranking": order, "ratings": [{"overall": 4}] * len(order), "note": text[:9_000]}
    body = {"answer": answer, "idempotency_key": f"key of {task['lease']}"[:90]}
    _ask(place, outcome, name, "POST", f"{lease}/submit", body, token=token)
    _ask(place, outcome, name, "GET", f"{API}/history", None, token=token)
    _ask(place, outcome, name, "GET", f"/lead/{PROJECT}/items/{task['ref']}", None, Cookie=lead)


def _ask(place: Place, outcome: Outcome, name: str, method: str, path: str, body: Any, **given: Any) -> tuple[int, str]:
    begin = time.monotonic()
    status, told = place.ask(method, path, body, **given)
    took = time.monotonic() - begin
    wrong = [f"{name}, {method} {path[:60]}: {status} {told[:100]}"] if status >= 500 else []
    outcome.add(wrong + ([f"{name}, {method} {path[:60]}: {took:.1f} s"] if took > SLOW else []))
    return status, told
