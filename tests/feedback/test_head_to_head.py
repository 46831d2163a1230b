"""Two files of answers: pairs by prompt, and what finds no partner is counted and named."""

from __future__ import annotations

import pytest

from heedful.config import UserError
from heedful.data.records import Completions
from heedful.feedback import head_to_head


def test_pairs_by_prompt_and_what_is_left() -> None:
    ours = [Completions(prompt=p, completions=[f"ours {p}", "z"], models=["new", "new"], source="s") for p in "abc"]
    theirs = [Completions(prompt=p, completions=[f"theirs {p}"]) for p in "cbd"]
    paired = head_to_head.pair(ours, theirs)
    assert [one.row() for one in paired.pairs] == [
        {"prompt": p, "source": "s", "a": {"text": f"ours {p}", "model": "new"}, "b": {"text": f"theirs {p}"}}
        for p in "bc"
    ]
    assert (paired.alone, paired.further) == ((["a"], ["d"]), (3, 0))
    assert paired.left_out(["new.jsonl", "old.jsonl"]) == [
        "new.jsonl: 1 row answers a prompt that old.jsonl does not answer: “a”",
        "new.jsonl: 3 answers after the first of their row. Only the first is compared",
        "old.jsonl: 1 row answers a prompt that new.jsonl does not answer: “d”",
    ]
    with pytest.raises(UserError, match="no prompt in common"):
        head_to_head.pair(ours[:1], theirs)


def test_rows_of_one_prompt_are_paired_in_their_order_and_a_chat_of_one_message_is_its_text() -> None:
    ours = [Completions(prompt="p", completions=[text]) for text in ("1", "2")]
    theirs = [Completions(prompt=[{"role": "user", "content": "p"}], completions=[text]) for text in ("x", "y", "z")]
    paired = head_to_head.pair(ours, theirs)
    assert [(one.a.text, one.b.text) for one in paired.pairs] == [("1", "x"), ("2", "y")]
    assert paired.alone == ([], ["p"])
    asked = [{"role": "system", "content": "p"}, {"role": "user", "content": "p"}]
    with pytest.raises(UserError):
        head_to_head.pair(ours, [Completions(prompt=asked, completions=["x"])])


def test_many_prompts_are_cut_and_counted() -> None:
    ours = [Completions(prompt=f"{n} " + "long " * 30, completions=["x"]) for n in range(5)]
    both = Completions(prompt="p", completions=["x"])
    (line,) = head_to_head.pair([*ours, both], [both]).left_out(["a", "b"])
    assert line.startswith("a: 5 rows answer prompts that b does not answer: “0 long long")
    assert line.endswith("lo…” and 2 more")
    assert len(line) < 300
