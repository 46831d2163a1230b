"""The shapes of rows that heedful reads, in the order in which they are tried."""

from __future__ import annotations

import json
from typing import Any

from heedful.data.shapes import chats, judged, pairs, rated, tools, trees
from heedful.data.shapes.parts import NoJudgement, Shape, filled, having, truth, wanted
from heedful.files import Row

HUB = "huggingface.co/datasets/"
TRL = "huggingface.co/docs/trl/dataset_formats"
OWN = "docs/data-formats.md"


def _same(row: Row) -> list[Row]:
    return [row]


def _is_label(row: Row, name: str = "label") -> bool:
    """Whether the field tells if people wanted the answer. Empty: nobody said."""
    return name in row and (row[name] is None or wanted(row[name]) is not None)


def _unwanted(row: Row) -> str | None:
    if (label := row.get("label")) is None:
        raise NoJudgement("the label is empty")
    if wanted(label):
        return None
    said = json.dumps(label, ensure_ascii=False) if not isinstance(label, str) else repr(label)
    return (
        f"field 'label': {said} marks an answer that people did not want, so it is no demonstration."
        " Leave the row out, or rename the field if it means something else."
    )


def _unsafe(row: Row) -> str | None:
    if row["is_safe"] is None:
        raise NoJudgement("`is_safe` is empty")
    if truth(row["is_safe"]):
        return None
    return "field 'is_safe': false marks a harmful answer, so it is no demonstration. Leave the row out."


_REACTIONS = {"pick": ("left", "right", "outcome"), "thumb": ("answer", "up"), "edit": ("answer", "edited")}


def _reaction(row: Row) -> str | None:
    """What a user of a served model said, as a snapshot has it: "pick", "thumb", "edit", or None."""
    sides = (row.get("left"), row.get("right"), row.get("answer"))
    if "prompt" not in row or not any(isinstance(side, dict) and "text" in side for side in sides):
        return None
    return next((kind for kind, fields in _REACTIONS.items() if row.keys() >= set(fields)), None)


def _reacted(row: Row) -> str:
    kind = _reaction(row)
    if kind == "edit":
        return (
            "field 'edited': an improvement by a user, which a lead accepts first. Accept it in the app, and take a"
            " snapshot of demonstrations."
        )
    return (
        f"field {'outcome' if kind == 'pick' else 'up'!r}: a {kind} of a user, from which nothing learns by itself."
        f" Take the snapshot with --records {kind} --as-choices for a reward model."
    )


def _stepwise(row: Row) -> str:
    return "field 'completions': are the steps of one answer with a label for each, not answers to compare."


def _has_answer(row: Row) -> bool:
    return any(filled(row, name) for name in chats.ANSWERS)


def _asks(row: Row) -> bool:
    return "instruction" in row or chats.is_question(row)


def _is_pair(row: Row) -> bool:
    return "chosen" in row and "rejected" in row and "completions" not in row


def _are_steps(row: Row) -> bool:
    flags, steps = row.get("labels"), row.get("completions")
    if not isinstance(flags, list) or not isinstance(steps, list) or "ranking" in row:
        return False
    return len(flags) == len(steps) > 0 and all(isinstance(flag, bool | int) for flag in flags)


