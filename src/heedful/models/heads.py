"""Scalar heads: reward models and value nets made from a policy or from each other.

They are sequence classifiers with one label: a body, and a linear `score` that is read at the last token. Where
transformers has no such class for a family, heedful makes one in the same shape (`classifier_of`). Their bias (R5, P16)
is a number in the model's config, because heads of transformers have none.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from heedful.config import UserError
from heedful.models import deferred, dropout
from heedful.models.saving import note_code, note_dtype, stored_dtype

BIAS = "heedful_reward_bias"
CLASSIFIER = "ForSequenceClassification"


def reward_bias(model: Any) -> float:
    """The number that heedful adds to every score or value of the model."""
    return float(getattr(model.config, BIAS, 0.0))


def set_reward_bias(model: Any, bias: float) -> None:
    """Write the bias to `config.heedful_reward_bias`, which is saved with the model."""
    setattr(model.config, BIAS, float(bias))


def is_foreign(model: Any) -> bool:
    """Whether a reward model was not trained by heedful: its config has no bias."""
    return not hasattr(model.config, BIAS)


def reads_last_token(model: Any) -> bool:
    """Whether a score is a linear function of the last token's state. If not, the model's own forward gives it."""
    return isinstance(getattr(model, "score", None), nn.Linear)


def note_unread(model: Any, token: int | None) -> None:
    """Set the token after which a row is not read: the pad id in a model's own files.

    transformers reads a score at the last token of another kind. Where pad and end-of-text are one token, as in many
    models of the hub, that is the token before the end.
    """
    model._heedful_unread = token


def unread(model: Any) -> int | None:
    """The token that `note_unread` has set."""
    token: int | None = getattr(model, "_heedful_unread", None)
    return token


def reward_from_policy(policy: Any, *, seed: int) -> Any:
    """A reward model: a copy of the policy's body with a new head, normal with std 1/sqrt(D + 1), and bias 0 (R1)."""
    model = value_from_policy(policy)
    draw_head(model.score.weight, seed)
    return model


def draw_head(weight: Tensor, seed: int) -> None:
    """Fill the weight of a new head, in place."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(weight.shape, generator=generator, dtype=torch.float32) / (weight.shape[1] + 1) ** 0.5
    weight.data.copy_(normal)


def value_from_reward(reward: Any, weight: float = 1.0, *, share: bool = False) -> Any:
    """A value net: a copy of the whole reward model with head and bias (P16). `share`: the body is the same tensors.

    `weight`: the weight of the reward model in the reward. It multiplies head and bias: values are sums of rewards.
    """
    value = dropout.set_dropout(copy.deepcopy(reward, _shared(reward.base_model) if share else {}), 0.0).eval()
    deferred.scale(value, "score", weight)
    set_reward_bias(value, weight * reward_bias(value))
    return value


def value_from_policy(policy: Any, *, share: bool = False) -> Any:
    """A sequence classifier with one label: a copy of the policy's body, or `share` the same tensors, and a head of 0.

    It is the value net for rewards that are not models.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    setattr(config, BIAS, 0.0)
    with torch.device("meta"):  # the body below replaces it, so that it needs no weights
        model = classifier_of(type(policy), config)(config)
    body: Any = getattr(policy, _body_name(policy))
    body = copy.deepcopy(body, _shared(body) if share else {})
    sample: Tensor = next(body.parameters())
    device = "cpu" if sample.is_meta else sample.device
    model.score = nn.Linear(
        model.score.in_features, 1, bias=model.score.bias is not None, device=device, dtype=sample.dtype
    )
    for parameter in model.score.parameters():
        nn.init.zeros_(parameter)
    setattr(model, model.base_model_prefix, body)
    deferred.set_sources(model, deferred.sources_of(policy))
    note_dtype(model, stored_dtype(policy))
    note_code(model, type(policy))
    return dropout.set_dropout(model, 0.0).eval()


def _shared(body: nn.Module) -> dict[int, Any]:
    """The memo of a deep copy that leaves the tensors of `body` where they are."""
    return {id(weight): weight for weight in body.parameters()}


def classifier_of(causal: type[Any], config: Any) -> type[Any]:
    """The class of sequence classifiers on the body of a causal class.

    It is that of transformers if that is the same body with a linear `score`. Otherwise it is made here, and has the
    name and the weights that transformers would give it.
    """
    own = library_classifier(config)
    with torch.device("meta"):
        policy = causal(config)
        body = _body_name(policy)
        if own is not None:
            theirs = own(config)
            same_body = type(getattr(theirs, body, None)) is type(getattr(policy, body))
            if reads_last_token(theirs) and own.base_model_prefix == body and same_body:
                return own
    return _made(causal, body, policy)


def library_classifier(config: Any) -> type[Any] | None:
    """The sequence classifier that transformers has for a config."""
    try:
        found: type[Any] = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    except KeyError:
        return None
    return found


def _body_name(policy: Any) -> str:
    """The attribute of a causal model that holds its body."""
    prefix: str = policy.base_model_prefix
    if isinstance(getattr(policy, prefix, None), nn.Module):
        return prefix
    head = policy.get_output_embeddings()
    for name, module in policy.named_children():  # Llama 4 and others keep it under another name
        if module is not head and isinstance(module, PreTrainedModel):
            return name
    raise UserError(f"{type(policy).__name__} does not consist of a body and a head. Choose another architecture.")


def _made(causal: type[Any], body: str, policy: Any) -> type[Any]:
    head = policy.get_output_embeddings()
    config = policy.config.get_text_config()
    width = head.weight.shape[1] if head is not None else config.hidden_size
    family = next(cls for cls in causal.__mro__ if PreTrainedModel in cls.__bases__)

    class Classifier(GenericForSequenceClassification, family):  # type: ignore[misc, valid-type]
        base_model_prefix = body
        config_class = causal.config_class
        get_input_embeddings = causal.get_input_embeddings
        set_input_embeddings = causal.set_input_embeddings

        def __init__(self, config: Any) -> None:
            super(GenericForSequenceClassification, self).__init__(config)
            self.num_labels = config.num_labels
            setattr(self, body, getattr(causal(config), body))
            self.score = nn.Linear(width, self.num_labels, bias=False)
            self.post_init()

    stem = causal.__name__.removesuffix("ForCausalLM").removesuffix("ForConditionalGeneration")
    own = library_classifier(policy.config)
    between = "Causal" if own is not None and own.__name__ == stem + CLASSIFIER else ""
    Classifier.__module__ = causal.__module__  # transformers looks there for what the family can do
    Classifier.__name__ = Classifier.__qualname__ = stem + between + CLASSIFIER
    return Classifier
