"""Public sets: aggregators on the paper's published answers, metrics by hand, and the command on a tiny model."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tiny
from heedful import cli
from heedful.config import UserError
from heedful.configs.benchmark import BenchmarkConfig
from heedful.evaluation.benchmark import measure, metrics, perspective, published, run, sets, table, words
from heedful.evaluation.benchmark.proxy import ProxyToxicity
from heedful.evaluation.benchmark.table import BenchmarkScores
from heedful.models import load

HERE = Path(__file__).resolve().parents[2]
PUBLIC = Path(os.environ.get("HEEDFUL_PUBLIC_SETS", HERE.parent / "shared" / "data"))
GENDERS = {"male": "his", "female": "her", "neutral": "their"}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(perspective.KEY, raising=False)


def public(name: str) -> list[dict[str, Any]]:
    path = PUBLIC / "instructgpt_samples" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_published_answers_are_as_true_as_counted_elsewhere() -> None:
    """QA prompt, 175B, GPT / SFT / PPO / PPO-ptx."""
    found = published.truthful(public("truthful_qa"))
    shares = np.array([[one.mean for one in found[model]] for model in published.MODELS])
    assert shares == pytest.approx(np.array([[0.276, 0.253], [0.517, 0.287], [0.736, 0.724], [0.621, 0.598]]), abs=1e-3)
    assert {one.n for pair in found.values() for one in pair} == {87}


@pytest.mark.parametrize(
    ("prompt", "means"),
    [
        ("basic", [0.177, 0.185, 0.199, 0.179]),
        ("respectful", [0.194, 0.190, 0.179, 0.175]),
        ("biased", [0.247, 0.262, 0.422, 0.325]),
    ],
)
def test_the_published_answers_are_as_toxic_as_counted_elsewhere(prompt: str, means: list[float]) -> None:
    found = published.toxic(public("real_toxicity"), prompt)
    assert [found[model].mean for model in published.MODELS] == pytest.approx(means, abs=1e-3)
    assert {one.n for one in found.values()} == {86}


def test_published_translations_have_the_bleu_of_sacrebleu() -> None:
    found = published.translated(public("fr_to_en"))
    means = [found[model].mean for model in published.MODELS]
    assert means == pytest.approx([36.876886, 34.448246, 22.500693, 31.599032], abs=1e-5)


def test_judges_decide_at_one_half_and_cells_are_apart() -> None:
    def row(model: str, prompt: str, true: float, informative: float, number: int) -> dict[str, Any]:
        return {"model": model, "prompt_type": prompt, "true": true, "informative": informative, "question": number}

    rows = [row("a", "QA prompt", 0.51, 0.49, 1), row("a", "QA prompt", 0.5, 1, 2), row("a", "QA prompt", 1, 1, 3)]
    rows += [row("b", "QA prompt", 0, 1, 1), row("b", "instruction prompt", 1, 1, 1)]
    found = {model: tuple(one.mean for one in pair) for model, pair in published.truthful(rows).items()}
    assert found == {"a": (pytest.approx(2 / 3), pytest.approx(1 / 3)), "b": (0, 0)}
    toxic = [
        {"model": "a", "prompt_type": kind, "prompt": str(i), "toxicity": value}
        for kind, values in (("basic prompt", (0.1, 0.3)), ("biased prompt", (0.9,)))
        for i, value in enumerate(values)
    ]
    assert published.toxic(toxic, "basic")["a"].mean == pytest.approx(0.2)
    assert published.toxic(toxic, "respectful") == {}


TEXTS = [
    ("The cat sat on the mat, at 3.5 o'clock.", ["The cat sat on a mat at 3.5 o'clock."], 48.326978, [0.909091]),
    ("He doesn't know.", ["He does not know it.", "He doesn't know, really."], 38.753858, [0.444444, 0.888889]),
    ("Nothing alike here at all", ["Quite another text"], 0.0, [0.0]),
    ("a b c d e", ["a x c d y"], 23.643540, [0.6]),
]


@pytest.mark.parametrize(("answer", "references", "bleu", "rouge"), TEXTS)
def test_bleu_and_rouge_are_those_of_sacrebleu_and_rouge_score(
    answer: str, references: list[str], bleu: float, rouge: list[float]
) -> None:
    assert metrics.bleu(metrics.bleu_terms(answer, references))[0] == pytest.approx(bleu, abs=1e-5)
    assert [metrics.rouge_l(answer, [one]) for one in references] == pytest.approx(rouge, abs=1e-5)
    assert metrics.rouge_l(answer, references) == pytest.approx(max(rouge), abs=1e-5)


def test_the_bleu_of_a_corpus_adds_up_counts() -> None:
    terms = [metrics.bleu_terms(answer, [references[0], references[-1]]) for answer, references, *_ in TEXTS[:3]]
    assert metrics.bleu(np.sum(terms, axis=0))[0] == pytest.approx(37.541224, abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "references", "f1", "exact"),
    [
        ("The North Sea.", ["north  sea"], 1, 1),
        ("oil in the sea", ["sea", "the oil"], 0.5, 0),  # "oil in sea": one of three words and one of one
        ("the the", ["a"], 1, 1),  # nothing is left of either
        ("word", ["the"], 0, 0),
        ("b b c", ["b c c"], 2 / 3, 0),
    ],
)
def test_f1_and_exact_match_by_hand(answer: str, references: list[str], f1: float, exact: float) -> None:
    assert (metrics.f1(answer, references), metrics.exact(answer, references)) == (pytest.approx(f1), exact)


def test_small_metrics_by_hand() -> None:
    assert metrics.entropy_bits([math.log(0.75) - 900, math.log(0.25) - 900]) == pytest.approx(0.811278, abs=1e-6)
    assert metrics.entropy_bits([0, -2000]) == 0
    assert metrics.rank_correlation([1, 2, 2, 5], [10, 30, 20, 40]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(metrics.rank_correlation([1, 1], [1, 2]))
    assert metrics.first_line("\n  one \ntwo") == "one"


def test_a_proxy_of_toxicity_knows_prompts_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(30):
        for rude in (0, 1, 2):
            plain = " ".join(rng.choice("calm tree river walks slowly home".split(), 8 - rude))
            rows.append((f"p{number}", f"{plain} {'stupid idiot ' * rude}", 0.05 + 0.4 * rude))
    prompts, texts, scores = zip(*rows, strict=True)
    proxy = ProxyToxicity(texts, scores, prompts)
    assert (proxy.held_out, proxy.answers) == (6, 18)
    assert proxy.correlation > 0.9
    low, high = proxy.scores(["a calm river", "you stupid idiot"])
    assert 0 < low < 0.3 < 0.5 < high < 1
    shuffled = list(rng.permutation(scores))
    assert abs(ProxyToxicity(texts, shuffled, prompts).correlation) < 0.6
    with pytest.raises(UserError, match="10 prompts, not 9"):
        ProxyToxicity(texts[:27], scores[:27], prompts[:27])


def test_perspective_is_asked_with_the_key_in_a_header_and_again_when_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []
    waited: list[float] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            return httpx.Response(429)
        text = json.loads(request.content)["comment"]["text"]
        if text == "refuse":
            return httpx.Response(403, json={"error": {"message": "no"}})
        return httpx.Response(200, json={"attributeScores": {"TOXICITY": {"summaryScore": {"value": len(text) / 10}}}})

    monkeypatch.setenv(perspective.KEY, "secret")
    monkeypatch.setattr(perspective.time, "sleep", waited.append)
    assert perspective.scores(["four", " ", "fives"], httpx.MockTransport(reply)) == [0.4, 0.0, 0.5]
    assert (len(seen), waited) == (3, [1.0])
    assert {request.headers["X-Goog-Api-Key"] for request in seen} == {"secret"}
    assert not any("secret" in str(request.url) for request in seen)
    with pytest.raises(UserError, match=r"status 403\. Check PERSPECTIVE_API_KEY"):
        perspective.scores(["refuse"], httpx.MockTransport(reply))


@pytest.mark.medium
def test_with_a_key_perspective_scores_toxicity(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(perspective.KEY, "secret")
    monkeypatch.setattr(perspective, "scores", lambda texts: [0.25] * len(texts))
    result, _ = run.measured(config(world, only=["toxicity"]))
    assert result["toxicity"] == {"judge": "Perspective"}
    assert {one["mean"] for row in result["rows"] for one in row["models"].values()} == {0.25}


def test_rows_have_value_change_chance_and_grey() -> None:
    clusters = [str(i) for i in range(20)]
    base, other = np.array([1.0] * 18 + [0.0] * 2), np.array([1.0] * 12 + [0.0] * 8)
    found = table.row(
        BenchmarkScores("hellaswag", "HellaSwag", "accuracy", {"base": base, "ppo": other}, clusters, chance=0.5),
        "base",
    )
    assert found["models"]["base"]["mean"] == pytest.approx(0.9)
    assert (found["models"]["base"]["above_chance"], found["models"]["ppo"]["above_chance"]) == (True, False)
    assert found["models"]["base"]["change"] is None
    moved = found["models"]["ppo"]["change"]
    assert moved["mean"] == pytest.approx(-0.3)
    assert moved["high"] < 0
    assert found["paper"]["values"] == [0.781, 0.753, 0.743, 0.807]
    (finding,) = table.findings([found], "base")
    assert finding.startswith("HellaSwag (accuracy): ppo is worse than base by 0.3 (-0.")
    toxic = BenchmarkScores("x", "X", "toxicity", {"base": other * 0.5, "ppo": base * 0.5}, clusters, better="low")
    assert "ppo is worse" in table.findings([table.row(toxic, "base")], "base")[0]
    result = {
        "models": {"base": "b", "ppo": "p"}, "baseline": "base", "note": "", "findings": [finding], "toxicity": None,
        "truthful": {}, "rows": [found], "not_there": [], "needs_lm_eval": [], "too_long": [],
        "paper_models": [], "data": "d",
    }  # fmt: skip
    lines = words.describe(result).split("\n")
    assert [line[:8] for line in lines if "ppo " in line or "base " in line][1:] == ["    base", "  ~ ppo "]


def test_the_change_of_bleu_is_that_of_the_whole_corpus() -> None:
    good = np.stack([metrics.bleu_terms(f"one two three four {i}", [f"one two three four {i}"]) for i in range(12)])
    bad = np.stack([metrics.bleu_terms(f"one two three x {i}", [f"one two three four {i}"]) for i in range(12)])
    moved = table.change(good, bad, [str(i) for i in range(12)])
    assert moved.mean == pytest.approx(float(metrics.bleu(bad.sum(axis=0))[0]) - 100)


def put(folder: Path, path: str, rows: list[dict[str, Any]]) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / path).write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models and every set in small."""
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("base", "ppo")):
        load.save(tiny.policy(seed=seed), tiny.tokenizer(), folder / name)
    data = folder / "data"
    put(data, "winogender/sentences.jsonl", [
        {"occupation": job, "participant": "p", "pronoun_gender": gender, "answer": "o",
         "sentence": f"The {job} lost {word} cat."}
        for job in ("cook", "clerk", "nurse") for gender, word in GENDERS.items()
    ])  # fmt: skip
    put(data, "crows_pairs/pairs.jsonl.gz", [
        {"id": str(i), "sent_more": f"They ate {i} red fish.",
         "sent_less": f"We ate {i} red fish." + "x" * 900 * (i > 2)}
        for i in range(4)
    ])  # fmt: skip
    samples = {"model": "gpt-175b", "prompt_type": "zeroshot"}
    for name in ("squadv2", "drop", "fr_to_en"):
        put(data, f"instructgpt_samples/{name}.jsonl.gz", [
            {**samples, "context": f"Q: {i}?\nA:", "references": [f"the answer {i}"], "sample": f"answer {i}\nmore"}
            for i in range(3)
        ])  # fmt: skip
    put(data, "instructgpt_samples/tldr.jsonl.gz", [
        {"model": "gpt-175b", "context": "x" * (5 if i else 500), "references": ["short"], "sample": "a short one"}
        for i in range(2)
    ])  # fmt: skip
    put(data, "instructgpt_samples/real_toxicity.jsonl.gz", [
        {"model": "gpt-175b", "prompt_type": kind, "prompt": f"Start {i}", "sample": "you idiot" if i % 2 else "a tree",
         "toxicity": 0.8 if i % 2 else 0.1} for i in range(12) for kind in published.PROMPTS.values()
    ])  # fmt: skip
    put(data, "instructgpt_samples/truthful_qa.jsonl.gz", [
        {"model": "sft-175b", "prompt_type": "QA prompt", "question": str(i), "true": 0.9, "informative": i / 4}
        for i in range(4)
    ])  # fmt: skip
    return folder


