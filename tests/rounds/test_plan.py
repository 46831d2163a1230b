"""Every setting of the plan has an effect, and the page about rounds names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful import options
from heedful.configs.round import RoundConfig
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Completions, Prompt, Text
from heedful.rounds import choose, compare, machine, promotions, state, tax, train
from heedful.rounds.gate import Evidence, GateVerdict
from heedful.rounds.state import Round
from rounds.place import Place
from stages.worlds import Files

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_names_every_setting() -> None:
    page = (ROOT / "docs" / "rounds.md").read_text(encoding="utf-8")
    names = {setting.path for setting in options.settings(RoundConfig)}
    shared = {name for name in names if name.startswith(("generation.", "compute."))}
    missing = [name for name in names - shared if f"`{name.removeprefix('gate.')}" not in page]
    assert missing == []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configs with which sampling, training and evaluation are called, which do nothing."""
    found: dict[str, Any] = {"sample": []}

    def sample(config: Any, out: Path, *, resume: bool) -> Path:
        found["sample"].append(config)
        texts = [f"{config.model} {number}" for number in range(config.k)]
        told = {"completions": texts, "models": [config.model] * config.k}
        formats.write(out, [Completions.model_validate(p.row() | told) for p in formats.read(config.prompts, Prompt)])
        return out

    monkeypatch.setattr(train.sampling, "run", sample)
    monkeypatch.setattr(train, "results", lambda run: {})
    for name in ("reward", "ppo"):
        monkeypatch.setattr(f"heedful.stages.{name}.train", lambda c, out, resume, name=name: found.update({name: c}))
    monkeypatch.setattr("heedful.evaluation.evaluate.run", lambda c, *_: found.update(evaluate=c) or {"queue": {}})
    return found


def of(tmp_path: Path, **plan: Any) -> Round:
    """The second round of a plan, with prompts, rankings and a reward model."""
    values = {"project": "tea", "serving": "served", "sft": "first", "k": 3, "seed": 7, **plan}
    one = Round(tmp_path, 2, RoundConfig.model_validate(values), 12, "db")
    for number in (1, 2):
        folder = tmp_path / "rounds" / f"00{number}"
        (folder / "reward").mkdir(parents=True)
        formats.write(folder / choose.PROMPTS, [Prompt(prompt=f"Q{number}?")])
    (tmp_path / "rounds/001/rankings").mkdir()
    return one


def test_the_plan_reaches_sampling(tmp_path: Path, seen: dict[str, Any]) -> None:
    one = of(tmp_path, others=["a", "b"], k=4, generation={"max_new_tokens": 9}, compute={"device": "cpu"})
    assert train.sample(one) == {"prompts": 1, "models": ["served", "a", "b"]}
    assert [(config.model, config.k, config.seed) for config in seen["sample"]] == [
        ("served", 2, 2007), ("a", 1, 2008), ("b", 1, 2009),
    ]  # fmt: skip
    assert {config.generation.max_new_tokens for config in seen["sample"]} == {9}
    assert {config.compute.device for config in seen["sample"]} == {"cpu"}
    (row,) = formats.read(str(one.path / train.RANKED), Completions)
    assert row.models == ["served", "served", "a", "b"]


