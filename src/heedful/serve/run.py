"""`heedful serve`: from its settings to a running server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from heedful.config import UserError
from heedful.configs.serve import ServeConfig
from heedful.feedback.store import Store
from heedful.runs import placed
from heedful.serve.app import ROUTERS, create_app
from heedful.serve.settings import POLICY, ServeSettings
from heedful.serve.types import Backend, Collector
from heedful.serve.upstream import UpstreamBackend
from heedful.web.app import check_root
from heedful.web.first_account import first_account
from heedful.web.serve import NO_PROXIES, address_of, behind_proxy, serve
from heedful.web.settings import checked_address

OF_AN_ADDRESS = 4096  # connections: programs open many


def run(config: ServeConfig, collector: Callable[[Store], Collector], say: Callable[[str], Any]) -> None:
    """Serve until a signal comes. `say` gets the address, and the link for the first account."""
    models, lines = backends(config)
    settings = settings_of(config)
    config.folder.mkdir(parents=True, exist_ok=True)

    def app(port: int) -> FastAPI:
        store = Store.open(config.db or config.folder / "heedful.db")  # not before the port is ours
        address = config.url or address_of(config.host, port)
        own = settings.model_copy(update={"base_url": address.rstrip("/")})
        served = create_app(store, models, own, collector(store))
        if config.url is not None and config.proxies is None and behind_proxy(own.base_url, port):
            say(NO_PROXIES)
        for line in lines + welcome(store, own.base_url, list(models), datetime.now(UTC)):
            say(line)
        return served

    serve(
        app, config.host, config.port, proxies=config.proxies, grace=config.limits.grace, of_an_address=OF_AN_ADDRESS,
        turns=False,  # models answer many requests together, and keys have limits of their own
    )  # fmt: skip


def backends(config: ServeConfig) -> tuple[dict[str, Backend], list[str]]:
    """The models by their names, and lines about those that serving.json has put in place. Raises UserError."""
    both = config.model.keys() & config.upstream.keys()
    if both:
        raise UserError(f"{min(both)}: --model and --upstream both have this name. Choose another")
    if not config.model and not config.upstream:
        raise UserError("there is nothing to serve. Give --model NAME=RUN or --upstream NAME=URL#MODEL")
    lines: list[str] = []
    found: dict[str, Backend] = {name: UpstreamBackend(ref) for name, ref in config.upstream.items()}
    if config.model:
        from heedful.serve.loading import Loading
        from heedful.serve.local import LocalBackend  # only a model of this process needs torch

        load, put = Loading(config), placed.read(config.folder)
        for name, ref in config.model.items():
            path = put.get(name, ref)
            if path != ref:
                lines.append(f"{name} is {path}, which {config.folder / placed.NAME} has put in place of {ref}.")
            found[name] = LocalBackend(path, load, config.limits, config.threads)
    return dict(sorted(found.items())), lines


def settings_of(config: ServeConfig) -> ServeSettings:
    """Settings of the application. Raises UserError."""
    policy = text_of(config.policy, "--policy") if config.policy is not None else POLICY
    address = config.url
    if address is not None:
        try:
            address = checked_address(address)
            check_root(ServeSettings(base_url=address), ROUTERS)
        except UserError as error:
            raise UserError(f"--url {error}") from None
    given = {"folder": config.folder, "policy": policy, "limits": config.limits, "body_mb": config.limits.body_mb}
    return ServeSettings.model_validate(given | ({"base_url": address} if address else {}))


def text_of(path: Path, option: str) -> str:
    """The text of a file that an option names. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {path}: cannot be read ({error})") from None
    if not text:
        raise UserError(f"{option} {path}: is empty")
    return text


def welcome(store: Store, address: str, models: list[str], now: datetime) -> list[str]:
    """The lines shown at the start: the addresses, and the link that the first person needs."""
    lines = [
        f"heedful is at {address}. Press Ctrl-C to stop it.",
        f"Programs use {address}/v1 and a key, which you make at {address}/keys. Models: {', '.join(models)}",
    ]
    with store.writing() as db:
        return lines + first_account(db, address, now)
