"""The lock file: everything has hashes, and every platform is known."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
SPEC = importlib.util.spec_from_file_location("lock", ROOT / "scripts" / "lock.py")
assert SPEC is not None
assert SPEC.loader is not None
lock = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lock)


def test_every_version_is_exact_and_has_hashes() -> None:
    entries = re.split(r"\n(?=[\w#])", LOCK.strip())
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        head, *hashes = pin.split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+( ; .+)?", head), head
        assert hashes, head
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", digest) for digest in hashes), head
    assert "://" not in LOCK
    assert not re.search(r"^(torch|nvidia-\w+|triton)==", LOCK, re.MULTILINE)


def test_it_holds_what_the_project_asks_for() -> None:
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", LOCK, re.MULTILINE))
    pins |= dict(re.findall(r"^(torch)==(\S+)$", (ROOT / "requirements-torch.lock").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in lock.EXTRAS for one in project["optional-dependencies"][extra]),
    ]
    for one in map(Requirement, wanted):
        assert one.specifier.contains(pins[re.sub(r"[-_.]+", "-", one.name).lower()]), one


def wheel(name: str) -> dict[str, Any]:
    return {"url": f"https://host/{name}", "hashes": {"sha256": name}}


def test_the_files_of_each_platform() -> None:
    files = [
        "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1.0-cp311-abi3-macosx_11_0_universal2.whl",
        "a-1.0-cp310-cp310-win_amd64.whl", "a-1.0-cp313-cp313-win_amd64.whl",
    ]  # fmt: skip
    package = {"name": "a", "version": "1.0", "wheels": [wheel(name) for name in files], "sdist": wheel("a-1.0.tar.gz")}
    pure = {"name": "b", "version": "2", "wheels": [wheel("b-2-py2.py3-none-any.whl")]}
    there = {"name": "c", "version": "3", "marker": "sys_platform == 'win32'", "wheels": []}
    assert lock.hashes(package) == sorted(["a-1.0.tar.gz", files[0], files[1], files[3]])
    lacking = {platform: lock.without_wheel([package, pure, there], platform) for platform in lock.PLATFORMS}
    assert lacking == {
        "Linux x86-64": ["a (3.12, 3.13, 3.14)"], "Linux arm64": ["a"], "macOS x86-64": [], "macOS arm64": [],
        "Windows x86-64": ["a (3.11, 3.12, 3.14)", "c"], "Windows arm64": ["a", "c"],
    }  # fmt: skip
    pin, *hashes = lock.text([there, pure]).splitlines()[-3:]
    assert (pin, hashes) == (
        "b==2 \\",
        ["    --hash=sha256:b-2-py2.py3-none-any.whl", "c==3 ; sys_platform == 'win32'"],
    )
