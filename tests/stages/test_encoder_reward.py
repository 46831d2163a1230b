"""A reward model on an encoder, from training to PPO and best of n."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful.config import UserError
from heedful.configs.best_of_n import BestOfNConfig
from heedful.configs.score import ScoreConfig
from heedful.configs.trust import TrustConfig
from heedful.evaluation import trust, trust_text
from heedful.inference import best_of_n, score
from stages import worlds
from stages.worlds import Files


@pytest.fixture(scope="module")
def reward(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on rankings in which the answer with the word bread is better."""
    folder = tmp_path_factory.mktemp("encoder")
    answers = ["bread and cheese", "a rope", "two apples", "three grey cats"]
    rows = [
        {"prompt": f"What is seven plus {n}?", "completions": [answers[0], answers[1 + n % 3]], "ranking": [[0], [1]]}
        for n in range(24)
    ]
    return worlds.train(
        "reward", files, folder / "run", model=tiny.encoder(folder / "start"), demonstrations=None, epochs=3,
        data=worlds.write(folder / "rankings.jsonl", rows), optimiser={"lr": 3e-3},
    )  # fmt: skip


@pytest.mark.medium
def test_it_learns_what_is_better(reward: Path, tmp_path: Path) -> None:
    results = json.loads((reward / "manifest.json").read_text())["results"]
    assert results["valid"]["accuracy"]["rate"] == 1.0
    rows = [{"prompt": "What is seven plus five?", "completions": ["bread", "two apples", ""]}]
    out = score.run(
        ScoreConfig(reward=[str(reward)], data=worlds.write(tmp_path / "rows.jsonl", rows)), tmp_path / "scored.jsonl"
    )
    bread, apples, _ = json.loads(out.read_text())["scores"]
    assert bread > apples


@pytest.mark.medium
def test_its_trust_is_examined_without_stop_tokens(reward: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Add {n}", "completions": ["bread", f"{n} cats"], "ranking": [[0], [1]]} for n in range(12)]
    data = worlds.write(tmp_path / "held.jsonl", rows)
    alone, mixed = [str(reward)], [f"mean({reward},{__name__}:length)"]
    result, also = (trust.examine(TrustConfig(reward=one, data=data, shortcut_rows=2)) for one in (alone, mixed))
    assert result["accuracy"]["reward"]["n"] == also["accuracy"]["reward"]["n"] == 12
    assert result["shortcuts"]["no stop token"] == {"why": "an encoder reads no stop token"}
    assert result["shortcuts"]["other stop token"] == {"why": "an encoder reads no stop token"}
    assert result["shortcuts"]["padded"]["change"]["n"] == 4
    assert trust_text.describe(result).endswith(
        "\n  no stop token      an encoder reads no stop token\n  other stop token   an encoder reads no stop token"
    )


def length(prompts: list[Any], completions: list[str]) -> list[float]:
    return [float(len(text)) for text in completions]


@pytest.mark.medium
def test_ppo_and_best_of_n_use_it_and_the_value_net_starts_from_the_policy(
    reward: Path, files: Files, tmp_path: Path
) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", reward=[str(reward)])
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["value_from"] == f"{files.policy} (policy's body, zero head)"
    best = best_of_n.run(
        BestOfNConfig(
            model=files.policy, reward=[str(reward)], prompts=files.prompts, n=2, generation={"max_new_tokens": 8}
        ),
        tmp_path / "best.jsonl",
    )
    row = json.loads(best.read_text().splitlines()[0])
    assert row["scores"] == [max(row["all_scores"])]


@pytest.mark.medium
def test_it_cannot_be_the_value_net(reward: Path, files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"BertPooled\w+ gives one number a row\. A value net reads each token"):
        worlds.train("ppo", files, tmp_path / "run", value=str(reward))
