"""Files of rows made chunk by chunk: stopped at any moment, --resume gives the bytes of an uninterrupted run.

.NAME.partial         the rows of the chunks so far, as JSON Lines whatever NAME is
.NAME.partial.json    what they are made from: only the same may go on
NAME                  the finished file, put in place at once
NAME.manifest.json    id, parents, data hashes, config, versions, results
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from heedful.config import Config, UserError
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Record
from heedful.files import Lock, write_json
from heedful.runs.manifest import changed, new_manifest, parent, read_manifest
from heedful.training.metrics import Reporter
from heedful.training.parallel import Ranks, join_ranks
from heedful.training.session import Interrupted

Row = dict[str, Any]
ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


def manifest_path(out: str | Path) -> Path:
    """Where the manifest of a row file lies."""
    return Path(out).with_name(f"{Path(out).name}.manifest.json")


class Job:
    """One row file in the making. The main rank writes; all ranks work."""

    def __init__(self, stage: str, out: Path, ranks: Ranks) -> None:
        self.stage, self.out, self.ranks = stage, out, ranks
        self.finished = False
        """True where `--resume` met a file that is complete already."""
        self.done = self.total = 0
        self._partial = out.with_name(f".{out.name}.partial")
        self._identity = out.with_name(f".{out.name}.partial.json")
        self._manifest: dict[str, Any] = {}
        self._file: IO[bytes] | None = None
        self._lock: Lock | None = None
        self._fresh = False
        self._made: list[Path] = []

    def run(
        self,
        records: Sequence[Record],
        chunk: int,
        work: Callable[[range], list[Row]],
        summarise: Callable[[list[Row]], dict[str, Any]],
    ) -> None:
        """Make a row of each record, with its fields: `work(range)` gives the rows of these indices, the same on every
        rank. `summarise(rows)` gives the results for the manifest.
        """
        if self._file is not None:
            formats.check_fits(self.out, records)
        self.total = total = len(records)
        self.done = self.ranks.broadcast(self._restore(chunk) if self._file is not None else 0)
        reporter = Reporter(self.stage, total, visible=self.ranks.main)
        try:
            while self.done < total:
                reporter.step(self.done, {})
                rows = work(range(self.done, min(self.done + chunk, total)))
                self._append(rows)
                self.done += len(rows)
            reporter.step(total, {})
        finally:
            reporter.close()
        if self._file is not None:
            self._finish(summarise)
        self.ranks.wait()

    def say(self, message: str) -> None:
        Reporter(self.stage, 0, visible=self.ranks.main).say(message)

    def claim(self, manifest: dict[str, Any], resume: bool, overwrite: bool) -> None:
        """Take the place, or raise UserError with the remedy. Nothing of an earlier file is touched."""
        if not self.out.name.endswith(ENDINGS):
            raise UserError(f"{self.out}: cannot write this kind of file; name it {', '.join(ENDINGS)}")
        if self.out.is_dir():
            raise UserError(f"{self.out}: is a folder; choose another --out")
        if resume and overwrite:
            raise UserError("--resume goes on and --overwrite starts anew; give one of them")
        # who starts anew needs nothing of what is there, which may be damaged
        begun = read_manifest(self._identity) if self._identity.exists() and not overwrite else None
        if begun is not None:
            difference = _difference(begun, manifest)
            if difference is not None:
                raise UserError(
                    f"{self.out}: begun with {difference}; undo that and --resume, or start anew with --overwrite"
                )
            if not resume:
                raise UserError(
                    f"{self.out}: begun but not finished; go on with --resume or start anew with --overwrite"
                )
            self._manifest = begun
        elif self.out.exists() and not overwrite:
            why = "already exists"
            if resume:
                known = manifest_path(self.out).exists()
                made = read_manifest(manifest_path(self.out)) if known else None
                difference = _difference(made, manifest) if made is not None else "nothing that is known"
                if difference is None:
                    self.finished = True
                    return
                why = f"already exists, made with {difference}"
            raise UserError(f"{self.out}: {why}; choose another --out or replace it with --overwrite")
        else:
            self._manifest = manifest
        self._fresh = begun is None
        self._open()

    def close(self) -> None:
        """Let go of the partial file; a new one without a whole chunk is removed, and the folders made for it."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._lock is not None:
            self._lock.release()
        if self._fresh and self.done == 0:
            self._partial.unlink(missing_ok=True)
            self._identity.unlink(missing_ok=True)
            for folder in self._made:
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _open(self) -> None:
        self._made = [folder for folder in self.out.parents if not folder.exists()]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        busy = f"{self.out}: another process is writing it; wait for it or choose another --out"
        self._lock = Lock(self.out.with_name(f".{self.out.name}.lock"), busy)
        self._partial.touch()
        self._file = self._partial.open("r+b", buffering=0)
        if self._fresh:
            self._file.truncate(0)
            write_json(self._identity, self._manifest)

    def _restore(self, chunk: int) -> int:
        """Drop what a crash left of an unfinished chunk; returns the rows that stay."""
        assert self._file is not None
        ends = [0]
        for line in self._partial.read_bytes().splitlines(keepends=True):
            if not _whole(line):
                break
            ends.append(ends[-1] + len(line))
        rows = min(len(ends) - 1, self.total)
        kept = rows if rows == self.total else rows // chunk * chunk
        self._file.truncate(ends[kept])
        self._file.seek(ends[kept])
        return kept

    def _append(self, rows: list[Row]) -> None:
        if self._file is not None:
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
            left = memoryview("".join(lines).encode("utf-8"))
            while left:
                left = left[self._file.write(left) :]

    def _finish(self, summarise: Callable[[list[Row]], dict[str, Any]]) -> None:
        rows = [json.loads(line) for line in self._partial.read_bytes().splitlines()]
        formats.write(self.out, rows)
        results = {"rows": len(rows), **summarise(rows)}
        self._manifest.update(status="finished", sha256=formats.sha256(self.out), results=results)
        write_json(manifest_path(self.out), self._manifest)
        self._partial.unlink()
        self._identity.unlink()


@contextlib.contextmanager
def job(
    stage: str,
    config: Config,
    out: str | Path,
    *,
    models: Mapping[str, str],
    data: Mapping[str, str],
    compute: Compute,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Job]:
    """Claim `out` for rows made from these models and data files (by role). Raises UserError where it is taken."""
    with join_ranks(compute) as ranks:
        current = Job(stage, Path(out), ranks)
        try:
            if ranks.main:
                resolved = json.loads(config.model_dump_json())
                parents = {role: parent(ref) for role, ref in models.items()}
                hashes = {role: formats.fingerprint(path) for role, path in data.items()}
                current.claim(new_manifest(stage, resolved, parents, hashes), resume, overwrite)
            current.finished = ranks.broadcast(current.finished)
            yield current
        except KeyboardInterrupt:
            if current.done == 0:
                raise
            progress = f"{current.done} of {current.total} rows"
            raise Interrupted(f"{out}: interrupted after {progress}; go on with --resume", signal.SIGINT) from None
        finally:
            current.close()


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    if old["stage"] != new["stage"]:
        return f"heedful {old['stage']}"
    return changed(old, new["config"], new["parents"], new["data"])


def _whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
