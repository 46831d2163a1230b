"""Settings of a server of models: those of the web app, and limits."""

from __future__ import annotations

from heedful.configs.serve import ServeLimits
from heedful.web.settings import WebSettings

POLICY = """\
Use this server only for lawful purposes. Do not use it to harm, harass or deceive people, to make content that
sexualises children, to break into systems, or to decide about people's rights without a person who checks. Do not send
personal data of others.

The answers come from a language model and may be wrong. The people who run this server may suspend a key that breaks
these rules."""


class ServeSettings(WebSettings):
    """Settings of one server of models."""

    limits: ServeLimits = ServeLimits()
    policy: str = POLICY
    """What people may use the server for. It is shown where keys are made."""
