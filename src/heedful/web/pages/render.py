"""The one Jinja environment, and static files under names that change with their content."""

from __future__ import annotations

import hashlib
import mimetypes
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from heedful.data.records import Message
from heedful.plots.svg import STYLE
from heedful.web.security.access import root_of
from heedful.web.text import markdown, sanitise, vocabulary

FOLDERS = [Path(__file__).resolve().parent.parent]
"""Folders with `templates` and `static`. `include` adds those of packages above this one."""
FOREVER = "public, max-age=31536000, immutable"

for _type, _ending in (("text/javascript", ".js"), ("text/css", ".css"), ("image/svg+xml", ".svg")):
    mimetypes.add_type(_type, _ending)  # the registry of Windows may say otherwise

environment = Environment(
    loader=FileSystemLoader(FOLDERS[0] / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page from `templates/`. Every template sees `request`, `me` (the signed-in Person, or None) and `root`."""
    shared = {"request": request, "me": getattr(request.state, "person", None), "root": root_of(request)}
    return HTMLResponse(environment.get_template(template).render(shared | context), status)


def include(folder: Path) -> None:
    """Add the templates and static files of another folder. Its pages see those of the app, too."""
    if folder not in FOLDERS:
        FOLDERS.append(folder)
        environment.loader = FileSystemLoader([each / "templates" for each in FOLDERS])
        _files.cache_clear()
        version.cache_clear()


@cache
def _files() -> dict[str, bytes]:
    roots = [folder / "static" for folder in FOLDERS]
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    return found | {"css/charts.css": STYLE.encode()}


@cache
def version() -> str:
    """One hash over all static files, so that a stylesheet may name a font by a relative address."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@pass_context
def static(context: Context, name: str) -> str:
    """The address of a static file, for templates."""
    assert name in _files(), name
    return f"{context['root']}/static/{version()}/{name}"


def serve_static(digest: str, name: str) -> Response:
    """GET /static/{digest}/{name}. An old digest gets the present file, uncached."""
    content = _files().get(name)
    if content is None:
        raise HTTPException(404)
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    keep = FOREVER if digest == version() else "no-store"
    return Response(content, media_type=media_type, headers={"Cache-Control": keep})


def words(turn: Message | dict[str, Any]) -> str:
    """What people read of a turn of a chat: its text and its tool calls."""
    return (turn if isinstance(turn, Message) else Message.model_validate(turn)).shown


def day(when: datetime, rest: str = "%B %Y") -> str:
    """A date as "3 May 2026". `rest` formats what follows the day, since not every system knows "%-d"."""
    return f"{when.day} {when.strftime(rest)}"


FORMS = {"minute": "%b %Y, %H:%M UTC", "day": "%b %Y", "long": "%B %Y", "long-minute": "%B %Y, %H:%M UTC"}


def local(when: datetime, form: str = "minute") -> Markup:
    """A time as an element that `static/js/times.js` shows in the zone of the browser."""
    text = f"{when:%H:%M} UTC" if form == "clock" else day(when, FORMS[form])
    return Markup('<time datetime="{}" data-as="{}">{}</time>').format(when.isoformat(), form, text)


def spent(seconds: float) -> str:
    """A time in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


environment.globals |= {
    "static": static,
    "spent": spent,
    "local": local,
    "vocabulary": vocabulary,
    "most_shown": sanitise.MOST_SHOWN,
}
environment.filters["day"] = day
environment.filters["words"] = words
environment.filters["sanitise"] = sanitise.as_html
environment.filters["markdown"] = markdown.as_html
environment.filters["rich"] = markdown.rich
environment.tests["cut"] = sanitise.is_cut
