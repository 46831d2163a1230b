"""What is collected of the requests to served models."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from heedful.config import Config, Share
from heedful.data.curation import CurationConfig
from heedful.feedback.columns import digest

CONSENT = """\
You agree that this server stores what you send to its models and what they answer, together with the thumbs, \
improvements and choices that you give. The people who run this server read some of it, write better answers to it, \
and train models with it. Personal data that the server finds is hidden from them first. You see what is stored on \
your page, and you delete it there. What has entered a training before cannot be taken out of the trained model. \
You withdraw at any time, and one request is left out with the header "Heedful-Store: no"."""


class Terms(NamedTuple):
    """What people agree to: the version of the text, the text, and for how many days things are stored."""

    version: str
    text: str
    days: int


class CollectionConfig(Config):
    rate: Share = 1.0
    """Share of the requests with consent that are stored, drawn at random."""
    days: int = Field(365, ge=1, le=36_500)
    """Days after which what was stored is deleted."""
    consent: str = Field(CONSENT, min_length=1, max_length=20_000)
    """What people agree to when they let their requests be stored."""

    @property
    def version(self) -> str:
        """Names the text of consent. Another text is another version, to which nobody has agreed yet."""
        return digest(self.consent)[:12]


class QueueConfig(CurationConfig):
    """Settings of curation from what was collected into the queue of a project."""

    languages: list[str] = ["en", "de", "fr", "es", "it", "pt", "nl"]
    """Languages that a prompt may be in. Others are taken for one of these."""
    queue_languages: list[str] = []
    """Only prompts in these languages enter the queue. "unknown" can be one of them. Without any, all enter."""
    confidence: Share = 0.6
    """Below this confidence, from 0 to 1, the language is "unknown"."""
    regions: list[str] = ["US", "GB", "DE", "FR", "ES"]
    """Countries whose phone numbers are hidden, also without a country code."""
    detectors: list[str] = []
    """Further detectors of personal data, as module:function. Each gets a text and returns (kind, start, end)."""


OF_QUEUE = ("languages", "queue_languages", "confidence", "regions", "detectors")
"""Settings that a file of prompts does not have."""
OF_FILE = ("personal_data_splits",)
"""Settings that the queue does not have: there, personal data is always hidden."""
