"""Win rates of any number of models on the same prompts, by one judge or by several side by side (E1)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from heedful.config import UserError, refused
from heedful.configs.evaluate import EvaluateConfig
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.data.text import counted
from heedful.endpoints.client import Client, is_address
from heedful.evaluation import answers, asked, judges, people, seen, summary
from heedful.evaluation.answers import Answers, Written
from heedful.evaluation.judges import Judged
from heedful.evaluation.models import Models, parse
from heedful.evaluation.result import Result
from heedful.files import read_json, write_json
from heedful.models.devices import device_of
from heedful.rewards.functions import Reward, open_reward
from heedful.runs.progress import Reporter

RESULT, ANSWERS, CHOICES = "result.json", "answers.jsonl", "choices.{}.jsonl"


@dataclass(frozen=True)
class Collected:
    """The answers of every model to the same prompts."""

    models: Models
    prompts: list[Prompt]
    answers: dict[str, Answers]
    left_out: dict[str, int] = field(default_factory=dict)

    def pairs(self) -> list[Completions]:
        """The first answer of each model next to the baseline's, in one row a pair."""
        found = []
        for prompt in self.prompts:
            asked = answers.key(prompt.prompt)
            for pair in self.models.pairs("baseline"):
                texts = [self.answers[name][asked][0].text for name in pair]
                facts = {name: getattr(prompt, name) for name in Prompt.model_fields}
                found.append(Completions.model_validate({**facts, "completions": texts, "models": list(pair)}))
        return found

    def rows(self) -> list[Completions]:
        """One row of all answers to each prompt, with the models that wrote them."""
        found = []
        for prompt in self.prompts:
            written = [
                (name, one) for name in self.models.names for one in self.answers[name][answers.key(prompt.prompt)]
            ]
            facts = {name: getattr(prompt, name) for name in Prompt.model_fields}
            finishes = [one.finish for _, one in written]
            found.append(
                Completions.model_validate({
                    **facts, "completions": [one.text for _, one in written], "models": [name for name, _ in written],
                    "finish": finishes if None not in finishes else None,
                })
            )  # fmt: skip
        return found


def run(
    config: EvaluateConfig, out: str | Path | None = None, queue: Callable[[list[Completions]], Result] | None = None
) -> Result:
    """Compare the models. With `out` (a folder), write the result, the answers and every verdict there.

    `queue` puts pairs of answers before people. What it returns is part of the result, and no judge is needed then.
    Raises UserError if models, prompts and judges do not fit together.
    """
    models = parse(config.model, config.baseline)
    _check_judges(config, needed=queue is None)
    if out is not None:
        check_free(Path(out))
    machines = [_Machine.open(spec, config) for spec in config.judge if not answers.is_file(spec)]
    rewards = [one.reward for one in machines if one.reward]
    collected = collect(config, models, rewards) if machines or queue is not None else None
    wanted = answers.unique(formats.read(config.prompts, Prompt)) if config.prompts is not None else None
    said: dict[str, Judged] = {}
    for spec in config.judge:
        if answers.is_file(spec):
            said[spec] = people.on_prompts(people.by_people(spec, models), wanted, config.limit)
            summary.cluster_of(config, [verdict.prompt for verdict in said[spec].verdicts])
    for one in machines:
        assert collected is not None
        said[one.spec] = one.judge(collected, config)
    result = {
        "models": models.refs,
        "baseline": models.baseline,
        "seed": config.seed,
        **(_facts(collected) if collected is not None else {}),
        "judges": {spec: summary.of_judge(said[spec], models, config) for spec in config.judge},
        "agreement": summary.agreement([said[spec] for spec in config.judge]),
    }
    prompts = collected.prompts if collected else [verdict.prompt for one in said.values() for verdict in one.verdicts]
    if remarks := seen.remarks(models.refs, prompts, [one.spec for one in machines if one.reward]):
        result["remarks"] = remarks
    if queue is not None and collected is not None:
        result["queue"] = queue(collected.pairs())
    if out is not None:
        _write(Path(out), result, collected, [said[spec] for spec in config.judge])
    return result


