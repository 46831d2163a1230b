"""Write requirements.lock: the newest exact versions that satisfy pyproject.toml, extras and all.

    .venv/bin/python scripts/lock.py TORCH_VERSION

Nothing is installed. CUDA libraries are left out: torch itself names the exact ones that it needs on each platform.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "train,postgres,serve,dev"
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")


def resolve(torch_version: str) -> list[tuple[str, str]]:
    """(name, version) of everything pip would install into an empty environment, heedful itself left out."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run(
        [*command, f"torch=={torch_version}", f"{ROOT}[{EXTRAS}]"], check=True, stdout=subprocess.PIPE, text=True
    )
    pins = []
    for item in json.loads(report.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        public_version = item["metadata"]["version"].partition("+")[0]
        if name != "heedful" and not name.startswith(LEFT_TO_TORCH):
            pins.append((name, public_version))
    return sorted(pins)


def main() -> None:
    pins = resolve(torch_version=sys.argv[1])
    lines = [f"# Exact versions of heedful[{EXTRAS}]; written by `make lock`.", *(f"{n}=={v}" for n, v in pins)]
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"requirements.lock: {len(pins)} packages")


if __name__ == "__main__":
    main()
