"""What all commands share: results on standard output, errors and remarks in one line on standard error.

Exit codes: 0 for success, 2 for an error that the user can fix, 128 + n after signal n.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from heedful.configs.stage import CommandRecord
from heedful.errors import OWN_LOG, NonFinite, UserError, install, refused
from heedful.training.launcher import place

if TYPE_CHECKING:
    from heedful.config import Config

FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk
TRAINING_HALF = {"psutil", "pyarrow", "rich", "safetensors", "tokenizers", "torch", "transformers"}


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
        return _fail(f"{error.format_message().rstrip('.')}. See {command} --help")
    except UserError as error:
        return _fail(str(error))
    except NonFinite as error:
        return _fail(f"{error} is not finite, the model is broken. Use an earlier one, or a lower learning rate")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING_HALF:
            raise
        return _fail(f"this needs {error.name}: {install('train')}")
    except _errors_of("sqlalchemy.exc", "DatabaseError") as error:
        return _fail(_of_database(error))
    except OSError as error:
        _drop(sys.stdout)
        if error.errno == errno.EPIPE:
            return 128 + 13
        more = " or go on with --resume" if error.errno in FULL and _resumes(app, arguments) else ""
        return _fail(refused(error, error.filename or "standard output") + more)
    except KeyboardInterrupt:
        return 130
    finally:
        _drop(sys.stderr)
    return 0


def _resumes(app: click.Command, arguments: list[str]) -> bool:
    """Whether the command that runs can continue with --resume."""
    command = app.commands.get(arguments[0]) if isinstance(app, click.Group) and arguments else None
    return command is not None and any("--resume" in param.opts for param in command.params)


def _errors_of(module: str, name: str) -> tuple[type[Exception], ...]:
    """An error of a library. Empty if the command has not imported it."""
    loaded = sys.modules.get(module)
    return (getattr(loaded, name),) if loaded else ()


def _of_database(error: Any) -> str:
    """One line about a database that is damaged or cannot be reached. Any other error is a bug: raise it again."""
    reason = " ".join(str(error.orig).split())
    if type(error).__name__ == "DatabaseError":
        return f"the labelling database is damaged ({reason}). Restore a backup into a new --db"
    if type(error).__name__ == "OperationalError":
        return f"the labelling database cannot be used ({reason}). Check that you can reach and write it"
    raise error


def _calm() -> None:
    """Silence the advice, progress bars, warnings and telemetry of libraries. Replace closed standard streams."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("torch", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  for as long as the process lives
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def make(command: CommandRecord, settings: Config, out: Path, as_json: bool, **how: bool) -> None:
    """Run a command and show its results."""
    with guard(out):
        path = command.run(settings, out, **how)
    if _is_main():
        _show_made(path, as_json)


@contextlib.contextmanager
def guard(out: Path, interrupted: str | None = None) -> Iterator[None]:
    """Turn errors of torch and safetensors into one line. `interrupted` replaces what the stage says then."""
    from heedful.runs.resumable import Interrupted

    try:
        yield
    except Interrupted as error:
        say(interrupted or str(error))
        raise click.exceptions.Exit(128 + error.signal_number) from None
    except _errors_of("safetensors", "SafetensorError") as error:
        raise UserError(f"{out}: {str(error).splitlines()[0]}. Fix that, then go on with --resume") from None
    except _errors_of("torch", "OutOfMemoryError"):
        raise UserError(f"{out}: the GPU's memory is full. Try a smaller --compute.micro-tokens") from None
    except OSError as error:
        error.filename = error.filename or str(out)
        raise


def _show_made(path: Path, as_json: bool) -> None:
    from heedful.runs.manifest import Manifest, manifest_path

    manifest = Manifest.read(manifest_path(path))
    if as_json:
        known = {"id": manifest.id, "stage": manifest.stage, "status": manifest.status}
        print(json.dumps({"path": str(path), **known, "results": manifest.results}, ensure_ascii=False))
    else:
        show(str(path), manifest.results, False)


def show(title: str, results: dict[str, Any], as_json: bool) -> None:
    """Print results as one JSON object, or as lines under a title."""
    if as_json:
        print(json.dumps({"path": title, "results": results}, ensure_ascii=False))
    else:
        print(title, *(f"  {line}" for line in _lines(results)), sep="\n")


def _lines(results: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield a line `name value` for each result. A rate and its interval share a line."""
    from heedful.maths.statistics import ends  # brings numpy, which most commands do not need

    for key, value in results.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, dict) and {"rate", "low", "high", "n"} <= value.keys():
            yield f"{name} {value['rate']:.1%} ({ends(value)}, n = {value['n']})"
        elif isinstance(value, dict):
            yield from _lines(value, f"{key}, ")
        elif isinstance(value, float):
            yield f"{name} {value:.4g}"
        elif isinstance(value, str) and value.startswith(name):
            yield value  # it says what it is
        elif value is not None and value != []:
            yield f"{name} {value}"


def typed() -> Iterator[str]:
    """Yield the lines that a person types, until Ctrl-D."""
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
    """Flush a stream. If nobody reads it, redirect it, so that the interpreter does not fail at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str) -> int:
    """Say what went wrong: the main rank in the terminal, the others where a log belongs to them alone."""
    _say(message, always=bool(os.environ.get(OWN_LOG)))
    return 2


def say(message: str) -> None:
    """Print one line on standard error, from the main rank only. A closed stream is no error."""
    _say(message, always=False)


def _say(message: str, *, always: bool) -> None:
    if always or _is_main():
        with contextlib.suppress(OSError):
            print(" ".join(message.split()), file=sys.stderr)


def _is_main() -> bool:
    try:
        return place()[0] == 0
    except UserError:  # an invalid environment must not silence the error about it
        return True
