"""Pretraining: a small base model and its tokenizer from text, so that a laptop needs no download.

One dial, `depth`, sets the size. Width, heads, learning rate, batch and tokens follow from it unless given.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from heedful import files
from heedful.config import UserError
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.shared import Lora
from heedful.data import formats
from heedful.data.records import Text
from heedful.learning import examples, likelihood
from heedful.learning.examples import Example
from heedful.learning.passes import Passes
from heedful.models import fresh, load, template_arguments, vocabulary
from heedful.planning.job import StepShape
from heedful.training import checkpoint, order
from heedful.training import optimiser as optim
from heedful.training.metrics import Means
from heedful.training.stage_run import StageRun, open_stage

SIZES = {"depth", "width", "vocab_size"}
EOS, PAD = "<|endoftext|>", "<|pad|>"


def train(config: PretrainConfig, out: str | Path, *, resume: bool = False) -> Path:
    """Train a base model. Returns the run directory. `out`/model loads with plain transformers."""
    files = {"data": config.data, "valid_data": config.valid_data}
    if config.model is not None and (given := SIZES & config.model_fields_set):
        raise UserError(f"{sorted(given)[0]}: sets the size of a new model, and model = {config.model}. Leave one out")
    with open_stage("pretrain", config, out, models={"model": config.model}, files=files, resume=resume) as s:
        if s.finished:
            return Path(out)
        train_texts, valid_texts = _texts(config)
        if config.model is not None:
            model, tokenizer = load.load_policy(config.model, shards=s.ranks.shards)
            if config.chat_template:
                vocabulary.use_template(model, tokenizer, {"chat_template": config.chat_template})
            if config.context > load.context_length(model):
                raise UserError(f"context: {config.context} is more than the {load.context_length(model)} of the model")
        else:
            tokenizer = _tokenizer(config, train_texts, s)
            model = new_model(config, tokenizer)
        rows, valid_rows = (
            examples.document_rows(tokenizer, texts, config.context) for texts in (train_texts, valid_texts)
        )
        load.place(model, s.ranks.device, config.compute, trained=True, shards=s.ranks.shards)
        _loop(config, s, model, tokenizer, rows, valid_rows)
    return Path(out)


def _loop(
    config: PretrainConfig, s: StageRun, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase,
    rows: list[Example], valid_rows: list[Example],
) -> None:  # fmt: skip
    write_model = load.writer(model, tokenizer, config.save_dtype, Lora())
    s.try_saving(write_model)
    settings = config.optimiser
    if settings.lr == 0:
        settings = settings.model_copy(update={"lr": 3e-3 * math.sqrt(128 / model.config.hidden_size)})
    passes = Passes(tokenizer.pad_token_id, config.compute.micro_tokens, s.ranks)
    batch_tokens = config.batch_tokens or 8 * config.context
    batches = order.ByLength(config.seed, [len(row) for row in rows], batch_tokens)
    total = batches.steps(config.tokens or 20 * model.num_parameters())
    if not valid_rows:
        s.say(f"{s.name}: no text is held out, so there is no validation loss")
    s.say_if_few(total, "raise tokens or lower batch_tokens")
    adam = optim.adam(model, settings)
    parts = {"model": model, "optimiser": adam}
    shape = StepShape(step=batch_tokens, longest=max(len(row) for row in rows))
    for step in s.steps(s.restore(parts, shape), total):
        model.train()
        loss = _gradients(model, [rows[i] for i in batches(step)], passes)
        lr = optim.learning_rate(settings, step, total)
        norm = optim.step(model, adam, settings, lr)
        metrics = {"loss": loss, "gradient_norm": norm, "lr": lr, "tokens": batches.seen(step + 1)}
        if valid_rows and ((step + 1) % config.checkpoint.interval(total) == 0 or step + 1 == total):
            metrics["valid_loss"] = likelihood.mean_loss(model, valid_rows, passes)
        s.log(step, metrics, show=("loss", "valid_loss"))
        s.checkpoint(step, parts)
    results = {
        **({"valid_loss": likelihood.mean_loss(model, valid_rows, passes)} if valid_rows else {}),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "steps": total,
        "tokens": batches.seen(total),
    }
    s.finish(write_model, results)


def _gradients(model: LlamaForCausalLM, rows: list[Example], passes: Passes) -> float:
    """Backward pass over this rank's passes. Gradients are those of the mean over the global batch."""
    means = Means()
    likelihood.add_gradients(model, rows, passes, means, "loss")
    passes.ranks.sum_gradients(model)
    return means.reduce(passes.ranks)["loss"]


def new_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama-shaped model with random weights that follow from the seed."""
    width = config.hidden
    torch.manual_seed(config.seed)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(fresh.config_of(config, len(tokenizer), bos_token_id=None, **ids))
    for layer in model.model.layers:
        _mimic_attention(layer.self_attn, width)
    return model


@torch.no_grad()
def _mimic_attention(attention: Any, width: int) -> None:
    """Start where trained attention ends up (mimetic initialisation, Trockman and Kolter 2023, arXiv 2305.09828).

    Keys equal queries, so that a token finds tokens like itself. The output undoes the values, so that what a token
    finds is passed on unchanged.
    """
    attention.q_proj.weight.normal_(std=width**-0.5)
    attention.k_proj.weight.copy_(attention.q_proj.weight)
    torch.nn.init.orthogonal_(attention.v_proj.weight)
    attention.o_proj.weight.copy_(0.5 * attention.v_proj.weight.t())


def new_tokenizer(texts: list[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be written, and pad is not end-of-text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=EOS, pad_token=PAD, model_max_length=context, clean_up_tokenization_spaces=False
    )


def _texts(config: PretrainConfig) -> tuple[list[str], list[str]]:
    texts = [record.text for record in formats.read(config.data, Text)]
    if config.valid_data:
        return texts, [record.text for record in formats.read(config.valid_data, Text)]
    return [t for i, t in enumerate(texts) if i % 100 != 1], [t for i, t in enumerate(texts) if i % 100 == 1]


def _tokenizer(config: PretrainConfig, texts: list[str], s: StageRun) -> PreTrainedTokenizerBase:
    """Trained once, on the main rank. A resumed run reads it back."""
    place = s.out / "tokenizer"
    if s.ranks.main and not place.exists():
        with files.replacing(place, sync=True) as temporary:
            made = new_tokenizer(texts, config.vocab_size, config.context)
            if config.chat_template:
                template_arguments.give(made, {"chat_template": config.chat_template})
            made.save_pretrained(temporary)
            checkpoint.write_sums(temporary)
    s.ranks.wait()
    checkpoint.check_sums(place, f"Delete {place} and use --resume, which makes it again")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
    return tokenizer
