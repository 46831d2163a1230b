"""Markdown as HTML: guides, consent texts, explanations, the preview of a demonstration, and texts that are judged.

CommonMark and tables. No raw HTML, no images. Links lead to http, https and mailto addresses only. The output passes an
allow-list of tags and attributes, so that a mistake in the parser cannot reach a page.

The time is bounded: the parser is slow on some texts that people do not write, such as thousands of open brackets. Such
a text is shown as plain paragraphs. Call `as_html` from a thread, never on the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from heedful.web.text import formulas, sanitise

MOST_NESTED = 20  # levels: a list in a list takes two
MOST_LINES = 4_000
MOST_BRACKETS = 3_000  # square and angle brackets
MOST_MARKS = 6_000  # asterisks, underscores, backticks
MOST_QUOTES = 10  # quotations in each other
MOST_SEARCHED = 400_000  # characters that the parser reads to find the ends of open brackets
MOST_COLUMNS = 30
MOST_CELLS = 5_000
MOST_RICH = 50_000  # characters of a text that is judged. A page may have ten of them
MOST_FORMULAS = 300

REL = "nofollow noopener noreferrer"
_LINK = re.compile(r"(?:https?://|mailto:)[^\s\"'<>]+", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>?|>")
_ALLOWED = re.compile(
    r"</?(?:p|h2|h3|ul|ol|li|blockquote|strong|em|code|pre|table|thead|tbody|tr|th|td)>|</a>|<(?:br|hr)>"
    r'|<ol start="\d{1,9}">'
    rf"|{formulas.ALLOWED}"
    rf'|<a href="(?:https?://|mailto:)[^"<>\s]+" rel="{REL}">',
    re.IGNORECASE,
)
_DEEP_QUOTE = re.compile(rf"^[ ]*(?:>[ ]?){{{MOST_QUOTES + 1}}}", re.MULTILINE)


class _Renderer(RendererHTML):
    """Renders tags without the attributes that a page does not need."""

    def renderToken(  # noqa: N802  # the library's name
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        token = tokens[idx]
        if token.type.startswith("heading"):
            token.tag = "h2" if token.tag in ("h1", "h2") else "h3"  # h1 is the title of the page
        token.attrs = {name: value for name, value in token.attrs.items() if name in ("href", "rel", "start")}
        return super().renderToken(tokens, idx, options, env)

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        tokens[idx].attrs["rel"] = REL
        return self.renderToken(tokens, idx, options, env)

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Renders a block of code without its language."""
        return f"<pre><code>{escape(tokens[idx].content)}</code></pre>\n"

    def math_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return self._formula(tokens[idx], env, block=False)

    def math_inline_double(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return self._formula(tokens[idx], env, block=True)

    def math_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<p>{self._formula(tokens[idx], env, block=True)}</p>\n"

    def _formula(self, token: Token, env: EnvType, *, block: bool) -> str:
        env["formulas"] = env.get("formulas", 0) + 1
        if env["formulas"] > MOST_FORMULAS:
            return f"<code>{escape(token.content)}</code>"
        return formulas.mathml(token.content, block)


def _parser(*, tables: bool, math: bool = False) -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "xhtmlOut": False, "maxNesting": MOST_NESTED}, renderer_cls=_Renderer
    )
    parser.disable(["image", "html_block", "html_inline"])
    if tables:
        parser.enable("table")
    if math:
        formulas.enable(parser)
        for rule in ("math_inline", "math_inline_double", "math_block"):  # the plugin has set its own
            parser.add_render_rule(rule, getattr(_Renderer, rule))
    parser.validateLink = lambda url: _LINK.fullmatch(url) is not None  # type: ignore[method-assign]
    return parser


_WITH_TABLES, _WITHOUT_TABLES = _parser(tables=True), _parser(tables=False)
_RICH = _parser(tables=True, math=True)


def as_html(text: str) -> Markup:
    """Returns the text as HTML for an element of class `prose`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _is_costly(text):
        return _paragraphs(text)
    large = text.count("|") > MOST_CELLS or max(line.count("|") for line in text.split("\n")) > MOST_COLUMNS
    return _rendered(_WITHOUT_TABLES if large else _WITH_TABLES, text)


@lru_cache(maxsize=512)  # a text is shown to several labelers, and again after each reload
def rich(text: str) -> Markup | None:
    """A text of a model or user as HTML for an element of class `prose`, with formulas.

    Invisible characters become signs. None if it is too long, or costly to read. Then the plain text has to do.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    wide = max((line.count("|") for line in text.split("\n")), default=0) > MOST_COLUMNS
    if len(text) > MOST_RICH or text.count("|") > MOST_CELLS or wide or _is_costly(text):
        return None
    return sanitise.with_signs(_rendered(_RICH, text))


def _rendered(parser: MarkdownIt, text: str) -> Markup:
    html: Any = parser.render(text)
    return Markup(_TAG.sub(_checked, html))


def _is_costly(text: str) -> bool:
    marks = sum(map(text.count, "*_`"))
    brackets = sum(map(text.count, "[]<"))
    too_many = text.count("\n") > MOST_LINES or marks > MOST_MARKS or brackets > MOST_BRACKETS
    # for each bracket that opens no link, the parser reads to the end of its paragraph
    searched = max((block.count("[") - block.count("](")) * len(block) for block in text.split("\n\n"))
    return too_many or searched > MOST_SEARCHED or _DEEP_QUOTE.search(text) is not None


def _checked(found: re.Match[str]) -> str:
    """Returns a tag of the allow-list unchanged, and any other as text."""
    return found[0] if _ALLOWED.fullmatch(found[0]) else str(escape(found[0]))


def _paragraphs(text: str) -> Markup:
    blocks = (block.strip() for block in text.split("\n\n"))
    return Markup("\n").join(Markup("<p>{}</p>").format(block) for block in blocks if block)
