"""Three models, rankings with ratings, held-out labelers, judges side by side, and judges behind an address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import choix
import pytest

from endpoints.scripted import Endpoint, Reply, error, said, serving
from heedful.config import UserError
from heedful.configs.endpoint import EndpointConfig
from heedful.configs.evaluate import EvaluateConfig
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.endpoints import client
from heedful.evaluation import asked
from heedful.evaluation.described import describe
from heedful.evaluation.evaluate import run
from heedful.evaluation.summary import list_lines
from heedful.sandbox import answers, mistakes, prompts, tasks
from heedful.sandbox.world import make_world

LENGTH, TRUTH = "judges_here:length", "heedful.sandbox.truth:world_7"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges of the tests' own, an empty cache, no key, and waits that a test can afford."""
    (tmp_path / "judges_here.py").write_text(
        "def length(p, completions): return [float(len(c)) for c in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(client.KEY, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


def put(name: str, rows: list[dict[str, Any]]) -> str:
    formats.write(Path(name), rows)
    return name


def three(n: int = 12, **fields: Any) -> list[str]:
    """Models c, a and b. a is longer than b on two prompts of three, c is the shortest on every second one."""
    sizes = {"c": [1, 9], "a": [5, 5, 3], "b": [4, 4, 6]}
    for name, size in sizes.items():
        put(f"{name}.jsonl", [
            {"prompt": f"p{i}", "completion": "x" * size[i % len(size)], **{k: value(i) for k, value in fields.items()}}
            for i in range(n)
        ])  # fmt: skip
    return [f"{name}={name}.jsonl" for name in sizes]


def compared(models: list[str], *judges: str, **settings: Any) -> dict[str, Any]:
    return run(EvaluateConfig(model=models, judge=list(judges), **settings))


def test_three_models_by_hand() -> None:
    """Over c, a wins on even prompts and loses on odd ones, and so does b; a beats b on two of three."""
    found = compared(three(), LENGTH)["judges"][LENGTH]
    assert {name: rate["rate"] for name, rate in found["win_rates"].items()} == {"a": 0.5, "b": 0.5}
    assert found["head_to_head"]["a"]["b"]["rate"] == pytest.approx(2 / 3)
    assert found["head_to_head"]["c"]["a"]["rate"] == 0.5
    (difference,) = found["differences"]
    assert (difference["a"], difference["b"], difference["mean"], difference["n"]) == ("a", "b", 0.0, 12)
    assert difference["low"] is None  # a and b win the same prompts
    assert found["verdicts"] == 36
    games = [(0, 1)] * 6 + [(1, 0)] * 6 + [(0, 2)] * 6 + [(2, 0)] * 6 + [(1, 2)] * 8 + [(2, 1)] * 4
    expected = choix.opt_pairwise(3, games, alpha=0.0, tol=1e-10)
    strengths = {name: one["mean"] for name, one in found["scale"]["strengths"].items()}
    assert strengths == pytest.approx(dict(zip("cab", expected, strict=True)), abs=1e-5)
    assert found["scale"]["strengths"]["a"]["low"] < strengths["a"] < found["scale"]["strengths"]["a"]["high"]


def test_paired_differences_by_hand() -> None:
    """a wins all of 12 prompts over c, b wins 9 of them: 25 points, from 12 pairs of which 3 differ by one."""
    for name, sizes in {"c": [2] * 12, "a": [3] * 12, "b": [3] * 9 + [1] * 3}.items():
        put(f"{name}.jsonl", [{"prompt": f"p{i}", "completion": "x" * size} for i, size in enumerate(sizes)])
    result = compared(["c=c.jsonl", "a=a.jsonl", "b=b.jsonl"], LENGTH)
    (difference,) = result["judges"][LENGTH]["differences"]
    assert difference["mean"] == 0.25
    assert 0 <= difference["low"] < 0.25 < difference["high"] < 0.7
    assert "a over b" in describe(result)


def test_a_scale_without_an_end_is_told() -> None:
    for name, size in {"c": 1, "a": 3, "b": 2}.items():
        put(f"{name}.jsonl", [{"prompt": f"p{i}", "completion": "x" * size} for i in range(12)])
    result = compared(["c=c.jsonl", "a=a.jsonl", "b=b.jsonl"], LENGTH)
    scale = result["judges"][LENGTH]["scale"]
    assert (scale["regularised"], scale["strengths"]["a"]["low"]) == (True, None)
    assert "pulled towards 0" in describe(result)


def test_only_pairs_with_the_baseline_are_judged_if_asked() -> None:
    found = compared(three(), LENGTH, pairs="baseline", baseline="b")["judges"][LENGTH]
    assert found["verdicts"] == 24
    assert found["head_to_head"] == {"c": {"b": found["win_rates"]["c"]}, "a": {"b": found["win_rates"]["a"]}}


def test_sources_of_prompts_are_apart() -> None:
    models = three(source=lambda i: "ours" if i < 3 else "base")
    found = compared(models, LENGTH, baseline="b")["judges"][LENGTH]
    assert found["by_source"]["ours"]["a"] == {"rate": pytest.approx(2 / 3), "low": None, "high": None, "n": 3}
    assert found["by_source"]["base"]["a"]["n"] == 9


def test_judges_side_by_side_agree_where_both_decide() -> None:
    (Path("judges_here2.py")).write_text(
        "def first(p, completions): return [float('p1' in q) * len(c) for q, c in zip(p, completions)]\n"
    )
    result = compared(three(), LENGTH, "judges_here2:first", f"-1*{LENGTH}", baseline="b")
    alike = {tuple(one["judges"]): (one["rate"], one["pairs"]) for one in result["agreement"]}
    assert alike == {
        (LENGTH, "judges_here2:first"): (1.0, 9),  # it ties all but p1, p10 and p11, with three pairs each
        (LENGTH, f"-1*{LENGTH}"): (0.0, 36),
        ("judges_here2:first", f"-1*{LENGTH}"): (0.0, 9),
    }
    assert "judges that decide alike" in describe(result)


def ranking(prompt: str, models: list[str | None], tiers: list[list[int]], **more: Any) -> dict[str, Any]:
    texts = [f"{name} on {prompt}" for name in models]
    return {"prompt": prompt, "completions": texts, "models": models, "ranking": tiers, **more}


def test_rankings_with_ratings() -> None:
    """p1: ppo, then sft and base tied. p2, by a held-out labeler: sft, then ppo. Ratings by hand."""
    good, bad = {"overall": 6, "hallucination": False}, {"overall": 2, "hallucination": True, "own_flag": True}
    fair = {"overall": 3}
    path = put("rankings.jsonl", [
        ranking("p1", ["sft", "ppo", "base"], [[1], [0, 2]], labeler="ann", group="x", ratings=[bad, good, fair]),
        ranking("p2", ["sft", "ppo", "flan"], [[0], [1], [2]], labeler="b", role="held_out", ratings=[good, bad, fair]),
        ranking("p3", ["flan", "t0"], [[0], [1]], labeler="b"),
    ])  # fmt: skip
    result = compared(["sft=runs/sft", "ppo", "base"], path)
    found = result["judges"][path]
    rates = {name: (rate["rate"], rate["n"]) for name, rate in found["win_rates"].items()}
    assert rates == {"ppo": (0.5, 2), "base": (0.5, 1)}
    assert (found["verdicts"], found["ties"], found["other_rows"], found["labelers"]) == (4, 1, 1, 2)
    apart = {who: rates["ppo"]["rate"] for who, rates in found["by_labelers"].items()}
    assert apart == {"training": 1.0, "held_out": 0.0}
    assert found["by_group"]["x"]["ppo"]["rate"] == 1.0
    ratings = found["ratings"]["models"]
    assert [ratings[name]["overall"]["mean"] for name in ("sft", "ppo", "base")] == [4.0, 4.0, 3.0]
    assert ratings["sft"]["flags"]["hallucination"]["mean"] == 0.5
    assert (ratings["ppo"]["flags"]["own_flag"]["mean"], ratings["ppo"]["flags"]["own_flag"]["n"]) == (1.0, 1)
    assert ratings["base"]["flags"] == {}
    assert found["ratings"]["held_out"]["ppo"]["overall"]["mean"] == 2.0
    text = describe(result)
    assert "ratings of held out labelers" in text
    assert "rows about other models: 1" in text


def test_files_that_judge_nothing() -> None:
    with pytest.raises(UserError, match=r"p\.jsonl: holds prompts\. A judge is a file of choices or rankings"):
        compared(["a", "b"], put("p.jsonl", [{"prompt": "p"}]))
    unnamed = {"prompt": "p", "a": {"text": "x"}, "b": {"text": "y"}, "preferred": "b"}
    with pytest.raises(UserError, match=r"u\.jsonl: names no models"):
        compared(["a", "b", "c"], put("u.jsonl", [unnamed]))
    put("r.jsonl", [{"prompt": "p", "completions": ["x", "y"], "ranking": [[0], [1]]}])
    with pytest.raises(UserError, match=r"r\.jsonl: names no models"):
        compared(["a", "b"], "r.jsonl")


def test_one_prompt_and_all_ties() -> None:
    for name in "ab":
        put(f"{name}.jsonl", [{"prompt": "p", "completion": "same"}])
    found = compared(["b=b.jsonl", "a=a.jsonl"], LENGTH)["judges"][LENGTH]
    assert found["win_rates"]["a"] == {"rate": 0.5, "low": None, "high": None, "n": 1}
    assert found["prompts_needed"] == {"a": None}
    assert found["controlled"] == {"a": {"why": "fewer than 10 prompts or users"}}
    for name in "ab":
        put(f"{name}.jsonl", [{"prompt": f"p{i}", "completion": "same"} for i in range(20)])
    result = compared(["b=b.jsonl", "a=a.jsonl"], LENGTH)
    assert result["judges"][LENGTH]["win_rates"]["a"]["low"] is None
    assert result["judges"][LENGTH]["controlled"] == {"a": {"why": "every outcome is a tie"}}
    assert "every outcome is a tie" in describe(result)


def test_lines_of_lists() -> None:
    assert list_lines("1. one\n2) two\n- three\n  * four\n• five\nsix - 7\n-eight\n1.9 nine") == 5


@pytest.mark.medium
def test_the_truth_of_the_sandbox_keeps_its_rate_at_equal_length() -> None:
    """The answers of b have mistakes and the same lengths as those of a: what length explains is nothing."""
    world, rng = make_world(7), Random(0)
    questions = list({str(one.prompt): one for one in prompts.prompts(world, 360)}.values())[:300]
    rows: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for one in questions:
        for name in "ab":
            text = answers.compose(world, tasks.parse(7, str(one.prompt)), rng, rng.choice((1, 1, 2)))
            if name == "b" and rng.random() < 0.6:
                text = mistakes.swap(world, text, rng)
            rows[name].append({"prompt": one.prompt, "completion": text, "user": one.user})
    found = compared([f"b={put('b.jsonl', rows['b'])}", f"a={put('a.jsonl', rows['a'])}"], TRUTH)["judges"][TRUTH]
    raw, controlled = found["win_rates"]["a"]["rate"], found["controlled"]["a"]["rate"]
    assert raw > 0.6
    assert controlled == pytest.approx(raw, abs=0.03)


# --- judges behind an address ------------------------------------------------------------------------------


def letters(body: dict[str, Any]) -> tuple[str, str]:
    """The two answers that a request shows."""
    text = body["messages"][1]["content"]
    first, second = (text.split(f"<Answer {side}>\n")[1].split(f"\n</Answer {side}>")[0] for side in "AB")
    return first, second


def longer(number: int, body: dict[str, Any]) -> Reply:
    first, second = letters(body)
    return said(f"Some thoughts. **Verdict: {'A' if len(first) > len(second) else 'B'}**")


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with serving(request.param) as found:
        yield found


@pytest.mark.medium
@pytest.mark.parametrize("endpoint", [longer], indirect=True)
def test_an_endpoint_judges_in_both_orders_and_is_asked_once(endpoint: Endpoint) -> None:
    models = three()
    result = compared(models, endpoint.ref, LENGTH, baseline="b")
    found, same = result["judges"][endpoint.ref], result["judges"][LENGTH]
    assert found["win_rates"] == same["win_rates"]
    assert result["agreement"][0]["rate"] == 1.0
    assert len(endpoint.requests) == found["requests"] == 12 * 3 * 2
    assert found["position_bias"] == {"turned": 0.0, "first_preferred": None, "n": 36}
    again = compared(models, endpoint.ref, LENGTH, baseline="b", max_requests=1)
    assert len(endpoint.requests) == 72
    assert again["judges"][endpoint.ref]["win_rates"] == found["win_rates"]
    assert "requests: 0 sent, 0 unreadable, 0 failed" in describe(again)


@pytest.mark.parametrize("endpoint", [lambda number, body: said("Verdict: A")], indirect=True)
def test_a_verdict_that_turns_with_the_order_is_a_tie(endpoint: Endpoint) -> None:
    result = compared(three()[:2], endpoint.ref)
    found = result["judges"][endpoint.ref]
    assert (found["win_rates"]["a"]["rate"], found["ties"]) == (0.5, 12)
    assert found["position_bias"] == {"turned": 1.0, "first_preferred": 1.0, "n": 12}
    assert "position bias: 100.0 % of verdicts turn with the order, of these 100.0 % to the first answer" in describe(
        result
    )


def mixed(number: int, body: dict[str, Any]) -> Reply:
    """p0 gets no sense, p1 is refused, the rest is judged by length."""
    asked_of = body["messages"][1]["content"]
    if "<Prompt>\np0\n" in asked_of:
        return said("I like both!")
    return error(400, "not nice") if "<Prompt>\np1\n" in asked_of else longer(number, body)


@pytest.mark.parametrize("endpoint", [mixed], indirect=True)
def test_what_cannot_be_read_is_counted_and_left_out(endpoint: Endpoint) -> None:
    result = compared(three()[:2], endpoint.ref)
    found = result["judges"][endpoint.ref]
    assert (found["unreadable"], found["failed"], found["comparisons_left_out"], found["prompts"]) == (2, 2, 2, 10)
    assert "not nice" in found["first_failure"]
    assert "left out: 2 comparisons without two readable verdicts" in describe(result)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (
            lambda number, body: said("Hm."),
            r"gave no two readable verdicts on any comparison\. The first reply: 'Hm\.'",
        ),
        (lambda number, body: error(401, "no key"), "Put a key into HEEDFUL_API_KEY"),
        (lambda number, body: Reply(wait=2.0), "no answer within 0.2 seconds"),
    ],
    indirect=["endpoint"],
)
def test_a_judge_that_says_nothing_writes_nothing(endpoint: Endpoint, told: str) -> None:
    settings = EndpointConfig(timeout=0.2, retries=0)
    config = EvaluateConfig(model=three(3)[:2], judge=[endpoint.ref], endpoint=settings)
    with pytest.raises(UserError, match=told):
        run(config, "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("endpoint", [longer], indirect=True)
def test_more_requests_than_allowed_are_not_begun(endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match="72 requests are needed, --max-requests allows 71"):
        compared(three(), endpoint.ref, max_requests=71)
    assert endpoint.requests == []
    assert compared(three(), endpoint.ref, max_requests=48, pairs="baseline")["judges"][endpoint.ref]["requests"] == 48


@pytest.mark.parametrize("endpoint", [longer], indirect=True)
def test_the_key_is_in_no_file(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(client.KEY, "s3cret-key")
    run(EvaluateConfig(model=three()[:2], judge=[endpoint.ref]), "out")
    assert endpoint.keys[0] == "Bearer s3cret-key"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret-key" in path.read_bytes()] == []


def test_replies_are_read() -> None:
    read = {
        "Verdict: A": 1.0, "verdict: **B**": 0.0, "So, Verdict: tie.": 0.5, "[[A]]": 1.0, "Answer B": 0.0, "tie": 0.5,
        "Verdict: A? No. Verdict: B": 0.0, "Verdict: Both": None, "A is better than B": None, "": None,
    }  # fmt: skip
    assert {reply: asked.read(reply) for reply in read} == read


def test_a_chat_is_shown_with_its_speakers() -> None:
    turns = [{"role": role, "content": f"{role} speaks"} for role in ("system", "user")]
    shown = asked.request(Prompt.model_validate({"prompt": turns}), "x", "y")["messages"][1]["content"]
    assert shown.startswith("<Prompt>\n[system]\nsystem speaks\n\n[user]\nuser speaks\n</Prompt>")
