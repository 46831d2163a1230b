"""Fields that the user names: rows of any shape as records."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heedful.config import UserError
from heedful.data.reading.values import spelled_chat
from heedful.data.records import Choice, Comparison, Demonstration
from heedful.data.shapes import chats, pairs
from heedful.data.shapes.parts import Shape, by_score, comparison, wanted
from heedful.data.text import counted
from heedful.files import Row

TARGETS = {
    "prompt": "the prompt: a text or a chat",
    "system": "a system message before the prompt",
    "messages": "a chat that ends with the answer",
    "completion": "the answer that a person wrote",
    "chosen": "the better of two answers",
    "rejected": "the worse of two answers",
    "completions": "answers: one field with a list, or several fields",
    "scores": "a number for each answer, the highest is best: one field with a list, or several fields",
    "ranks": "a place for each answer, 1 is the best: one field with a list, or several fields",
    "ranking": "tiers of indices of the answers, best first",
    "a": "the first of two answers",
    "b": "the second of two answers",
    "preferred": "which is better: a, b or tie. Give your own words as FIELD:A,B,TIE,BOTH_BAD",
    "label": "true for a good answer",
    "text": "a document for pretraining",
    "id": "the name of the row",
    "user": "who asked",
    "source": "where the prompt is from",
    "use_case": "the kind of task",
    "split": "train, valid or test",
    "labeler": "who judged",
    "group": "the group of the labeler",
}
"""What a field can become, with its meaning."""

_SEVERAL = ("completions", "scores", "ranks")
_JUDGED = [{"completions", "scores"}, {"completions", "ranks"}, {"completions", "ranking"}]
_USED = {
    "comparisons": [{"chosen", "rejected"}, *_JUDGED], "choices": [{"a", "b", "preferred"}],
    "completions": [{"completions"}], "demonstrations": [{"completion"}, {"messages"}], "prompts": [{"prompt"}],
    "texts": [{"text"}],
}  # fmt: skip
"""The targets that make each kind."""
_A_PLACE = re.compile(r"(.*\.)?(rank|place|position)s?([ _-]?\w{1,2})?", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_USUAL = {
    "a": ("a", "left", "model_a"), "b": ("b", "right", "model_b"),
    "tie": ("tie", "both", "equal", "same"), "both_bad": ("both_bad", "bothbad", "tie_(bothbad)"),
}  # fmt: skip
"""Usual words of votes, in lower case and with _ for a space."""


@dataclass(frozen=True)
class FieldMap:
    """Which field becomes what."""

    fields: dict[str, list[str]]
    """Target -> fields of the row. Only those in _SEVERAL may have several."""
    words: tuple[str, ...] = ()
    """The user's words in `preferred` for a, b, tie and both bad."""

    @property
    def kind(self) -> str:
        """The kind of the records that the fields make."""
        return made_by(self.fields.keys())[0]

    def apply(self, row: Row) -> list[Row]:
        """Rows with the fields of records. ValueError names the field that is missing or does not fit."""
        values = {target: self._value(row, target) for target in self.fields}
        left = row
        for name in (name for names in self.fields.values() for name in names):
            left = _without(left, name)
        more = {f"{key}_as_given" if key in _MEANT else key: value for key, value in left.items()}
        named = {
            key: _name(key, self.fields[key][0], value) if key in ("id", "user", "labeler", "group") else value
            for key, value in values.items() if key in NAMED and value is not None
        }  # fmt: skip
        return self._made(values, {key: value for key, value in more.items() if key not in named} | named)

    def unwanted(self, row: Row) -> str | None:
        """The reason why the answer of a row is not to be learned: its label. None if people wanted it."""
        name = self.fields["label"][0]
        label = _at(row, name)
        if (found := wanted(label)) is None:
            return f"field '{name}' (the label): {label!r:.40} is neither good nor bad. Write true or false"
        return None if found else f"field '{name}' (the label): {label!r:.40} marks an answer that people did not want"

    def _made(self, values: Row, more: Row) -> list[Row]:
        kind = self.kind
        if kind == "texts":
            return [{**more, "text": values["text"]}]
        if kind == "demonstrations" and "messages" in values:
            return chats.messages({"messages": values["messages"], "system": values.get("system"), **more})
        prompt, _ = chats.prompt_of({"prompt": values.get("prompt"), "system": values.get("system")})
        if "chosen" in values:
            pair = {name: values[name] for name in ("prompt", "chosen", "rejected") if values.get(name) is not None}
            return [made | more for made in pairs.pairwise(pair | {"system": values.get("system")})]
        if kind == "comparisons":
            numbers = next((name for name in ("scores", "ranks") if name in values), None)
            ranking = _by_number(numbers, values) if numbers else values["ranking"]
            return [comparison(prompt, values["completions"], ranking, more)]
        if kind == "choices":
            sides: Row = {side: {"text": values[side]} for side in "ab"}
            preferred = self._preferred(values)
            bad = {"none_acceptable": True} if preferred == "both_bad" else {}
            return [{"prompt": prompt, **more, **sides, "preferred": "tie" if bad else preferred, **bad}]
        if kind == "demonstrations":
            return chats.prompt_completion({"prompt": prompt, "completion": values["completion"], **more})
        if kind == "completions":
            return [{"prompt": prompt, **more, "completions": values["completions"]}]
        return [{"prompt": prompt, **more}]

    def _preferred(self, values: Row) -> str:
        """a, b, tie or both_bad from the user's words, usual ones, the names of the fields, or the answer itself."""
        given = _word(values["preferred"])
        if self.words:
            if given in self.words:
                return ("a", "b", "tie", "both_bad")[self.words.index(given)]
        else:
            usual = re.sub(r"[\s-]+", "_", given.strip().lower())
            named = {side: [*self.fields.get(side, []), values.get(side)] for side in _USUAL}
            found = [side for side, names in named.items() if given in names or usual in _USUAL[side]]
            if len(found) == 1:
                return found[0]
            if found:
                name = self.fields["preferred"][0]
                raise ValueError(
                    f"field '{name}': {given!r:.40} may be {' or '.join(found)}. Give the words as preferred={name}:A,B"
                )
        name = self.fields["preferred"][0]
        if not self.words and given.strip().lstrip("+-").isdecimal():
            raise ValueError(
                f"field '{name}': {given!r:.40} does not say where the count begins. Give the numbers of a and b, such"
                f" as preferred={name}:0,1 or preferred={name}:1,2"
            )
        raise ValueError(
            f"field '{name}': {given!r:.40} says neither a, b nor tie. Give the words as"
            f" preferred={name}:A,B,TIE,BOTH_BAD"
        )

    def _value(self, row: Row, target: str) -> Any:
        names = self.fields[target]
        found = [_chat(name, _at(row, name)) if target in _CHATS else _at(row, name) for name in names]
        for name, value in zip(names, found, strict=True):
            if target not in NAMED and target != "system":
                _check_there(row, name, target, value)
        if target in _SEVERAL:
            return found if len(found) > 1 or not isinstance(found[0], list) else found[0]
        return found[0]


