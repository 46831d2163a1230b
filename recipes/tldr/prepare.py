"""Convert the public rows to records: `texts` for pretraining, then `rows` cut by the tokenizer made from the texts."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoTokenizer

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Comparison, Demonstration, Prompt, Text
from heedful.files import write_json
from heedful.models import render
from heedful.runs.manifest import model_path
from recipes import shared

SIDES = {"train": "", "valid": "valid_"}
POST_COPIES = 3  # copies of each post, since the books are twenty times as much text
BOOK_SHARE = {"train": 3, "valid": 5}  # every third passage, every fifth one


@dataclass
class Post:
    """One post with the (better, worse) summaries that people judged."""

    name: str
    subreddit: str
    title: str
    body: str
    pairs: list[shared.Pair] = field(default_factory=list)

    def prompt(self, body: str) -> str:
        return f"SUBREDDIT: r/{self.subreddit}\nTITLE: {self.title}\nPOST: {body}\nTL;DR:\n\n"


def posts(data: Path, side: str, limit: int | None) -> list[Post]:
    """The first `limit` different posts of a side."""
    found: dict[tuple[str, str, str], Post] = {}
    for row in shared.rows(data / "tldr_comparisons" / f"{side}.jsonl.gz"):
        key = (row["subreddit"], row["title"], row["post"])
        post = found.setdefault(key, Post(f"{side}-{len(found):04}", *key))
        post.pairs.append((row["chosen"], row["rejected"]))
    return list(found.values())[:limit]


def texts(data: Path, out: Path, limit: int | None, passages: int | None) -> None:
    """Write the texts: whole posts with the heading that prompts have, and passages of books."""
    for side, name in SIDES.items():
        read = [post.prompt(post.body).removesuffix("\nTL;DR:\n\n") for post in posts(data, side, limit)]
        books = shared.rows(data / "books_text" / f"{side}.jsonl.gz")[:: BOOK_SHARE[side]][:passages]
        documents = read * (POST_COPIES if side == "train" else 1) + [row["text"] for row in books]
        formats.write(out / f"{name}texts.jsonl.gz", [Text(text=text) for text in documents])


def preferred(pairs: list[shared.Pair]) -> list[str]:
    """The summaries that won more often than they lost."""
    wins = Counter(better for better, _ in pairs)
    wins.subtract(worse for _, worse in pairs)
    return [summary for summary, balance in wins.items() if balance > 0]


def make_rows(data: Path, out: Path, limit: int | None, model: Path, prompt_tokens: int) -> None:
    """Write prompts, demonstrations and comparisons of both sides, and an account of cut posts and of pairs."""
    tokenizer = AutoTokenizer.from_pretrained(model_path(model))
    account = {}
    for side, name in SIDES.items():
        prompts, demonstrations, comparisons, kept = [], [], [], []
        for post in posts(data, side, limit):
            summaries = dict.fromkeys(summary for pair in post.pairs for summary in pair)
            longest = max(len(render.response_ids(tokenizer, summary, finished=True)) for summary in summaries)
            room = min(prompt_tokens, tokenizer.model_max_length - longest)
            fits = _fits(post, tokenizer, room)
            body = shared.shortened(post.body, fits)
            if not fits(body):
                raise UserError(f"{post.name}: heading and longest summary leave no room for the post. Raise context.")
            common = {"prompt": post.prompt(body), "id": post.name}
            kept.append(
                1.0 if body == post.body else len(body.removesuffix(shared.CUT).split()) / len(post.body.split())
            )
            prompts.append(Prompt(**common))
            demonstrations += [Demonstration(**common, completion=summary) for summary in preferred(post.pairs)]
            for ranking in shared.rankings(post.pairs):
                order = [[k] for k in range(len(ranking))]
                comparisons.append(Comparison(**common, completions=ranking, ranking=order))
        for kind, records in (("prompts", prompts), ("demonstrations", demonstrations), ("comparisons", comparisons)):
            formats.write(out / f"{name}{kind}.jsonl.gz", records)
        account[side] = {
            "posts": len(prompts),
            "posts_cut": sum(share < 1 for share in kept),
            "mean_share_of_words_kept": round(sum(kept) / len(kept), 3),
            "demonstrations": len(demonstrations),
            "pairs": sum(len(comparison.pairs()) for comparison in comparisons),
            "rankings_by_size": dict(
                sorted(Counter(len(comparison.completions) for comparison in comparisons).items())
            ),
        }
    write_json(out / "account.json", account)


def _fits(post: Post, tokenizer: AutoTokenizer, room: int) -> Callable[[str], bool]:
    return lambda body: len(render.prompt_ids(tokenizer, post.prompt(body))) <= room


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("texts", "rows"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="The model whose tokenizer cuts the rows.")
    parser.add_argument("--prompt-tokens", type=int, default=160)
    parser.add_argument("--posts", type=int, help="Use only the first POSTS posts of each side.")
    parser.add_argument("--passages", type=int, help="Use only the first PASSAGES passages of the books.")
    given = parser.parse_args()
    if given.what == "texts":
        texts(given.data, given.out, given.posts, given.passages)
    else:
        make_rows(given.data, given.out, given.posts, given.model, given.prompt_tokens)


if __name__ == "__main__":
    main()
