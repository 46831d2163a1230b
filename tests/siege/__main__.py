"""The siege: every attack, and the table of what came of them.

    make siege                            # a tenth of everything, at most 20 minutes
    make siege FULL=1                     # everything, about an hour
    make siege ONLY="routes kills-sqlite" # some attacks

Or PYTHONPATH=src:tests python -m siege [--full] [NAME ...]. The exit code is 1 if anything got through.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import conftest  # noqa: F401  one thread, no network
from siege.attacks import availability, damage, databases, fuzz, kills, routes, scripts, serve_fuzz, serving, traces
from siege.table import Attack, Outcome, Scale, lines

ATTACKS: dict[str, Attack] = {
    "routes": routes.attack,
    "deletion": traces.attack,
    "scripts": scripts.attack,
    "bombs": availability.bombs,
    "sign-ins": availability.sign_ins,
    "silence": availability.silence,
    "texts": availability.texts,
    "damaged-runs": damage.runs,
    "damaged-database": damage.database,
    "full-disk": databases.full_disk,
    "away": databases.away,
    "fuzz-files": fuzz.files,
    "fuzz-api": fuzz.api,
    "fuzz-configs": fuzz.configs,
    "fuzz-commands": fuzz.commands,
    "kills-sqlite": kills.sqlite,
    "kills-postgres": kills.postgresql,
    "kills-stages": kills.stages,
    "serve-leavers": serving.leavers,
    "serve-fuzz": serve_fuzz.attack,
    "serve-full-disk": serving.full_disk,
    "serve-kills-sqlite": serving.kills_sqlite,
    "serve-kills-postgres": serving.kills_postgresql,
}
SHORT, FULL = 0.1, 1.0
SHOWN = 8  # failures of an attack that are printed


def run(name: str, scale: Scale) -> Outcome:
    """One attack in a folder of its own. An error of the attack itself is a failure."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="siege-") as folder:
        try:
            outcome = ATTACKS[name](Path(folder), scale)
        except Exception as error:  # the others still attack
            traceback.print_exc()
            outcome = Outcome(failed=[f"the attack itself broke: {type(error).__name__}: {error}"])
    outcome.seconds = time.monotonic() - begin
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="siege", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"attacks: {', '.join(ATTACKS)} (default: all)")
    parser.add_argument("--full", action="store_true", help="everything, in place of a tenth")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}. There are: {', '.join(ATTACKS)}")
    scale, outcomes = Scale(FULL if options.full else SHORT), {}
    for name in options.names or ATTACKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        outcomes[name] = run(name, scale)
        for line in outcomes[name].failed[:SHOWN]:
            print(f"  FAILED {name}: {line}", file=sys.stderr, flush=True)
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, revision {revision or 'unknown'}, {'full' if options.full else 'short'} form\n"
    )
    print("\n".join(lines(outcomes)))
    return int(any(outcome.failed for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