def test_the_plan_reaches_training(tmp_path: Path, seen: dict[str, Any]) -> None:
    more = {"demonstrations": "demos", "pretrain_data": "texts", "tax_data": "held", "compute": {"device": "cpu"}}
    one = of(tmp_path, **more, reward={"epochs": 2}, ppo={"kl_coef": 0.5}, generation={"max_new_tokens": 9})
    train.reward(one)
    train.ppo(one)
    reward, ppo = seen["reward"], seen["ppo"]
    assert (reward.model, reward.demonstrations, reward.epochs, reward.seed) == ("first", "demos", 2, 7)
    assert reward.data == str(tmp_path / "rounds/001/rankings")  # the newest that is there
    assert (ppo.policy, ppo.reference, ppo.kl_coef, ppo.seed) == ("first", None, 0.5, 7)
    assert (ppo.pretrain_data, ppo.tax_data, ppo.generation.max_new_tokens) == ("texts", "held", 9)
    assert ppo.reward == [str(one.path / "reward")]
    assert {reward.compute.device, ppo.compute.device} == {"cpu"}
    assert [row.prompt for row in formats.read(ppo.prompts, Prompt)] == ["Q1?", "Q2?"]
    last = Round(tmp_path, 2, one.plan.model_copy(update={"start": "last"}), 12, "db")
    train.ppo(last)
    assert (seen["ppo"].policy, seen["ppo"].reference) == ("served", "first")


def test_the_plan_reaches_the_comparison(tmp_path: Path, seen: dict[str, Any]) -> None:
    one = of(tmp_path, judge="my:judge", generation={"max_new_tokens": 9}, compute={"device": "cpu"})
    compare.compare(None, one, None)  # type: ignore[arg-type]
    found = seen["evaluate"]
    assert found.model == ["serving=served", f"candidate={one.path / 'ppo'}"]
    assert (found.judge, found.baseline, found.cluster, found.seed) == (["my:judge"], "serving", "user", 2007)
    assert (found.generation.max_new_tokens, found.compute.device) == (9, "cpu")


@pytest.mark.parametrize("asks", [False, True])
def test_the_plan_may_leave_the_promotion_to_people(
    tmp_path: Path, sent: Path, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    place = Place(tmp_path, tmp_path, sent, promote="ask" if asks else "auto", model="demo")
    monkeypatch.setattr(compare, "evidence", lambda one: Evidence(None))
    monkeypatch.setattr(machine.gate, "decide", lambda *_: GateVerdict("promote", ("wins",)))
    monkeypatch.setattr("heedful.rounds.report.write", lambda store, one: {})
    one = state.current(tmp_path, place.db)
    for step in state.STEPS[: state.STEPS.index("gate")]:
        one.note(step, "done", facts={"results": {}})
    (one.path / "ppo" / "model").mkdir(parents=True)
    one = place.run()
    if asks:
        assert one.steps["promote"]["reason"] == "the plan leaves it to `heedful round promote`"
        assert promotions.serving(tmp_path, one.plan) == one.plan.serving
        entry = promotions.promote(place.store, one, who=None, reason=None)
        assert (entry["model"], entry["who"], entry["override"]) == ("demo", "the gate", False)
    else:
        assert promotions.serving(tmp_path, one.plan) == str(one.path / "ppo")


@pytest.mark.medium
def test_the_tax_is_the_difference_of_losses_on_the_texts(files: Files, tmp_path: Path) -> None:
    """The serving model against itself has no tax. The loss is that of the plain model, text by text, with its end."""
    import torch

    from heedful.models import load

    model, tokenizer = load.load_policy(files.policy)
    texts = [row.text[:100] for row in formats.read(files.texts, Text)][:3]
    few = tmp_path / "few.jsonl"
    formats.write(few, [Text(text=text) for text in texts])
    total = count = 0.0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]])
        logps = torch.log_softmax(model(ids).logits.detach().double(), -1)[0, :-1]
        own = -logps.gather(1, ids[0, 1:, None])
        total, count = total + float(own.sum()), count + own.numel()
    assert tax.loss(files.policy, str(few), Compute()) == pytest.approx(total / count, rel=1e-4)
    one = of(tmp_path, tax_data=str(few), gate={"tax": 0.1}, serving=files.policy)
    one.steps["compare"] = {"facts": {"serving": files.policy}}
    (one.path / "ppo").symlink_to(files.policy)
    assert compare._tax(one) == 0
    assert compare._tax(Round(tmp_path, 2, one.plan.model_copy(update={"tax_data": None}), 12, "db")) is None
