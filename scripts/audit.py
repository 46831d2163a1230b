"""Check that PyPI's list of known vulnerabilities can be read here, before `make audit` asks it about every package."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def main() -> None:
    first = re.search(r"^([\w.-]+)==([\w.]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    address = first.expand(r"https://pypi.org/pypi/\1/\2/json")
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            json.load(answer)["vulnerabilities"]
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"make audit: {address} has no list of known vulnerabilities ({error}). Run it where it has one.")


if __name__ == "__main__":
    main()
