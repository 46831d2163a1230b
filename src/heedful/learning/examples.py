"""Turn the records of files into token ids for the stages, within the limits of the model."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.offline import OfflineConfig, RankingConfig
from heedful.configs.shared import RefusedRows
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Message, Prompt, PromptText, Text
from heedful.data.text import counted
from heedful.learning import remarks
from heedful.models import encoders, refusals, render, templates
from heedful.models.templates import TemplateRefused
from heedful.rollout.room import keep_fitting, longest_prompt

P = TypeVar("P", bound=Prompt)
Made = TypeVar("Made")
Turns = Literal["last", "all"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenLimits:
    """Most tokens: `context` of prompt and response together, `prompt` of a prompt, `response` of a response.

    `refuse_special`: whether a text that spells a special token is an error.
    """

    context: int
    prompt: int
    response: int
    skip_long: bool = False
    refuse_special: bool = False
    refused_rows: RefusedRows = "stop"
    counts: dict[str, dict[str, int]] = field(default_factory=dict, compare=False)
    """Rows that were left out or changed on reading, by file and reason, for the manifest."""

    def count(self, path: str, reason: str, number: int, remark: str) -> None:
        """Count such rows and say so in one line, if there are any."""
        if number:
            self.counts.setdefault(path, {})[reason] = number
            log.warning("%s: %s", path, remark)

    def leaving_room(self, new: int) -> TokenLimits:
        """Limits for prompts that leave room for `new` tokens of an answer."""
        return dataclasses.replace(self, prompt=min(self.prompt, longest_prompt(self.context, new)), response=new)


def limits_of(config: OfflineConfig, context: int) -> TokenLimits:
    """The limits of a stage that learns from a file of examples."""
    refuse = config.special_text == "refuse"
    most = (config.max_prompt_tokens, config.max_response_tokens)
    return TokenLimits(context, *most, config.skip_long, refuse, config.refused_rows)


@dataclass(frozen=True)
class Example:
    """One prompt and one response as token ids. A response that was cut off by length has no end of turn."""

    prompt_ids: list[int]
    response_ids: list[int]
    learned: list[bool] | None = None
    """The response tokens to learn from. None: all of them."""
    cut: bool = field(default=False, compare=False)

    @property
    def count(self) -> int:
        """Number of tokens to learn from."""
        return len(self.response_ids) if self.learned is None else sum(self.learned)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


@dataclass(frozen=True)
class Question:
    """One prompt: its text for people and reward functions, its ids for the model."""

    prompt: PromptText
    prompt_ids: list[int]
    record: Prompt


@dataclass(frozen=True)
class Ranked:
    """One ranking: K responses of a prompt with the tier of each (0 = best, equal = tie)."""

    prompt_ids: list[int]
    responses: list[list[int]]
    ranks: list[int]
    lengths: list[int]
    """Characters of each completion."""
    record: Comparison

    @property
    def examples(self) -> list[Example]:
        """The prompt with each of its responses."""
        return [Example(self.prompt_ids, response) for response in self.responses]

    @property
    def untied(self) -> bool:
        return len(set(self.ranks)) > 1

    @property
    def firsts(self) -> list[int]:
        """For each response the first one with the same tokens."""
        return [self.responses.index(response) for response in self.responses]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(better, worse) of each pair of different tiers. Responses with the same tokens are no pair."""
        firsts, ranks = self.firsts, self.ranks
        pairs = itertools.permutations(range(len(ranks)), 2)
        return [(i, j) for i, j in pairs if ranks[i] < ranks[j] and firsts[i] != firsts[j]]


def questions(path: str, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits) -> list[Question]:
    """Prompts of a file. Raises UserError naming the first one that is too long, unless `skip_long`."""
    rows = _asked(path, Prompt, formats.read(path, Prompt), tokenizer, limits, lambda _, ids: ids)
    return [Question(asked.prompt, ids, record) for record, asked, ids in rows]