SHAPES: tuple[Shape, ...] = (
    # --- exports of labelling tools
    Shape(
        "Label Studio", tools.label_studio_kind, "`data`, `annotations` of a Ranker or Pairwise, or else of a TextArea",
        "labelstud.io/guide/task_format", having("data", "annotations"), tools.label_studio,
        others={"demonstrations": tools.label_studio_texts},
    ),
    Shape(
        "Label Studio, JSON_MIN or CSV", "comparisons", "`annotator`, `annotation_id`, the field of the tag",
        "labelstud.io/guide/export", tools.is_label_studio_min, tools.label_studio_min,
    ),
    Shape(
        "Argilla 2, records", "comparisons", "`fields`, `responses`", "docs.argilla.io, records to JSON",
        having("fields", "responses", without=("prompt",)), tools.argilla,
    ),
    Shape(
        "Argilla 2, data set", "comparisons", "`QUESTION.responses`, `.users`, `.status`",
        "docs.argilla.io, records to a data set",
        lambda row: any(name.endswith(".responses") for name in row), tools.argilla_flat,
    ),
    Shape(
        "Argilla 1", "comparisons", "a question with `user_id`, `value`, `status`",
        HUB + "nataliaElv/oasst_response_comparison",
        tools.is_argilla_first, tools.argilla_first,
    ),
    Shape("Prodigy", "comparisons", "`_task_hash`, `answer`, `options`, `accept`",
          "prodi.gy/docs/api-interfaces#choice", tools.is_prodigy, tools.prodigy),
    Shape("Potato", "comparisons", "`displayed_text`, `label_annotations`: refused", "potato-annotation.readthedocs.io",
          having("displayed_text", "label_annotations"), tools.potato),
    # --- heedful's own
    Shape("heedful", "comparisons", "`prompt`, `completions`, `ranking`", OWN,
          having("prompt", "completions", "ranking"), _same),
    Shape("heedful", "choices", "`prompt`, `a`, `b`, `preferred`", OWN,
          having("prompt", "a", "b", "preferred"), _same),
    Shape("heedful, what users said", "prompts",
          "`prompt` and `left`, `right`, `outcome`, or `answer` and `up` or `edited`", OWN,
          lambda row: _reaction(row) is not None, _same, unfit=_reacted),
    # --- several answers with scores
    Shape(
        "UltraFeedback, raw", "comparisons", "`instruction`, `completions` with `overall_score`",
        HUB + "openbmb/UltraFeedback",
        lambda row: "instruction" in row and _has_items(row.get("completions"), "response"), rated.ultrafeedback,
    ),
    Shape("Nectar", "comparisons", "`prompt`, `answers` with `answer`, `model`, `rank`", HUB + "berkeley-nest/Nectar",
          lambda row: "prompt" in row and _has_items(row.get("answers"), "rank"), rated.nectar),
    Shape("Stack Exchange preferences", "comparisons", "`question`, `answers` with `text`, `pm_score`",
          HUB + "HuggingFaceH4/stack-exchange-preferences",
          lambda row: "question" in row and _has_items(row.get("answers"), "pm_score"), rated.stack_exchange),
    Shape("RewardBench 2", "comparisons", "`prompt`, `chosen`, `rejected`: lists of texts",
          HUB + "allenai/reward-bench-2",
          lambda row: "prompt" in row and rated.are_texts(row.get("chosen")) and rated.are_texts(row.get("rejected")),
          rated.reward_bench_2),
    Shape("HelpSteer 2, preference", "comparisons", "`prompt`, `response_1`, `response_2`, `preference_strength`",
          HUB + "nvidia/HelpSteer2", having("response_1", "response_2", "preference_strength", "prompt"),
          pairs.strength),
    Shape("HelpSteer 3", "comparisons", "`context`, `response1`, `response2`, `overall_preference`",
          HUB + "nvidia/HelpSteer3", having("context", "response1", "response2", "overall_preference"), pairs.strength),
    Shape("HelpSteer 1 and 2", "comparisons", "`prompt`, `response`, `helpfulness`: rows of one prompt together",
          HUB + "nvidia/HelpSteer2", having("prompt", "response", "helpfulness"), lambda row: rated.helpsteer([row]),
          group=lambda row: str(row["prompt"]), gather=rated.helpsteer, others={"prompts": rated.helpsteer_prompt}),
    # --- pairs and choices
    Shape("summarize_from_feedback, comparisons", "comparisons", "`info`, `summaries`, `choice`, `worker`",
          HUB + "openai/summarize_from_feedback", having("info", "summaries", "choice"), pairs.summaries),
    Shape("summarize_from_feedback, axis", "completions", "`info`, `summary` with `axes`, `worker`",
          HUB + "openai/summarize_from_feedback", having("info", "summary"), pairs.summary),
    Shape("summarize_from_feedback, flat", "comparisons",
          "`post`, [`title`, `subreddit`], `chosen` and `rejected`, or `summary_a`, `summary_b`, `choice`, `worker`",
          HUB + "openai/summarize_from_feedback",
          lambda row: "post" in row and "prompt" not in row and (_is_pair(row) or "summary_a" in row), judged.tldr),
    Shape("LLMBar", "comparisons", "`input`, `output_1`, `output_2`, `label`", "github.com/princeton-nlp/LLMBar",
          having("input", "output_1", "output_2", "label"), judged.llmbar),
    Shape("LLMBar with sides", "comparisons", "`instruction`, `response_a`, `response_b`, `better`",
          "github.com/princeton-nlp/LLMBar", having("instruction", "response_a", "response_b", "better"),
          judged.llmbar),
    Shape("PandaLM", "comparisons", "`instruction`, `response1`, `response2`, `annotator1`: a comparison for each of 3",
          "github.com/WeOpenML/PandaLM", having("instruction", "response1", "response2", "annotator1"),
          judged.pandalm),
    Shape("PandaLM with sides", "comparisons", "`instruction`, `response_a`, `response_b`, `votes`",
          "github.com/WeOpenML/PandaLM", having("instruction", "response_a", "response_b", "votes"), judged.pandalm),
    Shape("UKPConvArg", "comparisons", "`debate`, `stance`, `response_a`, `response_b`, `votes` with `worker`, `vote`",
          "github.com/UKPLab/acl2016-convincing-arguments",
          having("debate", "stance", "response_a", "response_b", "votes"), judged.convarg),
    Shape("WebGPT", "comparisons", "`question`, `answer_0`, `answer_1`, `score_0`, `score_1`",
          HUB + "openai/webgpt_comparisons", having("question", "answer_0", "answer_1", "score_0", "score_1"),
          pairs.webgpt),
    Shape("SHP", "comparisons", "`history`, `human_ref_A`, `human_ref_B`, `labels`", HUB + "stanfordnlp/SHP",
          having("history", "human_ref_A", "human_ref_B", "labels"), pairs.shp),
    Shape("Stack Exchange pairs", "comparisons", "`question`, `response_j`, `response_k`: the first is better",
          HUB + "lvwerra/stack-exchange-paired", having("question", "response_j", "response_k"), pairs.response_j),
    Shape("PKU-SafeRLHF", "comparisons", "`prompt`, `response_0`, `response_1`, `better_response_id`",
          HUB + "PKU-Alignment/PKU-SafeRLHF", having("prompt", "response_0", "response_1", "better_response_id"),
          pairs.pku),
    Shape("Chatbot Arena, 33k and 140k", "choices", "`conversation_a`, `conversation_b`, `winner`",
          HUB + "lmsys/chatbot_arena_conversations", having("conversation_a", "conversation_b", "winner"), pairs.arena),
    Shape("Chatbot Arena, 55k", "choices", "`prompt`, `response_a`, `response_b`, `winner_model_a`",
          HUB + "lmsys/lmsys-arena-human-preference-55k",
          having("prompt", "response_a", "response_b", "winner_model_a"), pairs.arena_55k),
    Shape("OpenAI preference", "comparisons", "`input` with `messages`, `preferred_output`, `non_preferred_output`",
          "platform.openai.com/docs/guides/direct-preference-optimization",
          having("input", "preferred_output", "non_preferred_output"), pairs.openai_preference),
    Shape("messages with a rejected answer", "comparisons", "`messages`, `rejected_response`",
          "swift.readthedocs.io, custom data sets", having("messages", "rejected_response"), pairs.rejected_response),
    Shape("hh-rlhf", "comparisons", "`chosen`, `rejected`: dialogues of `\\n\\nHuman:` and `\\n\\nAssistant:`",
          HUB + "Anthropic/hh-rlhf",
          lambda row: _is_pair(row) and isinstance(row["chosen"], str) and chats.is_transcript(row["chosen"]),
          pairs.pairwise),
    Shape(
        "preference", "comparisons",
        "`chosen`, `rejected`, and `prompt`, a chat, `instruction` or `question`: TRL, UltraFeedback binarized,"
        " RewardBench 1, ShareGPT and Alpaca with two answers", TRL, _is_pair, pairs.pairwise,
    ),
    # --- trees
    Shape("oasst1 and 2, trees", "comparisons", "`message_tree_id`, `prompt` with `replies`",
          HUB + "OpenAssistant/oasst1",
          lambda row: "message_tree_id" in row and isinstance(row.get("prompt"), dict),
          lambda row: trees.comparisons([row]),
          others={"demonstrations": trees.demonstrations, "prompts": trees.prompts}),
    Shape("oasst1 and 2, messages", "comparisons", "`message_id`, `parent_id`, `text`, `role`, `rank`: a tree together",
          HUB + "OpenAssistant/oasst2",
          having("message_id", "text", "role", "message_tree_id"), lambda row: trees.comparisons([row]),
          group=lambda row: str(row["message_tree_id"]), gather=trees.comparisons,
          others={"demonstrations": trees.demonstrations, "prompts": trees.prompts}),
    # --- answers with labels
    Shape("TRL stepwise", "completions", "`prompt`, `completions`, `labels`: refused", TRL,
          _are_steps, _same, unfit=_stepwise),
    Shape("TRL unpaired preference (KTO)", "demonstrations", "`prompt`, `completion`, `label`: false is refused", TRL,
          lambda row: "prompt" in row and _has_answer(row) and _is_label(row), chats.prompt_completion,
          unfit=_unwanted),
    Shape("instruction or question and answer with a label", "demonstrations",
          "`instruction` or `question`, its answer, `label`: false is refused", OWN,
          lambda row: _asks(row) and "prompt" not in row and _has_answer(row) and _is_label(row), chats.instruction,
          unfit=_unwanted),
    Shape("BeaverTails", "demonstrations", "`prompt`, `response`, `is_safe`: false is refused",
          HUB + "PKU-Alignment/BeaverTails", having("prompt", "response", "is_safe"), chats.prompt_completion,
          unfit=_unsafe),
    Shape("ShareGPT with a label (KTO)", "demonstrations", "`messages` or `conversations`, `label` or `kto_tag`",
          "github.com/hiyouga/LLaMA-Factory/tree/main/data",
          lambda row: chats.chat_field(row) is not None and (_is_label(row) or _is_label(row, "kto_tag")),
          chats.messages, unfit=lambda row: _unwanted({"label": row.get("label", row.get("kto_tag"))})),
    Shape("heedful", "completions", "`prompt`, `completions`", OWN, having("prompt", "completions"), _same),
    # --- chats and instructions
    Shape(
        "chat", chats.messages_kind,
        "`messages`, `conversations` or `conversation`: OpenAI (with `weight`), TRL, ShareGPT, no_robots, ultrachat",
        "platform.openai.com/docs/guides/supervised-fine-tuning",
        lambda row: chats.chat_field(row) is not None and row.get("completion") is None, chats.messages,
        others={"demonstrations": chats.demonstration},
    ),
    Shape("heedful", "demonstrations", "`prompt`, `completion`: TRL too", OWN,
          lambda row: "prompt" in row and row.get("completion") is not None, chats.prompt_completion),
    Shape("prompt and answer", "demonstrations", "`prompt`, and `response`, `output`, `answer`, `solution` or `target`",
          TRL, lambda row: "prompt" in row and _has_answer(row), chats.prompt_completion,
          others={"prompts": chats.asked_alone}),
    Shape("Alpaca", "demonstrations",
          "`instruction`, [`input`, `context`, `system`, `history`], `output` or `response`",
          "github.com/tatsu-lab/stanford_alpaca",
          lambda row: "instruction" in row and "prompt" not in row, chats.instruction),
    Shape("question and answer", "demonstrations",
          "`question`, `query`, `input` or `inputs`, and `solution`, `answer`, `response`, `output` or `targets`",
          HUB + "openai/gsm8k", lambda row: chats.is_question(row) and "prompt" not in row and _has_answer(row),
          chats.instruction, others={"prompts": chats.asked_alone}),
    Shape("messages", chats.messages_kind, "`messages`", TRL,
          lambda row: "prompt" not in row and any(name in row for name in chats.CHATS), chats.messages),
    # --- the simplest
    Shape("heedful", "prompts", "`prompt`: TRL too", OWN, having("prompt"), chats.prompt_alone),
    Shape("heedful", "texts", "`text`: TRL too", OWN, having("text"), _same),
)  # fmt: skip


def _has_items(value: Any, field: str) -> bool:
    """Whether a value is a list of objects with this field, or columns with it."""
    if isinstance(value, dict):
        return field in value
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and field in item for item in value)


def find(row: Row) -> Shape | None:
    """The first shape that a row has."""
    return next((shape for shape in SHAPES if shape.match(row)), None)