def config(world: Path, **changes: Any) -> BenchmarkConfig:
    models = [f"{name}={world / name}" for name in ("base", "ppo")]
    given = {"model": models, "data": str(world / "data"), "generation": {"max_new_tokens": 6, "temperature": 0}}
    return BenchmarkConfig.model_validate(given | changes)


@pytest.mark.medium
def test_the_command_measures_every_set_and_writes_what_it_prints(world: Path) -> None:
    out = world / "out"
    given = ["benchmark", "--data", str(world / "data"), "--out", str(out), "--generation.max-new-tokens", "6"]
    for name in ("base", "ppo"):
        given += ["--model", f"{name}={world / name}"]
    told = CliRunner().invoke(cli.app, given, catch_exceptions=False)
    assert told.exit_code == 0
    assert (out / "benchmark.txt").read_text() == told.stdout
    result = json.loads((out / "benchmark.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    kinds = ("basic", "respectful", "biased")
    assert set(rows) == {
        *(f"{name}_{kind}" for name in ("winogender", "crows_pairs", "toxicity") for kind in kinds),
        "squadv2_f1", "squadv2_exact", "drop_f1", "drop_exact", "fr_to_en", "tldr",
    }  # fmt: skip
    assert rows["squadv2_f1"]["same_items"]["gpt-175b"]["mean"] == pytest.approx(100)
    assert rows["squadv2_f1"]["chance"] == pytest.approx(100 * (1 + 0.5 + 0.5) / 3)  # one right, "answer" of two words
    assert (rows["tldr"]["items"], rows["tldr"]["left_out"]) == (1, {"too_long": 1})
    assert (rows["crows_pairs_basic"]["items"], rows["crows_pairs_basic"]["left_out"]) == (3, {"too_long": 1})
    assert rows["toxicity_biased"]["same_items"]["gpt-175b"]["mean"] == pytest.approx(0.45)
    assert result["truthful"]["sft-175b"]["true_and_informative"]["mean"] == 0.25
    assert "sft-175b  true 1.000 (too few for an interval)   and informative 0.250" in told.stdout
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    own = [row for row in answers if (row["set"], row["model"]) == ("squadv2", "ppo")]
    said = [100 * metrics.f1(row["answer"], row["references"]) for row in own]
    assert rows["squadv2_f1"]["models"]["ppo"]["mean"] == pytest.approx(np.mean(said))
    assert result["toxicity"]["judge"] == "proxy toxicity"
    again = CliRunner().invoke(cli.app, given)
    assert isinstance(again.exception, UserError)
    assert "already exists" in str(again.exception)


@pytest.mark.medium
def test_entropies_are_those_of_plain_logits(world: Path) -> None:
    """The instruction and the start of text come before, and every token of the sentence counts."""
    result, _ = run.measured(config(world, only=["winogender"]))
    model, tokenizer = load.load_policy(world / "ppo")
    before = tokenizer.encode(sets.INSTRUCTIONS["biased"], add_special_tokens=False)

    def total(sentence: str) -> float:
        ids = tokenizer.encode(sentence, add_special_tokens=False)
        whole = torch.tensor([[tokenizer.eos_token_id, *before, *ids]])
        with torch.no_grad():
            logprobs = model(whole).logits[0].log_softmax(-1)
        return sum(float(logprobs[i - 1, whole[0, i]]) for i in range(1 + len(before), whole.shape[1]))

    expected = []
    for job in ("cook", "clerk", "nurse"):
        a, b = (total(f"The {job} lost {word} cat.") for word in ("his", "her"))
        share = 1 / (1 + math.exp(b - a))
        expected.append(-share * math.log2(share) - (1 - share) * math.log2(1 - share))
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["winogender_biased"]["models"]["ppo"]["mean"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert rows["winogender_biased"]["items"] == 3


def test_the_same_seed_draws_the_same_items_and_limit_says_how_many(world: Path) -> None:
    files = sets.there(world / "data", sets.FILES)
    drawn = [measure.open_items(files, 2, seed).items["toxicity"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 2


@pytest.mark.medium
def test_one_model_is_enough_and_the_baseline_can_be_another(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone, _ = run.measured(config(world, model=[f"a={world / 'base'}"], only=["drop"]))
    assert capfd.readouterr().err == "benchmark 1/1  \n"  # how far it is, without lm_eval one step a model
    assert alone["rows"][0]["models"]["a"]["change"] is None
    assert alone["not_there"] == []
    other, _ = run.measured(config(world, baseline="ppo", only=["drop"]))
    assert other["rows"][0]["models"]["ppo"]["change"] is None
    assert other["rows"][0]["models"]["base"]["change"] is not None


@pytest.mark.medium
def test_what_cannot_be_is_one_line(world: Path, tmp_path: Path) -> None:
    def refused(text: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=text):
            run.run(config(world, **changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("no such folder", data=str(tmp_path / "none"))
    refused("holds none of the sets", data=str(tmp_path))
    put(tmp_path, "winogender/sentences.jsonl", [{"occupation": "cook"}])
    refused("sentences.jsonl, line 1: `participant` is missing", data=str(tmp_path))
    (tmp_path / "winogender" / "sentences.jsonl").write_text("{")
    refused("line 1: not JSON", data=str(tmp_path))
    (tmp_path / "winogender" / "sentences.jsonl").write_text("")
    refused("is empty", data=str(tmp_path))
    refused("--only drop: .* does not exist", data=str(tmp_path), only=["drop"])
    (tmp_path / "winogender" / "sentences.jsonl").unlink()
    put(tmp_path, "instructgpt_samples/drop.jsonl.gz", [
        {"model": "m", "context": "x" * 900, "references": ["y"], "sample": "z"}
    ])  # fmt: skip
    refused("too long for one of the models", data=str(tmp_path))
    for row, told in (
        ({"model": "m", "context": "x", "references": "y", "sample": "z"}, '`references` is "y" and must be a list'),
        ({"model": "m", "context": "x", "references": ["y"], "sample": 3}, "line 1: `sample` is 3 and must be a text"),
    ):
        put(tmp_path, "instructgpt_samples/drop.jsonl.gz", [row])
        refused(told, data=str(tmp_path))
    scored = {"model": "m", "prompt": "p", "sample": "s"}
    for scores, told in (([0.2, 1.7], "line 2: `toxicity` is 1.7"), ([0.2, 0.2], "`toxicity` is 0.2 in every row")):
        put(tmp_path, "instructgpt_samples/real_toxicity.jsonl.gz", [{**scored, "toxicity": one} for one in scores])
        refused(told, data=str(tmp_path), only=["toxicity"])
    refused("there is a model base already", model=["base=a", "base=b"])
    refused("no such model", baseline="sft")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    with pytest.raises(UserError, match="not a result of heedful benchmark"):
        run.run(config(world), tmp_path / "kept", overwrite=True)
    assert (tmp_path / "kept" / "file").read_text() == "mine"
