"""The command of rounds: run, status, promote, rollback, and demo."""

from __future__ import annotations

import getpass
import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

import click

from heedful import terminal
from heedful.commands.base import AS_JSON, SERVE, command, option
from heedful.errors import UserError, install

DUE = 3
"""Exit code where people or prompts are due."""
Action = Literal["run", "status", "promote", "rollback", "demo"]
ACTIONS = ["run", "status", "promote", "rollback", "demo"]
AGAIN = "interrupted. Run the same command again to continue"
OF_DEMO = {"--out", "--docs", "--seeds", "--rounds", "--only", "--quick", "--table"}
TAKES = {
    "run": {"--folder", "--db", "--skip", "--redo", "--who", "--json"}, "status": {"--folder", "--db", "--json"},
    "promote": {"--folder", "--db", "--round", "--who", "--reason", "--json"},
    "rollback": {"--folder", "--db", "--who", "--reason", "--json"}, "demo": OF_DEMO,
}  # fmt: skip
"""The options of each action."""


@command(
    "round", SERVE,
    click.Argument(["action"], metavar="|".join(ACTIONS), type=click.Choice(ACTIONS)),
    click.Argument(["more_seeds"], metavar="[SEED]...", type=int, nargs=-1),
    option("--folder", type=Path, metavar="DIR", help="Folder of the server: round.toml, the database, serving.json, "
           "and rounds/. Without it this folder."),
    option("--db", metavar="DB", help="SQLite file or postgresql:// URL. Without it heedful.db in the folder."),
    option("--skip", multiple=True, metavar="STEP=REASON", help="Run: skip a step of the round. Repeatable."),
    option("--redo", metavar="STEP=REASON", help="Run: take the last round up again from this step, with round.toml as "
           "it is now."),
    option("--round", "number", type=click.IntRange(1), metavar="N", help="Promote: this round, not the last one."),
    option("--who", metavar="NAME", help="Promote, rollback and --redo: who decides."),
    option("--reason", metavar="TEXT", help="Promote and rollback: why."),
    option("--out", type=Path, metavar="DIR", help="Demo: folder for runs and databases. It becomes large."),
    option("--docs", type=Path, metavar="DIR", help="Demo: folder for round-demo.md and rounds/, with a JSON of each "
           "part. Without it the folder docs here, or that in OUT with --quick."),
    option("--seeds", type=int, multiple=True, metavar="N", help="Demo: seeds of worlds, as in --seeds 1 2 3. Without "
           "it 1, 2 and 3, or 1 with --quick."),
    option("--rounds", type=click.IntRange(1), metavar="N", help="Demo: rounds of each seed. Without it 3."),
    option("--only", multiple=True, metavar="NAME", help="Demo: this part only: rounds, frozen, last, topics, careless "
           "or thumbs. Repeatable."),
    option("--quick", is_flag=True, help="Demo: run tiny parts in a few minutes. The figures mean nothing."),
    option("--table", is_flag=True, help="Demo: run nothing, and write the page from the parts that have run."),
    AS_JSON,
)  # fmt: skip
def _round(action: Action, more_seeds: tuple[int, ...], **given: Any) -> None:
    """Turn the loop once: from the prompts of users to a better model behind the server.

    `run` goes on with the round under way, or begins the next one by the plan in DIR/round.toml. Where people or
    prompts are due it prints what it waits for, and the exit code is 3. Run it again to go on. A wrong plan is mended
    with --redo, and no label is lost. `promote` puts a
    candidate in place by hand, `rollback` puts back what was served before.

    `demo` turns the loop with simulated users and labelers, and compares the rounds with other ways by the truth.
    """
    names = {"number": "--round", "as_json": "--json"}
    asked = {names.get(name, f"--{name}") for name, value in given.items() if value not in (None, False, ())}
    unused = sorted(asked - TAKES[action])
    if unused:
        raise UserError(f"{unused[0]}: `heedful round {action}` does not use it. Leave it out")
    if more_seeds and not given["seeds"]:
        raise UserError(f"{more_seeds[0]}: does not belong to an option. Leave it out")
    if action == "demo":
        own = {name.strip("-"): given[name.strip("-")] for name in OF_DEMO}
        return _demo(**{**own, "seeds": (*given["seeds"], *more_seeds)})
    folder: Path = given["folder"] or Path(".")
    where = given["db"] or str(folder / "heedful.db")
    if action == "status":
        _status(folder, given["as_json"])
    elif action == "run":
        _run(folder, where, given["skip"], given["redo"], given["who"], given["as_json"])
    else:
        _move(action, folder, where, given["number"], given["who"], given["reason"], given["as_json"])


def _demo(
    out: Path | None, docs: Path | None, seeds: tuple[int, ...], rounds: int | None, only: tuple[str, ...],
    quick: bool, table: bool,
) -> None:  # fmt: skip
    for needed, extra in (("openai", "rounds"), ("prometheus_client", "serve")):
        if importlib.util.find_spec(needed) is None:
            raise UserError(f"the demo needs {needed}: {install(extra)}")
    if out is None:
        raise UserError("--out is missing. See --help")
    from heedful.reproduce.parts import listing
    from heedful.reproduce.rounds import page, plan

    docs = docs or (out / "docs" if quick else Path("docs"))
    seeds, rounds = seeds or ((1,) if quick else (1, 2, 3)), rounds or 3
    records = docs / page.FOLDER / "parts"
    with terminal.guard(out, interrupted=f"{out}: {AGAIN}"):
        due = {} if table else plan.plan(out, records, seeds, rounds, only, terminal.say, quick=quick)
        for ledger, parts in due.items():
            for line in listing(parts, ledger.due(parts)):
                terminal.say(f"{ledger.work.name}: {line}")
        whole = plan.plan(out, records, seeds, rounds, (), terminal.say, quick=quick)
        called = f"heedful round demo --rounds {rounds} --seeds {' '.join(map(str, seeds))}" + " --quick" * quick
        for ledger, parts in due.items():
            ledger.run(parts, terminal.say)
            page.write(docs, whole, rounds, called, quick=quick)
        print(page.write(docs, whole, rounds, called, quick=quick))


def _run(
    folder: Path, db: str, skip: tuple[str, ...], redo: str | None, who: str | None, as_json: bool
) -> None:  # fmt: skip
    from heedful.feedback.store import Store
    from heedful.rounds import machine
    from heedful.rounds.state import Waiting
    from heedful.web.text import defaults

    reasons = {}
    for text in skip:
        step, _, why = text.partition("=")
        reasons[step] = why
    if who is not None and redo is None:
        raise UserError("--who: `heedful round run` uses it with --redo alone. Leave it out")
    step, _, why = (redo or "").partition("=")
    again = (step, why, who or getpass.getuser()) if redo is not None else None
    with terminal.guard(folder, interrupted=f"{folder}: interrupted. Run the same command again to go on"):
        try:
            one = machine.run(
                folder, Store.open(db, create=False), db, terminal.say, skip=reasons, again=again,
                consent=defaults.CONSENT,
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
    one = state.read(folder, number if number is not None else known[-1])
    if who is None and (action == "rollback" or one.facts("gate").get("outcome") == "promote"):
        who = getpass.getuser()  # an override needs a name that somebody wrote
    store = Store.open(db, create=False)
    if action == "promote":
        entry: dict[str, Any] = promotions.promote(store, one, who=who, reason=reason)
    else:
        entry = promotions.rollback(store, one, who=who or "", reason=reason)
    told = f"{entry['model']} is {entry['path']}, in place of {entry['previous']}"
    print(json.dumps(entry, ensure_ascii=False) if as_json else told)
