"""What a compared model knows already: prompts that it was trained on, and a judge that it was trained to please."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from heedful.config import UserError
from heedful.data import formats, kinds
from heedful.data.records import Prompt
from heedful.data.text import counted
from heedful.evaluation.answers import key
from heedful.rewards.specs import identities
from heedful.runs.manifest import Manifest, ancestry, maker

SUM = re.compile(r"\s\+\s")  # between the parts of one judge
_LEARNED = {"sft": "data", "dpo": "data", "ppo": "prompts", "rloo": "prompts", "grpo": "prompts"}
"""The data that a policy learns to answer, by stage."""


def remarks(models: Mapping[str, str], prompts: Sequence[Prompt], judges: Sequence[str]) -> list[str]:
    """A line for each model whose figures are too good: it has seen the prompts, or the judge was its reward.

    `models`: references by name. `judges`: rewards. Only what manifests and files on this machine say is known.
    """
    asked = {key(prompt.prompt) for prompt in prompts}
    found = []
    for name, ref in models.items():
        made = maker(ref)
        if made is None:
            continue
        line = [one for _, one in ancestry(name, made)]
        for path, learned in _learned(line).items():
            if known := len(asked & learned):
                some = counted(known, "prompts", of=len(asked))
                found.append(f"{name}: was trained on {some}, from {path}. Take prompts that it has not seen")
        pleased = {one for manifest in line for one in _rewards(manifest)}
        found += [
            f"{name}: {judge} was the reward that chose or trained its answers. Ask another judge too"
            for judge in judges
            if identities(SUM.split(judge.strip())) & pleased
        ]
    return found


def _learned(line: Sequence[Manifest]) -> dict[str, set[str]]:
    """The keys of the prompts in the files that runs learned to answer, if these are as they were then."""
    found: dict[str, set[str]] = {}
    for manifest in line:
        source = manifest.data.get(_LEARNED.get(manifest.stage, ""), {})
        path = str(source.get("path") or "")
        if path and path not in found:
            try:
                if formats.fingerprint(path)["sha256"] == source.get("sha256"):
                    found[path] = set(_trained_on(path))
            except UserError:  # it is not here any more
                continue
    return found


def _trained_on(path: str) -> Iterator[str]:
    for record in formats.read(path, kinds.KINDS[kinds.kind_of(path, lenient=True)]):
        if isinstance(record, Prompt) and record.split not in ("valid", "test"):
            yield key(record.prompt)


def _rewards(manifest: Manifest) -> set[str]:
    """The rewards by which a run learned, or by which answers were chosen."""
    given = manifest.config.get("reward") if manifest.stage in (*_LEARNED, "best_of_n") else None
    return identities([str(spec) for spec in given]) if isinstance(given, list) else set()
