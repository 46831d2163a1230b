"""The comparison table by hand: win rates, flags where they arise, changes, and its text to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heedful.config import UserError
from heedful.report.page import Report, html
from heedful.report.tables import (
    ModelResult,
    changes_text,
    demo_table,
    flag_change,
    flag_rate,
    head_to_head,
    short_heading,
)

SFT = ModelResult(
    "SFT",
    [0.5, 0.5, 0.5, 0.5],
    [10, 10, 10, 12],
    {"fails_instruction": [True, True, False, False], "hallucination": [None, None, True, None]},
    kl=0.0,
    corpus_loss=0.86,
)
PPO = ModelResult(
    "PPO",
    [0.9, 0.5, 0.7, 0.1],
    [11, 11, 11, 13],
    {"fails_instruction": [False, False, False, True], "hallucination": [None, True, False, None]},
    kl=6.25,
    corpus_loss=1.19,
)
BEST = ModelResult("best of 16", [0.6, 0.6, 0.6, 0.6], [12, 12, 12, 12], {"hallucination": [None] * 4})


def test_head_to_head_counts_ties_half() -> None:
    assert head_to_head(PPO, SFT).rate == 0.625  # won, tied, won, lost
    assert head_to_head(SFT, PPO).rate == 0.375
    assert head_to_head(BEST, SFT) == (1.0, None, None, 4)


def test_clusters_are_drawn_whole() -> None:
    """Of two users one always prefers A: two are too few for an interval."""
    a = ModelResult("a", [1.0] * 10 + [0.0] * 10, [1] * 20)
    b = ModelResult("b", [0.5] * 20, [1] * 20)
    assert head_to_head(a, b, ["u"] * 10 + ["v"] * 10)[1:3] == (None, None)
    low, high = head_to_head(a, b)[1:3]
    assert 0.2 < low < high < 0.8


def test_flags_are_rated_where_they_arise() -> None:
    rate = flag_rate(PPO, "hallucination")
    assert rate is not None
    assert (rate.mean, rate.n) == (0.5, 2)
    assert flag_rate(BEST, "hallucination") is None
    assert flag_rate(PPO, "hallucination", ["u", "v", "w", "u"]) is not None


def test_a_change_is_paired() -> None:
    change = flag_change(SFT, PPO, "fails_instruction")
    assert change is not None
    assert (change.mean, change.n) == (-0.25, 4)
    change = flag_change(SFT, PPO, "hallucination")
    assert change is not None
    assert (change.mean, change.n) == (-1.0, 1)  # only the third prompt arises for both
    assert flag_change(SFT, BEST, "hallucination") is None
    assert changes_text(SFT, PPO).splitlines() == [
        "SFT to PPO, in percentage points:",
        "  fails instruction  -25.0  (too few for an interval)",
        "  hallucination      -100.0  (too few for an interval)",
    ]


def test_the_table_to_the_letter() -> None:
    expected = """\
                    wins against   fails                         corpus
model                        SFT  instr.  halluc.  length    KL    loss
                %  95 % interval       %        %  tokens  nats    nats
───────────────────────────────────────────────────────────────────────
SFT          50.0  baseline         50.0    100.0    10.5  0.00   0.860
PPO          62.5  (too few)        25.0     50.0    11.5  6.25   1.190
best of 16  100.0  (too few)           –        –    12.0     –       –"""
    assert demo_table([SFT, PPO, BEST], "SFT").text() == expected


def test_what_does_not_fit_goes_into_a_second_block() -> None:
    text = demo_table([SFT, PPO, BEST], "SFT").text(width=48)
    assert max(len(line) for line in text.splitlines()) <= 48
    assert text.count("best of 16") == 2
    assert text.split("\n\n")[1].splitlines()[-1].split() == ["best", "of", "16", "–", "12.0", "–", "–"]


def test_the_demo_table_fits_a_hundred_columns() -> None:
    flags = {name: [True] * 4 for name in ("fails_instruction", "misses_constraint", "hallucination", "inappropriate")}
    rows = [ModelResult("prompted base", [0.1] * 4, [100.0] * 4, flags, 10.25, 0.8), SFT]
    text = demo_table(rows, "SFT").text()
    assert "\n\n" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_bound_is_no_measured_kl() -> None:
    best = replace(BEST, kl=1.8351, kl_bound=True)
    table = demo_table([SFT, best], "SFT")
    assert table.text().splitlines()[-1].split()[-2] == "≤1.84"
    assert "≤ 1.84" in html(Report("t", table=table))
    assert "≤" not in html(Report("t", table=demo_table([SFT], "SFT")))


def test_rows() -> None:
    baseline, ppo, best = demo_table([SFT, PPO, BEST], "SFT").rows
    assert baseline.wins is None
    assert ppo.wins is not None
    assert ppo.wins.rate == 0.625
    share = ppo.flags["hallucination"]
    assert share is not None
    assert share.n == 2
    assert best.flags == {"hallucination": None}
    assert best.length == 12


def test_ragged_lists_and_an_unknown_baseline_are_refused() -> None:
    with pytest.raises(UserError, match="PPO: 3 lengths for 4 prompts"):
        demo_table([SFT, ModelResult("PPO", [1.0] * 4, [1.0] * 3)], "SFT")
    with pytest.raises(UserError, match="PPO: 5 utilities for 4 prompts"):
        demo_table([SFT, ModelResult("PPO", [1.0] * 5, [1.0] * 5)], "SFT")
    with pytest.raises(UserError, match=r"no model 'base' to compare with\. Known: SFT, PPO"):
        demo_table([SFT, PPO], "base")


def test_short_headings() -> None:
    assert short_heading("fails_instruction") == ("fails", "instr.")
    assert short_heading("misses_constraint") == ("misses", "constr.")
    assert short_heading("hallucination") == ("", "halluc.")
    assert short_heading("rude") == ("", "rude")
