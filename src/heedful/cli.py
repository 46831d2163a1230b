"""The commands: parse, call, print. What needs torch is imported inside them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from heedful import terminal
from heedful.commands.base import (
    AS_JSON,
    DATA,
    DB,
    OUT_ROWS,
    OUT_RUN,
    OVERWRITE,
    PEOPLE,
    RESUME,
    SERVE,
    TRAIN,
    USE,
    app,
    is_given,
)
from heedful.commands.base import argument as _argument
from heedful.commands.base import command as _command
from heedful.commands.base import option as _option
from heedful.configs import presets, registry
from heedful.configs.stage import Stage
from heedful.errors import UserError, install
from heedful.headings import RUN

__all__ = ["app", "main"]


@_command(
    "demo", TRAIN,
    _option("--out", type=Path, default=Path("demo"), metavar="DIR", help="Folder for all results."),
    _option("--seed", type=int, default=1, metavar="N", help="Random seed."),
    _option("--quick", is_flag=True, help="Take two minutes, with fewer prompts and steps."),
    _option("--lesson", is_flag=True, help="Also train PPO with a reward model that it can fool."),
    _option("--from-scratch", is_flag=True, help="Pretrain a base model in the world of the demo, for three minutes."),
    _option("--base", "base_model", type=Path, metavar="DIR", help="Start from a base model that --make-base made."),
    _option("--make-base", is_flag=True, help="Only pretrain a base model for demos, half an hour with each call."),
)  # fmt: skip
def _demo(
    out: Path, seed: int, quick: bool, lesson: bool, from_scratch: bool, base_model: Path | None, make_base: bool
) -> None:
    """Run the whole loop in a simulated world. It takes minutes on a CPU.

    The demo starts from the base model in the package, which has never seen the world of the demo.
    """
    from heedful.demo import base, loop

    if from_scratch and base_model is not None:
        raise UserError("--from-scratch and --base exclude each other. Leave one out")
    again = "Run the same command again to continue"
    if make_base:
        if quick or lesson or from_scratch or base_model is not None:
            raise UserError("--make-base runs no demo. Leave --quick, --lesson, --from-scratch and --base out")
        with terminal.guard(out, interrupted=f"{out}: this part is done, or was interrupted. {again}"):
            made = base.make(out, seed=seed)
        terminal.say(f"{made}: finished. Start a demo from it with --base {made}")
        return
    with terminal.guard(out, interrupted=f"{out}: interrupted. {again}"):
        loop.run(
            out, seed=seed, lesson=lesson, from_scratch=from_scratch, quick=quick, base_model=base_model or base.SHIPPED
        )


for _record in registry.commands().values():
    _help = f"{_record.help}\n\n{_record.details}"
    if isinstance(_record, Stage):
        _register = _command(
            _record.name, TRAIN, OUT_RUN, RESUME, AS_JSON, config=_record.config_name, help=_help, preset=presets.read
        )
    else:
        _register = _command(
            _record.name, USE, OUT_ROWS, RESUME, OVERWRITE, AS_JSON, config=_record.config_name, help=_help
        )
    _register(partial(terminal.make, _record))

importlib.import_module("heedful.commands.rejection")  # registers its commands here, after those that train a model
importlib.import_module("heedful.commands.experiments")
importlib.import_module("heedful.commands.plans")
importlib.import_module("heedful.commands.launches")


@_command("chat", USE, config="heedful.configs.chat:ChatConfig")
def _chat(settings: Any) -> None:
    """Chat with a model in the terminal.

    Each line is one turn. /help shows the commands, and prompts to try if the run has some. /1 asks the first one.
    /reset starts a new conversation, /quit or Ctrl-D ends it, Ctrl-C stops an answer. With input from a pipe, every
    line is a turn.
    """
    from heedful.inference.chat import ChatSession, converse, help_lines

    chat = ChatSession(settings)
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    if typing:
        for line in (settings.model, *help_lines(chat.prompts)):
            terminal.say(line)
    lines = terminal.typed() if typing else (line for line in sys.stdin)
    converse(chat, lines, lambda text: print(text, end="", flush=True), lambda text: terminal.say(f"[{text}]"))


@_command(
    "evaluate", USE,
    _option("--out", type=Path, metavar="DIR", panel=RUN, help="Also write the result, the answers and all verdicts "
            "into this folder."), AS_JSON,
    _option("--queue", metavar="PROJECT", panel=PEOPLE, help="Put each model's answer next to the baseline's into this "
            "project, for held-out labelers to judge. A new project gets a guide for final evaluations."),
    _option("--form", type=click.Choice(["quality", "toxicity"]), default="quality", panel=PEOPLE,
            help="What a new project asks: overall quality and flags (D9), or toxicity (D11)."),
    _option("--db", default="heedful.db", metavar="DB", help="Database of --queue: SQLite file or postgresql:// URL.",
            panel=PEOPLE),
    config="heedful.configs.evaluate:EvaluateConfig",
)  # fmt: skip
def _evaluate(settings: Any, out: Path | None, as_json: bool, queue: str | None, form: Any, db: str) -> None:
    """Compare models: win rates over a baseline with their confidence intervals.

    A reward, a function, people's judgements in a file or a model behind an address decides, or several of these.
    """
    from heedful.evaluation import described, evaluate
    from heedful.feedback import final
    from heedful.web.text import defaults

    if queue is None and (unused := [name for name in ("form", "db") if is_given(name)]):
        raise UserError(f"--{unused[0]}: only with --queue PROJECT. Leave it out")
    put = final.opened(db, queue, form, defaults.CONSENT) if queue is not None else None
    result = evaluate.run(settings, out, put)
    print(json.dumps(result, ensure_ascii=False) if as_json else described.describe(result))


importlib.import_module("heedful.commands.rewards")  # registers its commands here, after `evaluate`
importlib.import_module("heedful.commands.benchmark")


importlib.import_module("heedful.commands.reports")


@_command(
    "runs", USE, _argument("paths", "[PATH...]", "Runs, or folders that hold some. runs/ without any.", nargs=-1),
    AS_JSON,
)  # fmt: skip
def _runs(paths: tuple[Path, ...], as_json: bool) -> None:
    """List runs, or compare several: the settings and inputs that differ, and the last metrics.

    A folder gives a list of the runs in it. Two or more runs are compared.
    """
    from heedful.report import run_list

    print(run_list.describe(list(paths) or [Path("runs")], as_json=as_json))


@_command(
    "import", DATA, _argument("source", "FILE", "File, folder, pattern or hub data set.", type=str),
    _option("--out", type=Path, metavar="FILE", help="New file: .jsonl, .jsonl.gz or .parquet.", panel=RUN),
    _option("--explain", is_flag=True, help="Show what the rows are read as, and write nothing."),
    _option("--map", "given", multiple=True, metavar="TARGET=FIELD", help="Name a field of the rows, such as "
            "prompt=question. Repeatable. A wrong target lists all."),
    _option("--as", "kind", metavar="KIND", help="Kind of the rows: texts, prompts, demonstrations, completions, "
            "comparisons or choices. Without it the first row decides."),
    _option("--skip-bad", is_flag=True, help="Write malformed rows to FILE.rejected.jsonl with the reason, and go on."),
    OVERWRITE, AS_JSON,
)  # fmt: skip
def _import(
    source: str, out: Path | None, explain: bool, given: tuple[str, ...], kind: str | None, skip_bad: bool,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check a file and write it in heedful's format.

    You can mend a FILE.rejected.jsonl and import it like any other file.
    """
    from heedful.data import explain as explaining
    from heedful.data import formats, kinds
    from heedful.data.shapes import mapping

    if explain:
        ignored = {"--out": out is not None, "--skip-bad": skip_bad, "--overwrite": overwrite}
        if named := [name for name, is_given in ignored.items() if is_given]:
            raise UserError(f"{named[0]}: --explain writes nothing. Leave one of the two out")
        told = explaining.explain(source, given, kind)
        print(json.dumps(told.row(), ensure_ascii=False) if as_json else "\n".join(told.lines()))
        if told.problem:
            raise UserError(told.problem)
        return
    if out is None:
        raise UserError("--out: give a new file, or --explain to see what the rows are read as")
    terminal.check_free(out, overwrite)
    fields = mapping.parse(given)
    kind = kind or kinds.kind_of(source, fields)
    records = formats.read(source, _record_type(kind), skip_bad=skip_bad, given=fields)
    formats.write(out, records)
    unused = sorted({name for record in records for name in record.model_extra})
    terminal.show(str(out), {"kind": kind, "rows": len(records), "fields_not_used": unused}, as_json)