def demonstrations(
    path: str, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits, turns: Turns = "last"
) -> list[tuple[Demonstration, Example]]:
    """Demonstrations of a file. A response over the limit is cut and has no end of turn, or left out with `skip_long`.

    `turns`: "last" has an example for each, "all" as many as `all_turns` needs for all answers of a chat.
    """
    records = formats.read(path, Demonstration)
    for index, record in enumerate(records):
        if not record.completion.strip() and not (record.completion_message and record.completion_message.tool_calls):
            where = formats.place(path, Demonstration, index)
            raise UserError(f"{where}: the answer is empty. Write one or delete the row")

    def learned_from(record: Demonstration, _: list[int]) -> list[Example]:
        return [_last(tokenizer, record, limits)] if turns == "last" else all_turns(tokenizer, record, limits)

    rows = _asked(path, Demonstration, records, tokenizer, limits, learned_from)
    kept = _uncut(path, [(asked, found) for _, asked, found in rows], limits)
    if turns == "last":
        learned = [(record, found) for record, found in kept if _counts(record.completion_message)]
        if len(learned) < len(kept):
            log.warning(
                "%s: the last answer of %s has weight 0. It is left out",
                path, counted(len(kept) - len(learned), "chats", of=len(kept)),
            )  # fmt: skip
        kept, earlier = learned, sum(_has_answers(record.prompt) for record, _ in learned)
        if not kept:
            raise UserError(f"{path}: no demonstration is left: every last answer has weight 0")
        if earlier:
            log.warning(
                "%s: earlier answers of %s are context. turns = all learns from them too",
                path, counted(earlier, "chats", of=len(kept)),
            )  # fmt: skip
    made = [(record, example) for record, found in kept for example in found]
    if turns == "last":
        return made
    if not made:
        raise UserError(f"{path}: no demonstration is left: every answer has weight 0")
    chats, passes = counted(len(kept), "chats"), counted(len(made), "passes")
    log.warning("%s: all answers of %s are learned from, in %s", path, chats, passes)
    return made


def _last(tokenizer: PreTrainedTokenizerBase, record: Demonstration, limits: TokenLimits) -> Example:
    answer = record.completion_message or record.completion
    return _cut(*render.answered(tokenizer, record.prompt, answer, tools=record.tools), limits)


def _has_answers(prompt: PromptText) -> bool:
    return not isinstance(prompt, str) and any(message.role == "assistant" for message in prompt)


def all_turns(tokenizer: PreTrainedTokenizerBase, record: Demonstration, limits: TokenLimits) -> list[Example]:
    """Examples of all answers of a chat, each with the ids that it has as the last one.

    An answer shares the pass of a later one if that begins with the same ids. In most templates all share one pass. A
    template that leaves out thoughts of earlier answers makes more.
    """
    messages = [] if isinstance(record.prompt, str) else record.prompt
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    rows = [
        render.answered(tokenizer, messages[:i], messages[i], tools=record.tools)
        for i in answers
        if i and _counts(messages[i])
    ]
    if _counts(record.completion_message):
        answer = record.completion_message or record.completion
        rows.append(render.answered(tokenizer, record.prompt, answer, tools=record.tools))
    groups: list[list[tuple[list[int], list[int]]]] = []
    for prompt, response in reversed(rows):
        whole = prompt + response
        own = next((group for group in groups if _joined(group[0])[: len(whole)] == whole), None)
        groups.append([(prompt, response)]) if own is None else own.append((prompt, response))
    return [_together(group, limits) for group in reversed(groups)]


def _counts(message: Message | None) -> bool:
    """Whether a message is learned from: weight 0 in OpenAI's files means that it is context."""
    return message is None or (message.model_extra or {}).get("weight") != 0


def _joined(row: tuple[list[int], list[int]]) -> list[int]:
    return row[0] + row[1]


def _together(rows: list[tuple[list[int], list[int]]], limits: TokenLimits) -> Example:
    """One example of answers of which the first, the longest chat, begins with all others. The last is the shortest."""
    whole, begun = _joined(rows[0])[: limits.context], len(rows[-1][0])
    learned = [False] * len(whole)
    for prompt, response in rows:
        stop = len(prompt) + min(len(response), limits.response)
        learned[len(prompt) : stop] = [True] * (min(stop, len(whole)) - len(prompt))
    cut = len(_joined(rows[0])) > limits.context or any(len(response) > limits.response for _, response in rows)
    return Example(whole[:begun], whole[begun:], None if len(rows) == 1 else learned[begun:], cut)


def rankings(path: str, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits) -> list[Ranked]:
    """Rankings of a file, including those in which all completions are tied.

    A ranking whose untied completions all have the same tokens says nothing, so it is left out.
    """

    def answers_of(record: Comparison, ids: list[int]) -> list[Example]:
        return [answer(tokenizer, ids, record, k, limits) for k in range(len(record.completions))]

    rows = _asked(path, Comparison, formats.read(path, Comparison), tokenizer, limits, answers_of)
    ranked = []
    for record, answers in _uncut(path, [(asked, found) for _, asked, found in rows], limits):
        # Templates may begin answers in several ways. The prompt is what all of them share.
        shared = templates.shared(*(row.prompt_ids for row in answers))
        responses = [row.prompt_ids[shared:] + row.response_ids for row in answers]
        lengths = [len(completion) for completion in record.completions]
        ranked.append(Ranked(answers[0].prompt_ids[:shared], responses, record.ranks(), lengths, record))
    return _different(path, ranked, limits)


