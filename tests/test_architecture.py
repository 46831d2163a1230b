"""The shape of the package, read from its source: who imports whom, what is light, how long things are.

docs/architecture.md explains the graph; here it is the law. Only the last test imports the code.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "heedful"

# A part is a module or folder directly in the package. Everybody may import `config`, `errors`, `files` and themselves.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "headings": set(),
    "config": {"errors", "headings"},
    "configs": set(),
    "options": {"config", "headings"},
    "files": set(),
    "maths": set(),
    "runs": {"data.formats"},
    "endpoints": {"configs", "data", "runs"},
    "data": set(),
    "sandbox": {"data"},
    "feedback": {"data", "maths.statistics", "runs"},
    "collection": {"configs", "data", "feedback", "runs"},
    "fast": {"maths"},
    "models": {"configs", "fast", "maths", "data.records", "runs"},
    "launch": set(),
    "planning": {"configs", "fast", "models", "rewards.specs", "runs"},
    "rollout": {"configs", "fast", "models", "maths", "data.records"},
    "training": {
        "configs",
        "fast",
        "models.devices",
        "models.ids",
        "models.scoring",
        "models.shards",
        "planning",
        "runs",
        "maths.schedules",
        "data.formats",
    },
    "rewards": {"configs", "rollout", "models", "maths", "data"},
    "learning": {"runs", "configs", "planning", "rewards", "rollout", "training", "models", "maths", "data"},
    "stages": {
        "configs",
        "learning",
        "planning",
        "rewards",
        "rollout",
        "training",
        "fast",
        "models",
        "maths",
        "data",
        "runs",
    },
    "inference": {
        "configs",
        "endpoints",
        "fast",
        "learning",
        "rewards",
        "rollout",
        "training",
        "models",
        "maths",
        "data",
        "runs",
    },
    "plots": {"data.text", "maths.statistics"},
    "evaluation": {"configs", "endpoints", "rewards", "rollout", "models", "maths", "data", "runs"},
    "report": {"configs", "plots", "evaluation", "maths.statistics", "data", "runs"},
    "rounds": {
        "collection",
        "configs",
        "data",
        "endpoints",
        "evaluation",
        "feedback",
        "inference",
        "learning",
        "maths",
        "models",
        "report",
        "rewards",
        "rollout",
        "runs",
        "stages",
        "training",
    },
    "serve": {
        "collection",
        "configs",
        "data",
        "endpoints",
        "feedback",
        "fast",
        "maths",
        "models",
        "rollout",
        "runs",
        "web",
    },
    "web": {
        "collection",
        "configs",
        "data",
        "endpoints",
        "feedback",
        "plots",
        "maths.statistics",
        "rollout.types",
        "rounds.state",
        "runs",
    },
}
IMPORTED_AS = {"argon2_cffi": "argon2", "markdown_it_py": "markdown_it"}  # distributions whose module has another name
# These may import everything, but not cli. Nobody else may import them.
COMPOSERS = {"__main__", "cli", "commands", "demo", "reproduce", "terminal"}
PROGRESS = "runs.progress"  # the one door for progress, on standard error

# What works in an installation without `heedful[train]`; the commands import the rest when they run.
PEOPLES_HALF = (
    "cli", "commands", "config", "configs", "endpoints", "errors", "headings", "options", "files", "runs", "data",
    "feedback", "collection", "web", "plots", "report", "sandbox", "launch", "maths.statistics",
)  # fmt: skip

POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}  # not on Windows

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Import:
    module: str  # absolute, as in `heedful.data.records` or `torch.nn`
    line: int
    at_load: bool  # runs when the importing module is imported


@dataclass(frozen=True)
class Module:
    name: str  # without the leading `heedful.`
    path: Path
    tree: ast.Module

    @property
    def part(self) -> str:
        return self.name.partition(".")[0]

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Every import of a module, each name of ours resolved to the module that holds it."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, at_load)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module.at(child.lineno)}: write imports in full"
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    is_module = child.module == "heedful" or inner.removeprefix("heedful.") in modules()
                    yield Import(inner if is_module else str(child.module), child.lineno, at_load)
            else:
                lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_for_types(child)
                yield from walk(child, at_load and not lazy)

    return tuple(walk(module.tree, at_load=True))


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def ours(found: Import) -> str | None:
    return found.module.removeprefix("heedful.") if found.module.startswith("heedful.") else None


def allowed(importer: str, imported: str) -> bool:
    part = imported.partition(".")[0]
    if importer in COMPOSERS:
        return importer in ("cli", "__main__") or part != "cli"
    if part in ("config", "errors", "files", importer):
        return True
    return any(imported == may or imported.startswith(f"{may}.") for may in MAY_IMPORT[importer])


def in_peoples_half(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in PEOPLES_HALF)


def loaded_by(name: str) -> Iterator[tuple[Module, Import]]:
    """Every import that runs when `heedful.NAME` is imported, through modules of ours."""
    waiting, seen = [name], set()
    while waiting:
        current = waiting.pop()
        if current in seen or current not in modules():
            continue
        seen.add(current)
        for found in imports(modules()[current]):
            if found.at_load:
                yield modules()[current], found
                waiting.append(ours(found) or "")


def declared(*extras: str) -> set[str]:
    """Import names of the base dependencies and of those of `extras`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    names = {requirement.partition(">")[0].partition("[")[0].replace("-", "_") for requirement in wanted}
    return {IMPORTED_AS.get(name, name) for name in names}


