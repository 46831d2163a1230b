"""What the commands share: settings from options, results on standard output, the rest in one line on standard error.

Exit codes: 0; 2 for what a user can mend; 128 + n after signal n.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import click

from heedful.config import Config, NonFinite, UserError, refused
from heedful.configs.stage import Command
from heedful.runs.manifest import Manifest, manifest_path
from heedful.training.launcher import place

TRAINING_HALF = {"psutil", "pyarrow", "safetensors", "tokenizers", "torch", "transformers"}


def run(app: click.Command, arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    _calm()
    try:
        with app.make_context("heedful", arguments or ["--help"]) as context:
            app.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "heedful"
        return _fail(f"{error.format_message().rstrip('.')}; see {command} --help")
    except UserError as error:
        return _fail(str(error))
    except NonFinite as error:
        return _fail(f"{error} is not finite: the model is broken; take an earlier one, or train at a lower rate")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING_HALF:
            raise
        return _fail(f"this needs {error.name}: pip install 'heedful[train]'")
    except _database_errors() as error:
        return _fail(_of_database(error))
    except OSError as error:
        _drop(sys.stdout)
        return 128 + 13 if error.errno == errno.EPIPE else _fail(refused(error, error.filename or "standard output"))
    except KeyboardInterrupt:
        return 130
    finally:
        _drop(sys.stderr)
    return 0


def _database_errors() -> tuple[type[Exception], ...]:
    """What SQLAlchemy raises of a database itself, where a command has loaded it."""
    loaded = sys.modules.get("sqlalchemy.exc")
    return (loaded.DatabaseError,) if loaded else ()


def _of_database(error: Any) -> str:
    """A damaged database or one out of reach, in a line; any other fault is one of our statements, and ours."""
    reason = " ".join(str(error.orig).split())
    if type(error).__name__ == "DatabaseError":
        return f"the labelling database is damaged ({reason}); restore a backup into a new --db"
    if type(error).__name__ == "OperationalError":
        return f"the labelling database cannot be used ({reason}); see that it can be reached and written"
    raise error


def _calm() -> None:
    """The terminal is ours: no advice, progress bars or telemetry of the libraries."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("torch", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who called us
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  for as long as the process lives
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def make(command: Command, settings: Config, out: Path, as_json: bool, **how: bool) -> None:
    """Run the function of a command and show its results."""
    module, _, name = command.function.partition(":")
    with guard(out):
        path: Path = getattr(import_module(module), name)(settings, out, **how)
    if _is_main():
        _show_made(path, as_json)


@contextlib.contextmanager
def guard(out: Path, interrupted: str | None = None) -> Iterator[None]:
    """What may happen in the training half, as one line; `interrupted` stands in for what the stage says then."""
    import torch
    from safetensors import SafetensorError

    from heedful.runs.resumable import Interrupted

    try:
        yield
    except Interrupted as error:
        say(interrupted or str(error))
        raise click.exceptions.Exit(128 + error.signal_number) from None
    except SafetensorError as error:
        raise UserError(f"{out}: {str(error).splitlines()[0]}; mend that, then go on with --resume") from None
    except torch.OutOfMemoryError:
        raise UserError(f"{out}: the GPU's memory is full; try a smaller --set compute.micro_tokens=") from None
    except OSError as error:
        error.filename = error.filename or str(out)
        raise


def _show_made(path: Path, as_json: bool) -> None:
    manifest = Manifest.read(manifest_path(path))
    if as_json:
        known = {"id": manifest.id, "stage": manifest.stage, "status": manifest.status}
        print(json.dumps({"path": str(path), **known, "results": manifest.results}, ensure_ascii=False))
    else:
        show(str(path), manifest.results, False)


def show(title: str, results: dict[str, Any], as_json: bool) -> None:
    """Results as one JSON object, or a line each under their title."""
    if as_json:
        print(json.dumps({"path": title, "results": results}, ensure_ascii=False))
    else:
        print(title, *(f"  {line}" for line in _lines(results)), sep="\n")


def _lines(results: dict[str, Any], before: str = "") -> Iterator[str]:
    """`name value` for every number; a rate with its interval on one line."""
    for key, value in results.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, dict) and {"rate", "low", "high", "n"} <= value.keys():
            yield f"{name} {value['rate']:.1%} ({value['low']:.1%} to {value['high']:.1%}, n = {value['n']})"
        elif isinstance(value, dict):
            yield from _lines(value, f"{key}, ")
        elif isinstance(value, float):
            yield f"{name} {value:.4g}"
        elif value is not None and value != []:
            yield f"{name} {value}"


def typed() -> Iterator[str]:
    """Lines as a person types them, until Ctrl-D."""
    with contextlib.suppress(ImportError):  # Windows has none, and edits lines without it
        import readline  # noqa: F401  gives `input` a line editor and a history

    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


def check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise UserError(f"{out}: already exists. Choose another --out, or replace it with --overwrite")


def _drop(stream: TextIO) -> None:
    """What a stream does not take must not fail once more, in the interpreter's words, when the process ends."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str) -> int:
    say(message)
    return 2


def say(message: str) -> None:
    """One line on standard error, of the main rank only; nobody may be there to read it."""
    if _is_main():
        with contextlib.suppress(OSError):
            print(" ".join(message.split()), file=sys.stderr)


def _is_main() -> bool:
    try:
        return place()[0] == 0
    except UserError:  # an environment that makes no sense must not silence what is said of it
        return True
