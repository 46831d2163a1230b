"""Lines of code and of comments, counted by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PYTHON = '''"""Docstring,
of two lines."""

import math  # code with a comment

# A comment.
LONG = """a string

that is code"""


class Row:
    name: str
    """What it is called."""
'''


def test_lines_of_code_and_comments_by_hand() -> None:
    spec = importlib.util.spec_from_file_location("lines", Path(__file__).parent.parent / "scripts" / "lines.py")
    assert spec is not None
    assert spec.loader is not None
    lines = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lines)
    assert lines.counts("py", PYTHON) == (5, 4)  # import, two lines of the string, class, name
    assert lines.counts("js", "// one\nf(); // code\n\n/* two\nthree */\ng();\n") == (2, 3)
    assert lines.counts("css", "/* one */\na { color: red; }\n") == (1, 1)
    assert lines.counts("html", "{# one\ntwo #}\n<p>\n<!-- three -->\n\n</p>\n") == (2, 3)
