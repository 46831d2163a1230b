"""Reward models on encoders: BERT and its relatives read prompt and answer at once, in both directions.

- A classifier of the hub with one output scores by its own forward, with its own pooling.
- A bare encoder gets a new head on the mean of its token states, or on the first one (`pooling`).

Text is a pair, as the encoder's tokenizer writes one: `[CLS] prompt [SEP] answer [SEP]`. The first part, up to where
the answer begins, is the prompt. So an encoder's rows are rows of prompt and response like all others. That an answer
was cut off by length does not show.
"""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

from heedful.config import UserError
from heedful.models import dropout
from heedful.models.batches import Batch
from heedful.models.heads import BIAS, CLASSIFIER, draw_head
from heedful.models.saving import note_dtype, stored_dtype

POOLING = "heedful_pooling"
_PAIR, _TYPES = "_heedful_pair", "_heedful_token_types"


@dataclass(frozen=True)
class PairMarks:
    """The ids around the two texts of a pair: before the first, between them, after the second."""

    before: list[int]
    between: list[int]
    after: list[int]


def pair_of(tokenizer: PreTrainedTokenizerBase) -> PairMarks | None:
    """How to write prompt and answer for an encoder. None for the tokenizer of any other model."""
    found: PairMarks | None = getattr(tokenizer, _PAIR, None)
    return found


def read_pairs(model: Any, tokenizer: PreTrainedTokenizerBase, ref: str) -> None:
    """Make a tokenizer that of an encoder: prompts and answers become pairs, and padding has an id.

    The model learns whether it gets token types: 0 up to where the answer begins, 1 from there on.
    """
    first, second = (list(tokenizer.encode(text, add_special_tokens=False)) for text in ("a", "b"))
    written = tokenizer("a", "b")
    ids, types = list(written["input_ids"]), list(written.get("token_type_ids", []))
    start = _place(ids, first, 0)
    end = start + len(first)
    again = _place(ids, second, end)
    if min(start, again) < 0 or types not in ([], [0] * len(ids), [0] * again + [1] * (len(ids) - again)):
        raise UserError(f"{ref}: its tokenizer does not write two texts as a pair. Choose another encoder.")
    setattr(tokenizer, _PAIR, PairMarks(ids[:start], ids[end:again], ids[again + len(second) :]))
    setattr(model, _TYPES, 1 in types)
    if tokenizer.pad_token_id is None:  # which one does not matter: an encoder gets a mask
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id or 0)


def token_types(model: Any, batch: Batch) -> dict[str, Tensor]:
    """The argument that tells prompt and answer apart, for models that have it."""
    if not getattr(model, _TYPES, False):
        return {}
    places_S = torch.arange(batch.input_ids_BS.shape[1], device=batch.input_ids_BS.device)
    return {"token_type_ids": (places_S >= batch.prompt_lengths_B[:, None]).long()}


def _place(ids: list[int], part: list[int], start: int) -> int:
    """The first place from `start` on where `part` stands in `ids`, or -1."""
    places = range(start, len(ids) - len(part) + 1)
    return next((at for at in places if ids[at : at + len(part)] == part), -1)


def is_encoder(config: Any) -> bool:
    """Whether a config is that of a bare encoder, as for masked language models."""
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_encoder_decoder", False)
    return masked and not getattr(config, "is_decoder", False)


def reward_from_encoder(encoder: Any, *, seed: int, pooling: str) -> Any:
    """A reward model: a copy of the encoder with a new head, normal with std 1/sqrt(D + 1), and bias 0 (R1)."""
    config = copy.deepcopy(encoder.config)
    config.num_labels = 1
    setattr(config, BIAS, 0.0)
    setattr(config, POOLING, pooling)
    with torch.device("meta"):
        model = classifier_of(config)(config)
    setattr(model, model.base_model_prefix, copy.deepcopy(encoder))
    sample: Tensor = next(encoder.parameters())
    model.classifier = nn.Linear(model.classifier.in_features, 1, bias=False, device=sample.device, dtype=sample.dtype)
    draw_head(model.classifier.weight, seed)
    note_dtype(model, stored_dtype(encoder))
    setattr(model, _TYPES, getattr(encoder, _TYPES, False))
    return dropout.set_dropout(model, 0.0).eval()


def body_of(config: Any) -> Any:
    """An encoder with random weights, without the pooler that some have on top."""
    cls = MODEL_MAPPING[type(config)]
    poolless = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(cls).parameters else {}
    return cls(config, **poolless)


def classifier_of(config: Any) -> type[Any]:
    """The class of reward models on an encoder: `AutoModel` and a linear head on its pooled states."""
    body = MODEL_MAPPING[type(config)]
    family = next(cls for cls in body.__mro__ if PreTrainedModel in cls.__bases__)

    class Classifier(family):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, self.base_model_prefix, body_of(config))
            self.classifier = nn.Linear(config.hidden_size, config.num_labels, bias=False)
            self.post_init()

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **more: Any) -> Any:
            states_BSD = self.base_model(input_ids, attention_mask=attention_mask, **more).last_hidden_state
            mask_BS1 = (torch.ones_like(input_ids) if attention_mask is None else attention_mask)[..., None].bool()
            pooled_BD = states_BSD[:, 0] if getattr(self.config, POOLING) == "first" else _mean(states_BSD, mask_BS1)
            return SequenceClassifierOutput(logits=self.classifier(pooled_BD))

    Classifier.__module__ = body.__module__  # transformers looks there for what the family can do
    Classifier.__name__ = Classifier.__qualname__ = f"{body.__name__.removesuffix('Model')}Pooled{CLASSIFIER}"
    return Classifier


def _mean(states_BSD: Tensor, mask_BS1: Tensor) -> Tensor:
    return torch.where(mask_BS1, states_BSD, 0.0).sum(1) / mask_BS1.sum(1)


def pooling_of(directory: str) -> str:
    """What a folder of sentence-transformers says of its pooling, "mean" or "first". "mean" where it says nothing.

    Raises UserError for any other pooling.
    """
    file = Path(directory) / "1_Pooling" / "config.json"
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return "mean"
    chosen = sorted(name for name, on in found.items() if name.startswith("pooling_mode") and on is True)
    if isinstance(found.get("pooling_mode"), str):
        chosen = [f"pooling_mode_{found['pooling_mode']}"]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_mean": "mean"}
    known |= {"pooling_mode_cls_token": "first", "pooling_mode_cls": "first"}
    if len(chosen) != 1 or chosen[0] not in known:
        named = ", ".join(chosen) or "none"
        raise UserError(f"{file}: pooling {named} is not supported. Use mean or cls")
    return known[chosen[0]]
