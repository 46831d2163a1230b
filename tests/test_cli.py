"""The commands: what they print, and one line for everything a user can mend."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import click
import pytest

from heedful import cli, options, terminal
from heedful.config import UserError, install
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Prompt
from heedful.inference import sample
from heedful.runs.resumable import Interrupted
from heedful.runs.rows import RowsWriter
from heedful.stages import dpo
from stages import worlds
from stages.worlds import Files

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("--set", "generation.max_new_tokens=6")


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def heedful(capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a command in this process."""

    def run(*arguments: Any) -> Done:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        return Done(int(left.value.code or 0), *capsys.readouterr())

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done: Done, pattern: str) -> None:
    assert done.code == 2
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert re.search(pattern, line), line


# --- what a user can mend --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (("--set", "modle=x"), r"unknown key 'modle'. Known here: .*\bmodel\b"),
        (("--set", "optimiser.rate=1"), r"unknown key 'optimiser\.rate'. Known here: .*\blr\b"),
        (("--set", "batch"), r"--set batch: write it as section\.key=value"),
        (("--data", "nowhere.jsonl"), r"^nowhere\.jsonl: no such file"),
        (("--data", "malformed.jsonl"), r"^malformed\.jsonl:2: not JSON"),
        (
            ("--data", "lacking.jsonl"),
            r"^lacking\.jsonl:1: field 'completions': missing. Required: prompt, completions, ranking",
        ),
        (("--data", "empty.jsonl"), r"^empty\.jsonl: no rows"),
        (("--data", "alone.jsonl"), r"^alone\.jsonl:1: field 'completions': has one completion, .* two or more"),
        (("--data", "long.jsonl"), r"^long\.jsonl: prompt 1 has \d+ tokens, the most here is 127"),
        (("--model", "nowhere/at/all"), r"^nowhere/at/all: no such model"),
        (("--model", "empty.jsonl"), r"^empty\.jsonl: neither a run nor a Hugging Face model"),
        (("--model", "JUDGE"), r"a reward model .* cannot write text"),
        (("--out", "full"), r"^full: already exists and is not a run\. Choose another --out"),
        (("--out", "empty.jsonl/run"), r"^empty\.jsonl/run: Not a directory"),
        (("--config", "nowhere.toml"), r"^nowhere\.toml: no such config file"),
        (("--config", "bad.toml"), r"^bad\.toml: not valid TOML"),
        (("--config", "unknown.toml"), r"^unknown\.toml: unknown key 'stpes'"),
        (("--fast",), r"^No such option '--fast'.*\. See heedful dpo --help$"),
        (("--epohcs", "2"), r"^No such option '--epohcs'. Did you mean '--epochs'.*\. See heedful dpo --help$"),
        (("--seed", "many"), r"^the options: 'seed': .*whole number.*, not 'many'$"),
        (("--optimiser.schedule", "steep"), r"^the options: 'optimiser\.schedule': .*'cosine'.*, not 'steep'$"),
        (("--eval-data", "none", "--epochs", "none"), r"^the options: 'epochs': .*whole number"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    files: Files, heedful: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...], pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    worlds.write(Path("alone.jsonl"), [{"prompt": "Say", "completions": ["a"], "ranking": [[0]]}])
    worlds.write(Path("lacking.jsonl"), [{"prompt": "Say"}])
    worlds.write(Path("long.jsonl"), [{"prompt": "house " * 200, "completions": ["a", "b"], "ranking": [[0], [1]]}])
    Path("malformed.jsonl").write_text(
        '{"prompt": "Say", "completions": ["a", "b"], "ranking": [[0], [1]]}\n{"prompt": \n'
    )
    Path("empty.jsonl").write_text("")
    Path("bad.toml").write_text("steps = ")
    Path("unknown.toml").write_text("stpes = 1")
    Path("full").mkdir()
    Path("full/precious").write_text("x")
    before = contents(tmp_path)
    given = {"--model": files.policy, "--data": files.rankings, "--out": "run"}
    rest = [part.replace("JUDGE", files.judge) for part in change]
    if rest[0] in given:
        given[rest[0]] = rest[1]
        rest = []
    refused(heedful("dpo", *[part for pair in given.items() for part in pair], *rest), pattern)
    assert contents(tmp_path) == before
    assert not Path("run").exists()


def test_a_missing_option_is_named(heedful: Run, tmp_path: Path) -> None:
    refused(heedful("sft", "--out", tmp_path / "run"), "^--model is missing. See --help$")
    refused(heedful("sft"), r"^Missing option '--out'.*\. See heedful sft --help$")
    refused(heedful("pertain"), r"^No such command 'pertain'.*\. See heedful --help$")


