"""A file of rows that grows chunk by chunk. Resumed at any moment it gets the bytes of an uninterrupted run.

.NAME.partial         the rows of the chunks so far, as JSON Lines whatever NAME is
.NAME.partial.json    the manifest of the unfinished file
NAME                  the finished file, put in place as a whole
NAME.manifest.json    its manifest (`runs.manifest`)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from heedful.config import UserError
from heedful.data import formats
from heedful.files import Row
from heedful.runs.manifest import Manifest, manifest_path
from heedful.runs.resumable import Resumable


class RowsWriter(Resumable):
    """One file of rows in the making."""

    remedy = "start over with --overwrite"

    def __init__(self, out: Path) -> None:
        self._partial = out.with_name(f".{out.name}.partial")
        super().__init__(out, out.with_name(f".{out.name}.partial.json"), out.with_name(f".{out.name}.lock"))
        self._stream: IO[bytes] | None = None
        self._complete = False

    @classmethod
    def start(cls, out: Path, wanted: Manifest, *, resume: bool, overwrite: bool) -> RowsWriter:
        """Claim `out`, or raise UserError with the remedy. An earlier file stays until the new one is finished."""
        if not out.name.endswith(formats.ENDINGS):
            raise UserError(f"{out}: cannot write this kind of file. Name it {', '.join(formats.ENDINGS)}")
        if out.is_dir():
            raise UserError(f"{out}: is a folder. Choose another --out")
        if resume and overwrite:
            raise UserError("--resume goes on and --overwrite starts over. Give one of them")
        file = cls(out)
        # --overwrite reads nothing of what is there, which may be damaged
        file._claim(wanted, (lambda: None) if overwrite else partial(file._found, wanted, resume), resume)
        return file

    def _found(self, wanted: Manifest, resume: bool) -> Manifest | None:
        """The manifest of the unfinished file, or of the finished one if `wanted` would make it."""
        self._complete = False
        if self._manifest_file.exists():
            return Manifest.read(self._manifest_file)
        if not self.path.exists():
            return None
        made_with = ""
        if resume:
            made = Manifest.read(manifest_path(self.path)) if manifest_path(self.path).exists() else None
            refused = made.changes(wanted).refused if made is not None else "something unknown"
            if not refused:
                self._complete = True
                return made
            made_with = f", made with {refused}"
        raise UserError(f"{self.path}: already exists{made_with}. Choose another --out, or replace it with --overwrite")

    @property
    def finished(self) -> bool:
        return self._complete

    def restore(self, total: int, chunk: int) -> tuple[int, str | None]:
        """Drop what a crash left of an unfinished chunk.

        Returns the number of rows that stay, and the settings that a resumption changes, in words.
        """
        assert self._stream is not None
        ends = [0]  # where each whole line ends, in bytes
        for line in self._partial.read_bytes().splitlines(keepends=True):
            if not _whole(line):
                break
            ends.append(ends[-1] + len(line))
        rows = min(len(ends) - 1, total)
        kept = rows if rows == total else rows // chunk * chunk
        self._stream.truncate(ends[kept])
        self._stream.seek(ends[kept])
        told = self.go_on(kept)
        self.set_status("running")
        return kept, told

    def append(self, rows: list[Row]) -> None:
        """Write the rows of one chunk."""
        assert self._stream is not None
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        left = memoryview("".join(lines).encode("utf-8"))
        while left:
            left = left[self._stream.write(left) :]

    def finish(self, summarise: Callable[[list[Row]], dict[str, Any]]) -> None:
        """Put the finished file and its manifest in place. `summarise(rows)` gives the results."""
        rows = [json.loads(line) for line in self._partial.read_bytes().splitlines()]
        formats.write(self.path, rows)
        results = {"rows": len(rows), **summarise(rows)}
        self._record("finished", sha256=formats.sha256(self.path), results=results)
        self.manifest.write(manifest_path(self.path))
        self._delete()
        self._complete = True

    def close(self) -> None:
        self._close_stream()
        super().close()

    def _prepare(self) -> None:
        if self._complete:
            return
        self._partial.touch()
        self._stream = self._partial.open("r+b", buffering=0)
        if self.fresh:
            self._stream.truncate(0)

    def _begun(self) -> bool:
        return self._partial.exists() and self._partial.stat().st_size > 0

    def _delete(self) -> None:
        self._close_stream()  # Windows deletes no open file
        self._partial.unlink(missing_ok=True)
        self._manifest_file.unlink(missing_ok=True)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
