"""Records to token ids: limits, EOS, known ids, held-out prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import tiny
from heedful.config import UserError
from heedful.data.records import Completions, Message, Prompt
from heedful.learning import examples
from heedful.learning.examples import Example, TokenLimits
from stages import worlds

TOKENIZER = tiny.tokenizer()
EOS = TOKENIZER.eos_token_id
OTHER_END = TOKENIZER.pad_token_id  # a special token that might end answers of another model
WIDE = TokenLimits(128, 128, 128)


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text))


LETTERS = [token for letter in "a list" for token in ids(letter)]  # other ids for the same text


def test_a_demonstration_ends_with_eos_unless_it_was_cut(tmp_path: Path) -> None:
    data = worlds.write(tmp_path / "d.jsonl", [{"prompt": "Say red", "completion": "a list of things"}])
    ((record, whole),) = examples.demonstrations(data, TOKENIZER, WIDE)
    assert whole.prompt_ids == ids("Say red")
    assert whole.response_ids == [*ids("a list of things"), EOS]
    assert len(whole) == len(whole.prompt_ids) + len(whole.response_ids)
    assert record.completion == "a list of things"
    for limits in (TokenLimits(128, 128, 3), TokenLimits(len(whole.prompt_ids) + 3, 128, 128)):
        ((_, cut),) = examples.demonstrations(data, TOKENIZER, limits)
        assert cut.response_ids == ids("a list of things")[:3]


def test_a_prompt_that_is_too_long_stops_or_is_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": "Say red"}, {"prompt": "Say " + "red " * 50}]
    data = worlds.write(tmp_path / "p.jsonl", rows)
    count = len(ids(rows[1]["prompt"]))
    with pytest.raises(UserError, match=rf"p\.jsonl: prompt 2 has {count} tokens, the most here is 20 \(context 128\)"):
        examples.questions(data, TOKENIZER, TokenLimits(128, 20, 20))
    with pytest.raises(UserError, match="the most here is 15 "):  # one position is the answer's
        examples.questions(data, TOKENIZER, TokenLimits(16, 100, 20))
    (question,) = examples.questions(data, TOKENIZER, TokenLimits(128, 20, 20, skip_long=True))
    assert question.prompt == "Say red"
    with pytest.raises(UserError, match=r"no prompt is short enough \(skipped, of over 2 tokens: 2\)"):
        examples.questions(data, TOKENIZER, TokenLimits(128, 2, 20, skip_long=True))


def test_room_for_an_answer() -> None:
    assert TokenLimits(128, 1000, 0).leaving_room(28) == TokenLimits(128, 100, 28)
    assert TokenLimits(128, 50, 0, skip_long=True).leaving_room(28) == TokenLimits(128, 50, 28, skip_long=True)
    with pytest.raises(UserError, match="max_new_tokens 128 leaves no room for a prompt: the model reads 128 tokens"):
        TokenLimits(128, 1000, 0).leaving_room(128)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [*ids("a list"), EOS]),
        ({"finish": ["stop"]}, [*ids("a list"), EOS]),
        ({"finish": ["length"]}, ids("a list")),
        # as a model may sample them: kept
        ({"finish": ["stop"], "token_ids": [[*LETTERS, EOS]]}, [*LETTERS, EOS]),
        ({"finish": ["length"], "token_ids": [LETTERS]}, LETTERS),
        # ids of another text or another tokenizer: not ours
        ({"finish": ["stop"], "token_ids": [[*ids("another"), EOS]]}, [*ids("a list"), EOS]),
        ({"finish": ["stop"], "token_ids": [[100_000, EOS]]}, [*ids("a list"), EOS]),
        ({"finish": ["stop"], "token_ids": [[]]}, [*ids("a list"), EOS]),
        # an end that is not this tokenizer's, or none where there was one: the text reads the same
        ({"finish": ["stop"], "token_ids": [[*LETTERS, OTHER_END]]}, [*ids("a list"), EOS]),
        ({"finish": ["stop"], "token_ids": [LETTERS]}, [*ids("a list"), EOS]),
        ({"finish": ["length"], "token_ids": [[*LETTERS, EOS]]}, ids("a list")),
        ({"token_ids": [[*LETTERS, OTHER_END]]}, [*ids("a list"), EOS]),
        ({"token_ids": [LETTERS]}, LETTERS),  # nobody knows whether it was finished
    ],
)
def test_sampled_ids_are_kept_where_they_are_known(fields: dict[str, Any], expected: list[int]) -> None:
    record = Completions(prompt="p", completions=["a list"], **fields)
    assert ids("a list") != LETTERS
    assert examples.answer(TOKENIZER, [9], record, 0, WIDE).response_ids == expected
    assert examples.answer(TOKENIZER, [9], record, 0, TokenLimits(128, 128, 1)).response_ids == expected[:1]


def test_rankings_keep_ties_ranks_and_lengths(tmp_path: Path) -> None:
    row = {"prompt": "Say red", "completions": ["a", "a list", "x"], "ranking": [[1], [0, 2]]}
    tied = {"prompt": "Say blue", "completions": ["a", "b"], "ranking": [[0, 1]]}
    first, second = examples.rankings(worlds.write(tmp_path / "r.jsonl", [row, tied]), TOKENIZER, WIDE)
    assert first.ranks == [1, 0, 1]
    assert first.lengths == [1, 6, 1]
    assert first.responses == [[*ids(text), EOS] for text in row["completions"]]
    assert (first.untied, second.untied) == (True, False)


def test_documents_end_with_eos_and_are_cut_at_the_context(tmp_path: Path) -> None:
    """The first token of a piece is given, a piece of one token has nothing to predict."""
    text = "a list of things"
    all_ids = [*ids(text), EOS]
    N = len(all_ids)
    data = worlds.write(tmp_path / "t.jsonl", [{"text": text}, {"text": "a"}])
    short = Example(ids("a"), [EOS])
    assert examples.documents(data, TOKENIZER, N) == [Example(all_ids[:1], all_ids[1:]), short]
    assert examples.documents(data, TOKENIZER, N - 1) == [Example(all_ids[:1], all_ids[1:-1]), short]
    halves = [Example(all_ids[:1], all_ids[1 : N - 2]), Example(all_ids[N - 2 : N - 1], [EOS])]
    assert examples.documents(data, TOKENIZER, N - 2) == [*halves, short]


def test_documents_that_spell_a_special_token_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = worlds.write(tmp_path / "t.jsonl", [{"text": f"a list {TOKENIZER.eos_token}"}, {"text": "a list"}])
    (first, _) = examples.documents(data, TOKENIZER, 128)
    assert first.response_ids.count(EOS) == 1
    assert "1 of 2 documents spells a special token, such as <|endoftext|>. It is read as plain text" in caplog.text


def test_texts_without_a_token_to_learn(tmp_path: Path) -> None:
    letters = Tokenizer(models.BPE(vocab={"<eos>": 0, "<pad>": 1, "a": 2}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<eos>", pad_token="<pad>")
    data = worlds.write(tmp_path / "t.jsonl", [{"text": "xyz"}])
    with pytest.raises(UserError, match=r"t\.jsonl: no text has two tokens or more. Give more text"):
        examples.documents(data, tokenizer, 16)


def never(line: str) -> None:
    raise AssertionError(line)


def test_what_is_held_out() -> None:
    splits = ("train", "valid", None, "test")
    named = [Prompt(prompt=f"{split}", split=split) for split in splits]
    said: list[str] = []
    assert examples.divided(named, 0.0, 0, said.append) == ([0, 2], [1])  # rows for tests are in neither
    assert said == ["1 of 4 rows has split test, or valid with other held-out data. It is left out"]
    assert examples.divided(named, 0.5, 0, said.append, elsewhere=True) == ([0, 2], [])
    assert said[1] == "2 of 4 rows have split test, or valid with other held-out data. They are left out"
    drawn = [Prompt(prompt=f"prompt {i}", split="test" if i % 2 else "train") for i in range(100)]
    assert sorted([i for part in examples.divided(drawn, 0.2, 0, said.append) for i in part]) == list(range(0, 100, 2))
    assert examples.divided([named[3]], 0.2, 0, said.append) == ([], [])
    prompts = [Prompt(prompt=f"prompt {i % 500}") for i in range(1000)]
    training, out = examples.divided(prompts, 0.1, 0, never)
    assert sorted(training + out) == list(range(1000))
    assert out == [*out[: len(out) // 2], *(i + 500 for i in out[: len(out) // 2])]  # by text: never on both sides
    assert 60 < len(out) < 140
    assert examples.divided(prompts, 0.1, 1, never)[1] != out
    backwards = examples.divided(prompts[:500][::-1], 0.1, 0, never)[1]
    assert [499 - i for i in backwards][::-1] == out[: len(out) // 2]
    assert len(examples.divided(prompts[:3], 0.001, 0, never)[1]) == 1  # at least one of several
    assert examples.divided(prompts[:3], 0.0, 0, never) == ([0, 1, 2], [])
    assert examples.divided(prompts[:1], 0.1, 0, never) == ([0], [])


# --- rows that are left out or changed are counted ---------------------------------------------------------

SAID = {"prompt": "Say red", "completion": "red"}
LONG = {"prompt": "Say more", "completion": "a list of things to bring to the river"}


def test_answers_that_are_cut_are_told_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = worlds.write(tmp_path / "d.jsonl", [SAID, LONG, LONG])
    limits = TokenLimits(128, 128, 5)
    assert [len(row.response_ids) == 5 for _, row in examples.demonstrations(data, TOKENIZER, limits)] == [0, 1, 1]
    assert limits.counts == {data: {"cut": 2}}
    assert "2 of 3 rows have an answer that does not fit (context 128). It is cut and has no end" in caplog.text
    limits = TokenLimits(128, 128, 5, skip_long=True)
    ((record, _),) = examples.demonstrations(data, TOKENIZER, limits)
    assert (record.completion, limits.counts) == ("red", {data: {"long_answer": 2}})
    with pytest.raises(UserError, match="3 of 3 rows have an answer that does not fit"):
        examples.demonstrations(data, TOKENIZER, TokenLimits(128, 128, 1, skip_long=True))


def test_prompts_that_are_left_out_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = worlds.write(tmp_path / "p.jsonl", [{"prompt": "Say red"}, {"prompt": "Say " + "red " * 50}])
    limits = TokenLimits(128, 20, 20, skip_long=True)
    examples.questions(data, TOKENIZER, limits.leaving_room(5))
    assert limits.counts == {data: {"too_long": 1}}
    assert "1 of 2 rows has a prompt over 20 tokens. It is left out" in caplog.text


def test_answers_with_the_same_tokens_are_no_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    things = "a list of things"
    rows = [
        {"prompt": "One", "completions": ["red", "red"], "ranking": [[0], [1]]},
        {"prompt": "Two", "completions": [f"{things} red", f"{things} blue"], "ranking": [[1], [0]]},  # once cut
        {"prompt": "Three", "completions": ["red", "blue", "red"], "ranking": [[0], [1], [2]]},
        {"prompt": "Four", "completions": ["blue", "blue"], "ranking": [[0, 1]]},
    ]
    data = worlds.write(tmp_path / "r.jsonl", rows)
    limits = TokenLimits(128, 128, len(ids(things)))
    three, four = examples.rankings(data, TOKENIZER, limits)
    assert three.pairs == [(0, 1), (1, 2)]
    assert (four.pairs, four.untied) == ([], False)  # all tied is something else
    assert limits.counts == {data: {"cut": 1, "same_answers": 2, "same_pairs": 1}}
    assert "2 of 4 rankings rank answers with the same tokens. They are left out" in caplog.text
    worlds.write(tmp_path / "same.jsonl", rows[:1])
    with pytest.raises(UserError, match=r"1 of 1 ranking ranks answers with the same tokens\. Check the answers"):
        examples.rankings(str(tmp_path / "same.jsonl"), TOKENIZER, WIDE)


STRICT = tiny.tokenizer(template=True)
STRICT.chat_template = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ASKED = [{"role": "user", "content": "Say red"}]
RULED = [{"role": "system", "content": "Be brief."}, *ASKED]


def test_a_row_that_the_template_refuses_is_named_with_its_line(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": ASKED, "completion": "red"}), "", json.dumps({"prompt": RULED, "completion": "red"})]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    data = str(tmp_path / "d.jsonl")
    said = (
        r"d\.jsonl:3: the chat template of .* System role not supported. Leave such rows out with --refused-rows skip"
    )
    for read in (examples.demonstrations, examples.questions):
        with pytest.raises(UserError, match=f"{said}, or join"):
            read(data, STRICT, WIDE)
    limits = TokenLimits(128, 128, 128, refused_rows="skip")
    assert len(examples.demonstrations(data, STRICT, limits)) == 1
    assert limits.counts == {data: {"refused": 1}}


def test_a_system_message_may_join_the_question(tmp_path: Path) -> None:
    ranking = {"completions": ["red", "blue"], "ranking": [[0], [1]]}
    data = worlds.write(tmp_path / "r.jsonl", [{"prompt": RULED, **ranking}, {"prompt": ASKED, **ranking}])
    limits = TokenLimits(128, 128, 128, refused_rows="join")
    joined, plain = examples.rankings(data, STRICT, limits)
    expected = [Message(role="user", content="Be brief.\n\nSay red")]
    assert joined.prompt_ids == examples.render.prompt_ids(STRICT, expected)
    assert plain.prompt_ids == examples.render.prompt_ids(STRICT, "Say red")
    assert limits.counts == {data: {"joined": 1}}
    question, _ = examples.questions(data, STRICT, limits)
    assert question.prompt == expected  # rewards read what the model is asked
    assert len(question.record.prompt) == 2  # and files keep the row
    knows_it = tiny.tokenizer(template=True)
    assert len(examples.rankings(data, knows_it, limits)[0].record.prompt) == 2
    twice = worlds.write(tmp_path / "s.jsonl", [{"prompt": [RULED[0], *RULED], **ranking}])
    with pytest.raises(UserError, match=r"s\.jsonl:1: .*Leave such rows out with --refused-rows skip$"):
        examples.rankings(twice, STRICT, limits)
