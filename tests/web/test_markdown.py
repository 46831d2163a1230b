"""Markdown as HTML: what is allowed, what is not, and how long a hostile text may take."""

from __future__ import annotations

import time
from random import Random

import pytest

from heedful.web.text import markdown
from heedful.web.text.defaults import CONSENT, GUIDE
from heedful.web.text.markdown import as_html

REL = 'rel="nofollow noopener noreferrer"'
HOSTILE = 40_000  # characters


@pytest.mark.parametrize(("text", "html"), [
    ("# A\n\n## B\n\n### C\n\n#### D", "<h2>A</h2>\n<h2>B</h2>\n<h3>C</h3>\n<h3>D</h3>\n"),
    ("two\nlines **b** *i* 2 * 3 * 4", "<p>two\nlines <strong>b</strong> <em>i</em> 2 * 3 * 4</p>\n"),
    ("- a\n  more\n- b", "<ul>\n<li>a\nmore</li>\n<li>b</li>\n</ul>\n"),
    ("3. x\n4. y", '<ol start="3">\n<li>x</li>\n<li>y</li>\n</ol>\n'),
    ("> q", "<blockquote>\n<p>q</p>\n</blockquote>\n"),
    ("`a < b`", "<p><code>a &lt; b</code></p>\n"),
    ("```py\na < b\n```", "<pre><code>a &lt; b\n</code></pre>\n"),
    ("|a|b|\n|:-|-|\n|1|2|", "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>\n"),  # noqa: E501
    ("a  \nb\n\n---", "<p>a<br>\nb</p>\n<hr>\n"),
    ("[a](https://a.org/?b&c \"title\")", f'<p><a href="https://a.org/?b&amp;c" {REL}>a</a></p>\n'),
    ("<mailto:ann@a.org>", f'<p><a href="mailto:ann@a.org" {REL}>mailto:ann@a.org</a></p>\n'),
    ("<b>&amp;\"</b>", "<p>&lt;b&gt;&amp;&quot;&lt;/b&gt;</p>\n"),
    ("![x](https://a.org/x.png)", f'<p>!<a href="https://a.org/x.png" {REL}>x</a></p>\n'),
])  # fmt: skip
def test_what_is_shown(text: str, html: str) -> None:
    assert as_html(text) == html


@pytest.mark.parametrize("address", [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "//a.org", "/work/tea", "ftp://a.org",
    "vbscript:x",    "&#106;avascript:alert(1)", "java\tscript:x", "file:///etc/passwd", "https://a.org/\"onclick=x",
])  # fmt: skip
def test_other_addresses_are_text(address: str) -> None:
    for text in (f"[a]({address})", f"<{address}>", f"[a]\n\n[a]: {address}", f"[a](<{address}>)"):
        shown = as_html(text)
        assert 'href="j' not in shown.lower()
        assert "onclick" not in shown.partition("href=")[2].partition(">")[0].replace("%22onclick", "")
        assert "<a " not in shown or 'href="https://a.org/' in shown


def test_a_tag_outside_the_list_becomes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the parser returns."""
    returned = '<p onclick="x">a</p><script>b</script><a href="javascript:x">c</a><img src=x>d<p'

    class Broken:
        def render(self, text: str) -> str:
            return returned

    monkeypatch.setattr(markdown, "_WITH_TABLES", Broken())
    assert as_html("x") == (
        "&lt;p onclick=&#34;x&#34;&gt;a</p>&lt;script&gt;b&lt;/script&gt;&lt;a href=&#34;javascript:x&#34;&gt;c</a>"
        "&lt;img src=x&gt;d&lt;p"
    )


def test_the_default_texts_are_markdown() -> None:
    for text in (GUIDE, CONSENT):
        shown = as_html(text)
        assert "&lt;" not in shown
        assert "**" not in shown
    assert as_html(GUIDE).count("<h2>") == GUIDE.count("\n## ")


PIECES = (
    "[", "]", "(", ")", "![", "*", "**", "_", "__", "`", "``", "> ", ">", "- ", "1. ", "\n", "\n\n", "|", "|-|\n", "a",
    "<", "<http://a.b>", "  ", "    ", "\\", "&amp;", "***\n", "# ", "```\n", "[a](b)", "[a]: /u\n", "\t", "=\n",
    "|a|b|\n",
)  # fmt: skip
UNITS = (
    *PIECES, "[a](", "![a](b)", "*a ", "*a**", "a**b", "a_b ", "[*`_", "a\n=\n", "> - ", "<http://a.b> ",
    "|a|\n|-|\n\n",
    "> " * 9 + "a\n", "- a\n  - b\n", "[a][b] ", "``` \n~~~\n", "> > > a\nb\n",
)  # fmt: skip


def test_hostile_texts_take_less_than_a_third_of_a_second() -> None:
    rng = Random(1)
    texts = [unit * (HOSTILE // len(unit)) for unit in UNITS]
    texts += [
        "|a" * 100 + "|\n" + "|-" * 100 + "|\n" + ("|a" * 100 + "|\n") * 198,
        "a|" * 200 + "\n" + "-|" * 200 + "\n" + "x|\n" * 12_000,
        "> " * 1000 + "a\n" + "b\n" * 19_000,
        "[a]: http://x.y\n\n" + "[a] " * 9_990,
        "".join("`" * length + " " for length in range(1, 280)),
        "[a" * 19_000 + "](b)" * 500,
        "[" * 30 + "> \t*" * 9_990,
    ]
    texts += ["".join(rng.choices(rng.sample(PIECES, 4), k=HOSTILE))[:HOSTILE] for _ in range(20)]
    for text in texts:
        assert any(seconds(text) < 0.3 for _ in range(3)), text[:60]  # the suite's garbage may be collected meanwhile


def seconds(text: str) -> float:
    start = time.thread_time()
    as_html(text)
    return time.thread_time() - start


def test_a_lone_carriage_return_ends_a_line() -> None:
    assert as_html("- a\r- b") == as_html("- a\n- b")
    assert "<li>" not in as_html("- a\r" * 12_000)  # too many lines for the parser


def test_a_costly_text_is_shown_as_paragraphs() -> None:
    assert as_html("[" * 4000 + "\n\n<b>") == "<p>" + "[" * 4000 + "</p>\n<p>&lt;b&gt;</p>"