def divided_rankings(
    config: RankingConfig, tokenizer: PreTrainedTokenizerBase, limits: TokenLimits, say: Callable[[str], None]
) -> tuple[list[Ranked], list[Ranked], dict[str, int]]:
    """(training rankings, validation rankings, numbers of all-tied rankings in `data` and in `eval_data`).

    All-tied rankings have no pair to learn from or to be right on. They are reported with `say` and left out.
    """

    def without_ties(path: str) -> tuple[list[Ranked], int]:
        rows = rankings(path, tokenizer, limits)
        untied = [row for row in rows if row.untied]
        if len(untied) < len(rows):
            where = "" if path == config.data else f" in {path}"
            tied = len(rows) - len(untied)
            verb = "is all tied and has" if tied == 1 else "are all tied and have"
            say(f"{counted(tied, 'rankings', of=len(rows))}{where} {verb} no pair. Left out")
        return untied, len(rows) - len(untied)

    untied, tied = without_ties(config.data)
    counts = {"all_tied": tied}
    if not untied:
        raise UserError(
            f"{config.data}: no ranked pair to learn from ({tied} rankings, every one all tied). "
            "Collect rankings in which one answer is better"
        )
    records, elsewhere = [row.record for row in untied], config.eval_data is not None
    parts = divided(records, config.valid_fraction, config.seed, say, elsewhere=elsewhere)
    training, validation = ([untied[i] for i in part] for part in parts)
    if config.eval_data is not None:
        validation, counts["eval_all_tied"] = without_ties(config.eval_data)
    if not training or (elsewhere and not validation):
        raise UserError(
            f"{config.data if not training else config.eval_data}: no ranked pair left to "
            f"{'validate' if training else 'train'} on. Give --eval-data, more rows or another valid_fraction"
        )
    if not validation:
        say("no ranking is held out, so there is no accuracy to report. The last weights are kept")
    return training, validation, counts


def answer(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], record: Completions, k: int, limits: TokenLimits
) -> Example:
    """Completion `k` with its prompt: the sampled ids if they are this tokenizer's, else the ids of its text.

    `prompt_ids`: of the prompt up to where a model begins its answer.
    """
    text = record.completions[k]
    finish = None if record.finish is None else record.finish[k]
    if record.token_ids is not None and _are_of(tokenizer, record.token_ids[k], text, finish):
        return _cut(prompt_ids, record.token_ids[k], limits)
    ids = render.answered(tokenizer, record.prompt, text, finished=finish != "length", tools=record.tools)
    return _cut(*ids, limits)


def _are_of(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str, finish: str | None) -> bool:
    """Whether these are this tokenizer's ids of the text, with its end of a turn and no other at the end (R1)."""
    if encoders.pair_of(tokenizer) is not None:  # an encoder has marks of its own between the texts
        return False
    if not ids or max(ids) >= len(tokenizer) or render.response_text(tokenizer, ids) != text:
        return False
    ended = ids[-1] == render.end_id(tokenizer)
    return ended == (finish == "stop") if finish is not None else ended or ids[-1] not in render.special_ids(tokenizer)


def _cut(prompt_ids: list[int], response_ids: list[int], limits: TokenLimits) -> Example:
    most = max(1, min(limits.response, limits.context - len(prompt_ids)))
    return Example(prompt_ids, response_ids[:most], cut=len(response_ids) > most)


def _uncut(path: str, rows: list[tuple[P, list[Example]]], limits: TokenLimits) -> list[tuple[P, list[Example]]]:
    """The rows, with `skip_long` without those that have an answer over the limit. Says how many have one."""
    whole = [row for row in rows if not any(example.cut for example in row[1])]
    cut = len(rows) - len(whole)
    some = f"{counted(cut, 'rows', 'have', of=len(rows))} an answer that does not fit (context {limits.context})"
    if not limits.skip_long:
        limits.count(path, "cut", cut, f"{some}. It is cut and has no end. Leave such rows out with --skip-long")
        return rows
    if not whole:
        raise UserError(f"{path}: {some}, so none is left. Raise max_response_tokens, or shorten them")
    limits.count(path, "long_answer", cut, f"{some}. {_left_out(cut)}")
    return whole


def _different(path: str, rows: list[Ranked], limits: TokenLimits) -> list[Ranked]:
    """The rankings without those whose untied answers are all the same. Says so, and how many pairs are the same."""
    kept = [row for row in rows if row.pairs or not row.untied]
    same = len(rows) - len(kept)
    some = f"{counted(same, 'rankings', 'rank', of=len(rows))} answers with the same tokens"
    if not kept:
        raise UserError(f"{path}: {some}. Check the answers, or raise max_response_tokens if it cuts them")
    limits.count(path, "same_answers", same, f"{some}. {_left_out(same)}")
    pairs = sum(len(row.record.pairs()) - len(row.pairs) for row in kept)
    some = f"{counted(pairs, 'pairs', 'have')} answers with the same tokens"
    limits.count(path, "same_pairs", pairs, f"{some}. {'It does' if pairs == 1 else 'They do'} not count")
    return kept