@_command(
    "export", DATA, _argument("source", "FILE", "Demonstrations, comparisons or choices.", type=str),
    _option("--form", default="trl", metavar="FORM", help="trl, openrlhf or openai."),
    _option("--out", type=Path, required=True, metavar="FILE", panel=RUN,
            help="New file: .jsonl, .jsonl.gz, .parquet or .csv."),
    OVERWRITE, AS_JSON,
)  # fmt: skip
def _export(source: str, form: str, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write rows for other trainers.

    A demonstration becomes prompt and completion. A ranking becomes prompt, chosen and rejected, a row for each pair.
    For OpenAI's files both become messages. Labeler, group and split stay where the form has room for them.
    """
    from heedful.data import export, formats, kinds, text

    terminal.check_free(out, overwrite)
    records = formats.read(source, _record_type(kinds.kind_of(source)))
    rows = list(export.to_public(records, form))
    tied = sum(export.is_tied(record) for record in records)
    if not rows:
        raise UserError(f"{source}: no row has a pair ({text.rows_told(len(records))}, all tied). Nothing was written")
    formats.write(out, rows)
    left_out = export.left_out(records, form)
    told = {"rows": len(rows), "tied_left_out": tied, "fields_left_out": left_out}
    terminal.show(str(out), {key: value for key, value in told.items() if value}, as_json)


@_command(
    "snapshot", DATA, DB,
    _option("--project", metavar="NAME", help="Project, needed if the database has several."),
    _option("--out", type=Path, required=True, metavar="DIR", help="New folder for the snapshot.", panel=RUN),
    AS_JSON, config="heedful.feedback.snapshots:Filters",
)  # fmt: skip
def _snapshot(settings: Any, db: str, project: str | None, out: Path, as_json: bool) -> None:
    """Freeze people's judgements into a folder that training commands read like a file.

    Judgements that were replaced or withdrawn are left out.
    """
    from datetime import UTC, datetime

    from heedful.feedback import projects, snapshots
    from heedful.feedback.store import Store

    store = Store.open(db, create=False)
    with store.reading() as session:
        project_id = projects.the_one(session, project).id
    frozen = snapshots.freeze(store, project_id, out, settings, datetime.now(UTC), by=None)
    results = {name: getattr(frozen, name) for name in ("records", "rows", "sha256")}
    if settings.as_choices:
        from heedful.collection import agreement

        results["agreement"] = agreement.of_snapshot(store, out)
    if settings.made_by != "people":
        results["agreement"] = "; ".join(frozen.filters["agreement"].values()) or "no model has judged"
    terminal.show(str(out), results, as_json)


@_command(
    "lineage", DATA, _argument("run", "[RUN]", "Run, checkpoint, file of rows or snapshot.", required=False),
    _option("--labeler", metavar="NAME", help="Show where the work of this labeler went instead."),
    _option("--runs", type=Path, multiple=True, default=[Path("runs")], metavar="DIR",
            help="Search this folder for runs. Repeatable."),
    DB, AS_JSON,
)  # fmt: skip
def _lineage(run: Path | None, labeler: str | None, db: str, runs: tuple[Path, ...], as_json: bool) -> None:
    """Show the judgements behind a run or in a snapshot, or the runs behind a labeler's judgements.

    Parents of a run are found where its manifest says, and under --runs.
    """
    from heedful.feedback import lineage
    from heedful.feedback.store import Store

    if (run is None) == (labeler is None):
        raise UserError("give a run, or --labeler and a name")
    with Store.open(db, create=False).reading() as session:
        found = (
            lineage.of_run(session, run, list(runs)) if run else lineage.of_labeler(session, labeler or "", list(runs))
        )
    print(json.dumps(found.row(), ensure_ascii=False) if as_json else "\n".join(found.lines()))


@_command(
    "agreement", DATA, _argument("source", "FILE", "Comparisons or choices."),
    _option("--group", metavar="NAME", help="Use the judgements of this group of labelers only."),
    _option("--out", type=Path, metavar="FILE", panel=RUN, help="Also write one row for each item: its judgements "
            "combined into one."), OVERWRITE, AS_JSON,
)  # fmt: skip
def _agreement(source: Path, group: str | None, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Measure how far labelers agree, and combine their judgements.

    Rows with the same prompt and answers are one item. Labelers who agree with others more often count for more.
    """
    from heedful.data import formats, kinds
    from heedful.feedback.quality import combine

    if (kind := kinds.kind_of(source)) not in ("comparisons", "choices"):
        raise UserError(f"{source}: contains {kind}. Give a file of comparisons or choices")
    rows: Any = [row for row in formats.read(source, _record_type(kind)) if group in (None, row.group)]
    figures = combine.figures(rows)
    if out is not None:
        terminal.check_free(out, overwrite)
        formats.write(out, combine.combined(rows))
    terminal.show(str(source), figures, as_json)


@_command(
    "label", PEOPLE, DB,
    _option("--host", default="127.0.0.1", metavar="HOST", help="Address to listen on."),
    _option("--port", type=int, default=8000, metavar="N", help="Port. 0 takes a free one."),
    _option("--url", metavar="URL", help="Address that people type, with http:// or https://, if a proxy changes it."),
    _option("--proxies", metavar="HOSTS", help="Proxies whose forwarding headers are trusted."),
    _option("--text-chars", type=int, default=500_000, metavar="N", help="Longest text to import."),
    _option("--demo", is_flag=True, help="Add a project to try, filled from the simulated world."),
    _option("--new-password", metavar="NAME", help="Print a link with which this person sets a new password. It works "
            "once, for one day."),
    _option("--folder", type=Path, default=Path("."), metavar="DIR", help="Project folder: runs/ to sample from, "
            "snapshots/ to write."),
)  # fmt: skip
def _label(
    db: str, host: str, port: int, proxies: str | None, demo: bool, new_password: str | None, **web: Any
) -> None:
    """Serve the labelling app, where people write demonstrations and rank answers.

    The first start prints a link for the first lead's account. The link works once.
    """
    from heedful.demo import labelling

    say = partial(print, flush=True)  # also through a pipe the links appear while the server runs
    labelling.run(db, host, port, web, proxies=proxies, demo=demo, new_password=new_password, say=say)


importlib.import_module("heedful.commands.labelers")


@_command("serve", SERVE, config="heedful.configs.serve:ServeConfig")
def _serve(settings: Any) -> None:
    """Serve models through OpenAI's API, with accounts, keys and limits.

    --model NAME=RUN samples in this process, --upstream NAME=URL#MODEL passes requests on to another server. Both are
    repeatable. The first start prints a link for the first account. The link works once.
    """
    if importlib.util.find_spec("prometheus_client") is None:
        raise UserError(f"serving needs prometheus-client: {install('serve')}")
    from heedful.collection.settings import CollectionConfig
    from heedful.collection.store import Collection
    from heedful.serve import run

    collect = settings.collect
    text = {"consent": run.text_of(collect.consent, "--collect.consent")} if collect.consent is not None else {}
    kept = CollectionConfig(rate=collect.rate, days=collect.days, **text)
    run.run(settings, lambda store: Collection(store, kept, folders=[settings.folder]), partial(print, flush=True))


importlib.import_module("heedful.commands.collected")  # the commands about prompts of users
importlib.import_module("heedful.commands.rounds")


@_command("backup", PEOPLE, _argument("out", "FILE", "New file."), DB)
def _backup(out: Path, db: str) -> None:
    """Verify the labelling database and copy it into one file, while people work."""
    from heedful.feedback import backup
    from heedful.feedback.store import Store

    terminal.show(str(out), {"verified_events": backup.backup(Store.open(db, create=False), out)}, False)


@_command("restore", PEOPLE, _argument("source", "FILE", "File of a backup."), DB)
def _restore(source: Path, db: str) -> None:
    """Load a backup into a new database.

    --db names a file that does not exist yet, or an empty PostgreSQL database.
    """
    from heedful.feedback import backup
    from heedful.feedback.store import shown

    terminal.show(shown(db), {"events": backup.restore(source, db)}, False)


@_command(
    "verify", PEOPLE, DB,
    _option("--rebuild", is_flag=True, help="Also compute again what follows from the events, such as the queue."),
    AS_JSON,
)  # fmt: skip
def _verify(db: str, rebuild: bool, as_json: bool) -> None:
    """Check that nobody changed or removed a judgement in the labelling database.

    Each event has a hash that covers the event before it. The first one that does not fit ends the command with exit
    code 2.
    """
    from heedful.feedback import derive, events, projects
    from heedful.feedback.store import Store, shown

    store = Store.open(db, create=False)
    with store.reading() as session:
        results: dict[str, Any] = {"verified_events": events.verify_all(session)}
    if rebuild:
        with store.writing() as session:
            wrong = {project.name: derive.rebuild(session, project.id) for project in projects.listing(session)}
        results["corrected_items"] = wrong
    terminal.show(shown(db), results, as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run the command of `arguments` (those of the process by default) and exit with its code."""
    sys.exit(terminal.run(app, sys.argv[1:] if arguments is None else arguments))


def _record_type(kind: str) -> Any:
    from heedful.data.kinds import KINDS

    if kind not in KINDS:
        raise UserError(f"--as {kind}: no such kind. Choose from {', '.join(KINDS)}")
    return KINDS[kind]
