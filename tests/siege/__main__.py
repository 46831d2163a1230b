"""The siege: every attack, and the table of what came of them.

    make siege                            # a tenth of everything, at most 20 minutes
    make siege FULL=1                     # everything, about an hour
    make siege ONLY="routes kills-sqlite" # some attacks
    make siege FULL=1 RESUME=1 MINUTES=8  # continue where an earlier run ended, and stop after 8 minutes

Or PYTHONPATH=src:tests python -m siege [--full] [--resume] [--minutes N] [NAME ...]. Each attack has a row in
build/siege, which is written after each part, so that a kill loses little. The exit code is 1 if anything got through.
`--page` attacks nothing and puts the table of all rows into docs/security.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import conftest  # noqa: F401  one thread, no network
from siege import table
from siege.attacks import (
    availability,
    damage,
    databases,
    fuzz,
    kills,
    routes,
    scripts,
    serve_fuzz,
    serving,
    texts,
    traces,
)
from siege.table import Outcome, Row
from siege.work import Attack, Work

ATTACKS: dict[str, Attack] = {
    "routes": routes.attack,
    "deletion": traces.attack,
    "scripts": scripts.attack,
    "bombs": availability.bombs,
    "sign-ins": availability.sign_ins,
    "silence": availability.silence,
    "texts": texts.attack,
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
SHARES = {"short": 0.1, "full": 1.0}
SHOWN = 8  # failures of an attack that are printed
PAGE = table.ROOT / "docs" / "security.md"


def run(row: Row, rows: Path, until: float | None = None) -> None:
    """One attack in a folder of its own, from where its row ends. An error of the attack itself is a failure."""
    begin, before, shown = time.monotonic(), row.outcome.seconds, len(row.outcome.failed)
    row.revisions = list(dict.fromkeys([*row.revisions, table.revision()]))

    def keep() -> None:
        row.outcome.seconds = before + time.monotonic() - begin
        row.write(rows)

    work = Work(SHARES[row.form], row.attack, row.outcome, keep, until)
    keep()
    with tempfile.TemporaryDirectory(prefix="siege-") as folder:
        try:
            ATTACKS[row.attack](Path(folder), work)
        except Exception as error:  # the others still attack
            traceback.print_exc()
            row.outcome.failed.append(f"the attack itself broke: {type(error).__name__}: {error}"[:300])
            row.outcome.done += 1  # the part that broke: if the run continues, the others follow
    keep()
    for line in row.outcome.failed[shown : shown + SHOWN]:
        print(f"  FAILED {row.attack}: {line}", file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="siege", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"attacks: {', '.join(ATTACKS)} (default: all)")
    parser.add_argument("--full", action="store_true", help="everything, in place of a tenth")
    parser.add_argument("--resume", action="store_true", help="leave out what an earlier run of this form has done")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--rows", type=Path, default=table.ROWS, help="folder of the rows")
    parser.add_argument("--page", action="store_true", help="only put the table into docs/security.md")
    given = parser.parse_args()
    if unknown := set(given.names) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}. There are: {', '.join(ATTACKS)}")
    return given


def main() -> int:
    given = options()
    if given.page:
        found = table.widest(given.rows, ATTACKS)
        missing = [name for name in ATTACKS if name not in [row.attack for row in found]]
        table.into_page(PAGE, table.lines(found, missing))
        return 0
    form, names = "full" if given.full else "short", given.names or list(ATTACKS)
    until = time.monotonic() + 60 * given.minutes if given.minutes else None
    rows = []
    for name in names:
        row = (table.read(given.rows, name, form) if given.resume else None) or Row(name, form, Outcome())
        begun = bool(row.revisions)
        if (until is None or time.monotonic() < until) and not (begun and row.finished):
            print(f"{name} …", file=sys.stderr, flush=True)
            run(row, given.rows, until)
        rows += [row] if row.revisions else []
    print("\n".join(table.lines(rows)))
    ended = [row.attack for row in rows if row.finished]
    if left := [name for name in names if name not in ended]:
        print(f"Not finished: {', '.join(left)}. Continue with RESUME=1 (--resume).", file=sys.stderr)
    return int(any(row.outcome.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
