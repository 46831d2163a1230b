"""The API of snapshots."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

from heedful.config import UserError
from heedful.data import export, formats
from heedful.data.kinds import KINDS as RECORD_KINDS
from heedful.feedback import snapshots
from heedful.feedback.schema import FrozenSnapshot
from heedful.web import uploads
from heedful.web.api import records
from heedful.web.security.access import AsLead, AsReader, Id, Now, Settings, Stored

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])
BYTES = "application/octet-stream"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


@router.get("/snapshots")
def list_snapshots(member: AsReader, store: Stored) -> list[records.Snapshot]:
    """All snapshots, newest first."""
    with store.reading() as db:
        return [records.Snapshot.model_validate(frozen) for frozen in snapshots.listing(db, member.project_id)]


@router.post("/snapshots", status_code=201)
def create(member: AsLead, store: Stored, settings: Settings, now: Now, body: records.NewSnapshot) -> records.Snapshot:
    """Freeze the standing judgements that pass the filters, in the project folder's `snapshots/`."""
    name = body.name.strip()
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r}: a snapshot's name is of letters, digits, '-', '_' and '.'")
    folder = settings.folder / "snapshots" / member.project / name
    frozen = snapshots.freeze(store, member.project_id, folder, body.filters, now, by=member.person.id)
    return records.Snapshot.model_validate(frozen)


@router.get("/snapshots/{snapshot_id}/{file}", response_class=FileResponse)
def snapshot_file(
    member: AsReader,
    store: Stored,
    settings: Settings,
    snapshot_id: Id,
    file: Literal["records.jsonl", "manifest.json", "pairs.jsonl"],
) -> Response:
    """Rows and manifest as they were frozen. `pairs.jsonl`: the rows for other trainers."""
    with store.reading() as db:
        frozen = db.get(FrozenSnapshot, snapshot_id)
        if frozen is None or frozen.project_id != member.project_id:
            raise HTTPException(404)
    path = Path(frozen.path) / ("records.jsonl" if file == "pairs.jsonl" else file)
    if not path.is_file():
        raise UserError(f"{path}: the snapshot is no longer where it was written")
    download = f"{member.project}-{snapshot_id}-{file}"
    if file == "pairs.jsonl":
        named = {record.__name__.lower(): kind for kind, record in RECORD_KINDS.items()}
        if frozen.records not in named:
            raise UserError(f"{path}: rows of {frozen.records} have no form for other trainers. Take records.jsonl")
        kind = named[frozen.records]
        rows = formats.read(path, RECORD_KINDS[kind])
        with uploads.place(settings.uploads) as place:  # it holds people's work, and nothing of it stays
            formats.write(place / file, list(export.to_public(rows)))
            content = (place / file).read_bytes()
        headers = {"Content-Disposition": f'attachment; filename="{download}"'}
        return Response(content, media_type=BYTES, headers=headers)
    return FileResponse(path, filename=download, media_type=BYTES)
