"""Count lines of code in src/heedful, per package, for the working tree or for a git revision.

    python scripts/lines.py             # the working tree
    python scripts/lines.py ccdeb68     # a revision

Code lines hold at least one token that is not a comment or docstring. Comment lines hold nothing but a comment, or
belong to a docstring. Blank lines count as neither. The sandbox has a row of its own below the total: it is data for
the demo. Files of data (`*.toml`, `*.txt`, `*.json`, `*.svg`) are counted apart, so that no code can hide in them.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/heedful"
APART = "sandbox"
KINDS = {".py": "py", ".js": "js", ".css": "css", ".html": "html"}
DATA = {".toml", ".txt", ".json", ".jsonl", ".svg", ".csv"}
SILENT = {
    tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.COMMENT,
    tokenize.ENCODING,
}  # fmt: skip
BLOCKS = {
    "js": re.compile(r"/\*.*?\*/", re.DOTALL),
    "css": re.compile(r"/\*.*?\*/", re.DOTALL),
    "html": re.compile(r"<!--.*?-->|\{#.*?#\}", re.DOTALL),
}


def sources(revision: str | None) -> dict[PurePosixPath, str]:
    """Text of every file of the package by its path inside the package."""
    if revision is None:
        command = ["ls-files", "--cached", "--others", "--exclude-standard", PACKAGE]
        names = [name for name in git(*command).splitlines() if (ROOT / name).is_file()]
        texts = {name: (ROOT / name).read_bytes() for name in names}
    else:
        names = git("ls-tree", "-r", "--name-only", revision, PACKAGE).splitlines()
        texts = {name: git_bytes("show", f"{revision}:{name}") for name in names}
    return {PurePosixPath(name).relative_to(PACKAGE): text.decode("utf-8", "replace") for name, text in texts.items()}


def git(*arguments: str) -> str:
    return git_bytes(*arguments).decode()


def git_bytes(*arguments: str) -> bytes:
    found = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    if found.returncode:
        sys.exit(f"lines: git {' '.join(arguments)} failed")
    return found.stdout


def counts(kind: str, text: str) -> tuple[int, int]:
    """(lines of code, lines of comments and docstrings) of one file."""
    return python_counts(text) if kind == "py" else markup_counts(kind, text)


def python_counts(text: str) -> tuple[int, int]:
    strings = set().union(*(range(node.lineno, (node.end_lineno or 0) + 1) for node in docstrings(ast.parse(text))))
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in SILENT:
            code |= set(range(token.start[0], token.end[0] + 1))
    lines = text.splitlines()
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()}
    return len(code - strings - blank), len((comments - code) | (strings - blank))


def docstrings(tree: ast.Module) -> list[ast.Expr]:
    """Statements that are a string alone: docstrings, also those below a field."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def markup_counts(kind: str, text: str) -> tuple[int, int]:
    bare = BLOCKS[kind].sub(lambda block: "\n" * block[0].count("\n"), text)
    if kind == "js":
        bare = re.sub(r"^\s*//.*$", "", bare, flags=re.MULTILINE)
    code = sum(1 for line in bare.splitlines() if line.strip())
    return code, sum(1 for line in text.splitlines() if line.strip()) - code


def main() -> None:
    revision = sys.argv[1] if len(sys.argv) > 1 else None
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, text in sources(revision).items():
        package = path.parts[0] if len(path.parts) > 1 else "(top)"
        if kind := KINDS.get(path.suffix):
            code, comments = counts(kind, text)
            table[package] += Counter({kind: code, "code": code, "comments": comments})
        elif path.suffix in DATA:
            table[package]["data"] += sum(1 for line in text.splitlines() if line.strip())
    apart = table.pop(APART, Counter())
    total = sum(table.values(), Counter())
    columns = [*KINDS.values(), "code", "comments", "data"]
    rows = [*sorted(table.items(), key=lambda row: -row[1]["code"]), ("total", total), (f"{APART} (apart)", apart)]
    print(f"{'lines':<16}" + "".join(f"{name:>10}" for name in columns))
    for name, row in rows:
        print(f"{name:<16}" + "".join(f"{row[column]:>10,}" for column in columns))


if __name__ == "__main__":
    main()