NAMED = {"id", "user", "source", "use_case", "split", "labeler", "group", "label"}
"""Targets that every kind of record has room for."""
# What a field of the file may not be called if it is not mapped: it would get a meaning that nobody gave it.
_MEANT = {
    *(name for cls in (Comparison, Choice, Demonstration) for name in cls.model_fields), *TARGETS, *chats.CHATS
} - NAMED  # fmt: skip


_CHATS = ("prompt", "messages", "chosen", "rejected")


def _chat(name: str, value: Any) -> Any:
    """A chat as a list, also where the file spells it as text."""
    try:
        return (spelled_chat(value) if isinstance(value, str) else None) or value
    except ValueError as error:
        raise ValueError(f"field '{name}': {error}") from None


def _word(value: Any) -> str:
    """A vote as a word: 1.0, as tables with gaps have it, is 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_number(name: str, values: Row) -> list[list[int]]:
    """The answers by `scores`, the highest first, or by `ranks`, the lowest first."""
    numbers = [_number(name, value) for value in values[name]]
    if len(numbers) != len(values["completions"]):
        raise ValueError(
            f"field '{name}': {counted(len(numbers), 'numbers')} for {counted(len(values['completions']), 'answers')}"
        )
    return by_score([-number for number in numbers] if name == "ranks" else numbers)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        comma = isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip())
        raise ValueError(
            f"field '{name}': {value!r:.40} is no number" + (". Write a point for the comma" if comma else "")
        )
    return number


def _name(target: str, field: str, value: Any) -> str:
    """The name that a field gives, as text."""
    if isinstance(value, dict | list | bool):
        raise ValueError(f"field '{field}' (the {target}): must be a text or a number, not {value!r:.40}")
    return _word(value)


def _check_there(row: Row, name: str, target: str, value: Any) -> None:
    """ValueError for a row without the field of a target, or with a list where one text is needed."""
    if value is None or (isinstance(value, list) and value and all(one is None for one in value)):
        first = name.partition(".")[0]
        if name in row or (first in row and "." in name and row[first] is None):
            raise ValueError(f"field '{name}' (the {target}): empty. Give it or leave the row out.")
        near = [one for one in row if one.casefold() == name.casefold()] or difflib.get_close_matches(name, row, 1)
        hint = f"Did you mean {near[0]}?" if near else "Name one of them, or leave the row out."
        raise ValueError(f"field '{name}' (the {target}): missing. The row has {', '.join(row)}. {hint}")
    several = isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    if several and target not in (*_SEVERAL, "ranking"):
        inner = "." in name and name not in row  # of objects in a list
        one = f"{name.rpartition('.')[0]}.0.{name.rpartition('.')[2]}" if inner else f"{name}.0"
        raise ValueError(
            f"field '{name}' (the {target}): holds {counted(len(value), 'texts')}. Name one, such as {one}"
        )


def _at(row: Row, name: str) -> Any:
    """The value of a field. `a.b` is b in a, and in a list of objects the list of their values. `a.0` is the first."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, list):
            value = [item.get(part) if isinstance(item, dict) else None for item in value]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _without(value: Any, name: str) -> Any:
    """The value without a field. Of `a.b` the rest of a stays, if it has other fields."""
    if isinstance(value, list):
        left = [_without(item, name) for item in value]
        return left if any(item != {} for item in left) else {}
    if not isinstance(value, dict):
        return value
    if name in value:
        return {key: inner for key, inner in value.items() if key != name}
    first, _, others = name.partition(".")
    if not others or first not in value:
        return value
    left = _without(value[first], others)
    return {key: left if key == first else inner for key, inner in value.items() if key != first or left != {}}