def test_k_starts_at_one(files: Files, heedful: Run, tmp_path: Path) -> None:
    done = heedful(
        "sample", "--model", files.policy, "--prompts", files.prompts, "-k", "0", "--out", tmp_path / "c.jsonl"
    )
    refused(done, r"'k': must be at least 1, not 0")


def test_an_existing_file_is_not_replaced(files: Files, heedful: Run, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    out.write_text('{"prompt": "precious"}\n')
    refusal = r"c\.jsonl: already exists\. Choose another --out, or replace it with --overwrite"
    refused(heedful("sample", "--model", files.policy, "--prompts", files.prompts, "--out", out), refusal)
    refused(heedful("score", "--reward", files.judge, "--data", files.rankings, "--out", out), refusal)
    refused(heedful("import", files.rankings, "--out", out), refusal)
    refused(heedful("export", files.rankings, "--out", out), refusal)
    refused(heedful("curate", "--prompts", files.prompts, "--out", out), refusal)
    assert out.read_text() == '{"prompt": "precious"}\n'
    assert heedful("import", files.rankings, "--out", out, "--overwrite").code == 0
    assert len(formats.read(out, Comparison)) == 24


@pytest.mark.medium
def test_a_full_disk_is_named_and_what_was_done_is_kept(files: Files, heedful: Run, tmp_path: Path) -> None:
    """The limit on file sizes stands for the disk's end: the kernel refuses the write in both cases."""
    given = ["sample", "--model", files.policy, "--prompts", files.prompts, *SHORT, "--set", "chunk=4", "--out"]
    assert heedful(*given, tmp_path / "whole.jsonl").code == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    two_chunks = sum(len(line) for line in whole.splitlines(keepends=True)[:8])
    out = tmp_path / "c.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(two_chunks + 10, 1500), limits[1]))
    try:
        done = heedful(*given, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 2
    assert re.search(r"c\.jsonl: File too large. ", done.err.splitlines()[-1])
    assert not out.exists()
    assert heedful(*given, out, "--resume").code == 0
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device. Free some space, then try again or go on with --resume"),
        (errno.EACCES, "Permission denied. Choose another path, or change the permissions"),
        (errno.EROFS, "Read-only file system. Choose another path, or change the permissions"),
    ],
)
def test_what_the_system_refuses_names_file_and_remedy(
    files: Files, heedful: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(number, os.strerror(number))  # a write knows no file name

    monkeypatch.setattr(RowsWriter, "append", refuse)
    done = heedful("sample", "--model", files.policy, "--prompts", files.prompts, *SHORT, "--out", tmp_path / "c.jsonl")
    assert done.code == 2
    assert done.err.splitlines()[1:] == [f"{tmp_path / 'c.jsonl'}: {remedy}"]  # the first one is progress
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "pattern"),
    [
        ("folder.jsonl", r"^folder\.jsonl: Is a directory. Choose another path: a folder is where a file is needed"),
        ("file/x.jsonl", r"^file/x\.jsonl: File exists. Choose another path: a file is where a folder is needed$"),
        ("closed/x.jsonl", r"^closed/x\.jsonl: Permission denied. Choose another path, or change the permissions$"),
    ],
)
def test_where_rows_cannot_be_written_the_remedy_is_named(
    heedful: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    worlds.write(Path("pairs.jsonl"), [{"prompt": "a", "completion": "b"}])
    Path("folder.jsonl").mkdir()
    Path("file").write_text("")
    mkdir = Path.mkdir

    def guarded(path: Path, *args: Any, **more: Any) -> None:
        if path.name == "closed":  # nothing is closed to whoever is root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        mkdir(path, *args, **more)

    monkeypatch.setattr(Path, "mkdir", guarded)
    for command in (["import", "pairs.jsonl"], ["export", "pairs.jsonl"], ["curate", "--prompts", "pairs.jsonl"]):
        refused(heedful(*command, "--out", out, *["--overwrite"][: out == "folder.jsonl"]), pattern)


@pytest.mark.medium
def test_a_full_standard_output_is_one_line(files: Files, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heedful", "export", files.rankings, "--out", str(tmp_path / "e.jsonl")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    refused(Done(done.returncode, "", done.stderr), "^standard output: No space left on device. Free some space")


@pytest.mark.medium
def test_a_reader_that_leaves_is_no_error(files: Files, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heedful", "export", files.rankings, "--out", str(tmp_path / "e.jsonl")]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment())
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
    assert (tmp_path / "e.jsonl").exists()


@pytest.mark.medium
def test_a_reader_that_leaves_an_unbuffered_stream_is_no_error(files: Files, tmp_path: Path) -> None:
    """The print inside the command meets it, and not the flush at the end."""
    command = [sys.executable, "-u", "-m", "heedful", "export", files.rankings, "--out", str(tmp_path / "e.jsonl")]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment())
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
def test_a_reader_of_progress_that_leaves_stops_nothing(files: Files, tmp_path: Path, python: Path) -> None:
    out = tmp_path / "s.jsonl"
    command = [python, "-m", "heedful", "sample", "--model", files.policy, "--prompts", files.prompts]
    reading, writing = os.pipe()
    os.close(reading)
    given = [*command, "--out", str(out), *SHORT]
    done = subprocess.run(given, stdout=subprocess.PIPE, stderr=writing, text=True, env=environment())
    again = subprocess.run(given, stdout=subprocess.PIPE, stderr=writing, text=True, env=environment())
    os.close(writing)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, str(out))
    assert (again.returncode, again.stdout) == (2, "")  # the file is there


@pytest.mark.medium
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_output_may_be_closed(files: Files, tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m heedful export {files.rankings} --out {tmp_path / 'e.jsonl'} {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "e.jsonl").exists()


@pytest.mark.slow
def test_input_may_be_closed(files: Files, python: Path) -> None:
    command = f"{python} -m heedful chat --model {files.policy} <&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.medium
def test_without_the_training_half_the_remedy_is_named(files: Files, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError('No module named torch', name='torch')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from heedful.cli import main\n"
        f"main(['dpo', '--model', 'm', '--data', 'd', '--out', {str(tmp_path / 'run')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    refused(Done(done.returncode, done.stdout, done.stderr), f"^this needs torch: {re.escape(install('train'))}$")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": ""}


# --- being stopped ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_an_interrupted_run_leaves_with_the_signals_code(
    heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, code: int
) -> None:
    def stop(*args: Any, **more: Any) -> Path:
        raise Interrupted("runs/x: interrupted at step 3 of 9; go on with --resume", number)

    monkeypatch.setattr(dpo, "train", stop)
    done = heedful("dpo", "--model", "m", "--data", "d", "--out", tmp_path / "run")
    assert done == (code, "", "runs/x: interrupted at step 3 of 9; go on with --resume\n")


def test_ctrl_c_is_130_without_a_word(heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*args: Any, **more: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(dpo, "train", stop)
    assert heedful("dpo", "--model", "m", "--data", "d", "--out", tmp_path / "run") == (130, "", "")


def test_a_long_winded_error_is_still_one_line(heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def complain(*args: Any, **more: Any) -> Path:
        raise UserError("first\n  second")

    monkeypatch.setattr(dpo, "train", complain)
    assert heedful("dpo", "--model", "m", "--data", "d", "--out", tmp_path / "run") == (2, "", "first second\n")


def test_a_mistake_of_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*args: Any, **more: Any) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr(dpo, "train", crash)
    with pytest.raises(ZeroDivisionError):
        cli.main(["dpo", "--model", "m", "--data", "d", "--out", str(tmp_path / "run")])


# --- what is printed -------------------------------------------------------------------------------------------


@pytest.mark.medium
def test_training_ends_with_the_run_and_its_results(files: Files, heedful: Run, tmp_path: Path) -> None:
    given = ["dpo", "--model", files.policy, "--data", files.rankings, "--set", "batch=12", "--out", tmp_path / "run"]
    done = heedful(*given, "--seed", "3", "--set", "optimiser.lr=1e-4")
    assert done.code == 0
    assert done.out.splitlines()[0] == str(tmp_path / "run")
    assert "  steps 2" in done.out.splitlines()
    assert "dpo 2/2" in done.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["batch"], config["optimiser"]["lr"]) == (3, 12, 1e-4)

    again = heedful(*given, "--seed", "3", "--set", "optimiser.lr=1e-4", "--resume", "--json")
    summary = json.loads(again.out.splitlines()[-1])
    assert summary["path"] == str(tmp_path / "run")
    assert (summary["stage"], summary["status"], summary["results"]["steps"]) == ("dpo", "finished", 2)
    refused(heedful(*given), r"heedful dpo has begun here already\. Continue with --resume")


def test_options_stand_over_the_file_and_set_over_both(files: Files, heedful: Run, tmp_path: Path) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text(
        f'model = "{files.policy}"\nprompts = "{files.prompts}"\nk = 3\nseed = 4\n[generation]\nmax_new_tokens = 2\n'
    )
    done = heedful(
        "sample", "--config", settings, "-k", "2", "--set", "seed=7", "--out", tmp_path / "c.jsonl", "--json"
    )
    assert json.loads(done.out.splitlines()[-1])["results"]["completions"] == 40
    resolved = json.loads((tmp_path / "c.jsonl.manifest.json").read_text())["config"]
    assert (resolved["k"], resolved["seed"], resolved["generation"]["max_new_tokens"]) == (2, 7, 2)


@pytest.mark.medium
def test_sample_score_and_best_of_n_follow_each_other(files: Files, heedful: Run, tmp_path: Path) -> None:
    c, s, b = (tmp_path / f"{name}.jsonl" for name in "csb")
    assert heedful("sample", "--model", files.policy, "--prompts", files.prompts, "-k", 3, *SHORT, "--out", c).code == 0
    rewards = ["--reward", files.judge, "--reward", "0.5*stages.worlds:count_e"]
    assert heedful("score", *rewards, "--data", c, "--out", s).code == 0
    given = ["best-of-n", "--model", files.policy, *rewards, "--prompts", files.prompts, "-n", 3, *SHORT, "--out", b]
    assert json.loads(heedful(*given, "--json").out)["results"]["kl_bound"] == pytest.approx(0.43194562)
    for scored, best in zip(formats.read(s, Completions), formats.read(b, Completions), strict=True):
        assert best.scores == pytest.approx([max(scored.scores)], abs=1e-5)


def test_data_goes_in_and_out(files: Files, heedful: Run, tmp_path: Path) -> None:
    pairs = worlds.write(tmp_path / "p.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "note": 1}])
    done = heedful("import", pairs, "--out", tmp_path / "i.parquet", "--json")
    assert json.loads(done.out) == {"path": str(tmp_path / "i.parquet"), "results": {
        "kind": "comparisons", "rows": 1, "fields_not_used": ["note"],
    }}  # fmt: skip
    assert formats.read(tmp_path / "i.parquet", Comparison)[0].completions == ["b", "c"]
    assert heedful("export", tmp_path / "i.parquet", "--out", tmp_path / "e.jsonl").code == 0
    assert json.loads((tmp_path / "e.jsonl").read_text()) == {"prompt": "a", "chosen": "b", "rejected": "c"}

    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
    refused(heedful("import", tmp_path / "bad.jsonl", "--out", tmp_path / "x.jsonl"), r"bad\.jsonl:2: not JSON")
    assert not (tmp_path / "x.jsonl").exists()
    done = heedful("import", tmp_path / "bad.jsonl", "--out", tmp_path / "x.jsonl", "--skip-bad")
    assert (done.code, done.out.splitlines()[1:]) == (0, ["  kind prompts", "  rows 1"])
    aside = tmp_path / "bad.jsonl.rejected.jsonl"
    aside.write_text(aside.read_text().replace('"{\\"prompt\\""', '{"prompt": "b", "completion": "c"}'))
    refused(
        heedful("import", tmp_path / "bad.jsonl", "--out", tmp_path / "y.jsonl", "--skip-bad"),
        "rejected.* already exists",
    )
    assert json.loads(heedful("import", aside, "--out", tmp_path / "m.jsonl", "--json").out)["results"] == {
        "kind": "demonstrations", "rows": 1, "fields_not_used": [],
    }  # fmt: skip
    refused(
        heedful("import", pairs, "--out", tmp_path / "y.jsonl", "--as", "pears"), "no such kind. Choose from texts, "
    )
    refused(heedful("export", files.prompts, "--out", tmp_path / "y.jsonl"), "no public form for a prompt row")


def test_a_file_is_explained_and_its_fields_are_named(heedful: Run, tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text("q,best,worst,who,page\nWhich tea?,Green.,None.,ada,3\nAnd now?,Black.,,bo,4\n")
    refused(
        heedful("import", votes, "--out", tmp_path / "x.jsonl"), r"unknown kind of rows \(fields: q, best, worst, who"
    )
    nothing = tmp_path / "x.jsonl"
    refused(heedful("import", votes, "--explain", "--out", nothing), "--out: --explain writes nothing. Leave one")
    refused(heedful("import", votes), "--out: give a new file, or --explain")
    fields = [f"--map={part}" for part in ("prompt=q", "chosen=best", "rejected=worst", "labeler=who")]
    told = heedful("import", votes, *fields, "--explain")
    assert (told.code, told.out.splitlines()) == (0, [
        f"{votes}: 2 rows. Shape: mapped (2 rows).",
        "read as: 1 comparison",
        '{"prompt": "Which tea?", "completions": ["Green.", "None."], "ranking": [[0], [1]], "labeler": "ada", '
        '"page": "3"}',
        "fields not used: page (1)",
        "cannot be read: 1 row. --skip-bad leaves such rows out",
        "  votes.csv:3: field 'worst' (the rejected): missing. The row has q, best, who, page. Name one of them, or "
        "leave the row out.",
    ])  # fmt: skip
    assert list(tmp_path.iterdir()) == [votes]
    assert json.loads(heedful("import", votes, *fields, "--explain", "--json").out)["refused_rows"] == 1
    assert heedful("import", votes, *fields, "--skip-bad", "--out", tmp_path / "x.jsonl").code == 0
    done = heedful("export", tmp_path / "x.jsonl", "--form", "openai", "--out", tmp_path / "e.jsonl", "--json")
    assert json.loads(done.out)["results"] == {"rows": 1, "fields_left_out": ["labeler", "page"]}
    assert heedful("export", tmp_path / "x.jsonl", "--form", "openai", "--out", tmp_path / "o.csv").code == 0
    assert formats.read(tmp_path / "o.csv", Comparison)[0].completions == ["Green.", "None."]
    assert json.loads((tmp_path / "e.jsonl").read_text())["preferred_output"] == [
        {"role": "assistant", "content": "Green."}
    ]
    assert heedful("export", tmp_path / "x.jsonl", "--out", tmp_path / "e.csv").code == 0
    assert (tmp_path / "e.csv").read_text() == "prompt,chosen,rejected,labeler\nWhich tea?,Green.,None.,ada\n"
    row = {"prompt": "Say", "completions": ["red", "blue"], "ranking": [[0, 1]]}
    tied = worlds.write(tmp_path / "tied.jsonl", [row])
    refused(heedful("export", tied, "--out", tmp_path / "t.jsonl"), "no row has a pair .1 row, all tied.")
    some = worlds.write(tmp_path / "some.jsonl", [row, row | {"ranking": [[0], [1]]}])
    told = json.loads(heedful("export", some, "--out", tmp_path / "s.jsonl", "--json").out)
    assert (told["results"]["rows"], told["results"]["tied_left_out"]) == (1, 1)
    refused(heedful("export", tmp_path / "x.jsonl", "--form", "pdf", "--out", tmp_path / "f.jsonl"), "no such form")


def test_curation_gives_an_account(heedful: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i}", "user": f"u{i}"} for i in range(9)] + [{"prompt": "question  1", "user": "x"}]
    given = ["curate", "--prompts", worlds.write(tmp_path / "p.jsonl", rows), "--out"]
    results = json.loads(heedful(*given, tmp_path / "c.jsonl", "--json").out)["results"]
    assert (results["given"], results["kept"]) == (10, 9)
    assert results["steps"][0]["removed"] == 1
    kept = formats.read(tmp_path / "c.jsonl", Prompt)
    assert {row.split for row in kept} <= {"train", "valid", "test"}
    halves = ["--set", "fractions.train=0.5", "--set", "fractions.test=0.5"]
    assert heedful(*given, tmp_path / "d.jsonl", "--seed", "5", *halves).code == 0
    assert [row.split for row in formats.read(tmp_path / "d.jsonl", Prompt)] != [row.split for row in kept]
    typo = heedful(*given, tmp_path / "e.jsonl", "--set", 'personal_data_splits=["Train"]')
    refused(typo, "personal_data_splits names Train, no split of fractions. Choose from train, valid, test, or")
    refused(heedful(*given, tmp_path / "e.jsonl", "--set", "fractions.train=nan"), "fractions")
    assert not (tmp_path / "e.jsonl").exists()


def test_chat_reads_a_pipe(files: Files, heedful: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Say red\n/quit\nSay blue\n"))
    done = heedful("chat", "--model", files.policy, *SHORT)
    assert done.code == 0
    assert done.out.endswith("\n")
    assert done.err == "[cut off at 6 tokens. More with --generation.max-new-tokens 12]\n"


@pytest.mark.medium
def test_a_comparison_of_two_models_is_printed(files: Files, heedful: Run, tmp_path: Path) -> None:
    again = shutil.copytree(files.policy, tmp_path / "again")
    models = ["--model", f"sft={files.policy}", "--model", f"ppo={again}"]
    given = ["evaluate", *models, "--prompts", files.prompts, *SHORT, "--judge", "stages.worlds:count_e"]
    done = heedful(*given, "--out", tmp_path / "out")
    assert done.code == 0
    assert "wins over sft" in done.out
    result = json.loads(heedful(*given, "--json").out.splitlines()[-1])
    assert result["judges"]["stages.worlds:count_e"]["win_rates"]["ppo"]["rate"] == 0.5
    assert result == json.loads((tmp_path / "out" / "result.json").read_text())
    before_people = ("--queue", "final", "--db", tmp_path / "people.db")
    done = heedful(*given[:-2], *before_people, "--form", "toxicity")
    count = len(formats.read(files.prompts, Prompt))
    assert f"{count:,} pairs are in project final, which is new" in done.out
    assert "heedful evaluate --model sft --model ppo --baseline sft --judge judged" in done.out
    assert f"heedful snapshot --db {tmp_path / 'people.db'} --project final --records comparison" in done.out
    refused(heedful(*given[:-2], "--queue", "A b", "--db", tmp_path / "people.db"), "'A b': not a project's name")


def test_only_the_main_rank_speaks(files: Files, heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert heedful("dpo", "--set", "x=1", "--model", "m", "--data", "d", "--out", tmp_path / "run") == (2, "", "")
    monkeypatch.setattr(sample, "run", lambda config, out, **how: Path(out))
    assert heedful("sample", "--model", "m", "--prompts", "p", "--out", tmp_path / "c.jsonl") == (0, "", "")


def test_a_process_alone_speaks_whatever_rank_a_job_left_it(
    files: Files, heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    refused(heedful("import", tmp_path / "none.jsonl", "--out", tmp_path / "i.jsonl"), "no such file")
    out = tmp_path / "s.jsonl"
    done = heedful("sample", "--model", files.policy, "--prompts", files.prompts, "--out", out, *SHORT)
    assert (done.code, done.out.split("\n")[0]) == (0, str(out))
    assert formats.read(out, Completions)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"WORLD_SIZE": "2"},
            r"^WORLD_SIZE is 2 and RANK is not set\. Start several processes with torchrun,",
        ),
        ({"WORLD_SIZE": "2", "RANK": "0"}, r"^WORLD_SIZE is 2 and MASTER_ADDR is not set\."),
        ({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "^RANK is 'x', not a number"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, r"^RANK is 2 and WORLD_SIZE 2\."),
        ({"WORLD_SIZE": "two"}, r"^WORLD_SIZE is 'two', not a number from 0 on\. Start"),
    ],
)
def test_a_place_that_no_launcher_gives_is_one_line(
    files: Files, heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "made" / "s.jsonl"
    refused(heedful("sample", "--model", files.policy, "--prompts", files.prompts, "--out", out, *SHORT), words)
    assert not out.parent.exists()


def test_rates_are_shown_with_their_interval() -> None:
    rate = {"rate": 0.7123, "low": 0.65, "high": 0.7701, "n": 40}
    lines = list(terminal._lines({"steps": 3, "valid": {"accuracy": rate}, "bias": 0.123456, "stopped": None}))
    assert lines == ["steps 3", "valid, accuracy 71.2% (65.0% to 77.0%, n = 40)", "bias 0.1235"]


# --- help and documentation ------------------------------------------------------------------------------------


def options_of(name: str) -> list[click.Option]:
    context = cli.app.make_context("heedful", [name], resilient_parsing=True)
    command = cli.app.commands[name]
    return [one for one in command.get_params(context) if isinstance(one, click.Option)]


@pytest.mark.parametrize("width", [80, 120])
def test_the_help_names_every_command_and_every_option_with_a_meaning(
    heedful: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    overview = heedful().out
    for name in cli.app.commands:
        assert re.search(rf"^  {name} +\w", overview, re.MULTILINE)
        shown = heedful(name, "--help").out
        assert max(map(len, shown.splitlines())) <= width
        for option in options_of(name):
            assert option.help, (name, option.name)
            assert f"{option.opts[-1].removeprefix('--')}" in shown, (name, option.name)
        assert "docs/" not in shown
    headings = r"^([A-Z][\w ]+):$"
    assert re.findall(headings, overview, re.M) == [
        "Options", "Training", "Using models", "Data", "Labelling", "Serving"
    ]  # fmt: skip
    first, *_, last_but_one, last = re.findall(headings, heedful("score", "--help").out, re.M)
    assert (first, last_but_one, last) == ("Input", "Compute", "Run")
    assert heedful("--version").out.startswith("heedful 0.")


@pytest.mark.medium
@pytest.mark.parametrize("name", [name for name, one in cli.app.commands.items() if one.config])  # type: ignore[attr-defined]
def test_every_setting_is_an_option_that_does_what_set_does(
    name: str, heedful: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each field once as `--a.b VALUE` and once as `--set a.b=VALUE`: the configs are equal, and not the default."""
    command = cli.app.commands[name]
    cls = command.config  # type: ignore[attr-defined]
    seen: list[Any] = []
    monkeypatch.setattr(command, "callback", lambda **given: seen.append(given["settings"]))
    needed = [
        part for one in command.params if one.required
        for part in (("x",) if isinstance(one, click.Argument) else (one.opts[0], "x"))
    ]  # fmt: skip
    required = {one.path: f"{one.option}=x" for one in options.settings(cls) if one.required}
    if name == "snapshot":
        required["records"] = "--records=choice"
    fields = set()
    for setting in options.settings(cls):
        fields.add(setting.path.partition(".")[0])
        if name == "snapshot":  # as_choices is for reactions alone
            required["records"] = f"--records={'pick' if setting.path == 'as_choices' else 'choice'}"
            required.pop("made_by", None)
            if setting.path == "model_weight":  # of models alone
                required["made_by"] = "--made-by=both"
        given = [text for path, text in required.items() if path != setting.path]
        value = another(setting)
        direct = [f"{setting.option}={value}"]
        if setting.kind is bool:
            direct = [setting.option.replace("--", "--no-" if value == "false" else "--", 1)]
        sets = f"{setting.path}.{value}" if get_origin(setting.kind) is dict else f"{setting.path}={value}"
        if get_origin(setting.kind) in (list, tuple):
            sets = f'{setting.path}=["{value}"]'
        first, second = len(seen), len(seen) + 1
        assert heedful(name, *needed, *given, *direct) == (0, "", "")
        assert heedful(name, *needed, *given, "--set", sets) == (0, "", "")
        assert seen[first] == seen[second], setting.path
        assert heedful(name, *needed, *required.values()).code == 0
        assert seen[-1] != seen[first], setting.path
    assert fields == set(cls.model_fields)


def another(setting: options.Setting) -> str:
    """A value other than the default and that of the required options above."""
    kind = setting.kind
    if get_origin(kind) in (list, tuple):
        kind = get_args(kind)[0]
    if get_args(kind) and get_origin(get_args(kind)[0]) is Literal and get_origin(kind) is not Annotated:
        kind = get_args(kind)[0]  # one of several kinds of names
    if get_origin(kind) is Annotated and get_origin(get_args(kind)[0]) is Literal:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        default = setting.default[0] if isinstance(setting.default, tuple) else setting.default
        return next(str(one) for one in get_args(kind) if one not in (default, "choice", "pick"))
    if get_origin(kind) is dict:
        if str(get_args(kind)[1]).startswith("typing.Annotated[str") or get_args(kind)[1] is str:
            return "brief=other"
        return "train=1.0" if setting.path == "fractions" else "brief=0.5"
    if kind is bool:
        return "false" if setting.default else "true"
    if kind is datetime:
        return "2026-01-31T12:00:00"
    if kind is float:
        return "1.5" if setting.path == "correction_cap" else "0.125"
    return {
        "ahead": "1",
        "engine.urls": "http://host:8100",
        "vocab_size": "300",
        "width": "64",
        "watch_prompts": "20",
        "bad": "2",
        "personal_data_splits": "valid",
    }.get(setting.path, "7" if kind is int else "other")


def test_repeated_switched_off_and_absent_values(heedful: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cli.app.commands["ppo"], "callback", lambda settings, **_: seen.append(settings))
    (tmp_path / "c.toml").write_text("kl_target = 6.0\nskip_long = true\nvalue = 'a'\nseed = 3\n")
    given = ["--policy", "7", "--reward", "runs/a", "--reward", "0.5*runs/b", "--prompts", "none", "--out", "x"]
    done = heedful("ppo", *given, "--config", tmp_path / "c.toml", "--kl-target", "none", "--no-skip-long")
    assert done.code == 0
    (config,) = seen
    assert (config.policy, config.reward, config.prompts) == ("7", ["runs/a", "0.5*runs/b"], "none")
    assert (config.kl_target, config.skip_long, config.value, config.seed) == (None, False, "a", 3)


@pytest.mark.parametrize(
    ("given", "seeds", "only"),
    [
        (["--seeds", "1", "2", "3", "--only", "fig1", "rm"], (1, 2, 3), ("fig1", "rm")),
        (["--seeds=4", "5", "--quick", "--seeds", "6"], (4, 5, 6), ()),
        (["--only", "tax"], (), ("tax",)),
    ],
)
def test_a_repeatable_option_takes_several_values(
    given: list[str], seeds: tuple[int, ...], only: tuple[str, ...], heedful: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(cli.app.commands["reproduce"], "callback", lambda **values: seen.update(values))
    assert heedful("reproduce", "--out", "x", *given).code == 0
    assert (seen["seeds"], seen["only"], seen["out"]) == (seeds, only, Path("x"))


def test_a_pattern_that_the_shell_has_spread_is_told_to_be_quoted(heedful: Run) -> None:
    done = heedful("sft", "--data", "shards/a.jsonl", "shards/b.jsonl", "--model", "m", "--out", "x")
    refused(
        done, r"^shards/b.jsonl: --data takes one value. Put a pattern such as 'shards/\*' in quotes. See heedful sft"
    )


@pytest.mark.parametrize(
    ("given", "remark"),
    [
        (["--kl-coef", "0.1", "--set", "kl_coef=0.2"], "--kl-coef 0.1: not used, since --set kl_coef=0.2 replaces"),
        (["--kl-coef", "0.1", "--set", "kl_coef=0.1"], None),
        (
            ["--no-skip-long", "--set", "skip_long=true"],
            "--no-skip-long: not used, since --set skip_long=true replaces",
        ),
        (["--set", "seed=1", "--set", "seed=2"], "--set seed=1: not used, since --set seed=2 replaces"),
        (["--optimiser.lr", "1", "--set", "optimiser.lr=2"], "--optimiser.lr 1: not used, since --set optimiser.lr=2"),
        (["--skip-long", "--skip-long"], None),
        (["--watch", "a", "--watch", "b"], None),
        (["--template", "a=1", "--set", "template.b=2"], None),
        (
            ["--template", "a=1", "--set", "template={b=2}"],
            "--template a=1: not used, since --set template={b=2} replaces",
        ),
        (["--watch", "a", "b", "--set", 'watch=["c"]'], '--watch a b: not used, since --set watch=["c"] replaces it'),
        (["--watch", "a", "--set", 'watch=["a"]'], None),
        (
            ["--template", "a=1", "--set", "template.a=2"],
            "--template a=1: not used, since --set template.a=2 replaces",
        ),
    ],
)
def test_a_value_that_another_one_replaces_is_named(
    given: list[str], remark: str | None, heedful: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.app.commands["ppo"], "callback", lambda **_: None)
    done = heedful("ppo", "--policy", "p", "--reward", "r", "--prompts", "f", "--out", "x", *given)
    assert done.code == 0
    assert (remark in done.err) if remark else done.err == ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--seed", "1", "--seed=2"], "--seed: given twice. Leave one out. See heedful ppo"),
        (["--kl-coef", "0.1", "--skip-long", "--kl-coef", "0.1"], "--kl-coef: given twice. Leave one out"),
        (["--skip-long", "--no-skip-long"], "--skip-long: given twice, and as --no-skip-long. Leave one out"),
        (["--skip-long", "--skip-long"], None),
        (["--trackers", "--seed", "--seed", "3"], None),  # the first one is a value
    ],
)
def test_an_option_given_twice_is_refused(
    given: list[str], told: str | None, heedful: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.app.commands["ppo"], "callback", lambda **_: None)
    monkeypatch.setattr("heedful.options.loaded", lambda *_: None)
    done = heedful("ppo", "--policy", "p", "--reward", "r", "--prompts", "f", "--out", "x", *given)
    if told:
        refused(done, told)
    else:
        assert (done.code, done.err) == (0, "")


def test_the_page_of_commands_is_made_from_the_help() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made, "run `python scripts/commands.py`"


def test_lines_are_read_where_there_is_no_line_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readline", None)  # as on Windows
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    assert list(terminal.typed()) == ["one", "two"]


def test_the_help_loads_nothing_heavy() -> None:
    script = "import sys; from heedful import cli\ntry: cli.main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    loaded = set(done.stdout.splitlines()[-1].split())
    ours = {f"heedful.{name}" for name in ("data", "feedback", "runs", "stages")}
    heavy = {"numpy", "rich", "sqlalchemy", "fastapi", "alembic", "jinja2", "urllib.request", *ours}
    assert loaded & (heavy | terminal.TRAINING_HALF) == set()


@pytest.mark.parametrize("given", [["--form", "toxicity"], ["--db", "heedful.db"]])
def test_evaluate_refuses_options_of_a_queue_without_one(given: list[str], heedful: Run) -> None:
    sides = ["--model", "a=a.jsonl", "--model", "b=b.jsonl", "--prompts", "p.jsonl", "--judge", "len"]
    refused(heedful("evaluate", *sides, *given), f"{given[0]}: only with --queue PROJECT. Leave it out")