def collect(config: EvaluateConfig, models: Models, rewards: Sequence[Reward] = ()) -> Collected:
    """The answers of every model, from files or sampled here. `rewards` are asked first whether the rows suit them."""
    for name, ref in models.refs.items():
        if is_address(ref):
            raise UserError(f"--model {name}={ref}: sample it first with heedful sample, and give the file of answers")
    device = device_of(config.compute)
    read = {name: answers.read(ref) for name, ref in models.refs.items() if answers.is_file(ref)}
    wanted = _prompts(config, {name: prompts for name, (prompts, _) in read.items()})
    found = {name: written for name, (_, written) in read.items()}
    answered = _answered(config, models, wanted, found)
    prompts = answered[: config.limit]
    summary.cluster_of(config, prompts)  # before anything is sampled
    for reward in rewards:
        reward.check(prompts)
        reward.check_prompts((prompt.prompt, prompt.tools) for prompt in prompts)
    sampled = [name for name in models.refs if name not in found]
    with closing(Reporter("models sampled", len(sampled))) as reporter:
        for done, name in enumerate(sampled, 1):
            found[name] = answers.sample(
                models.refs[name], prompts, config.generation, seed=config.seed, compute=config.compute, device=device,
                skip_long=config.skip_long, trust_remote_code=config.trust_remote_code, template=config.template,
                refused_rows=config.refused_rows,
            )  # fmt: skip
            reporter.step(done, {})
    of_each = list(found.values())
    refused = [p for p in prompts if any(written.get(answers.key(p.prompt)) == [] for written in of_each)]
    fitting = [p for p in prompts if all(written.get(answers.key(p.prompt)) for written in of_each)]
    if not fitting:
        raise UserError(f"no prompt is short enough for all of {', '.join(models.names)}")
    repeated = len(formats.read(config.prompts, Prompt)) - len(wanted) if config.prompts is not None else 0
    left_out = {"repeated": repeated} if repeated else {}
    left_out |= {"unanswered": len(wanted) - len(answered), "too_long": len(prompts) - len(fitting) - len(refused)}
    left_out |= {"refused_by_the_template": len(refused)} if refused else {}
    return Collected(models, fitting, {name: found[name] for name in models.names}, left_out)


@dataclass
class _Machine:
    """A judge that reads answers: a reward, or a model behind an address."""

    spec: str
    reward: Reward | None = None
    client: Client | None = None

    @classmethod
    def open(cls, spec: str, config: EvaluateConfig) -> _Machine:
        if is_address(spec):
            return cls(spec, client=Client(spec, config.endpoint))
        return cls(
            spec,
            open_reward(
                seen.SUM.split(spec.strip()), compute=config.compute, device=device_of(config.compute),
                trust_remote_code=config.trust_remote_code,
            ),
        )  # fmt: skip

    def judge(self, collected: Collected, config: EvaluateConfig) -> Judged:
        pairs = collected.models.pairs(config.pairs)
        if self.client is not None:
            return asked.by_endpoint(self.client, collected.prompts, collected.answers, pairs, config.max_requests)
        assert self.reward is not None
        return judges.by_reward(self.spec, self.reward, collected.prompts, collected.answers, pairs)


def _check_judges(config: EvaluateConfig, *, needed: bool) -> None:
    if not config.judge and needed:
        raise UserError("an evaluation needs a judge. Give --judge: a reward model, module:function, a file, URL#model")
    twice = next((spec for spec in config.judge if config.judge.count(spec) > 1), None)
    if twice is not None:
        raise UserError(f"--judge {twice}: is given twice. Give each judge once")
    if config.max_requests is not None and not any(map(is_address, config.judge)):
        raise UserError("--max-requests is for judges behind an address. Leave it out")