def third_party(found: Import) -> str | None:
    top = found.module.partition(".")[0]
    return None if top == "heedful" or top in sys.stdlib_module_names else top


def functions() -> Iterator[tuple[Module, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield module, node


def test_every_part_has_its_place_in_the_graph() -> None:
    assert {module.part for module in modules().values()} <= MAY_IMPORT.keys() | COMPOSERS


def test_imports_follow_the_graph() -> None:
    wrong = [
        f"{module.at(found.line)}: {module.part} may not import heedful.{name}"
        for module in modules().values()
        for found in imports(module)
        if (name := ours(found)) and not allowed(module.part, name)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other() -> None:
    """Also not through others, in functions, or for types alone."""
    graph = {name: {ours(found) for found in imports(module)} & modules().keys() for name, module in modules().items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_packages_import_each_other() -> None:
    """By the table, also not through others."""
    graph = {part: {imported.partition(".")[0] for imported in may} for part, may in MAY_IMPORT.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_peoples_half_loads_from_the_base_installation_alone() -> None:
    base = declared()
    wrong = {
        f"heedful.{name} loads {top}, at {module.at(found.line)}"
        for name in modules()
        if in_peoples_half(name)
        for module, found in loaded_by(name)
        if (top := third_party(found)) and top not in base
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_help_loads_click_alone() -> None:
    """Pydantic and the configs would take longer than all the rest of `heedful --help`."""
    names = [name for name in modules() if name == "__main__" or name.startswith(("cli", "commands."))]
    loaded = {third_party(found) for name in names for _, found in loaded_by(name)}
    assert loaded == {"click", None}


def test_what_windows_lacks_is_not_imported_at_load() -> None:
    wrong = [
        f"{module.at(found.line)}: Windows has no {found.module}"
        for module in modules().values()
        for found in imports(module)
        if found.at_load and found.module.partition(".")[0] in POSIX_ONLY
    ]
    assert not wrong, "\n".join(wrong)


def test_every_library_is_declared() -> None:
    known = declared("train", "serve", "rounds", "ray")
    wrong = [
        f"{module.at(found.line)}: {top} is not in pyproject.toml"
        for module in modules().values()
        for found in imports(module)
        if (top := third_party(found)) and top not in known
    ]
    assert not wrong, "\n".join(wrong)


def test_engines_are_opened_in_one_place() -> None:
    """`rollout.engine.open_engine` knows which engine a config asks for; everybody else asks it."""
    wrong = [
        module.at(node.lineno)
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("LocalEngine", "HttpEngine"))
        if module.name != "rollout.engine"
    ]
    assert wrong == []


ENTRY_POINTS = {"fast": "fast.api"}


def test_a_package_with_an_entry_point_is_entered_there() -> None:
    wrong = [
        f"{module.at(found.line)}: import {entry}, not {name}"
        for part, entry in ENTRY_POINTS.items()
        for module in modules().values()
        for found in imports(module)
        if (name := ours(found)) and name.partition(".")[0] == part != module.part and name != entry
    ]
    assert wrong == []


API_RECORDS = re.compile(r"web\.api\..*|serve\.collected|serve\.playground\.records")


def test_a_type_has_one_name_and_a_name_one_type() -> None:
    """Records of an API may have the names of what they hold."""
    places: dict[str, list[str]] = {}
    for module in modules().values():
        for node in () if API_RECORDS.fullmatch(module.name) else module.tree.body:
            is_alias = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            name = getattr(node.targets[0], "id", "") if is_alias else getattr(node, "name", "")  # type: ignore[attr-defined]
            if name[:1].isupper() and not name.isupper():
                places.setdefault(name, []).append(module.at(node.lineno))
    assert len(places) > 600
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_package_files_are_empty() -> None:
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_text(encoding="utf-8").strip()] == []


def test_every_folder_is_a_package() -> None:
    """Without its `__init__.py` a folder of modules would be missing from what is installed."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_migrations_are_one_chain() -> None:
    """Two of one number would each pass their own tests, and no database could be opened."""
    files = sorted((PACKAGE / "feedback" / "migrations" / "versions").glob("v*.py"))
    found = [
        dict(re.findall(r'^(revision|down_revision) = "?(\w+)"?$', path.read_text("utf-8"), re.M)) for path in files
    ]
    numbers = [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [path.name[1:5] for path in files] == numbers
    assert [one["revision"] for one in found] == numbers
    assert [one["down_revision"] for one in found] == ["None", *numbers[:-1]]


def test_modules_are_short() -> None:
    lengths = {module.at(1): len(module.path.read_text(encoding="utf-8").splitlines()) for module in modules().values()}
    assert {at: lines for at, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {module.at(node.lineno): (node.end_lineno or 0) - node.lineno + 1 for module, node in functions()}
    assert {at: lines for at, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_nothing_swallows_every_error() -> None:
    """`except BaseException` may only clean up: it must raise again."""
    wrong = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {ast.unparse(kind) for kind in getattr(node.type, "elts", [node.type]) if kind is not None}
                cleans_up = caught == {"BaseException"} and ast.unparse(node.body[-1]) == "raise"
                if not caught or (caught & {"Exception", "BaseException"} and not cleans_up):
                    wrong.append(module.at(node.lineno))
    assert wrong == []


def test_only_the_commands_print() -> None:
    """Standard output belongs to the commands: its last line may be read by a program (`--json`)."""
    wrong = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and module.part not in COMPOSERS:
                to_stderr = any(ast.unparse(keyword) == "file=sys.stderr" for keyword in node.keywords)
                if module.name != PROGRESS or not to_stderr:
                    wrong.append(module.at(node.lineno))
    assert wrong == []


def test_the_tree_names_every_folder() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert [folder for folder in folders if f"{folder}/" not in text] == []


def test_the_page_names_code_that_is_there() -> None:
    """`module.name`, `package.module.name`, `folder/module.py` and `folder/folder/` in docs/architecture.md.

    The last part of a module's name is enough.
    """
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {tuple(name.split(".")) for name in re.findall(r"`([a-z_]+(?:\.(?!(?:py|jsonl?)`)[A-Za-z_]+)+)`", text)}
    wrong = []
    for parts in named:
        where, last = ".".join(parts[:-1]), parts[-1]
        found = [module for name, module in modules().items() if f".{name}".endswith(f".{where}")]
        if found and not any(is_module_or_name(module, last) for module in found):
            wrong.append(".".join(parts))
    assert wrong == []
    assert len(named) > 20
    paths = re.findall(r"`([a-z_]+/[\w/*-]*(?:/|\.py|\.md|\.js))`", text)
    assert [
        path for path in paths if not any([*PACKAGE.glob(path), *PACKAGE.glob(f"web/{path}"), *ROOT.glob(path)])
    ] == []
    assert len(paths) > 20


def is_module_or_name(module: Module, name: str) -> bool:
    targets = [node.targets if isinstance(node, ast.Assign) else [node] for node in module.tree.body]
    own = {getattr(target, "name", getattr(target, "id", None)) for group in targets for target in group}
    return f"{module.name}.{name}" in modules() or name in own


WITHOUT_THE_TRAINING_HALF = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} was imported", name=name)

sys.meta_path.insert(0, Absent())
for name in {absent!r}:
    sys.modules.pop(name, None)
for name in {names!r}:
    importlib.import_module(f"heedful.{{name}}")
sys.argv = ["heedful", "--help"]
importlib.import_module("heedful.cli").main()
"""


def test_help_and_the_peoples_half_run_without_the_training_half_and_on_windows() -> None:
    """Windows is imitated: Python's modules that it lacks cannot be imported."""
    absent = (declared("train") - declared()) | {"scipy"} | POSIX_ONLY
    names = [name for name in modules() if in_peoples_half(name)]
    script = WITHOUT_THE_TRAINING_HALF.format(absent=sorted(absent), names=names)
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "Usage: heedful" in result.stdout
