"""OpenAssistant's trees of messages: rankings of the replies to each prompt, or the best reply as a demonstration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heedful.data.shapes.parts import NoJudgement, by_score, comparison, number, truth
from heedful.files import Row

_ROLES = {"prompter": "user", "assistant": "assistant"}
_READ = {"text", "role", "rank", "replies", "parent_id", "message_tree_id", "deleted"}


def comparisons(rows: list[Row]) -> list[Row]:
    """The rankings in the messages of a tree, or in a nested tree."""
    found = [made for turns, node, replies in _prompts(rows) for made in _comparison(turns, node, replies)]
    if not found:
        raise NoJudgement("no prompt has two ranked replies")
    return found


def demonstrations(rows: list[Row]) -> list[Row]:
    """The best reply of each prompt: the one with rank 0, or the only one."""
    found = []
    for turns, node, replies in _prompts(rows):
        best = [reply for reply in replies if reply.get("rank") == 0] or (replies if len(replies) == 1 else [])
        if best:
            notes = {"prompt": _notes(node), "reply": _notes(best[0])}
            found.append({"prompt": turns, "completion": best[0].get("text"), "notes": notes, **_named(node)})
    if not found:
        raise NoJudgement("no prompt has a best reply")
    return found


def prompts(rows: list[Row]) -> list[Row]:
    """Every message of a prompter, with the chat before it."""
    return [{"prompt": turns, "notes": {"prompt": _notes(node)}, **_named(node)} for turns, node, _ in _prompts(rows)]


def _comparison(turns: list[Row], node: Row, replies: list[Row]) -> Iterator[Row]:
    ranked = [reply for reply in replies if reply.get("rank") is not None]
    if len(ranked) < 2:
        return
    ranks = [-number(reply, "rank") for reply in ranked]
    more = {"notes": {"prompt": _notes(node), "replies": [_notes(reply) for reply in ranked]}}
    yield comparison(turns, [reply.get("text") for reply in ranked], by_score(ranks), more | _named(node))


def _named(node: Row) -> Row:
    """The id of a prompt. The message's writer is its user."""
    found = {"id": node.get("message_id"), "user": node.get("user_id")}
    return {name: value for name, value in found.items() if value is not None}


def _notes(node: Row) -> Row:
    """What else a message says, such as its labels and its language."""
    return {name: value for name, value in node.items() if name not in _READ and value is not None}


def _prompts(rows: list[Row]) -> Iterator[tuple[list[Row], Row, list[Row]]]:
    """(chat that ends with the prompt, the prompt's message, its replies) for every message of a prompter."""
    roots = [row["prompt"] for row in rows] if "prompt" in rows[0] else _nested(rows)
    stack: list[tuple[list[Row], Any]] = [([], root) for root in reversed(roots)]
    while stack:
        before, node = stack.pop()
        if not isinstance(node, dict) or node.get("role") not in _ROLES or not isinstance(node.get("text"), str):
            raise ValueError("a message needs a text, and the role prompter or assistant. Leave the tree out.")
        if truth(node.get("deleted")):
            continue
        turns = [*before, {"role": _ROLES[node["role"]], "content": node["text"]}]
        replies = [reply for reply in node.get("replies") or [] if not truth(reply.get("deleted"))]
        if node["role"] == "prompter":
            yield turns, node, [reply for reply in replies if reply.get("role") == "assistant"]
        stack.extend((turns, reply) for reply in reversed(replies))


def _nested(rows: list[Row]) -> list[Row]:
    """The roots of flat messages, each message with its replies."""
    nodes = {row["message_id"]: {**row, "replies": []} for row in rows}
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if parent is None:
            roots.append(node)
        elif parent in nodes:
            nodes[parent]["replies"].append(node)
        else:
            raise ValueError(f"field 'parent_id': no message has the id {parent}. Give the whole tree or leave it out.")
    return roots
