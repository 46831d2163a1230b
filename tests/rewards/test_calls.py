"""Reward functions as users write them: what they ask for, what they are, and what they return."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dialects
import tiny
from heedful.config import UserError
from heedful.configs.shared import Compute
from heedful.data.records import Message, Prompt
from heedful.learning.experience import Experience, Scores, describe
from heedful.rewards.calls import FunctionScorer
from heedful.rewards.functions import ModelScorer, Reward, RewardPart, open_reward
from heedful.rewards.modules import open_function
from heedful.rewards.specs import functions_of
from heedful.rollout.types import Episode

NUMBERS = itertools.count()
ROWS: list[dict[str, Any]] = [
    {"prompt": "2+2", "answer": "4", "level": 1},
    {"prompt": "2+3", "answer": "5", "level": 2},
    {"prompt": "Hi"},
]
GIVEN = ["It is 4.", "It is 6.", "Hello"]
EPISODES = [
    Episode(row["prompt"], [], [], given, True, record=Prompt.model_validate(row))
    for row, given in zip(ROWS, GIVEN, strict=True)
]
Open = Callable[[str], FunctionScorer]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """A scorer around `f` of a module with this source."""

    def open_one(source: str) -> FunctionScorer:
        name = f"called{next(NUMBERS)}"  # a module of a name is imported once
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / f"{name}.py").write_text(source)
        return FunctionScorer(f"{name}:f")

    return open_one


RIGHT = "def right(answers, texts): return [float(bool(a) and a in t) for a, t in zip(answers, texts)]\n"
ASKING = """
def f(prompts, completions, answer): return right(answer, completions)
---
def f(completions, answer): return right(answer, completions)
---
def f(answer, completions, prompts): return right(answer, completions)
---
def f(prompts, completions, rows): return right([row.get("answer") for row in rows], completions)
---
def f(prompts, completions, **fields): return right(fields["answer"], completions)
---
def f(completions, **fields): return right([row.get("answer") for row in fields["rows"]], completions)
---
def f(asked, completions): return [float("4" in c and a == "2+2") for a, c in zip(asked, completions)]
---
def f(answer, completions): return right(answer, completions)
---
def f(**fields): return right(fields["answer"], fields["completions"])
---
def f(questions, texts, answer, *, lacking=0.0): return right(answer, texts)
---
class f:
    def __call__(self, prompts, completions, answer): return right(answer, completions)
---
class Made:
    def __call__(self, p, c): return right("4--", c)
f = Made()
---
async def f(prompts, completions, answer):
    import asyncio
    await asyncio.sleep(0)
    return right(answer, completions)
---
import torch
class f(torch.nn.Module):
    def forward(self, prompts, completions, answer): return torch.tensor(right(answer, completions))
---
import os
def f(prompts, completions):
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    os.chdir("/"), torch.set_grad_enabled(False), torch.set_default_dtype(torch.float64), print("seen")
    return right("4--", completions)
