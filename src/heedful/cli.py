"""The commands: parse, call, print. What needs the training half is imported inside them."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from heedful import terminal
from heedful.config import UserError, load
from heedful.configs.best_of_n import BestOfNConfig
from heedful.configs.dpo import DPOConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.configs.sft import SFTConfig

TRAIN, USE, PEOPLE, DATA = "Training", "Models at work", "People", "Data"
EPILOG = "All settings with their defaults: docs/commands.md"
app = typer.Typer(
    help="The InstructGPT loop: people's rankings, a reward model, PPO, evaluation, and round again.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _option(help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


ConfigFile = Annotated[Path | None, _option("TOML file of settings.", "--config", metavar="FILE")]
Sets = Annotated[list[str] | None, _option("One setting; repeatable.", "--set", metavar="KEY=VALUE")]
Seed = Annotated[int | None, _option("Of all randomness; default 0.", metavar="N")]
Resume = Annotated[bool, _option("Go on where a run was stopped.", "--resume")]
Overwrite = Annotated[bool, _option("Replace a file that is there.", "--overwrite")]
AsJson = Annotated[bool, _option("Results as JSON in the last line.", "--json")]
RunOut = Annotated[Path, _option("Folder of the new run.", metavar="RUN")]
FileOut = Annotated[Path, _option(".jsonl, .jsonl.gz or .parquet.", metavar="FILE")]
Database = Annotated[str, _option("SQLite file or URL; default heedful.db.", "--db", metavar="DB")]
Model = Annotated[str | None, _option("Run, local folder or hub name.", metavar="M")]
Rewards = Annotated[list[str] | None, _option("[W*]M or module:function; repeatable.", metavar="R")]


def _file(help: str) -> Any:
    return _option(help, metavar="FILE")


@app.callback(invoke_without_command=True)
def _entry(version: Annotated[bool, _option("Show the version and leave.", "--version")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"heedful {installed('heedful')}")


@app.command(rich_help_panel=TRAIN)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.", metavar="DIR")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the world and all training.")] = 1,
    lesson: Annotated[bool, typer.Option("--lesson", help="Also show PPO on a reward model it can fool.")] = False,
) -> None:
    """The whole loop in a made-up world, minutes on a CPU."""
    from heedful.demo import loop

    with terminal.guard(out, interrupted=f"{out}: interrupted; the same command goes on"):
        loop.run(out, seed=seed, lesson=lesson)


@app.command(rich_help_panel=TRAIN, epilog=EPILOG)
def pretrain(
    *,
    data: Annotated[str | None, _file("Texts.")] = None,
    valid_data: Annotated[str | None, _file("Held-out texts.")] = None,
    out: RunOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """A base model from scratch, with its own tokenizer."""
    terminal.make(PretrainConfig, "heedful.stages.pretrain:train", dict(locals()))


@app.command(rich_help_panel=TRAIN, epilog=EPILOG)
def sft(
    *,
    model: Model = None,
    data: Annotated[str | None, _file("Demonstrations.")] = None,
    valid_data: Annotated[str | None, _file("Held-out demonstrations.")] = None,
    pretrain_data: Annotated[str | None, _file("Texts to mix in.")] = None,
    select_with: Annotated[str | None, _option("Reward that picks the checkpoint.", metavar="R")] = None,
    prompts: Annotated[str | None, _file("Prompts to sample for --select-with.")] = None,
    out: RunOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Supervised fine-tuning on demonstrations."""
    terminal.make(SFTConfig, "heedful.stages.sft:train", dict(locals()))