def documents(path: str, tokenizer: PreTrainedTokenizerBase, context: int) -> list[Example]:
    """Texts of a file with EOS at the end, in pieces of at most `context` tokens.

    Raises UserError if no text has two tokens.
    """
    texts = [record.text for record in formats.read(path, Text)]
    remarks.tell_documents(path, tokenizer, texts)
    rows = document_rows(tokenizer, texts, context)
    if not rows:
        raise UserError(f"{path}: no text has two tokens or more. Give more text")
    return rows


def document_rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], context: int) -> list[Example]:
    """Pieces of at most `context` tokens. The first token of each is the prompt of the rest."""
    ids = [render.text_ids(tokenizer, text) for text in texts]
    pieces = [row[start : start + context] for row in ids for start in range(0, len(row), context)]
    return [Example(piece[:1], piece[1:]) for piece in pieces if len(piece) > 1]


def divided(
    records: Sequence[Prompt], fraction: float, seed: int, say: Callable[[str], None], *, elsewhere: bool = False
) -> tuple[list[int], list[int]]:
    """(indices to train on, indices for validation).

    Rows with split "valid" are for validation. Without such rows it is a `fraction` of the prompts. `elsewhere`: the
    validation data is in another file, so none is taken here. Rows with split "test" are in neither part.
    The text of a prompt decides, so that a prompt is never in both parts. Of two prompts or more, at least one is held
    out. A single prompt is trained on, and with a `fraction` of 0 all are.
    """
    marked = {i: record.split for i, record in enumerate(records) if record.split in ("valid", "test")}
    free = [i for i in range(len(records)) if i not in marked]
    validation = [] if elsewhere else [i for i, split in marked.items() if split == "valid"]
    if not validation and not elsewhere:
        draws = {i: _draw(records[i].prompt, seed) for i in free}
        several = len(set(draws.values())) > 1
        limit = max(fraction, min(draws.values())) if several and fraction > 0 else -1.0
        validation = [i for i in free if draws[i] <= limit]
        free = [i for i in free if draws[i] > limit]
    left_out = len(records) - len(free) - len(validation)
    if left_out:
        some = counted(left_out, "rows", "have", of=len(records))
        say(f"{some} split test, or valid with other held-out data. {_left_out(left_out)}")
    return free, validation


def _left_out(count: int) -> str:
    return "It is left out" if count == 1 else "They are left out"


def _draw(prompt: PromptText, seed: int) -> float:
    text = prompt if isinstance(prompt, str) else json.dumps([message.model_dump() for message in prompt])
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2.0**64


def _asked(
    path: str, kind: type[P], records: list[P], tokenizer: PreTrainedTokenizerBase, limits: TokenLimits,
    make: Callable[[P, list[int]], Made],
) -> list[tuple[P, P, Made]]:  # fmt: skip
    """(record, the same as the model is asked, what `make` makes of that and the ids of its prompt) of the rows.

    Says how many rows are left out, and how many have their system message in the question.
    """
    rows: list[tuple[P, P, list[int], Made]] = []
    places: list[int] = []
    refused = joined = 0
    for index, record in enumerate(records):
        try:
            asked, ids = refusals.asked(tokenizer, record, limits.refused_rows)
            rows.append((record, asked, ids, make(asked, ids)))
            places.append(index)
            joined += asked is not record
        except TemplateRefused as error:
            if limits.refused_rows != "skip":
                told = refusals.with_remedy(error, record, tokenizer)
                raise UserError(f"{formats.place(path, kind, index)}: {told}") from None
            refused += 1
    of = len(records)
    some = counted(refused, "rows", of=of)
    limits.count(path, "refused", refused, f"the chat template refuses {some}. {_left_out(refused)}")
    some = counted(joined, "rows", "have", of=of)
    limits.count(path, "joined", joined, f"{some} the system message in the question")
    if not rows:
        raise UserError(f"{path}: the chat template refuses every row. Check the roles of the messages")
    shown = [asked for _, asked, _, _ in rows]

    def place(index: int) -> str:
        return formats.place(path, kind, places[index])

    remarks.tell(path, tokenizer, shown, place, refuse_special=limits.refuse_special)
    longest, prompts = min(limits.prompt, limits.context - 1), [ids for _, _, ids, _ in rows]
    kept = keep_fitting(prompts, longest, context=limits.context, skip_long=limits.skip_long, where=path)
    long = len(rows) - len(kept)
    some = f"{counted(long, 'rows', 'have', of=of)} a prompt over {longest} tokens"
    limits.count(path, "too_long", long, f"{some}. {_left_out(long)}")
    return [(record, asked, made) for record, asked, _, made in (rows[i] for i in kept)]
