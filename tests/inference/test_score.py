"""Scores of the answers in a file."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

import tiny
from heedful.config import NonFinite, UserError, load
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Comparison, Completions, Record
from heedful.files import read_json
from heedful.inference import score
from heedful.models import load as models
from heedful.models import render
from heedful.rewards.functions import ModelScorer
from heedful.rollout.types import Episode
from heedful.runs.manifest import manifest_path
from heedful.runs.resumable import Interrupted
from stages import worlds
from stages.worlds import Files

EOS = 0
DTYPES = ("float32", "bfloat16")
COUNT_E = "stages.worlds:count_e"
NUMBERS = itertools.count()


def run(files: Files, tmp_path: Path, data: str, *reward: str, **changes: Any) -> list[dict[str, Any]]:
    config = load(ScoreConfig, None, reward=list(reward) or [files.judge], data=data, **changes)
    return [record.row() for record in formats.read(score.run(config, tmp_path / "scored.jsonl"), Record)]


def by_transformers(path: str, ids: list[int]) -> float:
    """The score as any user of transformers gets it: its own logit, and the bias of the config."""
    model = AutoModelForSequenceClassification.from_pretrained(path)
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits) + model.config.heedful_reward_bias


def test_scores_are_those_of_transformers_read_at_the_last_token(files: Files, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    texts = ["red dog", "blue cat runs"]
    data = worlds.write(
        tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": texts, "finish": ["stop", "length"]}]
    )
    (row,) = run(files, tmp_path, data)
    prompt = tokenizer.encode("Say red")
    ends = [[EOS], []]  # what was cut off by length has no end of text
    expected = [
        by_transformers(files.judge, prompt + tokenizer.encode(t) + e) for t, e in zip(texts, ends, strict=True)
    ]
    assert row["scores"] == pytest.approx(expected, abs=1e-5)


def test_whichever_stop_token_a_policy_chose_the_reward_model_reads_the_end_of_a_turn() -> None:
    tokenizer = tiny.tokenizer(template=True)
    words, end = tokenizer.encode("red dog"), tokenizer.convert_tokens_to_ids("<|im_end|>")
    scorer = ModelScorer(tiny.reward(), tokenizer, tokenizer)

    def read(*ids: int, finished: bool = True) -> float:
        return float(scorer([Episode("Say", [5, 6], [*words, *ids], "red dog", finished)]))

    assert end != EOS
    assert read(end) == read(EOS) != read()
    assert read(EOS, finished=False) not in (read(EOS), read())  # cut off right behind it: as it was sampled


@pytest.mark.parametrize("same", [True, False], ids=["the policy's ids", "its own ids"])
def test_a_reward_model_of_the_hub_reads_the_whole_chat(tmp_path: Path, same: bool) -> None:
    """As the cards of such models do it: apply_chat_template, and the model's own forward."""
    tokenizer = tiny.tokenizer(template=True)
    model = LlamaForSequenceClassification(tiny.config("llama", num_labels=1)).eval()
    model.config.eos_token_id = tokenizer.eos_token_id
    worlds.save(tmp_path / "rm", model, tokenizer)
    chat = [{"role": "user", "content": "Say red"}, {"role": "assistant", "content": "red dog"}]
    ids = tokenizer.apply_chat_template(chat, return_dict=False)
    assert tokenizer.decode(ids).endswith("<|im_end|>\n")
    with torch.no_grad():
        expected = float(model(torch.tensor([ids])).logits)
        cut = float(model(torch.tensor([ids[:-1]])).logits)
    assert abs(expected - cut) > 1e-3
    asked, answer = render.answered(tokenizer, "Say red", "red dog")
    episode = Episode("Say red", asked, answer, "red dog", True)

    def scored(loaded: Any) -> float:
        return float(ModelScorer(loaded[0], loaded[1], tokenizer if same else None)([episode]))

    assert scored(models.load_reward(tmp_path / "rm")) == pytest.approx(expected, abs=1e-5)
    # trained further, it is read at the end of the turn
    assert scored(models.load_reward_start(tmp_path / "rm", seed=0)) == pytest.approx(cut, abs=1e-5)