@app.command(rich_help_panel=TRAIN, epilog=EPILOG)
def reward(
    *,
    model: Model = None,
    data: Annotated[str | None, _file("Comparisons: rankings of K answers.")] = None,
    eval_data: Annotated[str | None, _file("Held-out comparisons.")] = None,
    demonstrations: Annotated[str | None, _file("Demonstrations: their mean is 0.")] = None,
    out: RunOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """A reward model from rankings."""
    terminal.make(RewardConfig, "heedful.stages.reward:train", dict(locals()))


@app.command(rich_help_panel=TRAIN, epilog=EPILOG)
def ppo(
    *,
    policy: Annotated[str | None, _option("The start, and frozen reference.", metavar="M")] = None,
    reward: Rewards = None,
    prompts: Annotated[str | None, _file("Prompts.")] = None,
    value: Annotated[str | None, _option("Where the value net starts.", metavar="M")] = None,
    pretrain_data: Annotated[str | None, _file("Texts of the ptx term (PPO-ptx).")] = None,
    tax_data: Annotated[str | None, _file("Held-out texts: the alignment tax.")] = None,
    out: RunOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """PPO (or PPO-ptx) towards a reward, under a KL leash."""
    terminal.make(PPOConfig, "heedful.stages.ppo:train", dict(locals()))


@app.command(rich_help_panel=TRAIN, epilog=EPILOG)
def dpo(
    *,
    model: Model = None,
    data: Annotated[str | None, _file("Comparisons: rankings of K answers.")] = None,
    eval_data: Annotated[str | None, _file("Held-out comparisons.")] = None,
    out: RunOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Direct preference optimisation on rankings, a baseline."""
    terminal.make(DPOConfig, "heedful.stages.dpo:train", dict(locals()))


@app.command("best-of-n", rich_help_panel=USE, epilog=EPILOG)
def best_of_n(
    *,
    model: Model = None,
    reward: Rewards = None,
    prompts: Annotated[str | None, _file("Prompts.")] = None,
    n: Annotated[int | None, _option("Answers to choose from; default 16.", "-n")] = None,
    out: FileOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """The best of n samples by a reward, for each prompt."""
    terminal.make(BestOfNConfig, "heedful.inference.best_of_n:run", dict(locals()))


@app.command(rich_help_panel=USE, epilog=EPILOG)
def sample(
    *,
    model: Model = None,
    prompts: Annotated[str | None, _file("Prompts.")] = None,
    k: Annotated[int | None, _option("Completions a prompt; default 1.", "-k")] = None,
    out: FileOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """K completions for each prompt."""
    terminal.make(SampleConfig, "heedful.inference.sample:run", dict(locals()))


@app.command(rich_help_panel=USE, epilog=EPILOG)
def score(
    *,
    reward: Rewards = None,
    data: Annotated[str | None, _file("Rows with answers, of any kind.")] = None,
    out: FileOut,
    config: ConfigFile = None,
    sets: Sets = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rewards of the answers in a file."""
    terminal.make(ScoreConfig, "heedful.inference.score:run", dict(locals()))


@app.command(rich_help_panel=USE, epilog=EPILOG)
def chat(
    model: Model = None,
    history: Annotated[bool | None, _option("Show it the turns before.", "--history/--no-history")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
) -> None:
    """Talk to a model in the terminal."""
    options = dict(locals())
    from heedful.configs.chat import ChatConfig
    from heedful.inference.chat import QUIT, RESET, Chat, converse

    settings = terminal.settings(ChatConfig, options)
    chat = Chat(settings)
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    if typing:
        terminal.say(f"{settings.model}. {RESET} begins anew, {QUIT} or Ctrl-D leaves, Ctrl-C stops an answer.")
    lines = terminal.typed() if typing else (line for line in sys.stdin)
    converse(chat, lines, lambda text: print(text, end="", flush=True), lambda text: terminal.say(f"[{text}]"))


@app.command(rich_help_panel=USE, epilog=EPILOG)
def evaluate(
    a: Annotated[str | None, _option("Model, or file of its answers.", metavar="A")] = None,
    b: Annotated[str | None, _option("What it is compared with.", metavar="B")] = None,
    reward: Rewards = None,
    judgements: Annotated[str | None, _file("People's choices, instead of --reward.")] = None,
    prompts: Annotated[str | None, _file("Prompts.")] = None,
    out: Annotated[Path | None, _option("JSON file for the result.", metavar="FILE")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Win rate of A over B, with its interval."""
    options = {name: value for name, value in locals().items() if name not in ("out", "as_json")}
    from heedful.configs.evaluate import EvaluateConfig
    from heedful.evaluation import evaluate

    result = evaluate.run(terminal.settings(EvaluateConfig, options), out)
    print(json.dumps(result, ensure_ascii=False) if as_json else evaluate.describe(result))


@app.command(rich_help_panel=USE)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...", show_default=False)],
    out: Annotated[Path, typer.Option(help="Page to write.", metavar="FILE")] = Path("report.html"),
) -> None:
    """Curves and samples of runs, side by side on one page."""
    from heedful.report.run_report import write_for_runs

    print(write_for_runs(runs, out))


@app.command(rich_help_panel=DATA, epilog=EPILOG)
def curate(
    *,
    prompts: Annotated[str, _file("Prompts as they came in.")],
    out: FileOut,
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Prompts without repeats and personal data, split by user."""
    from heedful.data import curation, formats
    from heedful.data.records import Prompt

    settings = load(curation.CurationConfig, config, sets, seed=seed)
    terminal.check_free(out, overwrite)
    kept, account = curation.curate(formats.read(prompts, Prompt), settings)
    formats.write(out, kept)
    results = account.model_dump(exclude={"settings"})
    if not as_json:
        results["removed"] = {step.name: f"{step.removed} of {step.before}: {step.why}" for step in account.steps}
        del results["steps"]
    terminal.show(str(out), results, as_json)


@app.command("import", rich_help_panel=DATA)
def import_(
    source: Annotated[Path, typer.Argument(help="File of a public or our own shape.", metavar="FILE")],
    out: FileOut,
    kind: Annotated[str | None, _option("Kind of the rows, if not by the first one.", "--as", metavar="KIND")] = None,
    skip_bad: Annotated[bool, _option("List malformed rows apart, take the rest.", "--skip-bad")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Check a file and write it in our own shape."""
    from heedful.data import formats, kinds

    terminal.check_free(out, overwrite)
    kind = kind or kinds.kind_of(source)
    records = formats.read(source, _record_type(kind), skip_bad=skip_bad)
    formats.write(out, records)
    terminal.show(str(out), {"kind": kind, "rows": len(records)}, as_json)


@app.command(rich_help_panel=DATA)
def export(
    source: Annotated[Path, typer.Argument(help="Demonstrations, comparisons or choices.", metavar="FILE")],
    out: FileOut,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rows for other trainers: prompt, chosen, rejected."""
    from heedful.data import formats, kinds

    terminal.check_free(out, overwrite)
    rows = list(formats.to_public(formats.read(source, _record_type(kinds.kind_of(source)))))
    formats.write(out, rows)
    terminal.show(str(out), {"rows": len(rows)}, as_json)


@app.command(rich_help_panel=DATA, epilog=EPILOG)
def snapshot(
    *,
    db: Database = "heedful.db",
    project: Annotated[str | None, _option("Needed where there are several.", metavar="NAME")] = None,
    records: Annotated[str | None, _option("demonstration, comparison, choice, prompt.", metavar="KIND")] = None,
    out: Annotated[Path, _option("Folder of the new snapshot.", metavar="DIR")],
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """People's judgements, frozen and hashed."""
    from datetime import UTC, datetime

    from heedful.feedback import projects, snapshots
    from heedful.feedback.store import Store

    filters = terminal.settings(snapshots.Filters, {"records": records, "config": config, "sets": sets})
    store = Store.open(db, create=False)
    with store.reading() as session:
        project_id = projects.the_one(session, project).id
    frozen = snapshots.freeze(store, project_id, out, filters, datetime.now(UTC), by=None)
    terminal.show(str(out), {name: getattr(frozen, name) for name in ("records", "rows", "sha256")}, as_json)


@app.command(rich_help_panel=DATA)
def lineage(
    run: Annotated[Path | None, typer.Argument(help="Run, checkpoint or file of rows.", metavar="RUN")] = None,
    labeler: Annotated[str | None, _option("Where her work went, instead.", metavar="NAME")] = None,
    db: Database = "heedful.db",
    runs: Annotated[list[Path] | None, _option("Where runs lie; repeatable; default runs.", metavar="DIR")] = None,
    as_json: AsJson = False,
) -> None:
    """The judgements behind a run; where a labeler's work went."""
    from heedful.feedback import lineage
    from heedful.feedback.store import Store

    if (run is None) == (labeler is None):
        raise UserError("give a run, or --labeler and a name")
    folders = runs or [Path("runs")]
    with Store.open(db, create=False).reading() as session:
        found = lineage.of_run(session, run, folders) if run else lineage.of_labeler(session, labeler or "", folders)
    print(json.dumps(found.row(), ensure_ascii=False) if as_json else "\n".join(found.lines()))


@app.command(rich_help_panel=PEOPLE)
def label(
    db: Database = "heedful.db",
    host: Annotated[str, _option("Address to listen on; default 127.0.0.1.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, _option("Default 8000; 0 takes a free one.", metavar="N")] = 8000,
    url: Annotated[str | None, _option("Address that people type, if another.", metavar="URL")] = None,
    proxies: Annotated[str | None, _option("Proxies whose headers are believed.", metavar="HOSTS")] = None,
    text_chars: Annotated[int, _option("The most of one imported text.", metavar="N")] = 500_000,
    demo: Annotated[bool, _option("With a project to try.", "--demo")] = False,
    new_password: Annotated[str | None, _option("Whose password is forgotten.", metavar="NAME")] = None,
    folder: Annotated[Path, _option("For runs and snapshots; default here.", metavar="DIR")] = Path("."),
) -> None:
    """The labelling app, for people's demonstrations and rankings."""
    from heedful.demo import labelling

    settings = {"url": url, "folder": folder, "text_chars": text_chars}
    say = partial(print, flush=True)  # a pipe, too, has the links while the server runs
    labelling.run(db, host, port, settings, proxies=proxies, demo=demo, new_password=new_password, say=say)


@app.command(rich_help_panel=PEOPLE)
def backup(
    out: Annotated[Path, typer.Argument(help="New file.", metavar="FILE", show_default=False)],
    db: Database = "heedful.db",
) -> None:
    """All of the labelling database in one file, while people work."""
    from heedful.feedback import backup
    from heedful.feedback.store import Store

    terminal.show(str(out), {"events": backup.backup(Store.open(db, create=False), out)}, False)


@app.command(rich_help_panel=PEOPLE)
def restore(
    source: Annotated[Path, typer.Argument(help="File of a backup.", metavar="FILE", show_default=False)],
    db: Database = "heedful.db",
) -> None:
    """A backup into a new database."""
    from heedful.feedback import backup

    terminal.show(db, {"events": backup.restore(source, db)}, False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command of `arguments` (those of the process by default) and leave with its exit code."""
    sys.exit(terminal.run(app, sys.argv[1:] if arguments is None else arguments))


def _record_type(kind: str) -> Any:
    from heedful.data.kinds import KINDS

    if kind not in KINDS:
        raise UserError(f"--as {kind}: no such kind; known are {', '.join(KINDS)}")
    return KINDS[kind]