def _prompts(config: EvaluateConfig, files: Mapping[str, list[Prompt]]) -> list[Prompt]:
    """The prompts to compare on: `--prompts`, else those of the first model that is a file."""
    if config.prompts is not None:
        return answers.unique(formats.read(config.prompts, Prompt))
    if not files:
        raise UserError("all models are to be sampled. Give --prompts to sample them on")
    return next(iter(files.values()))


def _answered(
    config: EvaluateConfig, models: Models, prompts: list[Prompt], found: Mapping[str, Answers]
) -> list[Prompt]:
    """The prompts that every file answers. Without `common` each must answer all of them."""
    wanted = {answers.key(prompt.prompt) for prompt in prompts}
    shared = [p for p in prompts if all(answers.key(p.prompt) in written for written in found.values())]
    if not shared:
        none = "have no prompt in common" if len(found) > 1 else f"answers none of the prompts of {config.prompts}"
        raise UserError(f"{', '.join(found)} {none}. Check that they answer the same prompts")
    for name, written in found.items():
        ref = models.refs[name]
        missing = [prompt for prompt in prompts if answers.key(prompt.prompt) not in written]
        if missing and not config.common:
            first = answers.shown(missing[0].prompt)
            raise UserError(
                f"{ref}: no answer to {counted(len(missing), 'prompts', of=len(prompts))}, the first {first}. "
                "Compare where all have one with --common"
            )
        if config.prompts is None and not config.common and written.keys() - wanted:
            raise UserError(
                f"{ref}: answers {counted(len(written.keys() - wanted), 'prompts')} that another model does not. "
                "Compare where all have one with --common, or name the prompts with --prompts"
            )
    return shared


def _facts(collected: Collected) -> Result:
    """What is known of the answers without a judge. Every prompt counts once."""

    def mean(value: Callable[[Written], float]) -> dict[str, float]:
        asked = [answers.key(prompt.prompt) for prompt in collected.prompts]
        return {
            name: float(np.mean([np.mean([value(one) for one in written[prompt]]) for prompt in asked]))
            for name, written in collected.answers.items()
        }

    every = [one for of_model in collected.answers.values() for written in of_model.values() for one in written]
    known = all(one.finish is not None for one in every)
    return {
        "prompts": len(collected.prompts),
        "left_out": collected.left_out,
        "mean_length": mean(lambda one: len(one.text)),
        "list_lines": mean(lambda one: summary.list_lines(one.text)),
        "finished": mean(lambda one: one.finish == "stop") if known else None,
    }


def check_free(out: Path) -> None:
    """Check before judging that the folder `out` can be written and replaces only an earlier result."""
    found = read_json(out / RESULT) if (out / RESULT).is_file() else None
    earlier = isinstance(found, dict) and "judges" in found
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file. Results are a folder. Choose another --out")
    if out.is_dir() and any(out.iterdir()) and not earlier:
        raise UserError(f"{out}: holds something else than the result of an evaluation. Choose another --out")
    new = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise UserError(f"{out}: is not writable. Choose another --out")
        for path in new:  # what fails later leaves nothing behind
            path.rmdir()
    except OSError as error:
        raise UserError(refused(error, out)) from None


def _write(out: Path, result: Result, collected: Collected | None, said: Sequence[Judged]) -> None:
    """Write all files next to the folder first, so that a full disk leaves what was there."""
    made = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        if collected is not None:
            formats.write(made / ANSWERS, collected.rows())
        for number, judged in enumerate(said, 1):
            formats.write(made / CHOICES.format(number), [verdict.choice() for verdict in judged.verdicts])
        write_json(made / RESULT, result)
        out.mkdir(exist_ok=True)
        for old in (*out.glob(CHOICES.format("*")), out / ANSWERS):
            if not (made / old.name).exists():
                old.unlink(missing_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: path.name == RESULT):
            path.replace(out / path.name)
    except OSError as error:
        raise UserError(refused(error, out)) from None
    except UserError as error:  # it names a file of the folder that goes away
        raise UserError(str(error).replace(str(made), str(out))) from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
