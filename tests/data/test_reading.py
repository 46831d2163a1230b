"""Files as people have them: every format and packing, folders and data sets, and limits."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from heedful.config import UserError
from heedful.data import formats
from heedful.data.kinds import kind_of
from heedful.data.reading import columns, sources
from heedful.data.reading.streams import FileLimits
from heedful.data.records import Choice, Comparison, Demonstration, Pick, Prompt, Text
from heedful.data.shapes import mapping

ROWS = [{"prompt": "What is two plus two?", "completion": "Four."}, {"prompt": "Ünd?\nWhy?", "completion": 'a "b", c'}]
TABLE = pa.Table.from_pylist(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
QUOTED = 'prompt,completion\r\nWhat is two plus two?,Four.\r\n"Ünd?\nWhy?","a ""b"", c"\r\n'


def stream(path: Path, table: pa.Table = TABLE, **options: Any) -> None:
    with ipc.new_stream(path, table.schema, **options) as writer:
        writer.write_table(table)


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def read(path: Path | str, cls: Any = Demonstration, **options: Any) -> list[dict[str, Any]]:
    return [record.row() for record in formats.read(path, cls, **options)]


def told(path: Path | str, cls: Any = Demonstration, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        formats.read(path, cls, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.jsonl", gzip.compress(LINES, mtime=0)),  # packed without a word in the name
        ("a.jsonl.zst", zstd(LINES)),
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("rows", LINES),  # no ending
        ("a.csv", QUOTED.encode()),
        ("a.csv", b"\xef\xbb\xbf" + QUOTED.encode()),
        ("A.CSV", QUOTED.replace(",", ";").replace('b""; c', 'b"", c').encode()),
        ("a.csv", b"sep=;\r\n" + QUOTED.replace(",", ";").replace('b""; c', 'b"", c').encode()),
        ("a.csv", b'\xef\xbb\xbf"sep=,"\r\n' + QUOTED.encode()),
        ("a.csv", QUOTED.replace(",", "|").replace('b""| c', 'b"", c').encode()),
        ("a.csv", QUOTED.replace("\r\n", ",,\r\n").replace("completion,,", "completion").encode()),  # as Excel writes
        ("a.tsv", QUOTED.replace(",", "\t").replace('b""\t c', 'b"", c').encode()),
        ("a.csv.gz", gzip.compress(QUOTED.encode(), mtime=0)),
        ("a.csv.zst", zstd(QUOTED.encode())),
    ],
)  # fmt: skip
def test_a_file_of_text_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == ROWS
    assert formats.fingerprint(tmp_path / name)["rows"] == 2
    assert kind_of(tmp_path / name) == "demonstrations"


def test_fields_around_the_rows_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert (kind_of(path), read(path), formats.fingerprint(path)["rows"]) == ("demonstrations", ROWS, 2)
    told = f"{path}: the rows are in 'data'. Not used: version"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_a_file_of_columns_is_read(tmp_path: Path) -> None:
    parquet.write_table(TABLE, tmp_path / "a.pq", compression="zstd")
    feather.write_feather(TABLE, str(tmp_path / "a.feather"), compression="lz4")
    feather.write_feather(TABLE, str(tmp_path / "plain.arrow"), compression="uncompressed")
    stream(tmp_path / "b.arrow")
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == ROWS
        assert formats.fingerprint(path)["rows"] == 2


def test_a_bad_first_row_is_left_out_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt"\n\n["x"]\n' + LINES)
    assert read(tmp_path / "a.jsonl", skip_bad=True) == ROWS
    rejected = map(json.loads, (tmp_path / "a.jsonl.rejected.jsonl").read_text().splitlines())
    assert [(row["line"], row["row"]) for row in rejected] == [(1, '{"prompt"'), (3, '["x"]')]


def test_lines_of_text_are_prompts_or_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"Name a tea. \r\n\r\n  Why?\r\n")
    assert read(path, Prompt) == [{"prompt": "Name a tea. "}, {"prompt": "  Why?"}]
    assert read(path, Text) == [{"text": "Name a tea. "}, {"text": "  Why?"}]
    assert kind_of(path) == "prompts"
    path.write_bytes(LINES)
    assert told(path, Prompt) == f"{path}:1: holds JSON, not plain text. Name the file .jsonl."


def test_cells_hold_text_and_where_a_record_has_lists_json(tmp_path: Path) -> None:
    rows = [Comparison.model_validate({"prompt": [{"role": "user", "content": "Tea?"}], "ranking": [[1], [0]],
                                       "completions": ["[1, 2]", "b"], "none_acceptable": True,
                                       "note": '{"a": 1}'})]  # fmt: skip
    formats.write(tmp_path / "a.csv", rows)
    assert formats.read(tmp_path / "a.csv", Comparison) == rows
    (tmp_path / "b.csv").write_text('prompt,completion\n"[1, 2]","{""a"": 1}"\n')
    assert read(tmp_path / "b.csv") == [{"prompt": "[1, 2]", "completion": '{"a": 1}'}]
    (tmp_path / "c.csv").write_text("prompt,a,b,preferred,context\n2+2?,4,true,a,7\n")
    sides = {"a": {"text": "4"}, "b": {"text": "true"}}
    assert read(tmp_path / "c.csv", Choice) == [{"prompt": "2+2?", **sides, "preferred": "a", "context": "7"}]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"prompt,completion\na,b,c\n", ":2: 3 cells under 2 names. Quote cells"),
        ("a.csv", b'prompt,completion\n"a,b\n', ":2: not CSV (unexpected end of data)"),
        ("a.csv", b"prompt,completion\na,caf\xe9\n", ": not UTF-8 after this line"),
        ("a.csv", b"prompt,prompt\na,b\n", ":1: two columns are called 'prompt'"),
        ("a.csv", LINES, ":1: holds JSON, not a table"),
        ("a.csv", QUOTED.encode("utf-16"), ": is UTF-16 text. Save it as UTF-8."),
        ("a.csv", QUOTED.encode("utf-16-le"), ": is UTF-16 text. Save it as UTF-8."),
        ("a.jsonl", b"{\"prompt\": \"[{'role': 'user'} {'role': 'assistant'}]\"}\n",
         ":1: field 'prompt': looks like a list of messages, and is not JSON"),
        ("a.csv", b"prompt,chosen\na,\"[{'role': 'user'} {'role': 'assistant'}]\"\n",
         ":2: field 'chosen': looks like a list of messages, and is not JSON"),
        ("a.csv", b"PK\x03\x04etc", ": is a zip archive or a spreadsheet"),
        ("a.jsonl", b'{"prompt": "a", "prompt": "c"}\n', ":1: field 'prompt': the row names it twice"),
        ("a.jsonl", b'{"prompt": "a", "n": 18446744073709551617}\n', ":1: field 'n': a whole number"),
        ("a.jsonl", b'{"prompt": "a", "completion": "b", "n": %s}\n' % (b"9" * 5000), ":1: field 'n': a whole number"),
        ("a.json", b'[{"prompt": "a", "completion": "b", "x": {"y": [1e999]}}]', ":1: field 'x.y': a number beyond"),
        ("a.json", b'[{"prompt": "a",\n "completion": "b"}\n', ":3: not JSON (Expecting ',' delimiter)"),
        ("a.json", b'{"train": [{"a": "x"}], "test": [{"a": "y"}]}', ": holds several lists of rows (train, test)"),
        ("a.json", b'\n\n[{"prompt": "a"},\n\n {"prompt": }]', ":5: not JSON (Expecting value)"),
        ("a.jsonl", b'\n{"prompt"\n\n{"prompt": "a"}\n', ":2: not JSON ("),
        ("a.json", b'{"prompt": ["a", "b"], "completion": ["c", "d"]}', ": holds columns and not rows"),
        ("a.json", b'{"prompt": {"0": "a"}, "completion": {"0": "b"}}', ": holds columns and not rows"),
        ("a.csv", b"prompt,completion\r\n", ": no rows. Give a file with at least one."),
        ("a.jsonl.zst", zstd(LINES)[:-9], ": the zstd file is cut off or damaged"),
        ("a.arrow", b"ARROW1\0\0nothing", ": not a Arrow file, or a damaged one"),
        ("a.txt", b"One\rTwo\rThree", ":1: holds a carriage return. Save the file with LF or CRLF line ends."),
        ("a.csv", b"Name wool.,Coats.\nTwo?,2\n", ":2: field 'prompt': missing. Required: prompt, completion. The row"
         " has Name wool., Coats.. The first line of a table has the names of the fields. Name its fields with"),
        ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n{}\n',
         ":2: field 'prompt': missing. Required: prompt, completion. The row is empty. Delete it."),
        ("a.xlsx", b"PK\x03\x04", ": cannot read this kind of file. Name it .jsonl, .json,"),
    ],
)  # fmt: skip
def test_a_defect_is_one_line(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in told(tmp_path / name)


@pytest.mark.parametrize("name", ["a.arrow", "a.feather", "a.parquet", "a.jsonl.zst", "a.csv.gz"])
def test_damaged_bytes_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.arrow":
        stream(path)
    elif name == "a.feather":
        feather.write_feather(TABLE, str(path), compression="lz4")
    elif name == "a.parquet":
        parquet.write_table(TABLE.append_column("notes", pa.array([["x"], []])), path)
    else:
        path.write_bytes(zstd(LINES) if "zst" in name else gzip.compress(QUOTED.encode()))
    content = path.read_bytes()
    lines = []
    for place in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            formats.read(path, Demonstration, limits=FileLimits(unpacked=10**7, ratio=0))
        except UserError as error:
            lines.append(str(error))
    assert len(lines) > 10
    assert not [line for line in lines if "\n" in line]


def test_a_long_cell_and_an_empty_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"prompt,id,completion\n{'a' * 200_000},,b\n")
    assert read(tmp_path / "a.csv") == [{"prompt": "a" * 200_000, "completion": "b"}]


# --- folders and data sets


CHAT = [{"role": "user", "content": "Say 'red'\nor \"blue\"."}, {"role": "assistant", "content": "red"}]
SPELLED = {
    "JSON": json.dumps(CHAT),
    "JSON in lines": json.dumps(CHAT, indent=2),
    "Python": str(CHAT),
    "numpy, as pandas writes it": str(CHAT).replace("}, {", "}\n {"),
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_a_chat_that_a_file_spells_as_text_is_a_chat(tmp_path: Path, spelled: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    formats.write(path, [{"messages": spelled}, {"messages": spelled}])
    assert read(path) == [{"prompt": CHAT[:1], "completion": "red"}] * 2
    formats.write(path, [{"q": "Say red", "best": spelled, "other": "blue"}])
    given = mapping.parse(["prompt=q", "chosen=best", "rejected=other"])
    assert "must be a string or a list" in told(path, Comparison, given=given)
    formats.write(path, [{"best": spelled, "other": spelled}])
    (made,) = read(path, Comparison, given=mapping.parse(["chosen=best", "rejected=other"]))
    assert made["completions"] == ["red", "red"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_empty_label_is_no_good_one(tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / f"a.{ending}"
    formats.write(path, [ROWS[0] | {"label": "yes"}, ROWS[1] | {"label": None}])
    assert read(path) == [ROWS[0] | {"label": "yes"}]
    assert caplog.messages[0] == f"{path}: 1 of 2 rows holds no judgement: the label is empty"


def test_settings_in_rows_of_prompts_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "p.jsonl"
    formats.write(path, [{"prompt": "2+2?", "answer": "4", "max_tokens": 7, "temperature": 0.5}])
    assert read(path, Prompt)[0]["answer"] == "4"
    assert caplog.messages == [f"{path}: read as prompts. Fields that heedful does not use: max_tokens, temperature"]


def test_splits_by_other_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["train_sft", "Test", "test_prefs", "validation", "holdout", "valid", "gold", None]
    path = tmp_path / "s.jsonl"
    formats.write(path, [ROWS[0] | {"split": name} for name in names])
    splits = [row.get("split") for row in read(path)]
    assert splits == ["train", "test", "test", "valid", "test", "valid", "gold", None]
    assert caplog.messages == [f"{path}: heedful knows the splits train, valid and test. Read as train: gold"]


def test_held_out_files_are_not_read_with_others(tmp_path: Path) -> None:
    for name in ("more.jsonl", "train.jsonl"):
        (tmp_path / name).write_bytes(LINES)
    assert len(read(tmp_path)) == 4
    (tmp_path / "test.jsonl").write_bytes(LINES)
    assert told(tmp_path) == (
        f"{tmp_path}: holds files of the split test and others, such as more.jsonl. Name the files, or the split, as in"
        f" {tmp_path}:test"
    )
    assert len(read(f"{tmp_path}:test")) == 2


@pytest.mark.parametrize(
    ("content", "cls", "hint"),
    [
        ({"Frage": "2+2?", "Antwort": "4"}, Demonstration, " The row has Frage, Antwort. Name its fields with"),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, Demonstration,
         " Such rows are comparisons, and demonstrations are needed here."),
        (ROWS[0], Comparison, " Such rows are demonstrations, and comparisons are needed here."),
        ({"prompt": "2+2?"}, Demonstration, " Such rows are prompts, and demonstrations are needed here."),
    ],
)  # fmt: skip
def test_a_row_of_another_shape_says_what_it_is(tmp_path: Path, content: dict[str, Any], cls: Any, hint: str) -> None:
    formats.write(tmp_path / "a.jsonl", [content])
    assert hint in told(tmp_path / "a.jsonl", cls)
    (tmp_path / "b.jsonl").write_text('{"prompt": "", "completion": "x"}')
    assert told(tmp_path / "b.jsonl").endswith("Give the text of the prompt or leave the row out.")


SIDES = {"left": {"text": "4"}, "right": {"text": "5"}}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (SIDES | {"outcome": "left", "blind": True},
         "field 'outcome': a pick of a user, from which nothing learns by itself. Take the snapshot with "
         "--records pick --as-choices for a reward model."),
        ({"answer": {"text": "5"}, "up": False},
         "field 'up': a thumb of a user, from which nothing learns by itself. Take the snapshot with "
         "--records thumb --as-choices for a reward model."),
        ({"answer": {"text": "5"}, "edited": "4"},
         "field 'edited': an improvement by a user, which a lead accepts first. Accept it in the app, and take a "
         "snapshot of demonstrations."),
    ],
)  # fmt: skip
def test_nothing_learns_from_what_users_said_by_itself(tmp_path: Path, said: dict[str, Any], reason: str) -> None:
    """A thumb down is no demonstration of its answer."""
    formats.write(tmp_path / "a.jsonl", [{"prompt": "2+2?", **said}])
    for cls in (Demonstration, Comparison, Choice):
        assert told(tmp_path / "a.jsonl", cls) == f"{tmp_path / 'a.jsonl'}:1: {reason}"
    (prompt,) = formats.read(tmp_path / "a.jsonl", Prompt)
    assert prompt.prompt == "2+2?"
    if "outcome" in said:
        (pick,) = formats.read(tmp_path / "a.jsonl", Pick)
        assert (pick.right.text, pick.outcome) == ("5", "left")


def test_shards_are_one_data_set(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        parquet.write_table(pa.Table.from_pylist([row]), tmp_path / f"train-0000{number}-of-00002.parquet")
    (tmp_path / "README.md").write_text("# A data set\n")
    for given in (tmp_path, str(tmp_path) + "/*.parquet", str(tmp_path) + ":train"):
        assert read(given) == ROWS
    assert formats.fingerprint(tmp_path)["rows"] == 2
    before = formats.fingerprint(tmp_path)["sha256"]
    parquet.write_table(pa.Table.from_pylist([ROWS[0]]), tmp_path / "train-00001-of-00002.parquet")
    assert formats.fingerprint(tmp_path)["sha256"] != before


def test_a_split_of_a_folder_is_chosen_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for name, row in zip(("train", "validation"), ROWS, strict=True):
        (folder / "data" / f"{name}.jsonl").write_text(json.dumps(row))
    assert told(folder) == f"{folder}: has the splits train, valid. Name one, as in {folder}:train"
    assert read(f"{folder}:validation") == read(f"{folder}:valid") == ROWS[1:]
    assert "has the splits train, valid" in told(f"{folder}:test")
    (folder / "more.csv").write_text(QUOTED)
    assert "holds files of several formats (1 .csv and 2 .jsonl)" in told(folder)


def test_bad_rows_of_shards_name_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(LINES)
    (folder / "b.jsonl").write_text('{"prompt": ""}\n')
    assert told(folder).startswith(f"{folder / 'b.jsonl'}:1: ")
    assert read(folder, skip_bad=True) == ROWS
    (rejected,) = map(json.loads, (tmp_path / "set.rejected.jsonl").read_text().splitlines())
    assert (rejected["file"], rejected["line"]) == ("b.jsonl", 1)
    mended = (tmp_path / "set.rejected.jsonl").read_text().replace('{"prompt": ""}', json.dumps(ROWS[0]))
    (tmp_path / "mended.jsonl").write_text(mended)
    assert read(tmp_path / "mended.jsonl") == ROWS[:1]


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    saved = tmp_path / "saved" / "train"
    saved.mkdir(parents=True)
    for number, row in enumerate(ROWS):
        stream(saved / f"data-0000{number}-of-00002.arrow", pa.Table.from_pylist([row]))
    files = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in (1, 0)]
    (saved / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (saved / "dataset_info.json").write_text("{}")
    assert read(saved) == ROWS[::-1]
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert read(tmp_path / "saved") == ROWS[::-1]
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "has the splits train, test. Name one" in told(tmp_path / "saved")
    (saved / "state.json").write_text(json.dumps({"_data_files": files, "_indices_data_files": files}))
    assert "saved with row indices" in told(f"{tmp_path / 'saved'}:train")


def test_what_is_no_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert told("empty") == (
        "empty: a directory without a snapshot or files of rows"
        " (.jsonl, .json, .ndjson, .csv, .tsv, .txt, .parquet, .pq, .arrow, .feather)."
    )
    os.mkfifo("pipe")
    assert told("pipe") == "pipe: is a pipe or a device, and rows are read twice. Write them to a file first."
    assert told("*.parquet") == "*.parquet: no file has such a name. Check the pattern."
    assert told("gone.jsonl") == "gone.jsonl: no such file. Check the path."
    with pytest.raises(UserError, match=r"a\.jsonl\?download=true: an address\. Download the file, or give the name"):
        sources.find("https://host.example/a.jsonl?download=true")
    assert told("empty/gone.jsonl") == "empty/gone.jsonl: no such file. Check the path."


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path, asked: list[Any]) -> None:
    """A hub that has the files of a folder."""

    sources._from_hub.cache_clear()

    def info(self: Any, repository: str, revision: str, timeout: float) -> Any:
        asked.append((repository, revision))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=str(path.relative_to(folder))) for path in files])

    def download(repository: str, *, repo_type: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repository, repo_type, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_a_data_set_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    hub(monkeypatch, tmp_path, asked)
    for part, row in zip(("train", "test"), ROWS, strict=True):
        (tmp_path / "default" / part).mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "default" / part / "0000.parquet")
    assert read("people/tea:train") == ROWS[:1]
    branch = "refs/convert/parquet"
    assert asked == [("people/tea", branch), ("people/tea", "dataset", branch, ["default/train/0000.parquet"])]
    assert read("hf://datasets/people/tea@v2:default/test") == ROWS[1:]
    assert asked[-1][2] == "v2"
    assert told("people/tea") == "people/tea: has the parts test, train. Name one, as in people/tea:PART"
    assert str(formats.rejected_path("people/tea:train")) == "people--tea--train.rejected.jsonl"

    def unreachable(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no network")

    sources._from_hub.cache_clear()
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repository, *, repo_type, revision, local_files_only: str(tmp_path) if local_files_only else "",
    )
    assert read("people/tea:train") == ROWS[:1]  # from the cache


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **options: Any) -> Any:
        from huggingface_hub.errors import HfHubHTTPError

        raise HfHubHTTPError.__bases__[0]("Name or service not known")

    sources._from_hub.cache_clear()
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert told("people/tea") == (
        "people/tea: no such file, and the hub did not give a data set of this name (Name or service not known)."
        " Check the name and the network, or download it and give its folder."
    )


# --- limits

SMALL = FileLimits(unpacked=100_000, ratio=0, rows=1000)
LONG = "x" * 50_000


def bombs(folder: Path) -> None:
    """Small files that unpack to more than 100,000 bytes."""
    lines = json.dumps({"prompt": LONG}).encode() + b"\n"
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines * 3))
    (folder / "a.jsonl.zst").write_bytes(zstd(lines * 3))
    (folder / "a.json.gz").write_bytes(gzip.compress(b"[" + b",".join([lines] * 3) + b"]"))
    (folder / "a.csv.gz").write_bytes(gzip.compress(b"prompt\n" + f"{LONG}\n".encode() * 3))
    (folder / "a.txt.gz").write_bytes(gzip.compress(f"{LONG}\n".encode() * 3))
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([LONG]))
    nested = pa.ListArray.from_arrays(pa.array(range(501), pa.int32()), repeated)
    parquet.write_table(pa.table({"prompt": repeated}), folder / "repeated.parquet")
    parquet.write_table(pa.table({"prompt": ["a"] * 500, "notes": nested}), folder / "nested.parquet")
    parquet.write_table(pa.table({"prompt": [LONG + str(n) for n in range(9)]}), folder / "plain.parquet")
    stream(folder / "repeated.arrow", pa.table({"prompt": repeated}))
    zeros = pa.table({"prompt": [LONG] * 9})
    stream(folder / "packed.arrow", zeros, options=ipc.IpcWriteOptions(compression="zstd"))
    feather.write_feather(zeros, str(folder / "packed.feather"), compression="zstd")


def test_a_small_file_cannot_unpack_without_limit(tmp_path: Path) -> None:
    bombs(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.stat().st_size < 60_000
        assert told(path, Prompt, limits=SMALL) == f"{path}: unpacks to more than 100,000 bytes. Give it in parts."


def test_a_repeated_binary_has_the_limit_too(tmp_path: Path) -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([LONG.encode()]))
    parquet.write_table(pa.table({"prompt": repeated}), tmp_path / "binary.parquet", store_schema=False)
    assert "unpacks to more than 100,000 bytes" in told(tmp_path / "binary.parquet", Prompt, limits=SMALL)


def test_a_row_of_many_numbers_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = pa.ListArray.from_arrays(pa.array([0, 50_000], pa.int32()), pa.array([7] * 50_000))
    parquet.write_table(pa.table({"prompt": ["a"], "n": numbers}), tmp_path / "a.parquet")
    monkeypatch.setattr(columns, "_rows", lambda *given: pytest.fail("was decoded"))
    assert "unpacks to more than 100,000 bytes" in told(tmp_path / "a.parquet", Prompt, limits=SMALL)


def test_a_packed_file_of_arrow_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bombs(tmp_path)
    monkeypatch.setattr(ipc, "open_stream", lambda source: pytest.fail("was unpacked"))
    monkeypatch.setattr(ipc, "open_file", lambda source: pytest.fail("was unpacked"))
    for name in ("packed.arrow", "packed.feather"):
        assert "unpacks to more than" in told(tmp_path / name, Prompt, limits=SMALL)


def test_rows_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n' * 1001)
    nothing = pa.table({"prompt": pa.nulls(100_000, pa.string())})
    parquet.write_table(nothing, tmp_path / "a.parquet")
    stream(tmp_path / "a.arrow", nothing)
    for path in sorted(tmp_path.iterdir()):
        wide = FileLimits(unpacked=10**9, ratio=0, rows=1000)
        assert told(path, Prompt, limits=wide) == f"{path}: holds more than 1,000 rows. Give it in parts."


def test_a_large_file_has_larger_limits() -> None:
    usual = FileLimits()
    assert (usual.bytes_of(9000), usual.bytes_of(10**9)) == (10**9, 10**11)
    assert (usual.rows_of(9000), usual.rows_of(10**9)) == (2_000_000, 10**9)


def test_every_ending_that_can_be_read_is_listed() -> None:
    assert {".jsonl", ".jsonl.gz", ".csv.zst", ".parquet", ".arrow"} <= set(sources.READABLE)
    assert ".parquet.gz" not in sources.READABLE
