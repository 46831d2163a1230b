"""Results: the reward model and two baselines on held-out comparisons, PPO and SFT on held-out posts."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from heedful.data import formats
from heedful.data.records import Comparison, Completions
from heedful.evaluation import baselines
from heedful.files import read_json, write_json
from heedful.maths import kl
from heedful.maths.statistics import ends, mean_interval, rate_interval
from heedful.models import batches, load, render, scoring
from recipes import shared

SHOWN = 3
ENCODER = "scored_encoder.jsonl.gz"
CALM = re.compile(r"SUBREDDIT: r/(books|dogs|pets|travel)\n", re.IGNORECASE)
WIDTH = 42


def reward_model(out: Path, bag: baselines.BagOfWords) -> dict[str, Any]:
    """Accuracy on the held-out comparisons. The intervals resample posts."""
    rankings = formats.read(out / "scored.jsonl.gz", Comparison)
    posts = [ranking.id for ranking in rankings for _ in ranking.pairs()]
    judges = {"reward model": [ranking.scores or [] for ranking in rankings]}
    if (out / ENCODER).exists():
        judges["on an encoder"] = [ranking.scores or [] for ranking in formats.read(out / ENCODER, Comparison)]
    judges |= {
        "longer wins": shared.lengths(rankings),
        "bag of words": [bag.scores(ranking.completions) for ranking in rankings],
    }
    right = {name: shared.outcomes(rankings, scores) for name, scores in judges.items()}
    bins, by_length = shared.length_bins(rankings), {}
    for name in sorted(set(bins), key=shared.BINS.index):
        inside = [bin == name for bin in bins]
        chosen = {judge: list(itertools.compress(values, inside)) for judge, values in right.items()}
        by_length[name] = shared.compare(
            chosen, partial(mean_interval, clusters=list(itertools.compress(posts, inside)))
        )
    return {
        "posts": len(set(posts)),
        "all": shared.compare(right, partial(mean_interval, clusters=posts)),
        "by_length_difference": by_length,
    }


def on_encoder(out: Path, bag: baselines.BagOfWords) -> dict[str, Any] | None:
    """PPO and best of n with the reward model on an encoder, against SFT. None without that variant.

    The judge is the reward model from scratch, which neither of them used. The bag of words is another one.
    """
    if not (out / ENCODER).exists():
        return None
    theirs, found = formats.read(out / "sft.jsonl.gz", Completions), {}
    rates = evaluated(out / "evaluation_encoder")["win_rates"]
    for name in ("ppo_encoder", "best_of_n"):
        ours = formats.read(out / f"{name}.jsonl.gz", Completions)
        found[name] = {
            "wins_by_reward_model_from_scratch": _as_mean(rates[name]),
            "wins_by_bag_of_words": _wins(ours, theirs, bag.scores),
            "repeated_pairs_of_words": _repeats(ours),
        }
    return found


def evaluated(folder: Path) -> dict[str, Any]:
    """The result of `heedful evaluate` with one judge: facts about the answers, and the figures of the judge."""
    result = read_json(folder / "result.json")
    (figures,) = result.pop("judges").values()
    return {**result, **figures}


def people(data: Path) -> dict[str, Any] | None:
    """How often two labelers of the same two summaries agree. None without a file of such judgements."""
    path = data / "tldr_comparisons" / "worker_comparisons.jsonl.gz"
    if not path.exists():
        return None
    judged: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for row in shared.rows(path):
        better = row["summary_a"] if row["choice"] == "a" else row["summary_b"]
        pair = (row["post"], *sorted((row["summary_a"], row["summary_b"])))
        judged.setdefault(pair, []).append((row["worker"], better))
    agree, item = [], []
    for pair, judgements in judged.items():
        for (first, one), (second, other) in itertools.combinations(judgements, 2):
            if first != second:
                agree.append(float(one == other))
                item.append(pair)
    return {**rate_interval(agree, item)._asdict(), "comparisons": len(set(item))} if agree else None


def policies(out: Path, bag: baselines.BagOfWords) -> dict[str, Any]:
    """PPO compared with SFT: win rates by the reward model and by the bag of words, length, ends, KL."""
    evaluation = evaluated(out / "evaluation")
    ours, theirs = (formats.read(out / f"{name}.jsonl.gz", Completions) for name in ("ppo", "sft"))
    return {
        "prompts": evaluation["prompts"],
        "samples_of_each": len(ours[0].completions),
        "wins_by_its_own_reward_model": _as_mean(evaluation["win_rates"]["ppo"]),
        "the_same_at_similar_length": _as_mean(evaluation["length"]["ppo"]["similar"]),
        "wins_by_bag_of_words": _wins(ours, theirs, bag.scores),
        "mean_score": evaluation["mean_score"],
        "mean_tokens": {"ppo": _mean_tokens(ours), "sft": _mean_tokens(theirs)},
        "finished": evaluation["finished"],
        "kl_to_sft_nats": sequence_kl(ours, out / "ppo", out / "sft"),
        "repeated_pairs_of_words": {"ppo": _repeats(ours), "sft": _repeats(theirs)},
    }


def _wins(
    ours: Sequence[Completions], theirs: Sequence[Completions], scores: Callable[[Sequence[str]], list[float]]
) -> dict[str, Any]:
    """How often one of our answers scores higher than one of theirs to the same prompt. Every prompt counts once."""
    means = []
    for one, other in zip(ours, theirs, strict=True):
        assert one.prompt == other.prompt
        pairs = list(itertools.product(scores(one.completions), scores(other.completions)))
        means.append(sum((x > y) + 0.5 * (x == y) for x, y in pairs) / len(pairs))
    return rate_interval(means)._asdict()


@torch.no_grad()
def sequence_kl(rows: Sequence[Completions], policy: Path, reference: Path) -> dict[str, Any]:
    """KL of the policy to the reference in nats a response, on its own samples. The interval resamples prompts."""
    (model, tokenizer), (other, _) = load.load_policy(policy), load.load_policy(reference)
    values, prompts = [], []
    for number, row in enumerate(rows):
        assert row.token_ids is not None
        prompt_ids = [render.prompt_ids(tokenizer, row.prompt)] * len(row.token_ids)
        batch = batches.collate(prompt_ids, row.token_ids, tokenizer.pad_token_id)
        logprobs_BT, ref_logprobs_BT = (scoring.response_logprobs(one, batch) for one in (model, other))
        values += kl.sequence_kl(logprobs_BT, ref_logprobs_BT, batch.response_mask_BT).tolist()
        prompts += [number] * len(row.token_ids)
    return mean_interval(values, prompts)._asdict()


def _mean_tokens(rows: Sequence[Completions]) -> float:
    lengths = [len(ids) for row in rows for ids in row.token_ids or []]
    return sum(lengths) / len(lengths)


def _repeats(rows: Sequence[Completions]) -> float:
    """Share of word pairs that an answer has said before. Such loops are a usual way to exploit a reward model."""
    said = repeated = 0
    for words in (text.lower().split() for row in rows for text in row.completions):
        pairs = list(itertools.pairwise(words))
        said, repeated = said + len(pairs), repeated + len(pairs) - len(set(pairs))
    return repeated / max(1, said)


def _as_mean(rate: dict[str, Any] | None) -> dict[str, Any] | None:
    return rate and {("mean" if key == "rate" else key): value for key, value in rate.items()}


def samples(out: Path) -> list[dict[str, str]]:
    """Held-out posts with a human summary and one of each model. Posts from harmless subreddits come first."""
    best = {row.id: row.completions[0] for row in reversed(formats.read(out / "scored.jsonl.gz", Comparison))}
    ours, theirs = (formats.read(out / f"{name}.jsonl.gz", Completions) for name in ("ppo", "sft"))
    shown = sorted(zip(ours, theirs, strict=True), key=lambda pair: not CALM.match(str(pair[0].prompt)))
    return [
        {"prompt": str(one.prompt), "people": best[one.id], "sft": other.completions[0], "ppo": one.completions[0]}
        for one, other in shown[:SHOWN]
    ]


def table(found: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    cut = found["account"]["valid"]
    lines = [*_accuracy_lines(found["reward_model"], found["people"]), "", *_policy_lines(found["policies"]), ""]
    lines += [*_encoder_lines(found["on_an_encoder"]), ""] if found["on_an_encoder"] else []
    lines.append(
        f"{cut['posts_cut']} of {cut['posts']} held-out posts were cut. On average the models read "
        f"{cut['mean_share_of_words_kept']:.0%} of a post. People read all of it."
    )
    for sample in found["samples"]:
        prompt = " ".join(sample["prompt"].split())
        lines += ["", f"{prompt[:200]} [...] {prompt[-60:]}"]
        lines += [f"  {who:<7} {' '.join(sample[who].split())}" for who in ("people", "sft", "ppo")]
    return "\n".join([*lines, "", shared.duration_line(found["duration"])])


def _accuracy_lines(quality: dict[str, Any], agreement: dict[str, Any] | None) -> list[str]:
    lines = [f"right on held-out comparisons of {quality['posts']} posts, in %"]
    lines += [f"  {name:<{WIDTH}}{shared.percent(value)}" for name, value in quality["all"].items()]
    if agreement is not None:
        name = f"people with each other, {agreement['comparisons']} comparisons"
        lines.append(f"  {name:<{WIDTH}}{shared.percent(agreement)}")
    for bin, values in quality["by_length_difference"].items():
        judges = {name: value for name, value in values.items() if "minus" not in name}
        lines.append(f"  lengths differ by {bin}")
        lines += [f"    {name:<{WIDTH - 2}}{shared.percent(value)}" for name, value in judges.items()]
    return lines


def _policy_lines(side: dict[str, Any]) -> list[str]:
    asked = f"{side['prompts']} held-out posts, {side['samples_of_each']} samples each"
    lines = [f"PPO preferred to SFT on {asked}, in %"]
    for name, key in (
        ("by the reward model it was trained on", "wins_by_its_own_reward_model"),
        ("  where lengths are within 10 %", "the_same_at_similar_length"),
        ("by the bag of words, which PPO did not use", "wins_by_bag_of_words"),
    ):
        lines.append(f"  {name:<{WIDTH}}{shared.percent(side[key]) if side[key] else '     –'}")
    lines += [
        "  The first figure is optimistic: it is the reward that PPO optimised.",
        "",
        f"  {'':<{WIDTH}}   PPO      SFT",
    ]
    for name, key, unit in (
        ("mean tokens", "mean_tokens", 1),
        ("ended by itself, %", "finished", 100),
        ("mean score", "mean_score", 1),
        ("word pairs said before, %", "repeated_pairs_of_words", 100),
    ):
        lines.append(f"  {name:<{WIDTH}}{unit * side[key]['ppo']:6.2f}   {unit * side[key]['sft']:6.2f}")
    moved = side["kl_to_sft_nats"]
    lines.append(f"  {'KL to SFT, nats a response':<{WIDTH}}{moved['mean']:6.2f}   ({ends(moved, '{:.2f}'.format)})")
    return lines


def _encoder_lines(found: dict[str, Any]) -> list[str]:
    lines = ["preferred to SFT with the reward model on an encoder, in %"]
    for name, title in (("ppo_encoder", "PPO"), ("best_of_n", "best of n SFT answers")):
        for key, judge in (
            ("wins_by_reward_model_from_scratch", "reward model from scratch"),
            ("wins_by_bag_of_words", "bag of words"),
        ):
            lines.append(f"  {f'{title}, by the {judge}':<{WIDTH + 6}}{shared.percent(found[name][key])}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    training = formats.read(given.out / "comparisons.jsonl.gz", Comparison)
    pairs = [(row.completions[better], row.completions[worse]) for row in training for better, worse in row.pairs()]
    bag = baselines.BagOfWords(pairs, [str(row.id) for row in training for _ in row.pairs()])
    found = {
        "account": read_json(given.out / "account.json"),
        "base_valid_loss": read_json(given.out / "base" / "manifest.json")["results"]["valid_loss"],
        "sft_valid_loss": read_json(given.out / "sft" / "manifest.json")["results"]["valid_loss"],
        "reward_model": reward_model(given.out, bag),
        "bag_of_words_penalty": bag.penalty,
        "people": people(given.data),
        "policies": policies(given.out, bag),
        "on_an_encoder": on_encoder(given.out, bag),
        "samples": samples(given.out),
        "duration": shared.duration(given.out),
    }
    write_json(given.out / "results.json", found)
    print(table(found))


if __name__ == "__main__":
    main()
