"""A suggested use case for a prompt (D4), from its first words and its shape. People correct it."""

from __future__ import annotations

import re

_LONG = 400  # characters: such a prompt brings a text with it
_RULES: dict[str, str] = {
    "summarization": r"""summari[sz]e|summary|tl;?dr|in (?:one|two|three|a few) sentences?|main points|key takeaways""",
    "classification": r"""classify|categori[sz]e|sentiment|which (?:category|class|label)|positive or negative""",
    "extract": r"""extract|find all|pull out|list all (?:the )?\w+ (?:in|from|mentioned)|identify (?:all|the) \w+ in""",
    "rewrite": r"""rewrite|rephrase|paraphrase|translate|proofread|correct (?:the|this|my)|convert (?:this|the)
        |fix (?:the|this|my) (?:grammar|spelling|text)|make (?:this|it) (?:shorter|longer|sound|more)
        |edit (?:this|the|my)""",
    "brainstorming": r"""brainstorm|ideas? (?:for|about|to)|suggest(?:ions)?|come up with|ways to
        |list (?:\w+ ){0,2}(?:ways|reasons|ideas|tips|things)|give me (?:\w+ ){0,2}(?:ideas|names|tips|ways)""",
    "generation": r"""write|compose|draft|create|generate|make up|invent|tell me a (?:story|joke)
        |poem|story|essay|letter|code|function|script""",
}
_LINES = re.compile(r"\s*\n\s*")
_COMPILED = {name: re.compile(rf"\b(?:{_LINES.sub('', rule)})\b", re.I) for name, rule in _RULES.items()}
_QUESTION = re.compile(
    r"^(?:who|what|when|where|why|how|which|whose|is|are|was|were|do|does|did|can|could|should|will|would)\b|\?\s*$",
    re.I,
)
_GREETING = re.compile(r"^(?:hi|hello|hey|good (?:morning|evening)|thanks|thank you|how are you)\b", re.I)


def suggest(prompt: str, turns: int = 1) -> str:
    """The likeliest use case of a prompt. `turns`: messages of the user, more than one makes it a chat."""
    text = prompt.strip()
    if turns > 1 or _GREETING.match(text):
        return "chat"
    for name, pattern in _COMPILED.items():
        if pattern.search(text[:_LONG]):
            return name
    if _QUESTION.search(text.splitlines()[0] if text else ""):
        return "closed QA" if len(text) > _LONG or "\n\n" in text else "open QA"
    return "other"
