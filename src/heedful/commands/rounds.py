"""The command of rounds: run, status, promote, rollback."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any, Literal

import click

from heedful import terminal
from heedful.commands.base import AS_JSON, PEOPLE, command, option
from heedful.config import UserError

DUE = 3
"""Exit code where people or prompts are due."""
Action = Literal["run", "status", "promote", "rollback"]


@command(
    "round", PEOPLE,
    click.Argument(["action"], metavar="run|status|promote|rollback",
                   type=click.Choice(["run", "status", "promote", "rollback"])),
    option("--folder", type=Path, default=Path("."), metavar="DIR", help="Folder of the server: round.toml, the "
           "database, serving.json, and rounds/."),
    option("--db", metavar="DB", help="SQLite file or postgresql:// URL. Without it heedful.db in the folder."),
    option("--skip", multiple=True, metavar="STEP=REASON", help="Run: skip a step of the round. Repeatable."),
    option("--round", "number", type=int, metavar="N", help="Promote: this round in place of the last one."),
    option("--who", metavar="NAME", help="Promote and rollback: who decides."),
    option("--reason", metavar="TEXT", help="Promote and rollback: why."),
    AS_JSON,
)  # fmt: skip
def _round(
    action: Action, folder: Path, db: str | None, skip: tuple[str, ...], number: int | None, who: str | None,
    reason: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn the loop once: from the prompts of users to a better model behind the server.

    `run` goes on with the round under way, or begins the next one by the plan in DIR/round.toml. Where people or
    prompts are due it prints what it waits for, and the exit code is 3. Run it again to go on. `promote` puts a
    candidate in place by hand, `rollback` puts back what was served before.
    """
    given = {
        "--skip": bool(skip),
        "--round": number is not None,
        "--who": who is not None,
        "--reason": reason is not None,
    }
    takes = {"run": {"--skip"}, "status": set(), "promote": {"--round", "--who", "--reason"}}
    unused = [
        name for name, is_given in given.items() if is_given and name not in takes.get(action, {"--who", "--reason"})
    ]
    if unused:
        raise UserError(f"{unused[0]}: `heedful round {action}` does not use it. Leave it out")
    where = db or str(folder / "heedful.db")
    if action == "status":
        _status(folder, as_json)
    elif action == "run":
        _run(folder, where, skip, as_json)
    else:
        _move(action, folder, where, number, who, reason, as_json)


def _run(folder: Path, db: str, skip: tuple[str, ...], as_json: bool) -> None:
    from heedful.feedback.store import Store
    from heedful.rounds import machine
    from heedful.rounds.state import Waiting
    from heedful.web.text import defaults

    reasons = {}
    for text in skip:
        step, _, why = text.partition("=")
        reasons[step] = why
    with terminal.guard(folder, interrupted=f"{folder}: interrupted. Run the same command again to go on"):
        try:
            one = machine.run(
                folder, Store.open(db, create=False), db, terminal.say, skip=reasons, consent=defaults.CONSENT
            )  # fmt: skip
        except Waiting as waiting:
            print(json.dumps({"waiting": str(waiting)}) if as_json else f"waiting: {waiting}")
            raise click.exceptions.Exit(DUE) from None
    verdict = one.facts("gate")
    if as_json:
        print(json.dumps({"round": one.number, "gate": verdict, "report": one.facts("report")}, ensure_ascii=False))
    else:
        reasons_told = "; ".join(verdict.get("reasons", []))
        told = f"{verdict['outcome']} ({reasons_told})" if verdict else "no candidate"
        print(f"round {one.number}: {told}. Report: {one.path / 'report.md'}")


def _status(folder: Path, as_json: bool) -> None:
    from heedful.rounds import status

    print(json.dumps(status.row(folder), ensure_ascii=False) if as_json else "\n".join(status.lines(folder)))


def _move(
    action: Action, folder: Path, db: str, number: int | None, who: str | None, reason: str | None, as_json: bool
) -> None:
    from heedful.feedback.store import Store
    from heedful.rounds import promotions, state

    known = state.numbers(folder)
    if not known:
        raise UserError(f"{folder}: no round has begun here. Begin one with `heedful round run`")
    one = state.read(folder, number or known[-1])
    store = Store.open(db, create=False)
    if action == "promote":
        entry: dict[str, Any] = promotions.promote(store, one, who=who, reason=reason)
    else:
        entry = promotions.rollback(store, one, who=who or getpass.getuser(), reason=reason)
    told = f"{entry['model']} is {entry['path']}, in place of {entry['previous']}"
    print(json.dumps(entry, ensure_ascii=False) if as_json else told)