---
import functools
def g(mark, prompts, completions): return [float(mark in c) for c in completions]
f = functools.partial(g, "4")
"""


@pytest.mark.parametrize("source", ASKING.split("---"))
def test_what_a_function_asks_for(opened: Open, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    scorer, before = opened("import torch\n" + RIGHT + source), Path.cwd()
    for _ in range(2):
        assert scorer(EPISODES).tolist() == [1.0, 0.0, 0.0]
    assert Path.cwd() == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("spec", [
    "{0}/my rewards.py:brief", "{0}/my rewards.py:Judge.score", "{0}/my rewards.py:judge.score", "{0}/random.py:brief",
    "3*{0}/my rewards.py:brief", "3 * {0}/my rewards.py:brief", "mean({0}/random.py:brief,{0}/my rewards.py:brief)",
])  # fmt: skip
def test_a_function_in_any_file(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / f"unit{next(NUMBERS)}.py").write_text("ONE = 1.0")
    source = f"from unit{next(NUMBERS) - 1} import ONE\ndef brief(p, c): return [ONE] * len(c)\n"
    source += "class Judge:\n    def score(self, p, c): return [ONE] * len(c)\njudge = Judge()\n"
    for name in ("my rewards", "random"):
        (tmp_path / f"{name}.py").write_text(source)
    reward = open_reward([spec.format(tmp_path)], compute=Compute(), device="cpu")
    assert reward(EPISODES)[0].tolist() == [3.0 if spec.startswith("3") else 1.0] * 3
    assert all(Path(found["path"]).is_file() for found in functions_of([spec.format(tmp_path)]).values())


@pytest.mark.parametrize(("spec", "said"), [
    ("rewards:", "rewards:: neither a model nor a function. Write module:function or folder/file.py:function"),
    ("a/b:f", "a/b:f: neither a model nor a function. Write"),
    ("no\\such file.py:f", "the file no\\such file.py does not exist. Check the path"),
    ("shadowed:f", "shadowed has no function f. Another module has the name of the file here. Write shadowed.py:f"),
    ("shadowed:right", "shadowed has no function right. Did you mean rights?"),
    ("shadowed:NUMBER", "NUMBER is of the type int, which cannot be called. Name a function"),
    ("lacking:f", "lacking imports nowhere_at_all, which is not there. Install it, or put it next to lacking"),
])  # fmt: skip
def test_what_is_no_function(spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "other")])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "shadowed.py").write_text("NUMBER = 1\ndef rights(p, c): return [1.0] * len(c)")
    (tmp_path / "lacking.py").write_text("import nowhere_at_all")
    if spec == "shadowed:f":
        open_function("shadowed:rights")
        (tmp_path / "shadowed.py").write_text("def f(p, c): return [1.0] * len(c)")
    try:
        with pytest.raises(UserError, match=re.escape(said)):
            open_reward([spec], compute=Compute(), device="cpu")
    finally:
        sys.modules.pop("shadowed", None)


def test_rows_are_as_in_the_file(opened: Open) -> None:
    scorer = opened("seen = []\ndef f(prompts, completions, rows): seen.extend(rows); return [0] * len(rows)")
    scorer(EPISODES)
    assert scorer.function.__globals__["seen"] == ROWS


def test_a_field_that_no_row_has_is_named_before_anything_is_sampled(opened: Open) -> None:
    scorer = opened("def f(prompts, completions, solution): return [0] * len(prompts)")
    said = "asks for the field 'solution', which no row has. The rows have answer, level, prompt"
    with pytest.raises(UserError, match=said):
        Reward([RewardPart("it", 1.0, scorer)]).check(e.record for e in EPISODES if e.record is not None)
    with pytest.raises(UserError, match="the field 'solution'"):
        scorer(EPISODES)
    opened("def f(prompts, completions, solution=None): return [0] * len(prompts)")(EPISODES)


def test_a_field_with_a_default_that_no_row_has_is_told(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    scorer = opened("def f(prompts, completions, answr=None, level=0): return level")
    scorer.check(e.record for e in EPISODES if e.record is not None)
    assert caplog.messages == [f"{scorer.spec}: no row has the field 'answr', so its default is used"]
    assert scorer(EPISODES[:2]).tolist() == [1.0, 2.0]


def test_a_first_parameter_with_the_name_of_a_field_is_refused_where_all_fields_are_given(opened: Open) -> None:
    rows = [e.record for e in EPISODES if e.record is not None]
    scorer = opened("def f(level, c, **kw): return [1.0] * len(c)")
    with pytest.raises(UserError, match="its parameter level gets the prompts or the completions"):
        scorer.check(rows)
    with pytest.raises(UserError, match="its parameter answer gets the prompts or the completions"):
        opened("def f(prompts, answer): return [1.0] * len(answer)").check(rows)
    opened("def f(prompt, completion): return [1.0] * len(completion)").check(rows)
    for source in ("def f(level, c, /, **kw): return kw['level'][:2]", "def f(p, c, **kw): return kw['level'][:2]"):
        scorer = opened(source)
        scorer.check(rows)
        assert scorer(EPISODES[:2]).tolist() == [1.0, 2.0]


def test_a_reward_model_with_a_stricter_template_refuses_a_prompt_before_anything_is_sampled() -> None:
    own, strict = dialects.tokenizer("chatml"), dialects.tokenizer("gemma")
    scorer = ModelScorer(tiny.reward(vocab=len(strict)), strict, own)
    system = [Message(role="system", content="Be brief."), Message(role="user", content="Hi")]
    Reward([RewardPart("rm", 1.0, scorer)]).check_prompts([("Hi", None)])
    with pytest.raises(UserError, match=r"rm: .* not supported\. Change such prompts, .* of them: 'Be brief"):
        Reward([RewardPart("rm", 1.0, scorer)]).check_prompts([("Hi", None), (system, None)])


def test_the_file_of_a_function_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hashed.py").write_bytes(b"def f(p, c): return [0]\n")
    found = functions_of(["runs/rm", "0.5*hashed:f", "sys:intern", "nowhere:f"])
    digest = "d823c14ffb5603d6341054ea61ffa2ec1c6cbe66e1ddc17a145915fc2a70589c"
    assert found == {"reward.1": {"ref": "hashed:f", "path": str(tmp_path / "hashed.py"), "sha256": digest}}


def test_a_batch_without_the_field_gets_none_where_other_rows_have_it(opened: Open) -> None:
    scorer = opened("def f(prompts, completions, answer): return [None if a is None else 1 for a in answer]")
    scorer.check(e.record for e in EPISODES if e.record is not None)
    assert math.isnan(scorer(EPISODES[2:]).item())


@pytest.mark.parametrize("returned", [
    "[1, 0.5, None]", "(1, .5, None)", "(x for x in [1, .5, None])", "numpy.array([1, .5, None])",
    "[numpy.float32(1), torch.tensor(0.5, requires_grad=True), None]",
])  # fmt: skip
def test_what_a_function_may_return(opened: Open, returned: str) -> None:
    one, half, none = opened(f"import numpy, torch\ndef f(p, c): return {returned}")(EPISODES).tolist()
    assert (one, half) == (1.0, 0.5)
    assert math.isnan(none)


@pytest.mark.parametrize("returned", [
    "numpy.array([1, .5, 0])", "torch.tensor([1, .5, 0], requires_grad=True)", "torch.tensor([1, .5, 0]).bfloat16()",
    "[True, .5, False]",
])  # fmt: skip
def test_arrays_and_tensors(opened: Open, returned: str) -> None:
    assert opened(f"import numpy, torch\ndef f(p, c): return {returned}")(EPISODES).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(("returned", "said"), [
    ("{0: 1.0, 1: 2.0, 2: 3.0}", r"returned a dict, \{0: 1.0.* It must return a list with one number for each"),
    ("{1.0, 2.0, 3.0}", "returned a set, .*list"),
    ("'123'", "returned a str, '123'"),
    ("b'123'", "returned a bytes"),
    ("None", "returned None. It must return a list"),
    ("1.0", "returned a float, 1.0"),
    ("torch.tensor(1.0)", "returned a float, 1.0"),
    ("[1.0]", "returned 1 number for 3 completions"),
    ("several()", "returned an async_generator, "),
    ("torch.ones(3, 2)", r"returned \[1.0, 1.0\]. A reward must be a finite number, or None for no opinion"),
    ("[1.0, float('nan'), 2.0]", "returned nan. A reward must be a finite number"),
    ("['1', '2', '3']", "returned '1'. A reward"),
    ("[slow(), slow(), slow()]", "returned <coroutine .*A reward must be a finite number"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_it_may_not_return(opened: Open, returned: str, said: str) -> None:
    scorer = opened(
        f"import numpy, torch\nasync def slow(): return 1\nasync def several(): yield 1\ndef f(p, c): return {returned}"
    )
    with pytest.raises(UserError, match=f"^called\\d+:f: {said}"):
        scorer(EPISODES)


@pytest.mark.parametrize(("source", "said"), [
    ("class f:\n    def __init__(self, path): pass", r"raised TypeError: .*Fix the class"),
    ("class f: pass", r"its objects cannot be called"),
    ("def f(completion, prompt): return [0.0]", r"takes completion and then prompt, and heedful gives"),
    ("def f(response, reference): return [0.0]", r"takes response and then reference, and heedful gives the prompts"),
    ("def f(text, questions): return [0.0]", r"takes text and then questions, and heedful gives the prompts first"),
    ("def f(text): return [0.0]", r"takes only text. Write f\(prompts, completions\), or f\(completions\)"),
    ("def f(): return [0.0]", r"takes neither prompts nor completions. Write f"),
    ("def wrap(g): return lambda *a, **k: g(*a, **k)\n@wrap\ndef f(prompts, completions): return [0.0]",
     r"keyword argument 'answer' .* Fix the function, or use functools.wraps in its decorator"),
    ("async def f(p, c):\n    raise OSError('no server')", r"raised OSError: no server \(called\d+\.py, line 2\)"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line(opened: Open, source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        opened(source)(EPISODES)


def test_async_calls_share_a_loop(opened: Open) -> None:
    scorer = opened(
        "import asyncio\nclass f:\n    loops = set()\n    async def __call__(self, p, c):\n"
        "        self.loops.add(asyncio.get_running_loop()); return [float(len(self.loops))] * len(c)"
    )
    assert scorer(EPISODES).tolist() == scorer(EPISODES).tolist() == [1.0] * 3


def test_no_opinion_is_left_out_of_the_sum_and_counted(opened: Open) -> None:
    maths = opened("def f(prompts, completions): return [1.0 if '+' in p else None for p in prompts]")
    length = opened("def f(prompts, completions): return [len(c) for c in completions]")
    reward = Reward([RewardPart("maths", 10.0, maths), RewardPart("length", 0.5, length)])
    total_B, parts = reward(EPISODES)
    assert total_B.tolist() == [14.0, 14.0, 2.5]
    assert parts["length"].tolist() == [8.0, 8.0, 5.0]
    assert dict(reward.no_opinion) == {"maths": 1}
    with pytest.raises(UserError, match="maths: no opinion on an answer to 'Hi'"):
        Reward([RewardPart("maths", 1.0, maths)])(EPISODES)
    # the metrics of an iteration: a mean over the opinions, and the share without one
    scores, nothing_BT = Scores(total_B, total_B, parts), torch.zeros(3, 1)
    mask_BT = torch.ones(3, 1, dtype=torch.bool)
    e = Experience(EPISODES, scores, mask_BT, nothing_BT, nothing_BT, nothing_BT, nothing_BT)
    metrics = describe(e, kl_coef=0.0)
    assert (metrics["score/maths"], metrics["score/length"]) == (1.0, 7.0)
    assert metrics["no_opinion/maths"] == pytest.approx(1 / 3)
    assert "no_opinion/length" not in metrics
