"""Win rates with numbers worked out by hand; answers from files, models and people; what does not fit together."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError, build
from heedful.configs.evaluate import EvaluateConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.shared import Generation
from heedful.data import formats
from heedful.data.records import Choice, Completions, Prompt
from heedful.evaluation import answers, evaluate, judges
from heedful.evaluation.described import describe
from heedful.evaluation.evaluate import run
from heedful.evaluation.seen import remarks
from heedful.models import batches, load, render, scoring
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Stream
from heedful.runs.manifest import Manifest, manifest_path

JUDGE = "count_of_good:score"


@pytest.fixture(autouse=True)
def _judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that counts how often an answer says "good", in a module of its own."""
    code = "def score(prompts, completions):\n    return [float(c.split().count('good')) for c in completions]\n"
    code += "def twin(prompts, completions):\n    return score(prompts, completions)\n"
    (tmp_path / "count_of_good.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "count_of_good", raising=False)


def put(path: Path, rows: list[dict[str, Any]]) -> str:
    formats.write(path, rows)
    return str(path)


def demonstrations(path: Path, answers: dict[str, str], **fields: dict[str, str]) -> str:
    extra = {prompt: {name: values[prompt] for name, values in fields.items()} for prompt in answers}
    return put(path, [{"prompt": p, "completion": c, **extra[p]} for p, c in answers.items()])


def comparing(a: str, b: str, *judges: str, **settings: Any) -> EvaluateConfig:
    """A compared with the baseline B, by the count of "good" unless other judges are given."""
    return EvaluateConfig(model=[f"a={a}", f"b={b}"], baseline="b", judge=list(judges) or [JUDGE], **settings)


def only(result: dict[str, Any]) -> dict[str, Any]:
    """The facts of the result with the figures of the one judge, those of model a taken out of their tables."""
    (found,) = result["judges"].values()
    facts = {name: value for name, value in result.items() if name not in ("judges", "agreement")}
    return {**facts, **found, "win_rate": found["win_rates"]["a"], "length": found["length"]["a"]}


def judged(a: str, b: str, *judges: str, out: Path | None = None, **settings: Any) -> dict[str, Any]:
    return only(run(comparing(a, b, *judges, **settings), out))


A = {"p1": "good good", "p2": "good", "p3": "bad", "p4": "bad indeed"}
B = {"p1": "good", "p2": "good", "p3": "good", "p4": "bad"}


def test_win_rate_ties_lengths_and_use_cases_by_hand(tmp_path: Path) -> None:
    """A wins p1, ties p2 and p4, loses p3: (1 + 0.5 + 0 + 0.5) / 4."""
    use_case = {"p1": "chat", "p2": "chat", "p3": "rewrite", "p4": "rewrite"}
    a = demonstrations(tmp_path / "a.jsonl", A, use_case=use_case)
    b = demonstrations(tmp_path / "b.jsonl", B, use_case=use_case)
    result = judged(a, b)
    assert result["win_rate"]["rate"] == 0.5
    assert (result["prompts"], result["verdicts"], result["ties"]) == (4, 4, 2)
    assert result["mean_score"] == {"a": 0.75, "b": 0.75}
    assert result["mean_length"] == {"a": (9 + 4 + 3 + 10) / 4, "b": (4 + 4 + 4 + 3) / 4}
    assert result["by_use_case"]["chat"]["a"]["rate"] == 0.75
    assert result["by_use_case"]["rewrite"]["a"]["rate"] == 0.25
    length = result["length"]
    assert length["longer_share"] == 0.5  # p1, p4
    assert length["longer"]["rate"] == 0.75
    assert length["shorter"]["rate"] == 0.0  # p3
    assert length["similar"] == {"rate": 0.5, "low": None, "high": None, "n": 1}  # p2 alone
    assert result["finished"] is None
    json.dumps(result, allow_nan=False)


def test_a_prompt_with_several_answers_counts_once(tmp_path: Path) -> None:
    """p1: of A's two answers one beats B's and one ties with it: 0.75. p2: lost."""
    a = put(tmp_path / "a.jsonl", [
        {"prompt": "p1", "completions": ["good good", "good"], "finish": ["stop", "length"]},
        {"prompt": "p2", "completions": ["bad", "bad"], "finish": ["stop", "stop"]},
    ])  # fmt: skip
    b = put(tmp_path / "b.jsonl", [
        {"prompt": "p1", "completions": ["good"], "finish": ["stop"]},
        {"prompt": "p2", "completions": ["good"], "finish": ["stop"]},
    ])  # fmt: skip
    result = judged(a, b)
    assert result["win_rate"]["rate"] == 0.375
    assert (result["prompts"], result["verdicts"], result["ties"]) == (2, 4, 1)
    assert result["mean_score"] == {"a": 0.75, "b": 1.0}
    assert result["finished"] == {"a": 0.75, "b": 1.0}


def test_the_judge_may_be_a_weighted_sum(tmp_path: Path) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    result = judged(a, b, f"-2*{JUDGE} + count_of_good:twin")
    assert result["mean_score"] == {"a": -0.75, "b": -0.75}
    assert judged(a, b, f"-2*{JUDGE} + count_of_good:twin", limit=1)["win_rate"]["rate"] == 0.0


def test_clusters_of_users_widen_the_interval(tmp_path: Path) -> None:
    """Each user's four prompts all go the same way: there are ten users to count, not forty prompts."""
    prompts = [f"q{i}" for i in range(40)]
    users = {p: f"u{i // 4}" for i, p in enumerate(prompts)}
    a = demonstrations(
        tmp_path / "a.jsonl", {p: "good" if i < 20 else "bad" for i, p in enumerate(prompts)}, user=users
    )
    b = demonstrations(
        tmp_path / "b.jsonl", {p: "bad" if i < 20 else "good" for i, p in enumerate(prompts)}, user=users
    )
    by_prompt = judged(a, b, cluster="prompt")["win_rate"]
    by_user = judged(a, b, cluster="user")["win_rate"]
    assert by_prompt["rate"] == by_user["rate"] == 0.5
    assert (by_user["low"], by_user["high"]) == pytest.approx((0.2, 0.8), abs=0.03)
    assert judged(a, b)["win_rate"] == by_user  # every prompt names its user
    few = judged(a, b, cluster="user", limit=36)["win_rate"]
    assert (few["low"], few["high"]) == (None, None)  # nine users
    assert 0.3 < by_prompt["low"] < by_prompt["high"] < 0.7


def test_clusters_of_users_need_users(tmp_path: Path) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    with pytest.raises(UserError, match=r"4 of 4 prompts name no user. Use cluster = prompt"):
        judged(a, b, cluster="user")
    with pytest.raises(UserError, match=r"4 of 4 prompts name no user"):  # before the model is looked for
        judged(a, "./no-model", cluster="user")


def test_files_must_answer_the_same_prompts(tmp_path: Path) -> None:
    a = demonstrations(tmp_path / "a.jsonl", A)
    fewer = demonstrations(tmp_path / "fewer.jsonl", {"p1": "good", "p2": "good"})
    other = demonstrations(tmp_path / "other.jsonl", {"x": "good"})
    with pytest.raises(UserError, match=r"fewer.jsonl: no answer to 2 of 4 prompts, the first 'p3'"):
        judged(a, fewer)
    with pytest.raises(UserError, match=r"a.jsonl: answers 2 prompts that another model does not"):
        judged(fewer, a)
    with pytest.raises(UserError, match=r"^a, b have no prompt in common"):
        judged(a, other, common=True)
    with pytest.raises(UserError, match=r"^b answers none of the prompts of .*other.jsonl\. Check"):
        run(EvaluateConfig(model=["a=some/model", f"b={a}"], judge=[JUDGE], prompts=other))
    result = judged(a, fewer, common=True)
    assert result["win_rate"]["rate"] == 0.75
    assert result["left_out"] == {"unanswered": 2, "too_long": 0}
    assert "left out: 2 unanswered" in describe(run(comparing(a, fewer, common=True)))


def test_prompts_choose_what_to_compare_on(tmp_path: Path) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    prompts = put(tmp_path / "prompts.jsonl", [{"prompt": "p1"}, {"prompt": "p3"}, {"prompt": "p1"}])
    result = judged(a, b, prompts=prompts)
    assert (result["prompts"], result["win_rate"]["rate"]) == (2, 0.5)
    assert result["left_out"] == {"repeated": 1, "unanswered": 0, "too_long": 0}
    tools = [[{"type": "function", "function": {"name": name}}] for name in ("clock", "weather")]
    put(Path(prompts), [{"prompt": "p1", "tools": one} for one in tools])
    with pytest.raises(UserError, match=r"'p1': stands in two rows with other `tools`\. Leave one of them out"):
        judged(a, b, prompts=prompts)
    chat = put(tmp_path / "chat.jsonl", [{"prompt": [{"role": "user", "content": "p1"}]}])
    assert judged(a, b, prompts=chat)["win_rate"]["rate"] == 1.0


def test_a_row_needs_an_answer(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", [{"prompt": "p1"}])
    with pytest.raises(
        UserError, match=r"a.jsonl:1: field 'completions': missing. A row needs completion or completions"
    ):
        judged(path, "b.jsonl")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"judge": []}, "an evaluation needs a judge. Give --judge"),
        ({"judge": [JUDGE, JUDGE]}, "--judge count_of_good:score: is given twice"),
        ({"model": ["a"]}, "a comparison needs two models"),
        ({"model": ["a=x", "a=y"]}, "--model a=y: there is a model a already"),
        ({"model": ["a=x", "b=x"]}, "--model b=x: a is the same model. Give each model once"),
        ({"model": [f"a={__file__}", f"b={Path(__file__).parent}/./{Path(__file__).name}"]}, "a is the same model"),
        ({"model": ["a=", "b=x"]}, "--model a=: write NAME=MODEL"),
        ({"baseline": "c"}, "--baseline c: no such model. The models are a, b"),
        ({"max_requests": 5}, "--max-requests is for judges behind an address"),
        ({"model": ["a=http://h/v1#m", "b=x"]}, "sample it first with heedful sample"),
    ],
)
def test_what_is_no_comparison_is_told_before_any_work(settings: dict[str, Any], told: str) -> None:
    values = {"model": ["a=x", "b=y"], "judge": [JUDGE], **settings}
    with pytest.raises(UserError, match=re.escape(told)):
        run(build(EvaluateConfig, values, "the test"))


