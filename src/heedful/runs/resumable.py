"""The life of work that may be interrupted at any moment: claim, lock, status, end.

Only the same work may resume: config, data and parents are compared with the manifest. Settings that change no result
may change, and a run may get longer. One process at a time writes.
Work that is stopped before its first step leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.files import Lock
from heedful.runs.manifest import Changes, Manifest, Status


class Interrupted(Exception):
    """A signal stopped the work after a step. It can go on with --resume."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        return type(self), (str(self), self.signal_number)


class Resumable:
    """Work that writes to one place. Subclasses say what lies there."""

    manifest: Manifest
    _wanted: Manifest
    remedy = "choose another --out"
    """What to do if the place is taken and its work must not go on."""

    def __init__(self, path: Path, manifest_file: Path, lock_file: Path) -> None:
        self.path = path
        self.fresh = False
        """Whether this process began the work."""
        self._manifest_file, self._lock_file = manifest_file, lock_file
        self._lock: Lock | None = None
        self._counted = time.monotonic()
        self._made: list[Path] = []
        self._changes = Changes()

    @property
    def finished(self) -> bool:
        """Whether all is done."""
        raise NotImplementedError

    def _begun(self) -> bool:
        """Whether there is work that an interruption must not lose."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Open and clean up the place, once it is locked."""
        raise NotImplementedError

    def _delete(self) -> None:
        """Delete all that the work has written."""
        raise NotImplementedError

    def _claim(self, wanted: Manifest, find: Callable[[], Manifest | None], resume: bool) -> None:
        """Lock the place for `wanted`, or go on with the work that `find` finds there.

        Raises UserError if the place is taken. A place that is taken without a lock stays as it is. What another
        process wrote before the lock was ours counts.
        """
        self._check(wanted, find(), resume)
        folder = self._lock_file.parent
        self._made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(
            self._lock_file, f"{self.path}: another process is writing here. Wait for it, or choose another --out"
        )
        try:
            found = find()
            self._changes = self._check(wanted, found, resume)
        except UserError:
            self.close()
            raise
        self.fresh, self.manifest, self._wanted = found is None, found or wanted, wanted
        self._prepare()
        if not self.finished:
            self.set_status("running")

    def _check(self, wanted: Manifest, found: Manifest | None, resume: bool) -> Changes:
        """What `wanted` changes of the work that was `found`. Raises UserError if that work must not go on."""
        if found is None:
            return Changes()
        if not resume:
            raise UserError(
                f"{self.path}: heedful {found.stage} has begun here already. Continue with --resume, or {self.remedy}"
            )
        changes = found.changes(wanted)
        if changes.refused:
            raise UserError(
                f"{self.path}: was begun with {changes.refused}. Undo that change and use --resume, or {self.remedy}"
            )
        return changes

    def go_on(self, step: int) -> str | None:
        """Take over the settings that the resumption changes, from `step` on. Returns what they are, in words."""
        taken, self._changes = self._changes.taken, Changes()
        self.manifest.go_on(self._wanted, taken, step)
        changed = ", ".join(f"{key} {old!r} is now {new!r}" for key, (old, new) in taken.items())
        return f"goes on from {step} with other settings: {changed}" if changed else None

    def set_status(self, status: Status, **facts: Any) -> None:
        """Write the status, `facts` and the seconds worked to the manifest."""
        self._record(status, **facts)
        self.manifest.write(self._manifest_file)

    def _record(self, status: Status, **facts: Any) -> None:
        now = time.monotonic()
        worked, self._counted = now - self._counted, now
        self.manifest.record(status, seconds=round(self.manifest.seconds + worked, 3), **facts)

    def discard_if_empty(self) -> bool:
        """Delete work that this process began and in which no step was done, so that the command can be repeated."""
        if not self.fresh or self._begun():
            return False
        self._delete()
        self.close()
        for folder in self._made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        return True

    def close(self) -> None:
        """Unlock the place."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@contextlib.contextmanager
def recording_end(work: Resumable | None) -> Iterator[None]:
    """Write to the manifest how the work in this block ended, and unlock its place. None on ranks that do not write."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        _stop(work, "interrupted")
        raise
    except UserError as error:
        _stop(work, "failed", reason=str(error).removeprefix(f"{work.path}: " if work else ""))
        raise
    except BaseException as error:
        said = " ".join(str(error).split())
        _stop(work, "failed", reason=f"{type(error).__name__}: {said}" if said else type(error).__name__)
        raise
    finally:
        if work is not None:
            work.close()


def _stop(work: Resumable | None, status: Status, **facts: Any) -> None:
    if work is not None and not work.discard_if_empty() and not work.finished:
        with contextlib.suppress(OSError):  # as on a full disk: the error that stopped the work matters more
            work.set_status(status, **facts)
