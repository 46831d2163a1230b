"""Find the function of a spec: `module:function`, or `folder/file.py:function`. Run code of users with care."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import torch

from heedful.config import NonFinite, UserError

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
FUNCTION = re.compile(rf"({_NAME}|.+\.py):({_NAME})")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
FORMS = "Write module:function or folder/file.py:function"


def is_function(spec: str) -> bool:
    """Whether a spec without weight names a function. A path that exists is a model.

    Raises UserError for a spec with a colon that is neither of both.
    """
    if Path(spec).exists():
        return False
    if FUNCTION.fullmatch(spec):
        return True
    if ":" in _DRIVE.sub("", spec, count=1) and "://" not in spec:
        raise UserError(f"{spec}: neither a model nor a function. {FORMS}")
    return False


def file_of(spec: str) -> Path | None:
    """The file of the function of a spec. None if it has none, or if it cannot be found."""
    module, _ = _parts(spec)
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    _find_in(Path.cwd())
    with Foreign(spec, "module"):  # finding a.b imports a
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError, SyntaxError):
            return None  # opening it says why
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def open_function(spec: str) -> Callable[..., Any]:
    """The function of a spec. Modules in the current directory are found, too."""
    module_name, name = _parts(spec)
    with Foreign(spec, "module"):
        try:
            module = _from_file(spec, Path(module_name)) if module_name.endswith(".py") else _imported(module_name)
        except ImportError as error:
            raise UserError(f"{spec}: {_why_not(module_name, error)}") from None
        except SyntaxError as error:
            raise UserError(f"{spec}: {error.filename}, line {error.lineno}: {error.msg}. Fix the module") from None
    found: Any = module
    for part in name.split("."):
        if inspect.isclass(found) and inspect.isfunction(inspect.getattr_static(found, part, None)):
            with Foreign(spec, "class"):
                found = found()
        found = getattr(found, part, None)
    if found is None:
        raise UserError(f"{spec}: {module_name} has no function {name}.{_instead(module, module_name, name)}")
    if not callable(found):
        raise UserError(
            f"{spec}: {name} is of the type {type(found).__name__}, which cannot be called. Name a function"
        )
    opened: Callable[..., Any] = found
    return opened


def _parts(spec: str) -> tuple[str, str]:
    module, _, name = spec.rpartition(":")
    return module, name


def _find_in(folder: Path) -> None:
    if str(folder) not in sys.path and not ("" in sys.path and folder == Path.cwd()):
        sys.path.insert(0, str(folder))


def _imported(name: str) -> ModuleType:
    _find_in(Path.cwd())
    return importlib.import_module(name)


def _from_file(spec: str, file: Path) -> ModuleType:
    """The module in a file. It finds the modules next to it, as a script does."""
    if not file.is_file():
        raise UserError(f"{spec}: the file {file} does not exist. Check the path")
    file = file.resolve()
    _find_in(file.parent)
    name = file.stem
    there = sys.modules.get(name)
    if there is not None:
        if Path(getattr(there, "__file__", None) or "").resolve() == file:
            return there
        name = str(file)  # another module has this name
        if name in sys.modules:
            return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _why_not(module: str, error: ImportError) -> str:
    """Why a module cannot be imported, with the remedy."""
    lacking = error.name if isinstance(error, ModuleNotFoundError) else None
    if lacking is not None and lacking != module and not module.startswith(f"{lacking}."):
        return f"{module} imports {lacking}, which is not there. Install it, or put it next to {module}"
    return f"cannot import {module} ({error}). Is it in this directory or installed?"


def _instead(module: ModuleType, module_name: str, name: str) -> str:
    """What to do about a name that a module lacks."""
    file = Path(f"{module_name.replace('.', '/')}.py")
    if file.is_file() and Path(getattr(module, "__file__", None) or "").resolve() != file.resolve():
        return f" Another module has the name of the file here. Write {file.as_posix()}:{name}"
    own = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
    near = difflib.get_close_matches(name, own, 1)
    return f" Did you mean {near[0]}?" if near else " Check the name"


_LIBRARIES = (asyncio.__file__, concurrent.futures.__file__)
_NOT_THEIRS = (__file__, "<frozen", importlib.__file__, *(str(Path(file).parent) for file in _LIBRARIES))


class Foreign:
    """A context for the user's code: any exception becomes a UserError that names the code and its line.

    A reward function may call servers and libraries, so it may raise anything. The exception stays as the cause. What
    the code prints goes to the error output, away from results. The current directory, torch's switch for gradients and
    its default dtype are as before afterwards.
    """

    def __init__(self, spec: str, what: str, not_theirs: tuple[str, ...] = ()) -> None:
        self.spec, self.what, self.not_theirs = spec, what, (*_NOT_THEIRS, *not_theirs)

    def __enter__(self) -> None:
        self.before = os.getcwd(), torch.is_grad_enabled(), torch.get_default_dtype()
        self.printed = contextlib.redirect_stdout(sys.stderr)
        self.printed.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.printed.__exit__(None, None, None)
        folder, gradients, dtype = self.before
        if os.getcwd() != folder:
            os.chdir(folder)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if not isinstance(error, Exception | SystemExit) or isinstance(error, UserError | NonFinite):
            return
        raised = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
        raise UserError(f"{self.spec}: raised {raised}{self._line_of(trace)}. Fix the {self.what}") from error

    def _line_of(self, trace: TracebackType | None) -> str:
        """The last line of the user's own file before an exception, or "" if none of that is Python."""
        frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(self.not_theirs)]
        own = [frame for frame in frames if frame.filename == frames[0].filename]
        return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
