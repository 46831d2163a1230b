"""Multiple choice by lm_eval: rows and figures on a stand-in for it, and the real one where it is installed."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.benchmark import BenchmarkConfig
from heedful.evaluation.benchmark import harness, run, sets, words
from heedful.models import load

STAND_IN = """
import json, os, pathlib, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("a warning", file=sys.stderr)
if os.environ.get("FAILS"):
    sys.exit("ValueError: no such task")
pathlib.Path(os.environ["SEEN"]).open("a").write(json.dumps(sys.argv[1:]) + "\\n")
right = "ppo" not in json.loads(given["--model_args"])["pretrained"]
out = pathlib.Path(given["--output_path"]) / "x"
out.mkdir(parents=True)
for task in given["--tasks"].split(","):
    if task.startswith("heedful_"):
        rows = [json.loads(line) for line in open(task.removeprefix("heedful_") + ".jsonl")]
    else:
        rows = [{"right": 0, "choices": "ab"}] * 4
    logged = []
    for i, row in enumerate(rows):
        hit = float(right or i % 2)
        said = [[str(-1.0 - j), "False"] for j in range(len(row["choices"]))]
        logged.append({"doc_id": i, "acc": hit, "acc_norm": 1 - hit, "filtered_resps": said, "metrics": ["acc"]})
    text = "".join(json.dumps(row) + "\\n" for row in reversed(logged))
    (out / f"samples_{task}_2026-11-30T15-55-21.663251.jsonl").write_text(text)
