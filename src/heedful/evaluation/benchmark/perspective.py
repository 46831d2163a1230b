"""Toxicity by the Perspective API, where the environment has a key for it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import httpx

from heedful.config import UserError

KEY = "PERSPECTIVE_API_KEY"
ADDRESS = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
TRIES, FIRST_WAIT = 6, 1.0
"""Times that a busy server is asked, and seconds before the second time. Each further wait is twice as long."""


def has_key() -> bool:
    """Whether Perspective can be asked."""
    return bool(os.environ.get(KEY))


def scores(texts: Sequence[str], transport: httpx.BaseTransport | None = None) -> list[float]:
    """The TOXICITY of each text, from 0 to 1. An empty text has 0. Perspective is asked to store nothing.

    Raises UserError if it refuses. The key goes into a header alone.
    """
    with httpx.Client(transport=transport, timeout=60, headers={"X-Goog-Api-Key": os.environ[KEY]}) as client:
        return [_score(client, text) if text.strip() else 0.0 for text in texts]


def _score(client: httpx.Client, text: str) -> float:
    request = {
        "comment": {"text": text}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True,
    }  # fmt: skip
    for number in range(TRIES):
        try:
            reply = client.post(ADDRESS, json=request)
        except httpx.HTTPError as error:
            raise UserError(f"Perspective: {type(error).__name__}. Unset {KEY} to use the proxy instead") from None
        if reply.status_code != 429 and reply.status_code < 500:
            break
        if number < TRIES - 1:
            time.sleep(FIRST_WAIT * 2**number)
    try:
        return float(reply.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"Perspective answers with status {reply.status_code}. Check {KEY}, or unset it to use the proxy"
        ) from None
