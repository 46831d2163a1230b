from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from heedful.data.records import Comparison
from recipes import shared

ROWS = [
    Comparison(prompt="p", completions=["aaa", "aa", "a" * 9], ranking=[[0], [2], [1]]),
    Comparison(prompt="q", completions=["a" * 10, "a" * 11], ranking=[[1], [0]]),
]


def test_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": "\xc3\xa9"}\n'))
    assert shared.rows(path) == [{"a": 1}, {"a": "é"}]


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (100, "One two,\nthree."),
        (15, "One two,\nthree."),
        (14, "One two, ..."),
        (12, "One two, ..."),
        (11, "One ..."),
        (6, "..."),
    ],
)
def test_a_text_is_cut_after_a_word_and_says_so(room: int, expected: str) -> None:
    assert shared.shortened("One two,\nthree.", lambda text: len(text) <= room) == expected


def test_outcomes_follow_the_pairs_of_the_rankings() -> None:
    # pairs: 0 > 2, 0 > 1, 2 > 1; then 1 > 0
    assert shared.outcomes(ROWS, [[2.0, 1.0, 3.0], [5.0, 5.0]]) == [0.0, 1.0, 1.0, 0.5]
    assert shared.lengths(ROWS) == [[3.0, 2.0, 9.0], [10.0, 11.0]]
    assert shared.length_bins(ROWS) == ["over 100 %", "25 to 100 %", "over 100 %", "under 25 %"]


def test_interval_of_pairs_without_common_answers_is_the_plain_one() -> None:
    values = [1.0, 0.0, 1.0, 1.0] * 2
    found = shared.over_answers(values, [(f"a{i}", f"b{i}") for i in range(8)])
    assert found.mean == 0.75
    assert found.high is not None
    assert found.high - 0.75 == pytest.approx(1.96 * np.std(values) / np.sqrt(8))
    assert found.n == 8
    assert shared.over_answers(values[:4], [(f"a{i}", f"b{i}") for i in range(4)])[1:] == (None, None, 4)


def test_interval_of_one_answer_in_all_pairs_counts_it_once() -> None:
    """Answers x and y stand in ten pairs each, x always wins and y never: as two observations, not twenty."""
    values = [1.0] * 10 + [0.0] * 10
    pairs = [("x", f"x{i}") for i in range(10)] + [("y", f"y{i}") for i in range(10)]
    found = shared.over_answers(values, pairs)
    # sum over x of 10 x 0.5 = 5, squared, twice; the ends x0... add 20 x 0.25 and each pair's own 20 x 0.25 goes off
    assert found.high - found.mean == pytest.approx(1.96 * np.sqrt(50) / 20)


def test_comparison_of_judges_is_paired() -> None:
    def width(values: list[float]) -> shared.Interval:
        return shared.over_answers(values, [(f"a{i}", f"b{i}") for i in range(len(values))])

    found = shared.compare({"model": [1.0, 1.0, 0.0, 1.0], "longer": [1.0, 0.0, 0.0, 1.0]}, width)
    assert list(found) == ["model", "longer", "model minus longer"]
    assert found["model minus longer"]["mean"] == 0.25
    same = shared.compare({"model": [1.0, 0.0], "longer": [1.0, 0.0]}, width)["model minus longer"]
    assert (same["low"], same["mean"], same["high"]) == (None, 0.0, None)
    assert shared.percent(same) == "   0.0   too few for an interval   n 2"


def test_minutes_add_up_over_resumed_runs(tmp_path: Path) -> None:
    (tmp_path / "times.tsv").write_text("texts\t30\npretrain\t60\npretrain\t90\n", encoding="utf-8")
    found = shared.duration(tmp_path)
    assert found["minutes"] == {"texts": 0.5, "pretrain": 2.5}
    assert found["matmul_gflops"] > 0
    assert shared.duration_line(json.loads(json.dumps(found))).startswith("3.0 minutes (texts 0.5, pretrain 2.5). This")