def test_a_judge_gives_finite_numbers() -> None:
    def reward(episodes: list[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return torch.full((len(episodes),), float("nan")), {}

    one = {"p1": [answers.Written("x")]}
    with pytest.raises(UserError, match=r"broken: the score of an answer to 'p1' is nan"):
        judges.by_reward("broken", reward, [Prompt(prompt="p1")], {"a": one, "b": one}, [("a", "b")])  # type: ignore[arg-type]


# --- people ------------------------------------------------------------------------------------------------


def choice(prompt: str, a: str, b: str, preferred: str, **fields: Any) -> dict[str, Any]:
    """Sides by model name; each model's text is its name and the prompt."""
    sides = {side: {"text": f"{name} on {prompt}", "model": name} for side, name in (("a", a), ("b", b))}
    return {"prompt": prompt, **sides, "preferred": preferred, **fields}


def test_peoples_choices_are_turned_and_counted_by_prompt(tmp_path: Path) -> None:
    """p1: ppo preferred by two, tied by one, 2.5 / 3; p2: sft preferred. One row is on another pair."""
    path = put(tmp_path / "choices.jsonl", [
        choice("p1", "ppo", "sft", "a", labeler="ann"),
        choice("p1", "sft", "ppo", "b", labeler="ben"),
        choice("p1", "ppo", "sft", "tie", labeler="cas", none_acceptable=True),
        choice("p2", "sft", "ppo", "a", labeler="ann"),
        choice("p2", "sft", "base", "b", labeler="ben"),
    ])  # fmt: skip
    result = judged("ppo", "sft", path)
    assert result["win_rate"]["rate"] == pytest.approx((2.5 / 3 + 0) / 2)
    assert (result["prompts"], result["verdicts"], result["ties"], result["labelers"]) == (2, 4, 1, 3)
    assert result["both_bad"] == 1  # of the ties
    assert result["other_rows"] == 1
    assert result["labeler_agreement"] == {"rate": 1.0, "pairs": 1}  # ann and ben on p1; a tie does not count
    assert "mean_score" not in result
    turned = judged("sft", "ppo", path)
    assert turned["win_rate"]["rate"] == pytest.approx(1 - (2.5 / 3) / 2)
    one = put(tmp_path / "p2.jsonl", [{"prompt": "p2"}])
    assert judged("ppo", "sft", path, prompts=one)["win_rate"]["rate"] == 0.0
    assert judged("ppo", "sft", path, limit=1)["prompts"] == 1


def test_a_run_is_known_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(
        '{"id": "f00d", "stage": "ppo", "status": "finished", "config": {}, "parents": {}, "data": {}}'
    )
    path = put(tmp_path / "choices.jsonl", [choice("p1", "f00d", "sft", "a")])
    assert judged(str(tmp_path / "run"), "sft", path)["win_rate"]["rate"] == 1.0


def test_unnamed_sides_count_as_they_stand(tmp_path: Path) -> None:
    path = put(tmp_path / "choices.jsonl", [{"prompt": "p", "a": {"text": "x"}, "b": {"text": "y"}, "preferred": "b"}])
    assert judged("left", "right", path)["win_rate"]["rate"] == 0.0


def test_choices_on_other_models_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "choices.jsonl", [choice("p1", "flan", "sft", "a")])
    with pytest.raises(UserError, match=r"choices.jsonl: compares no two of a, b. It compares flan, sft"):
        judged("ppo", "sft", path)
    prompts = put(tmp_path / "prompts.jsonl", [{"prompt": "other"}])
    with pytest.raises(UserError, match=r"no judgement on a prompt of --prompts"):
        judged("flan", "sft", path, prompts=prompts)


# --- models ------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> str:
    load.save(tiny.policy(), tiny.tokenizer(), tmp_path / "policy")
    return str(tmp_path / "policy")


GENERATION = Generation(max_new_tokens=6)
ASKED = [{"prompt": f"What is {i}?", "use_case": "question"} for i in range(4)]


@pytest.mark.medium
def test_a_model_against_itself_ties_everywhere(tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The streams are matched: two names of the same weights give the same samples, and equal texts the same score."""
    load.save(tiny.policy(), tiny.tokenizer(), tmp_path / "again")
    load.save(tiny.reward(seed=1), tiny.tokenizer(), tmp_path / "rm")
    prompts = put(tmp_path / "prompts.jsonl", ASKED)
    config = comparing(model, str(tmp_path / "again"), str(tmp_path / "rm"), prompts=prompts, generation=GENERATION)
    result = only(run(config, tmp_path / "result"))
    assert capfd.readouterr().err.splitlines()[-1] == "models sampled 2/2  "
    assert result["win_rate"] == {"rate": 0.5, "low": None, "high": None, "n": 4}
    assert result["ties"] == 4
    assert result["finished"] is not None
    rows = formats.read(tmp_path / "result" / "choices.1.jsonl", Choice)
    assert all(row.a.text == row.b.text for row in rows)
    policy, tokenizer = load.load_policy(model)
    ids = render.prompt_ids(tokenizer, rows[2].prompt)
    (alone,) = LocalEngine(policy, tokenizer).generate([ids], [Stream(0, 0, 2)], GENERATION)
    assert rows[2].a.text == render.response_text(tokenizer, alone.response_ids)
    other = run(config.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other["mean_length"] != result["mean_length"]


@pytest.mark.medium
def test_a_reward_model_scores_what_it_would_score(tmp_path: Path, model: str) -> None:
    """The score in the rows is the reward model's own of prompt and answer, EOS after a finished one only."""
    load.save(tiny.reward(seed=1), tiny.tokenizer(), tmp_path / "rm")
    b = put(tmp_path / "b.jsonl", [{**row, "completions": ["Twelve."], "finish": ["length"]} for row in ASKED])
    run(comparing(model, b, str(tmp_path / "rm"), generation=GENERATION), tmp_path / "deep" / "result")
    row = formats.read(tmp_path / "deep" / "result" / "choices.1.jsonl", Choice)[0]
    reward, tokenizer = load.load_reward(tmp_path / "rm")
    prompt, response = (
        render.prompt_ids(tokenizer, row.prompt),
        render.response_ids(tokenizer, "Twelve.", finished=False),
    )
    expected = scoring.rewards(reward, batches.collate([prompt], [response], tokenizer.pad_token_id)).item()
    assert row.b.row()["score"] == pytest.approx(expected, abs=1e-5)
    assert row.use_case == "question"


def test_compute_says_where_and_how_models_run(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def opened(*args: Any, **given: Any) -> Any:
        seen.update(given)
        raise UserError("enough")

    monkeypatch.setattr(evaluate, "open_reward", opened)
    compute = {"device": "cpu", "dtype": "bfloat16", "micro_tokens": 7}
    values = {"model": [f"a={model}", "b=other"], "judge": [JUDGE], "compute": compute}
    with pytest.raises(UserError, match="enough"):
        run(build(EvaluateConfig, values, "the test"))
    assert (seen["device"], seen["compute"].dtype, seen["compute"].micro_tokens) == (torch.device("cpu"), "bfloat16", 7)
    with pytest.raises(UserError, match=r"unknown key 'device'. Known here: .*compute"):
        build(EvaluateConfig, {**values, "device": "cpu"}, "the test")


@pytest.mark.medium
def test_models_need_prompts_that_fit(tmp_path: Path, model: str) -> None:
    with pytest.raises(UserError, match=r"all models are to be sampled\. Give --prompts"):
        judged(model, "other")
    rows = [*ASKED, {"prompt": "long " * 200}]
    prompts = put(tmp_path / "prompts.jsonl", rows)
    b = put(tmp_path / "b.jsonl", [{**row, "completions": ["x"], "finish": ["stop"]} for row in rows])
    config = comparing(model, b, prompts=prompts, generation=GENERATION)
    with pytest.raises(UserError, match="policy: prompt 5 has 801 tokens, the most here is 122 "):
        run(config)
    assert run(config.model_copy(update={"skip_long": True}))["left_out"] == {"unanswered": 0, "too_long": 1}
    with pytest.raises(UserError, match="reads 128 tokens in all"):
        run(config.model_copy(update={"generation": Generation(max_new_tokens=500)}))


# --- what is written ---------------------------------------------------------------------------------------


def test_written_verdicts_are_choices_that_give_the_same_win_rate(tmp_path: Path) -> None:
    users = {"p1": "u", "p2": "u", "p3": "v", "p4": "w"}
    a, b = demonstrations(tmp_path / "a.jsonl", A, user=users), demonstrations(tmp_path / "b.jsonl", B, user=users)
    result = run(comparing(a, b), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    rows = formats.read(tmp_path / "out" / "choices.1.jsonl", Choice)
    assert [row.preferred for row in rows] == ["a", "tie", "b", "tie"]
    assert [row.user for row in rows] == ["u", "u", "v", "w"]
    assert rows[0].a.row() == {"text": "good good", "model": "a", "score": 2.0}
    written = formats.read(tmp_path / "out" / "answers.jsonl", Completions)
    assert (written[3].completions, written[3].models) == (["bad indeed", "bad"], ["a", "b"])
    again = judged(a, b, str(tmp_path / "out" / "choices.1.jsonl"))
    assert again["win_rates"] == only(result)["win_rates"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_only_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    for name in ("notes.txt", "result.json"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text('{"people": 3}')
        with pytest.raises(UserError, match="mine: holds something else than the result of an evaluation"):
            judged(a, b, "nowhere", out=tmp_path / "mine")  # before a judge is opened
        assert (tmp_path / "mine" / name).read_text() == '{"people": 3}'
        (tmp_path / "mine" / name).unlink()
    (tmp_path / "brief.py").write_text("def score(p, c): return [-float(len(x)) for x in c]\n")
    first = run(comparing(a, b, JUDGE, "brief:score"), tmp_path / "out")
    again = run(comparing(b, a), tmp_path / "out")
    assert first != again == json.loads((tmp_path / "out" / "result.json").read_text())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answers.jsonl",
        "choices.1.jsonl",
        "result.json",
    ]


@pytest.mark.parametrize(
    ("out", "told"), [("file", "file: is a file"), ("file/out", "a file is where a folder is needed")]
)
def test_a_place_that_cannot_be_written_is_said_first(tmp_path: Path, out: str, told: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=told):
        judged("nowhere", "elsewhere", out=tmp_path / out)


def test_what_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        judged("nowhere", "elsewhere", out=tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()


def test_a_full_disk_leaves_the_earlier_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    run(comparing(a, b), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluate, "write_json", full)
    with pytest.raises(UserError, match=r"out: No space left on device\. Free some space"):
        run(comparing(b, a), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_written_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, rows: Any) -> None:
        raise UserError(f"{path}: No space left on device")

    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    monkeypatch.setattr(evaluate.formats, "write", full)
    with pytest.raises(UserError, match=f"^{tmp_path / 'out' / 'answers.jsonl'}: No space left on device$"):
        run(comparing(a, b), tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_the_description_is_aligned(tmp_path: Path) -> None:
    a = demonstrations(tmp_path / "a.jsonl", A, use_case=dict.fromkeys(A, "chat"))
    b = demonstrations(tmp_path / "b.jsonl", B, use_case=dict.fromkeys(A, "chat"))
    lines = describe(run(comparing(a, b))).splitlines()
    assert lines[2] == f"b (baseline)  {b}           4         0.0"
    assert f"judge {JUDGE}" in lines
    assert "4 prompts, 4 verdicts, 2 tied. Intervals of 95 % count prompts" in lines
    start = next(number for number, line in enumerate(lines) if line.startswith("wins over b"))
    table = lines[start : start + 6]
    assert [line.split()[-1] for line in table] == ["prompts", "4", "–", "1", "1", "2"]
    assert table[1].split()[:2] == ["a", "50.0"]
    assert "mean score: a 0.750, b 0.750" in lines


def test_equal_prompts_of_a_file_are_put_together(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", [{"prompt": "p", "completion": "x"}, {"prompt": "p", "completions": ["y", "z"]}])
    prompts, found = answers.read(path)
    assert [prompt.prompt for prompt in prompts] == ["p"]
    assert [written.text for written in found["p"]] == ["x", "y", "z"]


def test_evaluate_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = demonstrations(tmp_path / "a.jsonl", A), demonstrations(tmp_path / "b.jsonl", B)
    run(comparing(a, b), tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_a_judge_may_know_the_fields_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "knowing_judge.py").write_text(
        "def exact(completions, answer): return [None if a == 'any' else a in c for a, c in zip(answer, completions)]\n"
        "def brief(p, completions): return [-len(c) / 1e6 for c in completions]\n"
    )
    answers = {"answer": {"p1": "good", "p2": "good", "p3": "bad", "p4": "any"}}
    sides = {"a": demonstrations(tmp_path / "a.jsonl", A, **answers), "b": demonstrations(tmp_path / "b.jsonl", B)}
    judge = "knowing_judge:exact + knowing_judge:brief"
    result = judged(sides["a"], sides["b"], judge)
    assert result["no_opinion"] == {"knowing_judge:exact": 2}
    assert (result["win_rate"]["rate"], result["ties"]) == (0.375, 1)  # by hand: p1 and p4 lost, p2 tied, p3 won
    assert "no opinion: knowing_judge:exact on 2 answers" in describe(run(comparing(sides["a"], sides["b"], judge)))
    with pytest.raises(UserError, match="the field 'answer', which no row has"):
        judged(sides["b"], sides["a"], judge)


@pytest.mark.medium
def test_prompts_that_a_template_refuses(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(template=True)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + tiny.TEMPLATE
    )
    load.save(tiny.policy(), tokenizer, tmp_path / "strict")
    ruled = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say red"}]
    prompts = put(tmp_path / "p.jsonl", [{"prompt": "Say blue"}, {"prompt": ruled}])
    b = put(tmp_path / "b.jsonl", [{"prompt": "Say blue", "completion": "x"}, {"prompt": ruled, "completion": "y"}])
    config = comparing(str(tmp_path / "strict"), b, prompts=prompts, generation=Generation(max_new_tokens=4))
    with pytest.raises(UserError, match=r"prompt 'Be brief.*no system role.*refused-rows skip"):
        run(config)
    left_out = run(config.model_copy(update={"refused_rows": "skip"}))["left_out"]
    assert left_out == {"unanswered": 0, "too_long": 0, "refused_by_the_template": 1}
    assert run(config.model_copy(update={"refused_rows": "join"}))["prompts"] == 2
    with_tools = put(
        tmp_path / "t.jsonl", [{"prompt": ruled, "tools": [{"type": "function", "function": {"name": "look"}}]}]
    )
    with pytest.raises(UserError, match=r"--refused-rows skip$"):  # joining does not help
        run(config.model_copy(update={"prompts": with_tools, "common": True}))


def test_an_answer_that_is_a_message_is_read_by_its_text(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Say"}
    thought = {"messages": [asked, {"role": "assistant", "content": "dog", "reasoning_content": "Hm."}]}
    given = {"prompt": "Name", "completion": "cat", "completion_message": None}
    path = put(tmp_path / "a.jsonl", [thought, given])
    assert answers.read(path)[1] == {"Say": [answers.Written("dog")], "Name": [answers.Written("cat")]}
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    called = {"messages": [asked, {"role": "assistant", "content": "dog", "tool_calls": calls}]}
    path = put(tmp_path / "b.jsonl", [thought, called])
    with pytest.raises(UserError, match=r"b\.jsonl: row 2: its answer has tool calls\. Only texts can"):
        answers.read(path)


def test_a_model_that_knows_the_prompts_or_the_judge_is_named(tmp_path: Path) -> None:
    """A policy of PPO on two of the prompts, its answers in a file, and a model of the hub."""
    asked = put(tmp_path / "asked.jsonl", [{"prompt": "p1"}, {"prompt": "p2"}, {"prompt": "p3", "split": "test"}])
    learned = {"prompts": formats.fingerprint(asked)}
    settings = PPOConfig(policy="x", reward=[f"0.5*{JUDGE}"], prompts=asked)
    (tmp_path / "run").mkdir()
    Manifest.begin("ppo", settings, {"policy": {"ref": "x"}}, learned).write(tmp_path / "run" / "manifest.json")
    sampled = demonstrations(tmp_path / "a.jsonl", A)
    how = SampleConfig(model="run", prompts=asked)
    Manifest.begin("sample", how, {"model": {"ref": "run"}}, learned).write(manifest_path(sampled))
    b = demonstrations(tmp_path / "b.jsonl", B)
    seen = f"a: was trained on 2 of 4 prompts, from {asked}. Take prompts that it has not seen"
    pleased = f"a: {JUDGE} was the reward that chose or trained its answers. Ask another judge too"
    result = run(comparing(sampled, b))
    assert result["remarks"] == [seen, pleased]
    assert f"\n{seen}\n{pleased}\n" in describe(result)
    rows = [Prompt(prompt=text) for text in A]
    models = {"a": "run", "hub": "some/model"}
    added = f"{JUDGE} + other:one"
    assert remarks(models, rows[2:], [added]) == [pleased.replace(JUDGE, added)]
    assert remarks({"a": sampled}, rows, ["other:one"]) == [seen]
    put(Path(asked), [{"prompt": "p1"}])  # other rows than it was trained on
    assert remarks({"a": sampled}, rows, ["other:one"]) == []
    assert "remarks" not in run(comparing(b, demonstrations(tmp_path / "c.jsonl", A)))
