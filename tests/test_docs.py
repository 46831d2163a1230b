"""README and docs say what is so: commands, settings, paths, and examples that are run."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import tiny
from heedful.cli import app
from heedful.configs import registry
from heedful.files import read_json
from heedful.learning.signs import SIGNS
from heedful.models import load
from heedful.runs.run import metrics

ROOT = Path(__file__).resolve().parent.parent
README, GUIDE, COMMANDS = (
    (ROOT / name).read_text("utf-8") for name in ("README.md", "docs/guide.md", "docs/commands.md")
)
PAGES = {"README.md": README, **{f"docs/{path.name}": path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}}
TREE = re.search(r"## The tree\n\n(.*?)\n\n", PAGES["docs/architecture.md"], re.DOTALL)[1]  # type: ignore[index]
KNOWN = app.commands
# What makes the guide's commands small, beside what they are given there.
SMALL = {
    "pretrain": "depth=1 vocab_size=300 context=128 tokens=1024 batch_tokens=256",
    "sft": "epochs=2 batch=8",
    "reward": "batch=8 valid_fraction=0.2",
    **dict.fromkeys(("ppo", "rloo", "grpo"), "episodes=16 rollout_batch=8 minibatch=4 generation.max_new_tokens=8"),
    "dpo": "batch=8 valid_fraction=0.2",
    "rejection": "epochs=1 batch=4 generation.max_new_tokens=8",
    **dict.fromkeys(("sample", "best-of-n", "evaluate", "chat"), "generation.max_new_tokens=8"),
}
WORDS = "red blue green dog cat tree house river stone bread apple miller wind seven".split()


def fenced(page: str, language: str) -> list[tuple[str, str]]:
    """(name after the language, content) of the fenced blocks of a language."""
    blocks = re.findall(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    return [(name, content) for found, name, content in blocks if found == language]


def joined(code: str) -> str:
    return re.sub(r"\\\n *", " ", code)


def script() -> list[str]:
    return [line for _, block in fenced(GUIDE, "sh") for line in joined(block).splitlines()]


def commands_shown() -> list[tuple[str, str, list[str]]]:
    """(page, command, options) wherever a page shows one in code."""
    found = []
    for name, page in PAGES.items():
        code = [content for language in ("", "sh") for _, content in fenced(page, language)]
        code += [*re.findall(r"^    .*$", page, re.MULTILINE), *re.findall(r"`(heedful [^`]*)`", page)]
        for command, rest in re.findall(r"\bheedful ([a-z][a-z-]*)(.*)", joined("\n".join(code))):
            rest = re.sub(r"'--[^']*'", "", rest)  # options of another program
            found.append((name, command, re.findall(r"(?<!\S)(--?[a-z][\w.-]*)", rest)))
    return found


def options_of(command: str) -> set[str]:
    """`plan` and `launch` hand the options of a stage on to it."""
    commands = [command, *registry.stages()] if command in ("plan", "launch") else [command]
    params = [param for one in commands for param in KNOWN[one].get_params(click.Context(KNOWN[one]))]
    return {name for param in params for name in [*param.opts, *param.secondary_opts]}


def test_the_guide_shows_every_command() -> None:
    assert [name for name in KNOWN if not re.search(rf"\bheedful {name}\b", GUIDE)] == []


def test_commands_that_are_shown_exist_with_their_options() -> None:
    assert len(commands_shown()) > 30
    wrong = []
    for page, command, options in commands_shown():
        known = options_of(command) if command in KNOWN else set()
        wrong += [f"{page}: heedful {command} {name}" for name in options if name not in known]
        wrong += [f"{page}: heedful {command}"] if command not in KNOWN else []
    assert wrong == []


def test_every_failure_sign_is_in_the_guide() -> None:
    assert [sign.name for sign in SIGNS if f"| {sign.name} |" not in GUIDE] == []


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_every_path_named_in_the_docs_exists() -> None:
    missing = []
    for name, page in PAGES.items():
        here = (ROOT / name).parent
        links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", page)]
        missing += [f"{name}: {link}" for link in links if link and "://" not in link and not (here / link).exists()]
        paths = re.findall(r"`((?:docs|src|tests|recipes|benchmarks|scripts)/[\w./-]*\w|\w+/\w+\.py)`", page)
        roots = (ROOT, ROOT / "src" / "heedful")
        missing += [f"{name}: {path}" for path in paths if not any((root / path).exists() for root in roots)]
    assert missing == []


def test_the_tree_of_the_readme_is_the_tree() -> None:
    ours = dict(re.findall(r"^      (\w+(?:/|\.py))(.*)$", TREE, re.MULTILINE))
    top = re.findall(r"^    (\w+)/", TREE, re.MULTILINE)
    package = ROOT / "src" / "heedful"
    assert [name for name in ours if not (package / name).exists()] == []
    assert [name for name in top if not (ROOT / name).is_dir()] == []
    assert {path.parent.name for path in package.glob("*/__init__.py")} == {name[:-1] for name in ours if "/" in name}
    stages = re.search(r"one readable file a stage: ([\w, ]+)", ours["stages/"])
    assert stages is not None
    assert [name for name in stages[1].split(", ") if not (package / "stages" / f"{name}.py").exists()] == []


@pytest.mark.medium
def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, but for smaller numbers; the hub's model is a tiny one that lies in a folder of its name."""
    ((_, code),) = fenced(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    for large, small in {"=25_600": "=128", "_batch=512": "_batch=64", "tokens=256": "tokens=16"}.items():
        assert code.count(large) == 1
        code = code.replace(large, small)
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    load.save(tiny.policy("qwen3"), tiny.tokenizer(), tmp_path / "Qwen" / "Qwen3-0.6B-Base")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert [row["step"] for row in metrics("runs/ppo")] == [0, 1]
    assert names["policy"].config.model_type == "qwen3"
    made = {name: read_json(Path("runs", name, "manifest.json")) for name in ("sft", "reward", "ppo")}
    assert {manifest["status"] for manifest in made.values()} == {"finished"}
    assert made["ppo"]["parents"]["policy"]["run"] == made["sft"]["id"]


DRIVER = """
import io, shlex, subprocess, sys
from heedful import terminal
from heedful.cli import app
from heedful.configs import registry

for line in sys.stdin.read().splitlines():
    print("$", line, flush=True)
    if line.startswith("heedful "):
        sys.stdin = io.StringIO("Say red\\n")
        code = terminal.run(app, shlex.split(line)[1:])
    else:
        code = subprocess.run(["bash", "-c", line]).returncode
    if code:
        sys.exit(f"{line}: exit code {code}")
"""


@pytest.mark.slow
def test_the_guide_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Every command in its order, in one process, on tiny data; then what the guide says about the files."""
    make_files(tmp_path)
    for name, text in [*fenced(GUIDE, "toml"), *fenced(GUIDE, "python")]:
        (tmp_path / name).write_text(text, encoding="utf-8")
    lines = [
        *map(smaller, script()),
        smaller("heedful score --reward 2*rewards:brevity --data samples.jsonl --out own.jsonl"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for run in ("base", "sft", "reward", "ppo", "ppo_ptx", "rloo", "grpo", "dpo"):
        manifest = read_json(tmp_path / "runs" / run / "manifest.json")
        assert manifest["status"] == "finished"
        assert [key for key in manifest if f"`{key}`" not in GUIDE] == []
    logged = {
        key for run in ("ppo", "ppo_ptx", "rloo", "grpo") for row in metrics(tmp_path / "runs" / run) for key in row
    }
    assert [key for key in logged - {"step"} if f"`{key}`" not in GUIDE] == []
    score = json.loads((tmp_path / "own.jsonl").read_text("utf-8").splitlines()[0])
    assert score["scores"] == pytest.approx([-2 * len(text) / 100 for text in score["completions"]])


def smaller(line: str) -> str:
    command = shlex.split(line)[1]
    return " ".join([line, *(f"--set {setting}" for setting in SMALL.get(command, "").split())])


def make_files(folder: Path) -> None:
    """The files that guide and README start from."""
    draw = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    asked = [f"Say {words(1, 3)} {i}" for i in range(60)]
    rows: dict[str, list[dict[str, Any]]] = {
        "texts": [{"text": words(60, 90)} for _ in range(30)],
        "raw_prompts": [{"prompt": prompt, "user": f"u{i}"} for i, prompt in enumerate(asked)],
        "prompts": [{"prompt": prompt} for prompt in asked[:30]],
        "demonstrations": [{"prompt": prompt, "completion": words(1, 5)} for prompt in asked[:24]],
        "comparisons": [
            {
                "prompt": prompt,
                "completions": [words(1, 5) for _ in range(3)],
                "ranking": [[1], [0, 2]],
                "labeler": "ada",
            }
            for prompt in asked[:24]
        ],
    }
    for name, some in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")


def test_the_site_has_every_page_and_no_broken_link() -> None:
    subprocess.run([sys.executable, "scripts/pages.py"], cwd=ROOT, check=True)
    pages = {path.relative_to(ROOT / "build/pages").as_posix() for path in (ROOT / "build/pages").rglob("*.md")}
    shown = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert shown == pages
    packages = {path.name for path in (ROOT / "src/heedful").iterdir() if (path / "__init__.py").exists()}
    without = {
        "demo",
        "plots",
        "sandbox",
        "web",
        "serve",
        "endpoints",
        "rounds",
        "commands",
        "launch",
        "reproduce",
    }  # no parts for others to build with
    assert {
        page.removeprefix("reference/")[:-3] for page in shown if page.startswith("reference/")
    } == packages - without


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "scripts/pages.py"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "mkdocs.yml"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    page = (ROOT / "build/site/reference/maths.html").read_text("utf-8")
    assert "Generalised advantage estimation" in page
    assert "&gt;&gt;&gt;" in page  # examples are code, not quotations
