"""Every shape of the table, from a row as the data set or tool writes it: the record, or the refusal."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data import conversion, formats, kinds
from heedful.data.explain import explain
from heedful.data.records import Demonstration
from heedful.data.shapes.table import SHAPES

Q, GOOD, BAD, SO_SO = "How do I keep bread fresh?", "Wrap it in a cloth.", "Eat it.", "Use a bag."
ASK = {"role": "user", "content": Q}
SYSTEM = {"role": "system", "content": "Be brief."}


def reply(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def oasst(name: str, parent: str | None, role: str, text: str, rank: int | None = None) -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "user_id": f"u{name}", "text": text, "role": role, "lang": "en",
            "rank": rank, "deleted": False, "message_tree_id": "1"}  # fmt: skip


MESSAGES = [
    oasst("1", None, "prompter", Q), oasst("2", "1", "assistant", BAD, 1), oasst("3", "1", "assistant", GOOD, 0),
    oasst("4", "3", "prompter", "And then?"), oasst("5", "4", "assistant", "Slice it."),
]  # fmt: skip
TREE = {
    **MESSAGES[0],
    "replies": [MESSAGES[1], {**MESSAGES[2], "replies": [{**MESSAGES[3], "replies": [MESSAGES[4]]}]}],
}
ARENA = {"model_a": "x", "model_b": "y", "conversation_a": [ASK, reply(GOOD)], "conversation_b": [ASK, reply(BAD)]}


def studio(*results: dict[str, Any], cancelled: bool = False, data: Any = None) -> dict[str, Any]:
    pair = {"prompt": Q, "answer1": BAD, "answer2": GOOD}
    annotations = [
        {"id": n, "completed_by": {"id": 7, "email": f"{n}@x"}, "result": [result], "was_cancelled": cancelled}
        for n, result in enumerate(results)
    ]
    return {"id": 1, "annotations": annotations, "data": data or pair, "predictions": []}


def chose(side: str) -> dict[str, Any]:
    return {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": side}}


RANKER = {"type": "ranker", "to_name": "answers", "value": {"ranker": {"rank": ["b", "a"]}}}
ITEMS = {"prompt": Q, "items": [{"id": "a", "title": "A", "body": BAD}, {"id": "b", "title": "B", "body": GOOD}]}
FIELDS = {"instruction": Q, "response1": BAD, "response2": GOOD}
PAIR = {"prompt": Q, "completions": [BAD, GOOD], "ranking": [[1], [0]]}
FIRST = {"prompt": Q, "completions": [GOOD, BAD], "ranking": [[0], [1]]}
CHAT = {"prompt": [ASK], "completion": GOOD}

# name of the shape, rows of a file, kind, the first record without the fields that stay, fields that stay
READ: list[tuple[str, list[dict[str, Any]], str, dict[str, Any], list[str]]] = [
    ("Label Studio", [studio(chose("right"))], "comparisons", PAIR | {"id": "1", "labeler": "0@x"}, ["annotation_id"]),
    ("Label Studio", [studio(RANKER, data=ITEMS)], "comparisons", PAIR | {"id": "1", "labeler": "0@x"},
     ["annotation_id"]),
    ("Label Studio, JSON_MIN or CSV",
     [{"prompt": Q, "answer1": BAD, "answer2": GOOD, "id": 1, "pw": {"selected": "right"}, "annotator": 3,
       "annotation_id": 11, "lead_time": 3.1}],
     "comparisons", PAIR | {"id": "1", "labeler": "3"}, ["annotation_id", "lead_time"]),
    ("Label Studio, JSON_MIN or CSV",
     [{"prompt": Q, "answer1": BAD, "answer2": GOOD, "id": 1, "pw": [{"selected": "right"}], "annotator": 3,
       "annotation_id": 11}],
     "comparisons", PAIR | {"id": "1", "labeler": "3"}, ["annotation_id"]),
    ("Argilla 2, records",
     [{"id": "r", "status": "completed", "fields": FIELDS, "metadata": {}, "suggestions": {},
       "responses": {"ranking": [{"value": ["response2", "response1"], "user_id": "u"}]}}],
     "comparisons", PAIR | {"id": "r", "labeler": "u"}, []),
    ("Argilla 2, data set",
     [{**FIELDS, "id": "r", "status": "completed", "_server_id": "6f", "q.responses": [["response2", "response1"]],
       "q.responses.users": ["u"], "q.responses.status": ["submitted"], "q.suggestion": None}],
     "comparisons", PAIR | {"id": "r", "labeler": "u"}, []),
    ("Argilla 1",
     [{"prompt": Q, "response-1": BAD, "response-2": GOOD, "external_id": None, "metadata": "{}",
       "ranking": [{"user_id": "u", "status": "submitted",
                    "value": {"rank": [1, 1], "value": ["response-2", "response-1"]}}]}],
     "comparisons", PAIR | {"ranking": [[0, 1]], "labeler": "u"}, []),
    ("Prodigy",
     [{"text": Q, "options": [{"id": 1, "text": BAD}, {"id": 2, "text": GOOD}], "accept": [2], "answer": "accept",
       "_task_hash": 5, "_input_hash": 4, "_annotator_id": "d"}],
     "comparisons", PAIR | {"labeler": "d"}, ["_input_hash", "_task_hash"]),
    ("UltraFeedback, raw",
     [{"source": "s", "instruction": Q, "models": ["m", "n"], "completions": [
         {"model": "m", "response": BAD, "overall_score": 3.0, "critique": "c"},
         {"model": "n", "response": GOOD, "overall_score": 9.0, "critique": "d"}]}],
     "comparisons", PAIR | {"source": "s", "models": ["m", "n"]}, ["annotations"]),
    ("Nectar",
     [{"prompt": f"\n\nHuman: {Q}\n\nAssistant: ", "turns": 1, "source": ["a", "b"], "answers": [
         {"answer": SO_SO, "model": "m", "rank": 2.0}, {"answer": GOOD, "model": "n", "rank": 1.0},
         {"answer": BAD, "model": "o", "rank": 3.0}]}],
     "comparisons",
     {"prompt": [ASK], "completions": [SO_SO, GOOD, BAD], "ranking": [[1], [0], [2]], "models": ["m", "n", "o"],
      "source": "a, b"}, ["turns"]),
    ("Stack Exchange preferences",
     [{"qid": 4, "question": Q, "date": "2020", "answers": [
         {"text": BAD, "pm_score": 0, "author": "x"}, {"text": GOOD, "pm_score": 4, "author": "y"}]}],
     "comparisons", PAIR | {"id": "4"}, ["annotations", "date"]),
    ("RewardBench 2",
     [{"id": "0", "prompt": Q, "chosen": [GOOD], "rejected": [BAD, SO_SO], "num_correct": 1, "models": ["m"]}],
     "comparisons", {"prompt": Q, "completions": [GOOD, BAD, SO_SO], "ranking": [[0], [1, 2]], "id": "0"},
     ["models_as_given", "num_correct"]),
    ("HelpSteer 2, preference",
     [{"split": "validation", "prompt": Q, "response_1": BAD, "response_2": GOOD, "preference_strength": 3}],
     "comparisons", PAIR | {"split": "valid"}, ["preference_strength"]),
    ("HelpSteer 3",
     [{"domain": "general", "context": [ASK], "response1": GOOD, "response2": BAD, "overall_preference": -2}],
     "comparisons", FIRST | {"prompt": [ASK]}, ["domain", "overall_preference"]),
    ("HelpSteer 3", [{"context": [ASK], "response1": GOOD, "response2": BAD, "overall_preference": 0}],
     "comparisons", FIRST | {"prompt": [ASK], "ranking": [[0, 1]]}, ["overall_preference"]),
    ("HelpSteer 1 and 2",
     [{"prompt": f"Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\n{Q}", "response": BAD, "helpfulness": 1},
      {"prompt": f"Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\n{Q}", "response": GOOD, "helpfulness": 4}],
     "comparisons", PAIR | {"prompt": [{"role": "user", "content": "Hi"}, reply("Hello"), ASK]}, ["grades"]),
    ("summarize_from_feedback, comparisons",
     [{"info": {"id": "t3", "post": "Loaves!", "title": "Bread", "subreddit": "Baking"}, "split": "valid1",
       "summaries": [{"text": " Bad.", "policy": "sup4", "note": None}, {"text": " Good.", "policy": "ref"}],
       "choice": 1, "worker": "w", "batch": "b", "extra": {"confidence": 7}}],
     "comparisons",
     {"prompt": "SUBREDDIT: r/Baking\n\nTITLE: Bread\n\nPOST: Loaves!\n\nTL;DR:", "completions": [" Bad.", " Good."],
      "ranking": [[1], [0]], "models": ["sup4", "ref"], "labeler": "w", "id": "t3", "split": "valid"},
     ["batch", "extra"]),
    ("summarize_from_feedback, axis",
     [{"info": {"id": "c", "article": "News.", "title": "Paper"}, "worker": "w",
       "summary": {"text": " N.", "policy": "sup4", "axes": {"overall": 6, "accuracy": 7}}}],
     "completions",
     {"prompt": "Title: Paper\n\nNews.\n\nTL;DR:", "completions": [" N."], "models": ["sup4"], "id": "c",
      "ratings": [{"overall": 6}], "labeler": "w"}, ["axes", "labeler", "ratings"]),
    ("summarize_from_feedback, flat",
     [{"id": "t", "subreddit": "Baking", "title": "Bread", "post": "Loaves!", "chosen": "Good.", "rejected": "Bad."}],
     "comparisons",
     {"prompt": "SUBREDDIT: r/Baking\n\nTITLE: Bread\n\nPOST: Loaves!\n\nTL;DR:", "completions": ["Good.", "Bad."],
      "ranking": [[0], [1]], "id": "t"}, []),
    ("summarize_from_feedback, flat",
     [{"post_id": "p", "post": "Loaves!", "summary_a": BAD, "summary_b": GOOD, "choice": "b", "worker": "w3"}],
     "comparisons", PAIR | {"prompt": "POST: Loaves!\n\nTL;DR:", "labeler": "w3"}, ["post_id"]),
    ("LLMBar", [{"input": Q, "output_1": BAD, "output_2": GOOD, "label": 2}], "comparisons", PAIR, []),
    ("LLMBar", [{"input": Q, "output_1": BAD, "output_2": GOOD, "label": "2"}], "comparisons", PAIR, []),
    ("LLMBar with sides", [{"instruction": Q, "response_a": GOOD, "response_b": BAD, "better": "a", "subset": "n"}],
     "comparisons", FIRST, ["subset"]),
    ("PandaLM",
     [{"instruction": "Tip", "input": "Bread", "response1": BAD, "response2": GOOD, "annotator1": 2, "annotator2": 0,
       "annotator3": 1, "motivation": "m"}],
     "comparisons", PAIR | {"prompt": "Tip\n\nBread", "labeler": "annotator1"}, ["motivation"]),
    ("PandaLM with sides",
     [{"instruction": Q, "input": "", "response_a": GOOD, "response_b": BAD, "votes": ["tie", "a", "b"],
       "models": "m-7b_n-7b"}],
     "comparisons", FIRST | {"ranking": [[0, 1]], "labeler": "annotator1", "models": ["m-7b", "n-7b"]}, []),
    ("UKPConvArg",
     [{"debate": "Bread?", "stance": "No!", "response_a": BAD, "response_b": GOOD, "description": "",
       "votes": [{"worker": "w1", "vote": "b", "reason": "r"}, {"worker": "w2", "vote": "a"}]}],
     "comparisons", PAIR | {"prompt": "Bread? No!", "labeler": "w1"}, ["debate", "description", "stance"]),
    ("WebGPT",
     [{"question": {"dataset": "eli5", "id": "q1", "full_text": Q}, "answer_0": BAD, "answer_1": GOOD,
       "score_0": -0.5, "score_1": 0.5, "quotes_0": {"title": []}}],
     "comparisons", PAIR | {"id": "q1"}, ["question_dataset", "quotes_0"]),
    ("SHP",
     [{"post_id": "p", "history": Q, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 1}],
     "comparisons", PAIR, ["post_id", "score_A"]),
    ("SHP", [{"history": Q, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1}], "comparisons", FIRST, []),
    ("Stack Exchange pairs", [{"qid": 3, "question": Q, "response_j": GOOD, "response_k": BAD, "date": "2020"}],
     "comparisons", FIRST | {"id": "3"}, ["date"]),
    ("BeaverTails", [{"prompt": Q, "response": GOOD, "category": {}, "is_safe": True}], "demonstrations",
     {"prompt": Q, "completion": GOOD}, ["category", "is_safe"]),
    ("PKU-SafeRLHF",
     [{"prompt": Q, "response_0": BAD, "response_1": GOOD, "response_0_source": "m", "response_1_source": "n",
       "better_response_id": 1, "safer_response_id": 0}],
     "comparisons", PAIR | {"models": ["m", "n"]}, ["safer_response_id"]),
    ("Chatbot Arena, 33k and 140k", [{**ARENA, "question_id": "q", "winner": "model_b", "judge": "arena_user_9"}],
     "choices", {"prompt": [ASK], "a": {"text": GOOD, "model": "x"}, "b": {"text": BAD, "model": "y"},
                 "preferred": "b", "id": "q", "labeler": "arena_user_9"}, []),
    ("Chatbot Arena, 33k and 140k",
     [{**ARENA, "conversation_a": [{"role": "user", "content": [{"type": "text", "text": Q}]}, reply(GOOD)],
       "winner": "both_bad", "is_code": False}],
     "choices", {"prompt": [ASK], "a": {"text": GOOD, "model": "x"}, "b": {"text": BAD, "model": "y"},
                 "preferred": "tie", "none_acceptable": True}, ["is_code"]),
    ("Chatbot Arena, 55k",
     [{"id": 5, "model_a": "x", "model_b": "y", "prompt": json.dumps(["Hi", Q]),
       "response_a": json.dumps(["Hello", BAD]), "response_b": json.dumps(["Hello", GOOD]), "winner_model_a": 0,
       "winner_model_b": 1, "winner_tie": 0}],
     "choices", {"prompt": [{"role": "user", "content": "Hi"}, reply("Hello"), ASK], "id": "5",
                 "a": {"text": BAD, "model": "x"}, "b": {"text": GOOD, "model": "y"}, "preferred": "b"}, []),
    ("OpenAI preference",
     [{"input": {"messages": [SYSTEM, ASK], "tools": [], "parallel_tool_calls": True},
       "preferred_output": [reply(GOOD)], "non_preferred_output": [reply(BAD)]}],
     "comparisons", FIRST | {"prompt": [SYSTEM, ASK]}, ["parallel_tool_calls"]),
    ("messages with a rejected answer", [{"messages": [ASK, reply(GOOD)], "rejected_response": BAD}], "comparisons",
     FIRST | {"prompt": [ASK]}, []),
    ("hh-rlhf", [{"chosen": f"\n\nHuman: {Q}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: {BAD}"}],
     "comparisons", FIRST | {"prompt": [ASK]}, []),
    ("preference",
     [{"prompt": Q, "prompt_id": "i", "chosen": [ASK, reply(GOOD)], "rejected": [ASK, reply(BAD)],
       "messages": [ASK, reply(GOOD)], "score_chosen": 9.0, "score_rejected": 3.0}],
     "comparisons", FIRST | {"prompt": [ASK]}, ["messages", "prompt_id", "score_chosen", "score_rejected"]),
    ("preference",
     [{"prompt": Q, "chosen": GOOD, "chosen_model": "m", "rejected": BAD, "rejected_model": "n", "subset": "chat"}],
     "comparisons", FIRST | {"models": ["m", "n"]}, ["subset"]),
    ("preference",
     [{"conversations": [{"from": "human", "value": Q}], "chosen": {"from": "gpt", "value": GOOD},
       "rejected": {"from": "gpt", "value": BAD}}], "comparisons", FIRST | {"prompt": [ASK]}, []),
    ("preference", [{"instruction": "Tip", "input": "Bread", "chosen": GOOD, "rejected": BAD}], "comparisons",
     FIRST | {"prompt": "Tip\n\nBread"}, []),
    ("preference", [{"system": "Be brief.", "question": Q, "chosen": GOOD, "rejected": BAD}], "comparisons",
     FIRST | {"prompt": [SYSTEM, ASK]}, []),
    ("oasst1 and 2, trees", [{"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": TREE}], "comparisons",
     PAIR | {"prompt": [ASK], "id": "1", "user": "u1"}, ["notes"]),
    ("oasst1 and 2, messages", MESSAGES[::-1], "comparisons",
     FIRST | {"prompt": [ASK], "id": "1", "user": "u1"}, ["notes"]),
    ("TRL unpaired preference (KTO)", [{"prompt": [ASK], "completion": [reply(GOOD)], "label": True}],
     "demonstrations", CHAT, ["label"]),
    ("TRL unpaired preference (KTO)", [{"prompt": Q, "completion": GOOD, "label": "Yes"}],
     "demonstrations", {"prompt": Q, "completion": GOOD}, ["label"]),
    ("instruction or question and answer with a label", [{"instruction": Q, "output": GOOD, "label": "good"}],
     "demonstrations", {"prompt": Q, "completion": GOOD}, ["label"]),
    ("ShareGPT with a label (KTO)", [{"messages": [ASK, reply(GOOD)], "kto_tag": True}], "demonstrations", CHAT,
     ["kto_tag"]),
    ("chat", [{"prompt": Q, "prompt_id": "i", "messages": [ASK, reply(GOOD)], "category": "Open QA"}],
     "demonstrations", CHAT, ["category", "prompt_id"]),
    ("chat", [{"id": "c", "system": "Be brief.", "conversations": [
        {"from": "human", "value": Q}, {"from": "gpt", "value": GOOD}]}], "demonstrations",
     CHAT | {"prompt": [SYSTEM, ASK], "id": "c"}, []),
    ("chat", [{"messages": [{"role": "developer", "content": "Be brief."}, ASK, reply(GOOD, weight=1), ASK,
                            reply(BAD, weight=0)]}], "demonstrations", CHAT | {"prompt": [SYSTEM, ASK]},
     ["later_messages"]),
    ("chat", [{"conversation": [ASK]}], "prompts", {"prompt": [ASK]}, []),
    ("heedful", [{"prompt": Q, "completion": GOOD, "system": "Be brief."}], "demonstrations",
     CHAT | {"prompt": [SYSTEM, ASK]}, []),
    ("preference", [{"prompt": Q, "chosen": json.dumps([ASK, reply(GOOD)]), "rejected": str([ASK, reply(BAD)])}],
     "comparisons", FIRST | {"prompt": [ASK]}, []),
    ("chat", [{"messages": json.dumps([ASK, reply(GOOD)], indent=1)}], "demonstrations", CHAT, []),
    ("chat", [{"messages": [ASK, reply(GOOD)], "functions": [{"name": "w", "parameters": {}}]}], "demonstrations",
     CHAT | {"tools": [{"type": "function", "function": {"name": "w", "parameters": {}}}]}, []),
    ("chat", [{"messages": {"role": ["user", "assistant"], "content": [Q, GOOD]}}], "demonstrations", CHAT, []),
    ("question and answer", [{"id": "o", "system_prompt": "Be brief.", "question": Q, "response": GOOD}],
     "demonstrations", CHAT | {"prompt": [SYSTEM, ASK], "id": "o"}, []),
    ("heedful", [PAIR | {"system_prompt": "Be brief."}], "comparisons", PAIR, ["system_prompt"]),
    ("heedful", [{"prompt": Q, "completion": str([reply(GOOD)])}], "demonstrations",
     {"prompt": Q, "completion": GOOD}, []),
    ("heedful", [{"prompt": Q, "completion": str([ASK])}], "demonstrations",
     {"prompt": Q, "completion": str([ASK])}, []),
    ("heedful", [PAIR | {"labeler": "l"}], "comparisons", PAIR | {"labeler": "l"}, []),
    ("heedful", [{"prompt": Q, "completions": [GOOD], "instruction": "x"}], "completions",
     {"prompt": Q, "completions": [GOOD]}, ["instruction"]),
    ("heedful", [{"prompt": Q, "completions": [GOOD]}], "completions", {"prompt": Q, "completions": [GOOD]}, []),
    ("heedful", [{"prompt": Q, "a": {"text": GOOD}, "b": {"text": BAD}, "preferred": "a"}], "choices",
     {"prompt": Q, "a": {"text": GOOD}, "b": {"text": BAD}, "preferred": "a"}, []),
    ("heedful", [{"prompt": Q}], "prompts", {"prompt": Q}, []),
    ("heedful, what users said", [{"prompt": Q, "answer": {"text": BAD}, "up": False}], "prompts", {"prompt": Q},
     ["answer", "up"]),
    ("heedful", [{"text": Q}], "texts", {"text": Q}, []),
    ("prompt and answer", [{"prompt": Q, "response": GOOD}], "demonstrations", {"prompt": Q, "completion": GOOD}, []),
    ("Alpaca", [{"instruction": "Tip", "input": "Bread", "output": GOOD, "system": "Be brief.",
                  "history": [["Hi", "Hello"]]}],
     "demonstrations",
     {"prompt": [SYSTEM, {"role": "user", "content": "Hi"}, reply("Hello"),
                 {"role": "user", "content": "Tip\n\nBread"}],
      "completion": GOOD}, []),
    ("question and answer", [{"query": Q, "response": GOOD}], "demonstrations", {"prompt": Q, "completion": GOOD}, []),
    ("question and answer", [{"inputs": Q, "targets": GOOD}], "demonstrations", {"prompt": Q, "completion": GOOD}, []),
    ("chat", [{"conversation": [{"input": Q, "output": GOOD}]}], "demonstrations", CHAT, []),
    ("question and answer", [{"question": Q, "answer": GOOD}], "demonstrations", {"prompt": Q, "completion": GOOD}, []),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "rows", "kind", "record", "kept"), READ)
def test_a_row_is_read_as_its_record(
    tmp_path: Path, shape: str, rows: list[Any], kind: str, record: dict[str, Any], kept: list[str]
) -> None:
    path = written(tmp_path, rows)
    told = explain(path)
    assert (list(told.shapes), told.kind, told.problem) == ([shape], kind, "")
    assert {name: value for name, value in told.preview[0].items() if name in record} == record
    assert sorted(told.unused) == sorted(kept)
    assert set(told.preview[0]) - set(record) <= set(kept)
    assert [row.row() for row in formats.read(path, kinds.KINDS[kind])][:3] == told.preview


REFUSED: list[tuple[str, list[dict[str, Any]], str]] = [
    ("Potato", [{"user_id": "a", "instance_id": "i", "displayed_text": "A<br>B", "label_annotations": {}}],
     "field 'displayed_text': is a page"),
    ("Prodigy", [{"question": Q, "answer": "accept", "_task_hash": 2}], "is Prodigy's verdict on a task"),
    ("Prodigy", [{"question": Q, "answer": "reject", "_task_hash": 2}], "the task was answered with reject"),
    ("Label Studio", [studio(chose("left"), cancelled=True)], "has no annotation that counts (1 cancelled)"),
    ("Label Studio", [studio({"type": "choices", "value": {"choices": ["x"]}})], "no result of a Ranker"),
    ("Label Studio", [studio(chose("left"), data={"q": Q, "x": "1", "y": "2"})],
     "no field is the prompt (found: q, x, y)"),
    ("Argilla 2, records", [{"fields": FIELDS, "responses": {"r": [{"value": ["A", "B"], "user_id": "u"}]}}],
     "ranks A, B, which are no fields of the record"),
    ("Argilla 2, records", [{"fields": FIELDS, "responses": {}}], "the record has no response"),
    ("HelpSteer 1 and 2", [{"prompt": Q, "response": GOOD, "helpfulness": 4}], "the only one to its prompt"),
    ("TRL stepwise", [{"prompt": Q, "completions": [GOOD, BAD], "labels": [True, False]}],
     "are the steps of one answer"),
    ("TRL stepwise", [{"prompt": Q, "completions": [GOOD, BAD], "labels": [1, 0]}], "are the steps of one answer"),
    ("TRL unpaired preference (KTO)", [{"prompt": Q, "completion": BAD, "label": 0}], "field 'label': 0 marks"),
    ("ShareGPT with a label (KTO)", [{"messages": [ASK, reply(BAD)], "label": "False"}],
     "field 'label': 'False' marks"),
    ("Chatbot Arena, 33k and 140k",
     [{**ARENA, "winner": "tie", "conversation_a": [ASK, reply(GOOD), ASK, reply(GOOD)],
       "conversation_b": [ASK, reply(BAD), ASK, reply(BAD)]}],
     "'conversation_b': differs from 'conversation_a' before"),
    ("Chatbot Arena, 33k and 140k", [{**ARENA, "winner": "nobody"}], "field 'winner': 'nobody' is none of"),
    ("Chatbot Arena, 55k", [{"prompt": '["a"]', "response_a": "[null]", "response_b": '["c"]', "winner_model_a": 1}],
     "field 'response_a': must be a list of texts without gaps"),
    ("Chatbot Arena, 55k",
     [{"prompt": '["\\ud83d"]', "response_a": '["b"]', "response_b": '["c"]', "winner_model_a": 1}],
     "field 'prompt': holds half of a surrogate pair"),
    ("PandaLM with sides", [{"instruction": Q, "response_a": GOOD, "response_b": BAD, "votes": ["c"]}],
     "field 'votes': 'c' is none of a, b, tie, 1, 2, 0"),
    ("LLMBar", [{"input": Q, "output_1": BAD, "output_2": GOOD, "label": 0}],
     "field 'label': 0 is none of a, b, tie, 1, 2"),
    ("summarize_from_feedback, flat", [{"post": "Loaves!", "summary_a": BAD, "summary_b": GOOD, "choice": 1}],
     "field 'choice': 1 is none of a, b, tie"),
    ("TRL unpaired preference (KTO)", [{"prompt": Q, "completion": BAD, "label": None}], "the label is empty"),
    ("BeaverTails", [{"prompt": Q, "response": BAD, "is_safe": None}], "`is_safe` is empty"),
    ("WebGPT", [{"question": Q, "answer_0": GOOD, "answer_1": BAD, "score_0": "high", "score_1": 1}],
     "field 'score_0': must be a number, not 'high'"),
    ("chat", [{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, reply(GOOD)]}],
     "field 'messages': message 0 holds a part of type image_url"),
    ("BeaverTails", [{"prompt": Q, "response": BAD, "is_safe": False}], "field 'is_safe': false marks a harmful"),
    ("chat", [{"messages": [ASK, reply(GOOD, weight=0)]}], "every answer has weight 0"),
    ("chat", [{"messages": [ASK, reply(GOOD, weight=0.5)]}], "message 1 has the weight 0.5. Write 1"),
    ("heedful", [{"prompt": [ASK, reply(GOOD, weight="0"), ASK], "completions": [GOOD, BAD]}],
     "message 1 has the weight '0'. Write 1"),
    ("chat", [{"system": "Be long.", "messages": [SYSTEM, ASK, reply(GOOD)]}], "the chat has a system message too"),
    ("oasst1 and 2, messages", [MESSAGES[0], MESSAGES[4]], "field 'parent_id': no message has the id 4"),
    ("oasst1 and 2, messages", [MESSAGES[0]], "no prompt has two ranked replies"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "rows", "reason"), REFUSED)
def test_a_row_without_a_judgement_to_read_is_refused(tmp_path: Path, shape: str, rows: list[Any], reason: str) -> None:
    path = written(tmp_path, rows)
    told = explain(path)
    assert (list(told.shapes), told.records) == ([shape], 0)
    assert reason in told.problem
    with pytest.raises(UserError) as caught:
        formats.read(path, kinds.KINDS[told.kind])
    assert reason in str(caught.value)


ODD = ("x", 1.5, True, None, [], [None], [[1]], {"a": 1})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each part of a row."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("odd", ODD)
def test_a_part_of_another_type_is_read_or_refused_and_never_an_error(odd: Any) -> None:
    for name, rows, kind, *_ in READ:
        for path in places(rows):
            if len(path) < 2:
                continue
            changed = copy.deepcopy(rows)
            part: Any = changed
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = odd
            placed = [(Path("f"), line, row) for line, row in enumerate(changed, 1)]
            for outcome in conversion.convert(placed, kinds.KINDS[kind]):
                said = outcome.reason
                assert outcome.records or said or len(rows) > 1, (name, path)
                assert not any(words in said for words in ("\n", "zip()", "int()", "could not convert")), (name, path)


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("demonstrations", {"prompt": Q, "response": None, "is_safe": True}, "field 'response': missing"),
        ("prompts", {"prompt": None, "system": "Be brief."}, "field 'prompt': must be a string or a list"),
        ("comparisons", {**ARENA, "winner": ["model_a"]}, "a field holds another type of value than rows of Chatbot"),
        ("comparisons", {"fields": FIELDS, "responses": [1]}, "a field holds another type of value than rows of Arg"),
    ],
)
def test_a_row_with_a_part_of_another_type_is_told(tmp_path: Path, kind: str, row: Any, reason: str) -> None:
    with pytest.raises(UserError, match=r"rows\.jsonl:1: ") as caught:
        formats.read(written(tmp_path, [row]), kinds.KINDS[kind])
    assert reason in str(caught.value)


def test_an_answer_that_is_only_context_stays_marked(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": Q, "completion": [reply(GOOD, weight=0)]}])
    (made,) = formats.read(path, Demonstration)
    assert made.completion_message is not None
    assert made.completion_message.row()["weight"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", ["chosen", "rejected"]), ("ratings", [5, 4]), ("models", ["a", "b", "c", "d"]), ("scores", "9, 8"),
        ("finish", ["eos", "eos"]), ("token_ids", "none"),
    ],
)  # fmt: skip
def test_a_field_of_another_tool_with_a_name_of_ours_is_told(tmp_path: Path, name: str, value: Any) -> None:
    row = {"system": "Be brief.", "input": Q, "chosen": GOOD, "rejected": BAD, name: value}
    told = explain(written(tmp_path, [row]))
    assert (told.problem, told.preview[0]["ranking"]) == ("", [[0], [1]])
    assert told.preview[0][f"{name}_as_given"] == value
    assert told.unused == {f"{name}_as_given": 1}


def test_every_shape_is_tested() -> None:
    assert {shape.name for shape in SHAPES} - {name for name, *_ in READ} - {name for name, *_ in REFUSED} == {
        "messages"  # what is malformed there: test_pairs_and_chats
    }


def test_each_labeler_of_a_task_has_a_row(tmp_path: Path) -> None:
    path = written(tmp_path, [studio(chose("left"), chose("right")), studio()])
    read = formats.read(path, kinds.KINDS["comparisons"])
    assert [(row.row()["labeler"], row.row()["ranking"]) for row in read] == [("0@x", [[0], [1]]), ("1@x", [[1], [0]])]
    assert explain(path).unjudged == {"the task has no annotation": 1}


def test_what_else_was_said_stays_and_is_named(tmp_path: Path) -> None:
    comment = {"type": "textarea", "from_name": "why", "value": {"text": ["Short."]}}
    task = studio(chose("left"))
    task["annotations"][0] |= {"result": [chose("left"), comment], "lead_time": 3.1}
    assert explain(written(tmp_path, [task])).unused == {"annotation_id": 1, "other_results": 1, "lead_time": 1}
    ranked = [{"value": ["response2", "response1"], "user_id": "u"}]
    record = {"fields": FIELDS, "responses": {"ranking": ranked, "why": [{"value": "Short.", "user_id": "u"}]}}
    assert explain(written(tmp_path, [record])).unused == {"other_responses": 1}
    thought = reply(GOOD, reasoning_content="Bread is dry.")
    told = explain(written(tmp_path, [{"prompt": [ASK], "chosen": [thought], "rejected": [reply(BAD)]}]))
    assert told.preview[0]["chosen_message"] == {"reasoning_content": "Bread is dry."}
    told = explain(written(tmp_path, [{**MESSAGES[0], "labels": {"name": ["spam"]}}, *MESSAGES[1:]]))
    assert told.preview[0]["notes"]["prompt"]["labels"] == {"name": ["spam"]}


def test_the_best_reply_of_a_tree_is_a_demonstration(tmp_path: Path) -> None:
    told = explain(written(tmp_path, MESSAGES), kind="demonstrations")
    assert [row["completion"] for row in told.preview] == [GOOD, "Slice it."]


def test_groups_are_prompts_when_asked_for(tmp_path: Path) -> None:
    told = explain(written(tmp_path, MESSAGES), kind="prompts")
    assert [row["prompt"][-1]["content"] for row in told.preview] == [Q, "And then?"]
    told = explain(written(tmp_path, [{"prompt": Q, "response": GOOD, "helpfulness": 4}]), kind="prompts")
    assert told.preview == [{"prompt": Q}]


@pytest.mark.parametrize(
    ("row", "kind", "lost"),
    [
        ({"question": Q, "context": "A page.", "answer": GOOD, "page": 1}, "demonstrations", "context, page"),
        ({"prompt": Q, "chosen": GOOD, "rejected": BAD, "history": ["x"], "gap": 2}, "comparisons", "history, gap"),
        ({"prompt": Q, "completion": GOOD, "images": ["a.png"]}, "demonstrations", "images"),
        ({"prompt": Q, "completion": GOOD, "input": ""}, "demonstrations", ""),
        ({"prompt": Q, "completion": GOOD, "quality": "bad", "weight": 0}, "demonstrations", "quality, weight"),
        ({"prompt": Q, "completion": GOOD, **dict.fromkeys("klmnopqrstuvwx", 1)}, "demonstrations",
         "k, l, m, n, o, p, q, r, s, t, u, v, and 2 more"),
        ({"text": GOOD, "label": "spam"}, "texts", "label"),
        ({"prompt": Q, "answer": GOOD, "context": "for a reward"}, "prompts", ""),
        ({"prompt": Q, "completion": GOOD, "instructions": 3, "judgement": 7}, "demonstrations", ""),  # of a snapshot
        ({"prompt": Q, "chosen": GOOD, "rejected": BAD, "role": "labeler"}, "comparisons", ""),  # who judged (E1)
        ({"prompt": Q, "chosen": GOOD, "rejected": BAD, "role": "clerk"}, "comparisons", "role"),
        ({"prompt": Q, "completion": GOOD, "role": "labeler"}, "demonstrations", "role"),
    ],
)  # fmt: skip
def test_every_field_that_is_not_used_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, row: dict[str, Any], kind: str, lost: str
) -> None:
    path = written(tmp_path, [row])
    formats.read(path, kinds.KINDS[kind])
    said = [f"{path}: read as {kind}. Fields that heedful does not use: {lost}"] if lost else []
    assert caplog.messages == said


def test_a_chat_that_asks_is_no_demonstration(tmp_path: Path) -> None:
    path = written(tmp_path, [{"messages": [ASK, reply(GOOD)]}, {"messages": [ASK, reply(GOOD), ASK]}])
    with pytest.raises(UserError, match=r":2: field 'messages': ends with a message of the user, so it has no answer"):
        formats.read(path, Demonstration)


LABELS = {
    "good": True, "bad": False, "1": True, "-1": False, -1: False, "up": True, "Thumbs_Down": False,
    "👎": False, "accepted": True, "rejected": False, "thumbs-up": True, "undesirable": False, "Yes ": True,
    "no": False, "+1": True,
}  # fmt: skip
ANSWERED = [
    {"prompt": Q, "completion": GOOD}, {"prompt": Q, "response": GOOD}, {"instruction": Q, "output": GOOD},
    {"question": Q, "answer": GOOD}, {"messages": [ASK, reply(GOOD)]},
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: "+".join(row))
def test_an_answer_with_a_bad_label_is_no_demonstration(tmp_path: Path, row: dict[str, Any], label: Any) -> None:
    path = written(tmp_path, [row | {"label": label}])
    assert kinds.kind_of(path) == "demonstrations"
    if LABELS[label]:
        assert formats.read(path, Demonstration)[0].completion == GOOD
    else:
        with pytest.raises(UserError, match="marks an answer that people did not want"):
            formats.read(path, Demonstration)


@pytest.mark.parametrize("label", ["4", "brainstorming", 7, None])
@pytest.mark.parametrize("row", ANSWERED[:4], ids=lambda row: "+".join(row))
def test_a_label_of_unknown_meaning_is_asked_about(tmp_path: Path, row: dict[str, Any], label: Any) -> None:
    path = written(tmp_path, [row | {"label": label}])
    if label is None:
        assert kinds.kind_of(path) == "demonstrations"
    else:
        with pytest.raises(UserError, match="fields that heedful does not know: label"):
            kinds.kind_of(path)


def test_judged_answers_are_prompts_when_asked_for(tmp_path: Path) -> None:
    for rows in ([{"prompt": Q, "completions": [GOOD, BAD], "labels": [True, False]}],
                 [{"prompt": Q, "completion": BAD, "label": False}], [ARENA | {"winner": "tie"}]):  # fmt: skip
        assert explain(written(tmp_path, rows), kind="prompts").preview[0]["prompt"] in (Q, [ASK])


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": Q, "choices": [{"text": GOOD, "score": 80}]}, "choices"),
        ({"prompt": Q, "response_a": GOOD, "response_b": BAD}, "response_a, response_b"),
        ({"messages": [ASK], "best_of": GOOD}, "best_of"),
        ({"prompt": Q, "completion": GOOD, "rejected_answers": [BAD]}, "rejected_answers"),
        ({"prompt": Q, "completions": [GOOD, BAD], "best_index": 0}, "best_index"),
        ({"prompt": Q, "generations": [GOOD, BAD], "model": "m"}, "generations"),
        ({"text": Q, "completion_a": GOOD, "completion_b": BAD, "source": "s"}, "completion_a, completion_b"),
    ],
)
def test_fields_that_seem_to_judge_are_named(tmp_path: Path, row: dict[str, Any], field: str) -> None:
    path = written(tmp_path, [row])
    with pytest.raises(UserError, match=f"fields that heedful does not know: {field}. Name the fields with --map"):
        kinds.kind_of(path)
    assert kinds.kind_of(path, lenient=True) in ("prompts", "demonstrations", "completions", "texts")


def test_an_answer_below_prompts_decides(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": Q}] * 60 + [{"prompt": Q, "completion": GOOD}])
    assert kinds.kind_of(path) == "demonstrations"
    with pytest.raises(UserError, match=r"rows\.jsonl:1: field 'completion': missing"):
        formats.read(path, Demonstration)
    path = written(tmp_path, [{"prompt": Q}] * 60 + [{"prompt": Q, "best_answer": GOOD}])
    with pytest.raises(UserError, match="does not know: best_answer"):
        kinds.kind_of(path)


def test_an_unknown_shape_names_its_fields(tmp_path: Path) -> None:
    path = written(tmp_path, [{"q": Q, "good": GOOD}])
    with pytest.raises(UserError, match=r"unknown kind of rows \(fields: q, good\). Name the fields, as in --map"):
        kinds.kind_of(path)
    told = explain(path)
    assert "unknown kind" in told.problem
    assert (told.kind, told.fields) == ("", {"q": Q, "good": GOOD})


def test_choices_and_comparisons_of_two_are_read_as_each_other(tmp_path: Path) -> None:
    path = written(tmp_path, [ARENA | {"winner": "model_b"}])
    (made,) = formats.read(path, kinds.KINDS["comparisons"])
    assert made.row() == {"prompt": [ASK], "completions": [GOOD, BAD], "ranking": [[1], [0]], "models": ["x", "y"]}
    formats.write(tmp_path / "again.jsonl", [made])
    (choice,) = formats.read(tmp_path / "again.jsonl", kinds.KINDS["choices"])
    assert choice.row() == {"prompt": [ASK], "a": {"text": GOOD, "model": "x"}, "b": {"text": BAD, "model": "y"},
                            "preferred": "b"}  # fmt: skip


def written(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def annotated(*results: dict[str, Any], **data: Any) -> dict[str, Any]:
    """A task of Label Studio with one annotation."""
    return {"id": 3, "data": {"prompt": Q, **data}, "annotations": [{"completed_by": 8, "result": list(results)}]}


def area(name: str, *texts: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "prompt", "type": "textarea", "value": {"text": list(texts)}}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (annotated(area("said", GOOD)), {"completion": GOOD, "labeler": "8", "id": "3"}),
        (annotated(area("note", "Hm."), area("answer", GOOD), draft=BAD), {"completion": GOOD, "draft": BAD}),
        (annotated(area("x", GOOD), area("y", BAD)), "none of the texts x, y is called answer"),
        (annotated(area("said", GOOD, BAD)), "several texts of one person"),
        (annotated({"type": "choices", "value": {"choices": ["left"]}}), r"no result of .* \(but choices\)"),
    ],
)
def test_texts_that_people_write_in_label_studio_are_demonstrations(
    tmp_path: Path, row: dict[str, Any], expected: dict[str, Any] | str
) -> None:
    told = explain(written(tmp_path, [row]))
    if isinstance(expected, str):
        assert re.search(expected, told.problem)
    else:
        assert told.kind == "demonstrations"
        assert told.preview[0].items() >= {"prompt": Q, **expected}.items()


def calling(arguments: str) -> list[dict[str, Any]]:
    return [ASK, reply(None, tool_calls=[{"function": {"name": "w", "arguments": arguments}}])]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"from": "user", "content": Q}, {"role": "ai", "value": GOOD}], GOOD),
        ([ASK, reply(GOOD), ASK, reply(BAD, loss=False)], GOOD),
        ([ASK, reply(BAD, train=False), ASK, reply(GOOD, train=True)], GOOD),
        ([ASK, reply(GOOD, training=False)], "every answer has weight 0"),
        ([ASK, {"role": "tool_call", "content": '{"name": "w"}'}, {"role": "tool_response", "content": "x"},
          reply(GOOD)], GOOD),
        ([ASK | {"content": [{"type": "input_text", "text": Q}]}, reply([{"type": "output_text", "text": GOOD}])],
         GOOD),
        (calling('{"a": 1, "a": 2}'), "the arguments of w are no JSON .*field 'a': the row names it twice"),
        (calling('{"a": NaN}'), "the arguments of w are no JSON .*field 'a': NaN"),
    ],
)  # fmt: skip
def test_messages_in_other_words(tmp_path: Path, messages: list[dict[str, Any]], expected: str) -> None:
    told = explain(written(tmp_path, [{"messages": messages}]))
    if expected == GOOD:
        assert [row["completion"] for row in told.preview] == [GOOD]
        assert told.preview[0]["prompt"][0] == ASK
    else:
        assert re.search(expected, told.problem)


@pytest.mark.parametrize(
    "tool", [{"name": "w", "input_schema": {}}, {"type": "function", "name": "w", "parameters": {}}]
)
def test_flat_tools_are_written_as_templates_expect_them(tmp_path: Path, tool: dict[str, Any]) -> None:
    told = explain(written(tmp_path, [{"prompt": Q, "tools": [tool | {"name": "w"}]}, {"prompt": Q, "tools": ""}]))
    assert [row.get("tools") for row in told.preview] == [
        [{"type": "function", "function": {"name": "w", "parameters": {}}}],
        None,
    ]
