"""Texts of a team (guide, consent, explanations) as HTML: a small part of Markdown, and no markup but ours.

Headings (`##`, `###`), lists (`-`, `1.`), quotations (`>`), paragraphs, **bold** and *italic*.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_MARKS = (
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<!\w)\*(?=\S)(.+?)(?<=\S)\*(?!\w)"), r"<em>\1</em>"),
)
_BLOCK = re.compile(r"(?P<heading>#{1,3})\s+|(?P<ul>[-*+]\s+)|(?P<ol>\d+[.)]\s+)|(?P<blockquote>>\s?)")


def as_html(text: str) -> Markup:
    """The text as HTML for an element of class `prose`."""
    html = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()):
        html.extend(_blocks(block.split("\n")))
    return Markup("\n").join(html)


def _blocks(lines: list[str]) -> list[Markup]:
    """Cuts a paragraph where the kind of its lines changes; an unmarked line goes on with the one before it."""
    groups: list[tuple[str, list[str]]] = []
    for line in lines:
        found = _BLOCK.match(line.strip())
        kind = "p" if found is None or found.lastgroup is None else found.lastgroup
        content = line.strip()[found.end() :] if found else line.strip()
        if kind == "heading":
            assert found is not None
            groups.append(("h3" if len(found["heading"]) > 2 else "h2", [content]))
        elif kind == "p" and groups and not groups[-1][0].startswith("h"):
            groups[-1][1][-1] += " " + content
        elif groups and groups[-1][0] == kind and kind != "p":
            groups[-1][1].append(content)
        else:
            groups.append((kind, [content]))
    return [_element(kind, entries) for kind, entries in groups]


def _element(kind: str, entries: list[str]) -> Markup:
    inner = [_inline(entry) for entry in entries]
    if kind in ("ul", "ol"):
        return (
            Markup(f"<{kind}>")
            + Markup("").join(Markup("<li>") + one + Markup("</li>") for one in inner)
            + Markup(f"</{kind}>")
        )
    return Markup(f"<{kind}>") + Markup(" ").join(inner) + Markup(f"</{kind}>")


def _inline(text: str) -> Markup:
    html = str(escape(text))
    for mark, element in _MARKS:
        html = mark.sub(element, html)
    return Markup(html)
