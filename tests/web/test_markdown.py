"""Markdown as HTML: what is allowed, what is not, and how long a hostile text may take."""

from __future__ import annotations

import re
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.web.text import formulas, markdown
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


@pytest.mark.medium
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


# Texts that are judged


def rich(text: str) -> str:
    found = markdown.rich(text)
    assert found is not None
    return str(found)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("$x$", '<p><math display="inline"><mrow><mi>x</mi></mrow></math></p>\n'),
        (r"so \(x\) is", '<p>so <math display="inline"><mrow><mi>x</mi></mrow></math> is</p>\n'),
        ("$$x$$", '<p><math display="block"><mrow><mi>x</mi></mrow></math></p>\n'),
        (r"\[x\]", '<p><math display="block"><mrow><mi>x</mi></mrow></math></p>\n'),
        ("$\\frac{1}{n}$", "<mfrac><mrow><mn>1</mn></mrow><mrow><mi>n</mi></mrow></mfrac>"),
        ("It costs $5 to $6.", "<p>It costs $5 to $6.</p>\n"),
        ("`$x$`", "<p><code>$x$</code></p>\n"),
        ("```py\n$x$\n```", "<pre><code>$x$\n</code></pre>\n"),
        (r"$\frac{$", r"<code>\frac{</code>"),
        (r"\( \)", "<p>( )</p>\n"),
        ("**a** <b>x</b>", "<p><strong>a</strong> &lt;b&gt;x&lt;/b&gt;</p>\n"),
        ("a\u202eb", 'a<span class="sign" title="right-to-left override, U+202E">RLO</span>b'),
        ("a &amp; \u200b <", '&amp; <span class="sign" title="zero width space, U+200B">ZWSP</span> &lt;'),
    ],
)
def test_rich_texts(text: str, html: str) -> None:
    assert html in rich(text)


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}", r"\href{javascript:alert(1)}{x}", r"\style{background:url(//evil)}{x}",
        r"\class{x}{y}", r"\mathrm{<img src=x onerror=alert(1)>}",
        r"\text{<a href='https://evil.example' rel='x'>y</a>}",
        r"\cssId{x}{y}", r"\color{red;x:expression(1)}{y}", r"\text{&lt;script&gt;}", r"\unicode{60}script\unicode{62}",
    ],
)  # fmt: skip
def test_a_formula_brings_no_markup_of_its_own(latex: str) -> None:
    made = formulas.mathml(latex, block=False)
    for tag in re.findall("<[^>]*>", made):
        assert re.fullmatch(rf"{formulas.ALLOWED}|</?code>", tag), tag
    assert "javascript:" not in re.sub(">[^<]*<", "><", made)


def test_formulas_are_bounded() -> None:
    assert formulas.mathml("x" * 1001, block=False).startswith("<code>")
    assert formulas.mathml("{" * 41 + "x" + "}" * 41, block=False).startswith("<code>")
    many = rich("$x$ " * (markdown.MOST_FORMULAS + 5))
    assert (many.count("<math"), many.count("<code>")) == (markdown.MOST_FORMULAS, 5)
    assert markdown.rich("x" * (markdown.MOST_RICH + 1)) is None


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="\\{}[]()$^_& abfracsqtleghinmxdo<>'\"\n|*`", max_size=120))
def test_no_text_breaks_a_page(text: str) -> None:
    html = markdown.rich(f"${text}$ {text} $${text}$$ \\({text}\\)")
    assert html is None or all(
        markdown._ALLOWED.fullmatch(tag) or tag.startswith(('<span class="sign"', "</span>"))
        for tag in re.findall("<[^<>]*>", html)
    )


@pytest.mark.medium
@pytest.mark.parametrize("unit", ["$", "$x", "$$x$$", "\\(", "\\(x\\)", "\\[", "$\\frac", "**$a$ ", "$x$|", "\\($"])
def test_rich_texts_take_bounded_time(unit: str) -> None:
    began = time.process_time()
    for cut in range(3):
        markdown.rich((unit * markdown.MOST_RICH)[: markdown.MOST_RICH - cut])
    assert time.process_time() - began < 4
