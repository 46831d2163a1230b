"""The fixtures of the browser tests. They are in a module of their own, because other folders use some of them."""

from __future__ import annotations

from web.browser.fixtures import browser, context, lead_session, place, server

__all__ = ["browser", "context", "lead_session", "place", "server"]
