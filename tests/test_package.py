"""What an index would get: the wheel is complete, and its description can be shown."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_wheel_is_complete_and_ready_for_an_index(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (name,) = (name for name in packed if name.endswith("METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {line.removeprefix("src/") for line in tracked.splitlines()}
    if wanted:  # in a checkout
        assert wanted - packed == set()
    assert metadata.get_payload().startswith("# heedful\n")
    assert metadata["License-Expression"] == "MIT"
