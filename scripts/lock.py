"""Write requirements.lock: exact versions that satisfy pyproject.toml, extras and all, with the hashes of their files.

    .venv/bin/python scripts/lock.py [--newest]

Versions stay as they are where they still fit, unless you ask for the newest. Nothing is installed. The hashes are
those of the published files, so they are the same from any index. torch and what it brings are left out, because its
builds differ by index: requirements-torch.lock names its exact version.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
LOCK, TORCH = ROOT / "requirements.lock", ROOT / "requirements-torch.lock"
EXTRAS = ("train", "postgres", "serve", "dev")
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton", "torch")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": (r"(many|musl)?linux.*_x86_64", {"sys_platform": "linux", "platform_machine": "x86_64"}),
    "Linux arm64": (r"(many|musl)?linux.*_aarch64", {"sys_platform": "linux", "platform_machine": "aarch64"}),
    "macOS x86-64": (r"macosx.*_(x86_64|universal2|intel)", {"sys_platform": "darwin", "platform_machine": "x86_64"}),
    "macOS arm64": (r"macosx.*_(arm64|universal2)", {"sys_platform": "darwin", "platform_machine": "arm64"}),
    "Windows x86-64": (r"win_amd64", {"sys_platform": "win32", "os_name": "nt", "platform_machine": "AMD64"}),
    "Windows arm64": (r"win_arm64", {"sys_platform": "win32", "os_name": "nt", "platform_machine": "ARM64"}),
}
"""The tags of a platform's wheels, and its environment for markers."""
Package = dict[str, Any]


def resolve(newest: bool) -> list[Package]:
    """The packages of a lock for all platforms, with their files."""
    with tempfile.TemporaryDirectory() as folder:
        made, kept = Path(folder) / "pylock.toml", Path(folder) / "kept.txt"
        kept.write_text(TORCH.read_text() + ("" if newest else "\n".join(_pins()) + "\n"))
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal", "--quiet"]
        command += ["--python-version", PYTHONS[0], "--fork-strategy", "fewest", "--format", "pylock.toml"]
        command += [f"--extra={extra}" for extra in EXTRAS]
        command += ["--constraint", str(kept), "--output-file", str(made)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        packages: list[Package] = tomllib.loads(made.read_text())["packages"]
    return [package for package in packages if not package["name"].startswith(LEFT_TO_TORCH)]


def _pins() -> list[str]:
    return re.findall(r"^[\w.-]+==[^\s;\\]+", LOCK.read_text(), re.MULTILINE) if LOCK.exists() else []


def wheels(package: Package, platform: str, python: str) -> Iterator[dict[str, Any]]:
    """The wheels of a package for a platform and a version of CPython."""
    minor = int(python.partition(".")[2])
    for wheel in package.get("wheels", ()):
        for tag in parse_wheel_filename(_name(wheel))[3]:
            own = tag.platform == "any" or re.fullmatch(PLATFORMS[platform][0], tag.platform)
            exact = tag.interpreter == f"cp3{minor}" and tag.abi in (f"cp3{minor}", "none", "abi3")
            found = re.fullmatch(r"cp3(\d+)", tag.interpreter)
            stable = tag.abi == "abi3" and found is not None and int(found[1]) <= minor
            if own and (exact or stable or tag.interpreter in ("py3", f"py3{minor}")):
                yield wheel
                break


def _name(file: dict[str, Any]) -> str:
    return str(file.get("name") or file["url"].rpartition("/")[2])


def hashes(package: Package) -> list[str]:
    """The hashes of the files of a package that any of the platforms may install: wheels, and the source."""
    files = [one for platform in PLATFORMS for python in PYTHONS for one in wheels(package, platform, python)]
    files += [package["sdist"]] if "sdist" in package else []
    return sorted({file["hashes"]["sha256"] for file in files})


def without_wheel(packages: list[Package], platform: str) -> list[str]:
    """The packages that a platform has to build itself, with the versions of Python."""
    found = []
    for package in packages:
        lacking = []
        for python in PYTHONS:
            environment = PLATFORMS[platform][1] | {"python_version": python, "python_full_version": f"{python}.9"}
            wanted = "marker" not in package or Marker(package["marker"]).evaluate({**environment, "extra": ""})
            if wanted and not any(wheels(package, platform, python)):
                lacking.append(python)
        if lacking:
            found.append(package["name"] + ("" if len(lacking) == len(PYTHONS) else f" ({', '.join(lacking)})"))
    return found


def text(packages: list[Package]) -> str:
    """requirements.lock."""
    lines = [f"# Exact versions of heedful[{','.join(EXTRAS)}] with the hashes of their files; written by `make lock`."]
    lines += ["# torch is in requirements-torch.lock. Built from source, because nobody publishes a wheel:"]
    for platform in PLATFORMS:
        lines.append(f"#   {platform}: {', '.join(without_wheel(packages, platform)) or 'nothing'}")
    for package in sorted(packages, key=lambda package: package["name"]):
        marker = f" ; {package['marker']}" if "marker" in package else ""
        pin = f"{package['name']}=={package['version']}{marker}"
        lines.append(" \\\n    ".join([pin, *(f"--hash=sha256:{digest}" for digest in hashes(package))]))
    return "\n".join(lines) + "\n"


def main() -> None:
    packages = resolve(newest="--newest" in sys.argv[1:])
    LOCK.write_text(text(packages), encoding="utf-8")
    print(f"{LOCK.name}: {len(packages)} packages")


if __name__ == "__main__":
    main()
