"""The language of a prompt, of a list of languages that you expect."""

from __future__ import annotations

from functools import cache
from typing import Any

from heedful.config import UserError, install

UNKNOWN = "unknown"


@cache
def _identifier(languages: tuple[str, ...]) -> Any:
    """Unrestricted, it calls "hi" Afrikaans."""
    try:
        from py3langid import langid
    except ModuleNotFoundError:
        raise UserError(f"the language of prompts needs py3langid: {install('serve')}") from None
    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    unknown = [name for name in languages if name not in found.labels]
    if unknown:
        raise UserError(f"languages: {unknown[0]!r} is none of {', '.join(sorted(found.labels))}")
    found.set_languages(languages)
    return found


def language(text: str, languages: tuple[str, ...], confidence: float) -> tuple[str, float]:
    """(the likeliest of the languages, or "unknown" below the confidence, its confidence from 0 to 1)."""
    if not any(each.isalpha() for each in text):
        return UNKNOWN, 0.0
    name, share = _identifier(languages).classify(text)
    return (str(name) if share >= confidence else UNKNOWN), float(share)
