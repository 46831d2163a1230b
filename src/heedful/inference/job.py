"""Work that makes a row of each record of a file, chunk by chunk, on all ranks."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.config import Config
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Record
from heedful.fast import api as fast
from heedful.files import Row
from heedful.models import ids
from heedful.rollout.types import Engine
from heedful.runs.manifest import Manifest, Source, parent
from heedful.runs.progress import Reporter
from heedful.runs.resumable import Interrupted, recording_end
from heedful.runs.rows import RowsWriter
from heedful.training.parallel import Ranks, join_ranks


class RowsJob:
    """One file of rows in the making. All ranks work, and the main rank alone has a `file` to write."""

    def __init__(self, stage: str, ranks: Ranks, file: RowsWriter | None) -> None:
        self.stage, self.ranks, self.file = stage, ranks, file
        self.finished = ranks.broadcast(file.finished if file is not None else False)
        """True if `--resume` met a file that is complete already."""
        self.done = self.total = 0

    def run(
        self,
        records: Sequence[Record],
        chunk: int,
        work: Callable[[range], list[Row]],
        summarise: Callable[[list[Row]], dict[str, Any]],
    ) -> None:
        """Make a row of each record, with its fields.

        `work(range)` gives the rows of these indices, the same on every rank. `summarise(rows)` gives the results.
        """
        if self.file is not None:
            formats.check_fits(self.file.path, records)
        self.total = total = len(records)
        self.done, told = self.ranks.broadcast(self.file.restore(total, chunk) if self.file is not None else (0, None))
        reporter = Reporter(self.stage, total, visible=self.ranks.main)
        try:
            if told is not None:
                reporter.say(f"{self.stage}: {told}")
            while self.done < total:
                reporter.step(self.done, {})
                rows = work(range(self.done, min(self.done + chunk, total)))
                if self.file is not None:
                    self.file.append(rows)
                self.done += len(rows)
            reporter.step(total, {})
        finally:
            reporter.close()
        if self.file is not None:
            self.file.finish(summarise)
        self.ranks.wait()

    def note(self, models: Mapping[str, Any], engine: Engine | None = None) -> None:
        """Record for the manifest how the forward of each model runs, and what `engine` samples with."""
        if self.file is not None:
            manifest = self.file.manifest
            manifest.forward |= {name: str(fast.path(model)) for name, model in models.items()}
            manifest.ids |= ids.described(models)
            manifest.decoder |= {"model": engine.decoder} if engine is not None else {}

    def count(self, rows: dict[str, dict[str, int]]) -> None:
        """Record for the manifest which rows were left out or changed."""
        if self.file is not None:
            self.file.manifest.rows |= rows


@contextlib.contextmanager
def open_job(
    stage: str,
    config: Config,
    out: str | Path,
    *,
    models: Mapping[str, str],
    data: Mapping[str, str],
    compute: Compute,
    functions: dict[str, Source] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[RowsJob]:
    """Claim `out` for rows made from these models and data files, by role. Raises UserError if it is taken."""
    ranks = join_ranks(compute)
    file = None
    if ranks.main:
        parents = {role: parent(ref) for role, ref in models.items()}
        hashes = {role: formats.fingerprint(path) for role, path in data.items()}
        wanted = Manifest.begin(stage, config, parents, hashes, functions)
        file = RowsWriter.start(Path(out), wanted, resume=resume, overwrite=overwrite)
    with recording_end(file):
        job = RowsJob(stage, ranks, file)
        try:
            yield job
        except KeyboardInterrupt:
            if job.done == 0:
                raise
            progress = f"interrupted after {job.done} of {job.total} rows"
            raise Interrupted(f"{out}: {progress}. Continue with --resume", signal.SIGINT) from None