def test_sampled_ids_are_scored_as_they_were_sampled(files: Files, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    letters = [tokenizer.encode(letter)[0] for letter in "seven"]  # the tokenizer itself would merge them
    assert tokenizer.encode("seven") != letters
    rows = [
        {"prompt": "Say", "completions": ["seven"], "finish": ["stop"], "token_ids": [[*letters, EOS]]},
        {"prompt": "Say", "completions": ["eleven"], "finish": ["stop"], "token_ids": [[*letters, EOS]]},  # not its ids
    ]
    sampled, other = run(files, tmp_path, worlds.write(tmp_path / "c.jsonl", rows))
    prompt = tokenizer.encode("Say")
    assert sampled["scores"] == pytest.approx([by_transformers(files.judge, [*prompt, *letters, EOS])], abs=1e-5)
    rendered = [*prompt, *tokenizer.encode("eleven"), EOS]
    assert other["scores"] == pytest.approx([by_transformers(files.judge, rendered)], abs=1e-5)


def test_bodies_compute_in_the_dtype_that_is_asked_for(files: Files, tmp_path: Path) -> None:
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": ["red dog", "blue cat runs"]}])
    (exact,), (rounded,) = (run(files, tmp_path / dtype, data, compute={"dtype": dtype}) for dtype in DTYPES)
    assert rounded["scores"] != exact["scores"]
    assert rounded["scores"] == pytest.approx(exact["scores"], abs=0.05)


def test_scores_that_are_no_numbers_are_named(files: Files, tmp_path: Path) -> None:
    judge = tiny.reward(seed=1)
    judge.score.weight.data.fill_(float("nan"))
    broken = worlds.save(tmp_path / "judge", judge)
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": ["red dog"]}])
    with pytest.raises(NonFinite, match=f"the score of {broken}"):
        run(files, tmp_path, data, broken)


@pytest.mark.parametrize(("name", "said"), [
    ("nothing", r"returned None. It must return a list with one number for each completion"),
    ("words", r"returned 'good'. A reward must be a finite number"),
    ("huge", r"returned 1e\+300. A reward must be a finite number"),
    ("one", r"returned 1 number for 2 completions"),
])  # fmt: skip
def test_a_function_that_returns_something_else(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_rewards.py").write_text(
        "def nothing(p, c): pass\ndef words(p, c): return ['good'] * len(c)\ndef one(p, c): return [1.0]\n"
        "def huge(p, c): return [1e300] * len(c)\n"
    )
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": ["red dog", "blue"]}])
    with pytest.raises(UserError, match=said):
        run(files, tmp_path, data, f"wrong_rewards:{name}")


def test_a_module_that_does_not_parse_is_named_with_its_line(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unparsable.py").write_text("def f(p, c):\n    return [\n")
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": ["red dog", "blue"]}])
    with pytest.raises(UserError, match=r"unparsable:f: .*unparsable\.py, line 2: .*. Fix the module"):
        run(files, tmp_path, data, "unparsable:f")


@pytest.mark.parametrize(("module", "said"), [
    ("def f(p, c):\n    return ask(c)\n\ndef ask(c):\n    raise RuntimeError('rate\\nlimit')\n",
     r"foreign\d:f: raised RuntimeError: rate limit \(foreign\d\.py, line 5\). Fix the function"),
    ("import json\ndef f(p, c):\n    return json.loads('{')\n",
     r"raised JSONDecodeError: .* \(foreign\d\.py, line 3\). Fix the function"),
    ("def f(p, c):\n    yield from c[0]['score']\n", r"raised TypeError: .*, line 2\). Fix the function"),
    ("def f(p, c):\n    assert False\n", r"raised AssertionError \(foreign\d\.py, line 2\). Fix the function"),
    ("scale = one\ndef f(p, c): pass\n", r"raised NameError: .* \(foreign\d\.py, line 1\). Fix the module"),
    ("raise SystemExit(3)\n", r"raised SystemExit: 3 \(foreign\d\.py, line 1\). Fix the module"),
])  # fmt: skip
def test_what_a_function_raises_is_one_line_with_its_cause(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str
) -> None:
    name = f"foreign{next(NUMBERS)}"  # a module of a name is imported once
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(module)
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say red", "completions": ["red dog", "blue"]}])
    with pytest.raises(UserError, match=f"{said}$") as told:
        run(files, tmp_path, data, f"{name}:f")
    assert type(told.value.__cause__).__name__ in str(told.value)


def test_a_weighted_sum_adds_up_and_keeps_its_parts(files: Files, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say", "completions": ["ee", "ex", "xxxx"]},
        {"prompt": "Tell", "completions": ["e" * 10]},
    ]
    data = worlds.write(tmp_path / "c.jsonl", rows)
    first, second = run(files, tmp_path, data, f"-0.5*{files.judge}", f"3*{COUNT_E}")
    assert first["score_parts"][COUNT_E] == [1.0, 0.5, 0.0]
    assert second["score_parts"][COUNT_E] == [1.0]
    for row in (first, second):
        parts = zip(row["score_parts"][files.judge], row["score_parts"][COUNT_E], strict=True)
        assert row["scores"] == pytest.approx([-0.5 * judge + 3 * count for judge, count in parts])
    assert "score_parts" not in run(files, tmp_path / "one", data, COUNT_E)[0]


def test_comparisons_and_demonstrations_keep_their_fields(files: Files, tmp_path: Path) -> None:
    rows = run(files, tmp_path, files.rankings)
    before = formats.read(files.rankings, Comparison)
    assert [Comparison.model_validate(row).ranking for row in rows] == [record.ranking for record in before]
    assert [len(row["scores"]) for row in rows] == [len(record.completions) for record in before]
    assert [row["labeler"] for row in rows] == [record.labeler for record in before]
    answered = run(files, tmp_path / "demos", files.demos)
    assert [len(row["scores"]) for row in answered] == [1] * 24
    assert answered[0]["completion"]


@pytest.mark.medium
def test_scores_do_not_depend_on_chunks_or_micro_batches(files: Files, tmp_path: Path) -> None:
    whole = [row["scores"] for row in run(files, tmp_path / "a", files.rankings)]
    small = [row["scores"] for row in run(files, tmp_path / "b", files.rankings, chunk=5, compute={"micro_tokens": 40})]
    for ours, theirs in zip(whole, small, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_manifest_names_the_rewards_and_the_mean(files: Files, tmp_path: Path) -> None:
    rows = run(files, tmp_path, files.rankings, files.judge, COUNT_E)
    manifest = read_json(manifest_path(tmp_path / "scored.jsonl"))
    assert {role: parent["ref"] for role, parent in manifest["parents"].items()} == {"reward.0": files.judge}
    flat = [number for row in rows for number in row["scores"]]
    assert manifest["results"] == {"rows": 24, "score": pytest.approx(sum(flat) / len(flat))}


@pytest.mark.medium
def test_a_cut_file_resumes_to_the_same_bytes(files: Files, tmp_path: Path) -> None:
    config = load(ScoreConfig, None, reward=[files.judge], data=files.rankings, chunk=7)
    whole = score.run(config, tmp_path / "whole.jsonl").read_bytes()
    out, calls = tmp_path / "scored.jsonl", []

    def stopping(self: ModelScorer, episodes: Any, original: Any = ModelScorer.__call__) -> Any:
        calls.append(len(episodes))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, episodes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelScorer, "__call__", stopping)
        with pytest.raises(Interrupted, match="14 of 24 rows"):
            score.run(config, out)
    partial = tmp_path / ".scored.jsonl.partial"
    os.truncate(partial, partial.stat().st_size - 30)
    assert score.run(config, out, resume=True).read_bytes() == whole


def test_an_answer_over_the_context_names_its_row(files: Files, tmp_path: Path) -> None:
    rows = [{"prompt": "Say", "completions": ["a"]}, {"prompt": "Say", "completions": ["a", "house " * 200]}]
    data = worlds.write(tmp_path / "c.jsonl", rows)
    with pytest.raises(UserError, match=r"c\.jsonl: answer 2 of row 2 has \d+ tokens with its prompt, .* at most 128"):
        run(files, tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


CALL = {"content": "a", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Say", "completion": CALL}, r"c\.jsonl: the answer of row 2 has tool calls\. Only texts can"),
        ({"prompt": "Say", "completion": "a", "tools": [{"name": "f"}]}, r"c\.jsonl: row 2: .* no chat template"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(files: Files, tmp_path: Path, row: dict[str, Any], message: str) -> None:
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say", "completion": "a"}, row])
    with pytest.raises(UserError, match=message):
        run(files, tmp_path, data)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "Say"}], "field 'completions': missing"),
        ([{"something": 1}], "unknown kind of rows"),
        ([], "no rows"),
    ],
)
def test_rows_without_answers_are_an_error(
    files: Files, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(files, tmp_path, worlds.write(tmp_path / "c.jsonl", rows))


def test_a_scored_file_can_be_scored_again(files: Files, tmp_path: Path) -> None:
    data = worlds.write(tmp_path / "c.jsonl", [{"prompt": "Say", "completions": ["ee"], "scores": [7.0]}])
    (row,) = run(files, tmp_path, data, COUNT_E)
    assert Completions.model_validate(row).scores == [1.0]
