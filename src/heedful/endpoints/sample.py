"""`heedful sample` from a model behind an address. It needs no torch."""

from __future__ import annotations

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs.sample import EQUAL, SampleConfig
from heedful.data import formats
from heedful.data.records import Completions, Message, Prompt
from heedful.endpoints.client import Client, Failure, Request
from heedful.endpoints.replies import EndpointAnswer
from heedful.files import Row
from heedful.runs.manifest import Manifest
from heedful.runs.progress import Reporter
from heedful.runs.resumable import Interrupted, recording_end
from heedful.runs.rows import RowsWriter

LOCAL_ONLY = ("compute", "template", "trust_remote_code", "skip_long", "refused_rows", "chunk")
MOST_TOLD = 10  # prompts without an answer whose reason is told
EVERY = 0.5  # seconds between lines of progress


def run(config: SampleConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write a row of K completions for each prompt that the endpoint answers. Returns `out`."""
    _check_used(config)
    client = Client(config.model, config.endpoint)
    prompts = formats.read(config.prompts, Prompt)
    source = {"prompts": formats.fingerprint(config.prompts)}
    wanted = Manifest.begin("sample", config, {"model": {"ref": config.model}}, source)
    file = RowsWriter.start(Path(out), wanted, resume=resume, overwrite=overwrite)
    with recording_end(file):
        if not file.finished:
            formats.check_fits(Path(out), prompts)
            try:
                _sample(config, client, prompts, file)
            except KeyboardInterrupt:
                said = "interrupted. The answers so far are kept: the same command asks only for the others"
                raise Interrupted(
                    f"{out}: {said}" if config.endpoint.cache else f"{out}: interrupted", signal.SIGINT
                ) from None
    return Path(out)


def _check_used(config: SampleConfig) -> None:
    """UserError for a setting that means nothing to an endpoint."""
    fields = SampleConfig.model_fields
    given = [name for name in LOCAL_ONLY if getattr(config, name) != fields[name].default]
    if config.generation.max_rows != type(config.generation).model_fields["max_rows"].default:
        given.append("generation.max_rows")
    if given:
        raise UserError(f"{config.model}: '{given[0]}' is for models on this machine. Leave it out")


def _sample(config: SampleConfig, client: Client, prompts: Sequence[Prompt], file: RowsWriter) -> None:
    requests = [_request(config, prompt, row, k) for row, prompt in enumerate(prompts) for k in range(config.k)]
    reporter = Reporter("sample", len(prompts), every=EVERY)
    arrived: Counter[int] = Counter()

    def seen(place: int, answer: EndpointAnswer | Failure) -> None:
        row = place // config.k
        arrived[row] += 1
        failed.update({row: answer.reason} if isinstance(answer, Failure) and row not in failed else {})
        reporter.step(sum(count == config.k for count in arrived.values()), {"failed": len(failed)} if failed else {})

    failed: dict[int, str] = {}
    try:
        reporter.step(0, {})
        answers = client.ask(requests, seen)
        for row in sorted(failed)[:MOST_TOLD]:
            reporter.say(f"prompt {row + 1} is left out: {failed[row]}")
        for remark in [*client.remarks, *([EQUAL] if config.k > 1 and config.generation.temperature == 0 else [])]:
            reporter.say(remark)
    finally:
        reporter.close()
    if len(failed) == len(prompts):
        raise UserError(f"{config.model}: no prompt was answered. The first: {failed[0]}")
    whole = [answers[row * config.k : (row + 1) * config.k] for row in range(len(prompts))]
    file.restore(len(prompts), 1)
    file.append([_row(config, prompt, whole[row]) for row, prompt in enumerate(prompts) if row not in failed])
    file.finish(lambda rows: _summary(config, rows, [each for of_one in whole for each in of_one], failed, client))


def _request(config: SampleConfig, prompt: Prompt, row: int, k: int) -> Request:
    """One answer to one prompt. A text is what the user says. The seed depends on the config's seed, row and number."""
    text, how = prompt.prompt, config.generation
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else [_turn(turn) for turn in text]
    digest = hashlib.sha256(f"{config.seed}/{row}/{k}".encode()).digest()
    request = {
        "messages": messages,
        "max_tokens": how.max_new_tokens,
        "temperature": how.temperature,
        "seed": int.from_bytes(digest[:4], "big") >> 1,
    }
    if prompt.tools:
        request["tools"] = prompt.tools
    if how.top_p < 1:
        request["top_p"] = how.top_p
    if how.top_k > 0:
        request["top_k"] = how.top_k
    return request


def _turn(message: Message) -> Row:
    """A message as the API has it: arguments of tool calls are JSON text."""
    turn = message.row()
    for call in turn.get("tool_calls", []):
        call["function"] = call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}
    return turn


def _row(config: SampleConfig, prompt: Prompt, answers: Sequence[EndpointAnswer | Failure]) -> Row:
    written = [answer for answer in answers if isinstance(answer, EndpointAnswer)]
    made = {
        "completions": [answer.text for answer in written],
        "models": [config.model] * len(written),
        "finish": [answer.finish for answer in written],
    }
    return Completions(**prompt.row() | made).row()


def _summary(
    config: SampleConfig,
    rows: list[Row],
    answers: list[EndpointAnswer | Failure],
    failed: dict[int, str],
    client: Client,
) -> dict[str, Any]:
    written = [answer for answer in answers if isinstance(answer, EndpointAnswer)]
    names = sorted({answer.model for answer in written} - {"", client.address.model})
    found: dict[str, Any] = {
        "completions": sum(len(row["completions"]) for row in rows),
        "finished": sum(answer.finish == "stop" for answer in written) / len(written),
        "asked": client.asked,
        "from_cache": len(written) - client.asked,
    }
    if names:
        found["answered_as"] = ", ".join(names)
    if any(answer.thoughts for answer in written):
        found["thoughts_left_out"] = sum(answer.thoughts for answer in written)
    if failed:
        found["prompts_left_out"] = len(failed)
        found["left_out"] = {f"prompt {row + 1}": failed[row] for row in sorted(failed)[:MOST_TOLD]}
    if client.remarks:
        found["remarks"] = ". ".join(client.remarks)
    return found