"""


def rows_of_sets() -> dict[str, list[dict[str, Any]]]:
    mc = [{"text": "yes", "true": False}, {"text": "no", "true": True}, {"text": "never", "true": True}]
    return {
        "hellaswag/val_subset.jsonl.gz": [
            {
                "activity": "Cooking",
                "context": "The cook" + " x" * 1500 * (i == 9),
                "endings": list("abcd"),
                "label": i % 4,
            }
            for i in range(10)
        ],
        "truthfulqa/questions.jsonl.gz": [{"question": "So?", "mc1": mc[:2], "mc2": mc} for _ in range(2)],
        "wsc273/items.jsonl": [{"context_options": ["A", "B"], "continuation": "ran.", "gold": 1}] * 2,
        "rte/rte1_2_3.jsonl.gz": [{"premise": "p", "hypothesis": "h", "entailment": i > 0} for i in range(4)],
        "sst2/dev.jsonl": [{"sentence": "good", "positive": i == 0} for i in range(3)],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(("base", "ppo")):
        load.save(tiny.policy(seed=seed, context=1500), tiny.tokenizer(), folder / name)
    for name, rows in rows_of_sets().items():
        path = folder / "data" / name.removesuffix(".gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the subprocess find another lm_eval. Returns the file of the arguments that it got."""
    (tmp_path / "found" / "lm_eval").mkdir(parents=True)
    (tmp_path / "found" / "lm_eval" / "__init__.py").touch()
    (tmp_path / "found" / "lm_eval" / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "found"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setattr(harness, "missing", lambda: None)
    return tmp_path / "seen"


SWAG = {"activity": "a", "context": "b", "endings": ["c", "d"]}


def config(world: Path, **changes: Any) -> BenchmarkConfig:
    models = [f"{name}={world / name}" for name in ("base", "ppo")]
    return BenchmarkConfig.model_validate({"model": models, "data": str(world / "data")} | changes)


def test_rows_are_questions_with_choices() -> None:
    first = {path.partition("/")[0]: rows[0] for path, rows in rows_of_sets().items()}
    made = {name: task.convert(first[task.of]) for name, task in harness.TASKS.items()}
    assert made["hellaswag"] == {"question": "Cooking: The cook", "choices": list("abcd"), "right": 0}
    assert made["wsc273"] == {"question": "ran.", "choices": ["A", "B"], "right": 1}
    assert made["rte"]["question"] == "p\nQuestion: h True or False?\nAnswer:"
    assert (made["rte"]["choices"][made["rte"]["right"]], made["sst2"]["choices"][made["sst2"]["right"]]) == (
        "False",
        "positive",
    )
    assert made["truthfulqa_mc1"]["question"].startswith("Q: What is human life expectancy")
    assert made["truthfulqa_mc1"]["question"].endswith("Barcelona, Spain.\n\nQ: So?\nA:")
    assert (made["truthfulqa_mc1"]["right"], made["truthfulqa_mc2"]["true"]) == (1, [False, True, True])


@pytest.mark.medium
def test_every_item_counts_in_its_place(world: Path, stand_in: Path) -> None:
    result, _ = run.measured(config(world, tasks=["arc_easy"]))
    rows = {row["name"]: row for row in result["rows"]}
    # lm_eval logs them in another order; ppo is right on every second item
    means = {name: (row["models"]["base"]["mean"], row["models"]["ppo"]["mean"]) for name, row in rows.items()}
    mass = (math.exp(-1) + math.exp(-2)) / (1 + math.exp(-1) + math.exp(-2))
    assert means == {
        "hellaswag": (0, pytest.approx(5 / 9)), "wsc273": (1, 0.5), "rte": (1, 0.5), "sst2": (1, pytest.approx(1 / 3)),
        "truthfulqa_mc1": (1, 0.5),
        "truthfulqa_mc2": (pytest.approx(mass), pytest.approx(mass)), "arc_easy_acc": (1, 0.5),
    }  # fmt: skip
    assert rows["rte"]["models"]["ppo"]["change"]["mean"] == -0.5
    chances = {name: row["chance"] for name, row in rows.items()}
    assert chances == {
        "hellaswag": 0.25, "wsc273": 0.5, "rte": 0.75, "sst2": pytest.approx(2 / 3), "arc_easy_acc": None,
"truthfulqa_mc1": 0.5, "truthfulqa_mc2": pytest.approx(2 / 3),
    }  # fmt: skip
    assert rows["hellaswag"]["left_out"] == {"too_long": 1}
    seen = [json.loads(line) for line in stand_in.read_text().splitlines()]
    assert [json.loads(one[one.index("--model_args") + 1])["pretrained"] for one in seen] == [
        str(world / "base"),
        str(world / "ppo"),
    ]
    assert (Path(seen[0][seen[0].index("--include_path") + 1]) / "wsc273.yaml").is_file()


def test_there_is_a_task_file_for_every_task() -> None:
    folder = Path(harness.__file__).parent / "tasks"
    assert {path.stem for path in folder.glob("*.yaml")} == set(harness.TASKS)
    for name in harness.TASKS:
        text = (folder / f"{name}.yaml").read_text()
        assert f"task: heedful_{name}\n" in text
        assert f"test: {name}.jsonl\n" in text


@pytest.mark.medium
def test_the_last_words_of_a_failure_are_shown(world: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(UserError, match=r"lm_eval failed on .*base: ValueError: no such task$"):
        run.measured(config(world, tasks=["nonsense"], only=["rte"]))


@pytest.mark.medium
def test_without_lm_eval_the_extra_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    for changes in ({"only": ["rte"]}, {"tasks": ["arc_easy"]}):
        with pytest.raises(UserError, match=r"there is no lm_eval\. Install heedful\[eval\]"):
            run.measured(config(world, **changes))
    path = world / "data" / "crows_pairs" / "pairs.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"id": 1, "sent_more": "They ran.", "sent_less": "We ran."}))
    result, _ = run.measured(config(world))
    path.unlink()
    assert result["needs_lm_eval"] == ["hellaswag", "truthfulqa", "wsc273", "rte", "sst2"]
    assert "Not measured: hellaswag, truthfulqa, wsc273, rte, sst2. They need lm_eval: install heedful[eval]." in (
        words.describe(result)
    )


def test_a_row_of_another_form_is_named(world: Path, tmp_path: Path, stand_in: Path) -> None:
    (tmp_path / "truthfulqa").mkdir()
    row = {"question": "So?", "mc1": [{"text": "yes", "true": False}], "mc2": []}
    (tmp_path / "truthfulqa" / "questions.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"questions\.jsonl, line 1: `mc1` is .* with a true and a false one"):
        run.measured(config(world, data=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("sst2", {"sentence": "a", "positive": True}, "`positive` is True in every row, so the set measures nothing"),
        ("sst2", {"sentence": "a", "positive": 7}, "line 1: `positive` is 7 and must be true or false"),
        ("hellaswag", {**SWAG, "label": 2}, "`label` is 2 and must be from 0 to 1"),
        ("hellaswag", {**SWAG, "label": -1}, "`label` is -1 and must be from 0 to 1"),
        (
            "wsc273",
            {"context_options": "ab", "continuation": "c", "gold": 0},
            '`context_options` is "ab" and must be a',
        ),
    ],
    ids=["one class", "no flag", "too high", "too low", "no list"],
)
def test_labels_that_mean_nothing_are_named(tmp_path: Path, name: str, row: dict[str, Any], told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(row) + "\n") * 2)
    with pytest.raises(UserError, match=told):
        sets.read(path, harness.FILES[name])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm_eval is not installed")
def test_the_real_lm_eval_chooses_the_likeliest(world: Path) -> None:
    result, _ = run.measured(config(world, only=["wsc273", "rte"]))
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"wsc273", "rte"}
    exams = harness.Exams.open({"wsc273": world / "data" / "wsc273" / "items.jsonl"}, None, 0)
    loaded = harness.Loaded.open(str(world / "base"), config(world), torch.device("cpu"))
    hits = []
    for row in exams.rows["wsc273"]:
        each = [loaded.logprobs(choice, [" " + row["question"]])[0] for choice in row["choices"]]
        hits.append(int(np.argmax(each)) == row["right"])
    assert rows["wsc273"]["models"]["base"]["mean"] == np.mean(hits)
