"""LaTeX formulas as MathML, which browsers show without any script.

The tags and attributes of the result are on an allow-list. What cannot be read as a formula stays as it was written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markupsafe import escape
from mdit_py_plugins.dollarmath import dollarmath_plugin

MOST_CHARACTERS = 1_000  # of one formula
MOST_DEEP = 40  # braces in each other
TAGS = (
    "math|mrow|mi|mn|mo|ms|mtext|mspace|msup|msub|msubsup|mfrac|msqrt|mroot|mover|munder|munderover|mtable|mtr|mtd|mstyle"
    "|mpadded|mphantom|menclose|mmultiscripts|mprescripts|none"
)
ATTRIBUTES = (
    "display|displaystyle|scriptlevel|mathvariant|stretchy|fence|form|separator|symmetric|lspace|rspace|width|height|depth"
    "|voffset|linethickness|columnalign|rowspacing|columnspacing|columnlines|rowlines|accent|accentunder|minsize|maxsize"
    "|movablelimits|largeop|notation"
)
ALLOWED = rf'</(?:{TAGS})>|<(?:{TAGS})(?: (?:{ATTRIBUTES})="[\w .%+,-]*")* ?/?>'
"""A regular expression of the tags that `mathml` makes."""

UNREADABLE = (AttributeError, KeyError, IndexError, RuntimeError, StopIteration, TypeError, ValueError)
"""What the converter raises for formulas that break off, besides classes of its own."""

_TAG, _ATTRIBUTE, _VALUE = re.compile(TAGS), re.compile(ATTRIBUTES), re.compile(r"[\w .%+,-]*")
_OPEN = {"(": ("\\)", "math_inline"), "[": ("\\]", "math_inline_double")}


def enable(parser: MarkdownIt) -> None:
    r"""Let a parser read `$x$`, `$$x$$`, `\(x\)` and `\[x\]` as formulas."""
    # An amount such as "$5 to $6" is none: no space inside of the signs, no digit next to them.
    dollarmath_plugin(parser, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    parser.inline.ruler.before("escape", "math_brackets", _brackets)


def mathml(latex: str, block: bool) -> str:
    """A formula as a MathML element, or as code if it is too long or cannot be read."""
    latex = latex.strip()
    made = _converted(latex, block) if len(latex) <= MOST_CHARACTERS and _depth(latex) <= MOST_DEEP else None
    return made if made is not None else f"<code>{escape(latex)}</code>"


@lru_cache(maxsize=2048)
def _converted(latex: str, block: bool) -> str | None:
    from latex2mathml import exceptions
    from latex2mathml.converter import convert_to_element  # its tables take a moment, and few pages need them

    own = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Exception)]
    unreadable: tuple[type[Exception], ...] = (*own, *UNREADABLE)
    try:
        element = convert_to_element(latex, xmlns="", display="block" if block else "inline")
    except unreadable:
        return None
    for each in element.iter():
        if _TAG.fullmatch(each.tag) is None:
            return None
        each.text = unescape(each.text) if each.text else each.text
        each.attrib = {
            name: value for name, value in each.attrib.items() if _ATTRIBUTE.fullmatch(name) and _VALUE.fullmatch(value)
        }
    return ElementTree.tostring(element, encoding="unicode")


def _depth(latex: str) -> int:
    level = deepest = 0
    for sign in latex:
        level += (sign == "{") - (sign == "}")
        deepest = max(deepest, level)
    return max(deepest, latex.count("\\left"), latex.count("\\begin"))


def _brackets(state: StateInline, silent: bool) -> bool:
    r"""The inline rule of `\(x\)` and `\[x\]`."""
    start = state.pos
    if state.src[start] != "\\" or state.src[start + 1 : start + 2] not in _OPEN:
        return False
    close, kind = _OPEN[state.src[start + 1]]
    end = state.src.find(close, start + 2, start + 2 + MOST_CHARACTERS + 2)
    if end < 0 or not state.src[start + 2 : end].strip():
        return False
    if not silent:
        token = state.push(kind, "math", 0)
        token.content = state.src[start + 2 : end]
    state.pos = end + 2
    return True
