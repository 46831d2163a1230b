"""Arguments of chat templates, as defaults that are saved with them, and templates that replace a tokenizer's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.models.templates import RENDER_ERRORS, name

_GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token")
_DAY = "whichday"
_ANOTHER_DAY = f"{{%- macro strftime_now(form) %}}{_DAY}{{% endmacro %}}\n"


def give(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Give the chat template arguments, as defaults that are saved with it.

    `chat_template` replaces the template itself: Jinja text, or a file that ends in .jinja. Raises UserError for an
    argument that the template does not use.
    """
    arguments = dict(arguments)
    if "chat_template" in arguments:
        tokenizer.chat_template = _template(arguments.pop("chat_template"))
    for argument, value in arguments.items():
        if not tokenizer.chat_template:
            raise UserError(f"template.{argument}: {name(tokenizer)} has no chat template. Give template.chat_template")
        if argument in _GIVEN:
            raise UserError(f"template.{argument}: heedful gives this argument itself. Leave it out")
        source = str(tokenizer.chat_template)
        if not re.search(rf"\b{re.escape(argument)}\b", source):
            used = sorted(_undeclared(tokenizer.chat_template) - {*_GIVEN})
            known = f"It uses {', '.join(used)}" if used else "It takes none"
            raise UserError(f"template.{argument}: the chat template of {name(tokenizer)} does not use it. {known}")
        # the line break ends the line for Jinja, which then drops it
        default = f"{{%- if {argument} is not defined %}}{{%- set {argument} = {_literal(value)} %}}{{%- endif %}}\n"
        own = tokenizer.chat_template
        tokenizer.chat_template = (
            {key: default + one for key, one in own.items()} if isinstance(own, dict) else default + own
        )


def tell_date(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What to say of a chat template that writes today's date, with which rows differ from day to day. Else None."""
    own = tokenizer.chat_template
    source = str(own.get("default") if isinstance(own, dict) else own)
    if "strftime_now" not in source:
        return None
    turn = {"role": "user", "content": "?"}
    try:
        text = tokenizer.apply_chat_template([turn], chat_template=_ANOTHER_DAY + source, tokenize=False)
    except RENDER_ERRORS:
        return None
    if _DAY not in str(text):
        return None
    argument = re.search(r"\bset\s+(\w+)\s*=\s*strftime_now", source)
    remedy = f"Give a fixed one as template.{argument[1]}" if argument else "Give a template without it"
    return f"the chat template writes today's date, so tomorrow the same rows have other tokens. {remedy}"


def _template(given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise UserError("template.chat_template: must be Jinja text, or a file that ends in .jinja")
    if not given.endswith(".jinja"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template.chat_template: {given}: cannot be read ({error})") from None


def _undeclared(template: Any) -> set[str]:
    """The variables that a template reads."""
    texts = template.values() if isinstance(template, dict) else [template]
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return {found for text in texts for found in jinja2.meta.find_undeclared_variables(environment.parse(text))}
    except TemplateError:
        return set()


def _literal(value: Any) -> str:
    """A value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {_literal(one)}' for key, one in value.items())}}}"
    return json.dumps(value)
