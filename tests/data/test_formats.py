"""Files in and out: every byte kept, every defect told in one line, and nothing half written."""

from __future__ import annotations

import builtins
import datetime
import errno
import gzip
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from heedful.config import UserError, install
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt, Record, Text

NAMES = ["data.jsonl", "data.jsonl.gz", "data.parquet"]

COMPARISONS = [
    Comparison.model_validate(
        {
            "prompt": "Name a bird.\r\n\u2028",
            "completions": [" owl ", "", "crow\x00"],
            "ranking": [[2], [0, 1]],
            "models": ["sft", None, "ppo"],
            "finish": ["stop", "length", "stop"],
            "token_ids": [[1, 2], [], [3]],
            "scores": [0.1, -2.0, 1e-30],
            "ratings": [{"overall": 7, "opinion": False}, {}, {"hallucination": True}],
            "labeler": "łucja",
            "page": {"n": 1, "tags": ["ü", "🐦"]},
        }
    ),
    Comparison(prompt="Why?", completions=["a", "b"], ranking=[[0, 1]], none_acceptable=True),
]


def told(path: Path, record_type: type[Record] = Prompt, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        formats.read(path, record_type, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_back_and_strings_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    formats.write(tmp_path / name, COMPARISONS)
    assert formats.read(tmp_path / name, Comparison) == COMPARISONS


@pytest.mark.medium
@settings(max_examples=30)
@given(st.lists(st.builds(Demonstration, prompt=st.text().filter(str.strip), completion=st.text()), min_size=1))
def test_any_text_survives_a_file(tmp_path_factory: pytest.TempPathFactory, records: list[Demonstration]) -> None:
    path = tmp_path_factory.mktemp("any") / "data.jsonl"
    formats.write(path, records)
    assert formats.read(path, Demonstration) == records


def test_json_lines_are_plain_utf8_with_one_object_a_line(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.jsonl", [Prompt(prompt="ü\n"), {"x": 1}])
    assert (tmp_path / "a.jsonl").read_bytes() == '{"prompt": "ü\\n"}\n{"x": 1}\n'.encode()


@pytest.mark.parametrize("name", NAMES)
def test_equal_records_make_equal_bytes_whatever_the_name_and_time(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.write(tmp_path / name, COMPARISONS)
    monkeypatch.setattr("time.time", lambda: 4e9)
    formats.write(tmp_path / f"other-{name}", COMPARISONS)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"other-{name}").read_bytes()


def test_gzip_is_really_gzip(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.jsonl.gz", COMPARISONS)
    assert len(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()) == 2


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a\\r\\n"}\r\n\r\n{"text": "b"}')
    assert [record.text for record in formats.read(path, Text)] == ["a\r\n", "b"]
    assert formats.fingerprint(path)["rows"] == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": no rows. Give"),
        (b"\n\r\n", ": no rows. Give"),
        (b'{"prompt": "a"}\n{"prompt": "b",}\n', ":2: not JSON ("),
        (b'\n{"prompt": "caf\xe9"}\n', ":2: not UTF-8 (byte 15 of the line). Convert"),
        ('{"prompt": "a"}'.encode("utf-16"), ": is UTF-16 text. Save it as UTF-8."),
        (b'{"prompt": "a"}\n\0\0\0\n', ":2: holds NUL bytes. The file is damaged"),
        (b'{"prompt": "a"}\n["b"]\n', ":2: a JSON array. Write one object a line"),
        (b'[{"prompt": "a"},\n {"prompt": "b",}]\n', ":2: not JSON ("),
        (b'[{"prompt": "a"},\n 3]\n', ":2: not a JSON object"),
        (b'{\n  "prompt": "a"\n', ":1: not JSON ("),
        (b'"prompt"\n', ":1: not a JSON object. Write rows like"),
        (b'{"prompt": "a", "x": NaN}\n', ":1: field 'x': NaN is not a JSON value. Write null."),
        (
            b'{"prompt": "a"}\n{"prompt": "b", "x": {"y": [1, -1e999]}}\n',
            ":2: field 'x.y': a number beyond what 64-bit",
        ),
        (b'{"prompt": "a", "x": "\\uD800"}\n', ":1: field 'x': holds half of a surrogate pair"),
        (b'{"prompt": ' + b"[" * 100_000 + b"\n", ":1: nested too deeply"),
        (b'{"prompt": "a"}\n{"prompt": ""}\n', ":2: field 'prompt': is empty"),
        (b'{"text": "a"}\n', ":1: field 'prompt': missing. Required: prompt."),
    ],
)
def test_a_defect_is_told_by_file_line_and_remedy(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    assert told(path).startswith(f"{path}{expected}")
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\udc26"}\n')
    assert formats.read(tmp_path / "a.jsonl", Text)[0].text == "🐦"


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in told(tmp_path / "absent.jsonl")
    assert "no such file" in told(tmp_path / "absent.parquet")
    assert "a directory without a snapshot or files of rows" in told(tmp_path)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "closed.jsonl").write_text('{"prompt": "a"}\n')
    monkeypatch.setattr(builtins, "open", refuse)
    assert "Permission denied" in told(tmp_path / "closed.jsonl")


def test_gzip_that_is_cut_off_damaged_or_none_is_told(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl.gz"
    formats.write(whole, [Prompt(prompt=f"number {n}") for n in range(2000)])
    data, bad = whole.read_bytes(), tmp_path / "bad.jsonl.gz"
    for content, expected in (
        (data[: len(data) // 2], "cut off or damaged"),
        (data[:200] + bytes(200) + data[400:], "cut off or damaged"),
        (b'{"prompt": "a"}\n', "named .gz, but not a gzip file"),
    ):
        bad.write_bytes(content)
        assert expected in told(bad, skip_bad=True)


def test_parquet_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b'{"prompt": "a"}\n')
    assert "not a Parquet file" in told(tmp_path / "a.parquet")


def test_a_parquet_row_is_told_by_its_number(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.parquet", [{"prompt": "a"}, {"prompt": " "}])
    assert ":2: field 'prompt': is empty" in told(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.write(tmp_path / "a.parquet", COMPARISONS)
    real_import = builtins.__import__

    def without_pyarrow(name: str, *args: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    assert install("files") in told(tmp_path / "a.parquet")


def test_parquet_from_elsewhere_gives_rows_that_json_can_hold(tmp_path: Path) -> None:
    day = datetime.date(2024, 2, 29)
    table = pa.table({"prompt": ["a", "b"], "day": [day, None], "chosen": [None, None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    records = formats.read(tmp_path / "a.parquet", Prompt)
    assert [record.row() for record in records] == [{"prompt": "a", "day": "2024-02-29"}, {"prompt": "b"}]


def test_nan_is_the_null_of_pandas_and_bytes_are_text(tmp_path: Path) -> None:
    table = pa.table({"prompt": [b"a", "b\u00fc".encode()], "x": [math.nan, 0.5], "y": [[math.nan, 1.0], []]})
    parquet.write_table(table, tmp_path / "a.parquet")
    records = formats.read(tmp_path / "a.parquet", Prompt)
    assert [record.row() for record in records] == [
        {"prompt": "a", "y": [None, 1.0]},
        {"prompt": "b\u00fc", "x": 0.5, "y": []},
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([b"a", b"\xff"], r":2: field 'x\.y': bytes that are not UTF-8 text. Write text"),
        ([0.0, math.inf], r":2: field 'x\.y': a number beyond what 64-bit floats hold. Write a smaller one"),
    ],
)
def test_columns_that_json_cannot_hold_are_named(tmp_path: Path, values: list[Any], words: str) -> None:
    parquet.write_table(
        pa.table({"prompt": ["a", "b"], "x": [{"y": value} for value in values]}), tmp_path / "a.parquet"
    )
    assert re.search(words, told(tmp_path / "a.parquet"))
    assert [record.prompt for record in formats.read(tmp_path / "a.parquet", Prompt, skip_bad=True)] == ["a"]


def test_a_damaged_page_of_parquet_is_told_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    formats.write(path, [Prompt(prompt=f"number {n * n}") for n in range(2000)])
    content = path.read_bytes()
    path.write_bytes(content[:60] + b"\xff" * 400 + content[460:])
    assert re.fullmatch(
        rf"{path}: not a Parquet file, or a damaged one \(.+\). Check its name or download it again.", told(path)
    )


# --- bad rows left out


def test_bad_rows_go_to_a_file_beside_with_line_and_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": 3}\n\n{"prompt": "b\xff"}\n{"prompt": "c"}\n')
    with caplog.at_level(logging.WARNING):
        assert [record.prompt for record in formats.read(path, Prompt, skip_bad=True)] == ["a", "c"]
    rejected = [json.loads(line) for line in formats.rejected_path(path).read_text().splitlines()]
    assert formats.rejected_path(path) == tmp_path / "data.jsonl.rejected.jsonl"
    assert [row["line"] for row in rejected] == [2, 4]
    assert rejected[0]["row"] == {"prompt": 3}
    assert rejected[0]["reason"].startswith("field 'prompt': must be a string or a list of messages")
    assert rejected[1]["row"] == '{"prompt": "b\\xff"}'
    assert "left out 2 of 4 rows" in caplog.text


def test_a_public_row_is_rejected_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"messages": []}\n{"messages": [{"role": "user", "content": "a"}]}\n')
    assert len(formats.read(path, Prompt, skip_bad=True)) == 1
    assert json.loads(formats.rejected_path(path).read_text())["row"] == {"messages": []}


def test_rows_that_were_put_aside_are_read_when_they_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": 3, "id": "x"}\n{"prompt": "b"\n["c"]\n')
    formats.read(path, Prompt, skip_bad=True)
    aside = formats.rejected_path(path)
    for line, reason, bad, good in (
        (1, "field 'prompt': must be a string", '"row": {"prompt": 3, ', '"row": {"prompt": "three", '),
        (2, "not JSON", '"row": "{\\"prompt\\": \\"b\\""', '"row": "{\\"prompt\\": \\"b\\"}"'),
        (3, "a JSON array", '"row": "[\\"c\\"]"', '"row": {"prompt": "c"}'),
    ):
        assert told(aside).startswith(f"{aside}:{line}: {reason}")
        assert bad in aside.read_text()
        aside.write_text(aside.read_text().replace(bad, good))
    assert [record.row() for record in formats.read(aside, Prompt)] == [
        {"prompt": "three", "id": "x"}, {"prompt": "b"}, {"prompt": "c"},
    ]  # fmt: skip


def test_mended_rows_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": 3}\n')
    for _ in range(2):  # the same rows again take nothing from anybody
        assert len(formats.read(path, Prompt, skip_bad=True)) == 1
    aside = formats.rejected_path(path)
    aside.write_text(mended := aside.read_text().replace('"prompt": 3', '"prompt": "three"'))
    refusal = told(path, skip_bad=True)
    assert refusal == f"{aside}: already exists. Import the rows that you repaired in it, then move it away."
    assert aside.read_text() == mended


def test_without_bad_rows_no_file_is_written(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.jsonl", COMPARISONS)
    formats.read(tmp_path / "a.jsonl", Comparison, skip_bad=True)
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_a_file_of_bad_rows_alone_is_an_error_that_keeps_the_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": ""}\n' * 3)
    assert "no row fits (3 rows). The first one: field 'prompt': is empty" in told(path, skip_bad=True)
    assert formats.fingerprint(formats.rejected_path(path))["rows"] == 3


def test_where_the_rejected_rows_cannot_be_written_nothing_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": ""}\n{"prompt": "a"}\n')
    formats.rejected_path(path).mkdir()
    assert "Is a directory" in told(path, skip_bad=True)


# --- writing


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    formats.write(tmp_path / name, COMPARISONS)
    before = (tmp_path / name).read_bytes()

    def failing() -> Iterator[Record]:
        yield COMPARISONS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        formats.write(tmp_path / name, failing())
    assert (tmp_path / name).read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.jsonl: No space left on device"):
        formats.write(tmp_path / "a.jsonl", COMPARISONS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [float("inf"), "\ud800", {1, 2}])
def test_what_json_cannot_hold_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl: row 2 cannot be written as JSON"):
        formats.write(tmp_path / "a.jsonl", [{"x": 1}, {"x": value}])
    assert os.listdir(tmp_path) == []


def test_mixed_types_are_refused_by_parquet_alone(tmp_path: Path) -> None:
    mixed = [Prompt(prompt="a"), Prompt.model_validate({"prompt": [{"role": "user", "content": "b"}]})]
    with pytest.raises(UserError, match=r"Parquet wants one type for each field .* Write \.jsonl instead"):
        formats.write(tmp_path / "a.parquet", mixed)
    formats.write(tmp_path / "a.jsonl", mixed)
    assert formats.read(tmp_path / "a.jsonl", Prompt) == mixed


@pytest.mark.parametrize("values", [[1 << 70], [1, "a"], [{"a": 1}, [2]], [{}]])
def test_what_parquet_cannot_hold_is_refused(tmp_path: Path, values: list[Any]) -> None:
    records = [Prompt.model_validate({"prompt": "a", "x": value}) for value in values]
    for refuse in (formats.write, formats.check_fits):
        with pytest.raises(UserError, match=r"a\.parquet: Parquet wants one type .* Write \.jsonl instead"):
            refuse(tmp_path / "a.parquet", records)
    formats.check_fits(tmp_path / "a.jsonl", records)
    assert os.listdir(tmp_path) == []


def test_unknown_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Name it \.jsonl, \.jsonl\.gz, \.parquet or \.csv"):
        formats.write(tmp_path / "a.xml", COMPARISONS)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    formats.write(tmp_path / "new" / "folder" / "a.jsonl", COMPARISONS)
    assert len(formats.read(tmp_path / "new" / "folder" / "a.jsonl", Comparison)) == 2


# --- fingerprints


@pytest.mark.parametrize("name", NAMES)
def test_a_fingerprint_is_the_hash_of_the_bytes_and_the_number_of_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    formats.write(path, COMPARISONS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert formats.sha256(path) == digest
    assert formats.fingerprint(path) == {"path": str(path), "sha256": digest, "rows": 2}


# --- one record as another


def test_a_file_of_answers_is_a_file_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    formats.write(
        path, [Demonstration.model_validate({"prompt": "a", "completion": "b", "labeler": "l", "topic": "t"})]
    )
    assert formats.read(path, Prompt)[0].row() == {"prompt": "a", "topic": "t"}


def test_a_prompts_own_fields_are_kept_whatever_they_are_called(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "order": 3, "a": 1}\n')
    assert formats.read(path, Prompt)[0].row() == {"prompt": "a", "order": 3, "a": 1}


def test_scoring_a_file_of_comparisons_keeps_its_rankings(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.jsonl", COMPARISONS)
    formats.write(tmp_path / "b.jsonl", formats.read(tmp_path / "a.jsonl", Completions))
    assert formats.read(tmp_path / "b.jsonl", Comparison) == COMPARISONS


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": "a", "completion": "1"}, {"prompt": "b"}], "The answers of 1 of 2 rows are not used"),
        ([{"prompt": "a", "chosen": "1", "rejected": "2"}], "The answers of 1 of 1 row are not used"),
        (
            [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1"}]}],
            "of 1 of 1 row are",
        ),
        ([{"prompt": "a", "answer": "1"}], None),  # a reward function gets it
        ([{"prompt": "a", "response": "1"}], None),
        ([{"prompt": "a", "solution": "5"}, {"prompt": "b", "ground_truth": "6"}], None),
        ([{"prompt": "a", "level": "3"}], None),
        ([{"prompt": "a", "chosen": "1", "rejected": "2", "score_chosen": 8.0}], "of 1 of 1 row are"),
        ([{"prompt": "a", "completion": "1", "answer_source": "web"}], "of 1 of 1 row are"),
        ([{"instruction": "a", "input": "", "output": "1"}], "of 1 of 1 row are"),
        ([{"prompt": "a", "a": {"text": "1"}, "b": {"text": "2"}, "preferred": "a"}], "of 1 of 1 row are"),
    ],
)
def test_an_answer_that_prompts_do_not_keep_is_named(
    rows: list[dict[str, Any]], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(formats.read(tmp_path / "rows.jsonl", Prompt)) == len(rows)
    assert (told in caplog.text) if told else not caplog.messages