def parse(given: Iterable[str] | Mapping[str, str | list[str]]) -> FieldMap | None:
    """A mapping from TARGET=FIELD texts, or from {target: field}. None if nothing is given.

    UserError if it makes no record.
    """
    pairs_ = list(given.items()) if isinstance(given, Mapping) else [_pair(text_) for text_ in given]
    fields: dict[str, list[str]] = {}
    words: tuple[str, ...] = ()
    for target, source in pairs_:
        if target not in TARGETS:
            raise UserError(f"--map {target}: no such target. Choose from {', '.join(TARGETS)}")
        for name in [source] if isinstance(source, str) else source:
            if target == "preferred" and ":" in name:
                name, _, told = name.partition(":")
                words = tuple(word.strip() for word in told.split(","))
                if len(words) not in (2, 3, 4) or len(set(words)) < len(words):
                    raise UserError(f"--map preferred={name}:{told}: give 2 to 4 words, for a, b, tie and both bad")
            if not name:
                raise UserError(f"--map {target}=: name a field of the file")
            fields.setdefault(target, []).append(name)
    twice = [target for target, names in fields.items() if len(names) > 1 and target not in _SEVERAL]
    if twice:
        raise UserError(f"--map {twice[0]}: given twice. Only completions, scores and ranks take several fields")
    if not fields:
        return None
    _check(fields)
    return FieldMap(fields, words)


def _pair(given: str) -> tuple[str, str]:
    target, equals, name = given.partition("=")
    if not equals:
        raise UserError(f"--map {given}: write it as TARGET=FIELD, as in --map prompt=question")
    return target.strip(), name.strip()


def _check(fields: dict[str, list[str]]) -> None:
    """UserError if the targets make no record, or only a part of one."""
    has = fields.keys()
    for one, others in (
        ("chosen", {"rejected"}), ("rejected", {"chosen"}), ("a", {"b", "preferred"}), ("b", {"a", "preferred"}),
        ("preferred", {"a", "b"}), ("scores", {"completions"}), ("ranks", {"completions"}),
        ("ranking", {"completions"}),
    ):  # fmt: skip
        if one in has and not others <= has:
            raise UserError(f"--map {one}: needs {' and '.join(sorted(others - has))} too")
    if len(judged := [name for name in ("scores", "ranks", "ranking") if name in has]) > 1:
        raise UserError(f"--map {judged[0]}: {judged[1]} orders the answers as well. Name one of them")
    if place := next((name for name in fields.get("scores", []) if _A_PLACE.fullmatch(name)), None):
        raise UserError(
            f"--map scores={place}: seems to hold places, of which 1 is the best. Write ranks={place}, or rename the"
            " field if the highest number is the best"
        )
    if not {"prompt", "messages", "text", "chosen"} & has:
        raise UserError("--map: name the prompt too, as in --map prompt=question")
    kind, used = made_by(has)
    if unused := sorted(has - used - NAMED):
        raise UserError(
            f"--map {unused[0]}: has no place in {kind} made of {', '.join(sorted(used & has))}. Leave it out"
        )
    owners: dict[str, str] = {}
    for target, names in fields.items():
        for name in names if target not in NAMED else ():
            if name in owners:
                raise UserError(f"--map {target}={name}: this field is the {owners[name]} already. Name another field")
            owners[name] = target


def made_by(targets: Collection[str]) -> tuple[str, set[str]]:
    """(the kind that these targets make, all targets with a meaning there)."""
    has = set(targets)
    kind, needed = next((kind, one) for kind, options in _USED.items() for one in options if one <= has)
    prompt = set() if kind == "texts" else {"system"} if "messages" in needed else {"prompt", "system"}
    return kind, needed | prompt


def shape(mapping: FieldMap) -> Shape:
    """The shape of rows whose fields the user named."""
    unfit = mapping.unwanted if "label" in mapping.fields else None
    return Shape("mapped", mapping.kind, "", "", lambda row: True, mapping.apply, unfit=unfit)
