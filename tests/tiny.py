"""Tiny random models of six families and tiny tokenizers, built in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from heedful.models import dropout, heads

FAMILIES = ("llama", "qwen3", "gpt2", "gpt_neox", "gemma", "mistral")
EOS, PAD, BOS, UNK = "<|endoftext|>", "<|pad|>", "<|bos|>", "<|unk|>"
VOCAB = 320
MARKS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "The old miller of Arden keeps three grey cats and a lame dog.",
    "Write a list of things to bring to the river: bread, cheese, a rope and two apples.",
    "What is seven plus five? Seven plus five is twelve.",
]


def tokenizer(
    *,
    pad: str | None = PAD,
    adds_bos: bool = False,
    template: bool = False,
    extra: tuple[str, ...] = (),
    vocab: int = VOCAB,
    unk: str | None = None,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE. Ids from 0: EOS, pad, BOS, UNK and the template's marks where used, `extra`, bytes, merges."""
    special = [EOS, *([pad] if pad and pad != EOS else []), *([BOS] if adds_bos else []), *([unk] if unk else [])]
    special += ["<|im_start|>", "<|im_end|>"] if template else []
    special += extra
    bpe = Tokenizer(models.BPE(unk_token=unk))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
        ),
    )
    bpe.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    if adds_bos:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, special.index(BOS))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=EOS,
        pad_token=pad,
        bos_token=BOS if adds_bos else None,
        unk_token=unk,
        chat_template=TEMPLATE if template else None,
        clean_up_tokenization_spaces=False,
    )


def config(
    family: str, *, vocab: int = VOCAB, hidden: int = 32, layers: int = 2, context: int = 128, **changes: Any
) -> Any:
    ids = {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
    common = {"vocab_size": vocab, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4, **ids}
    common |= {"max_position_embeddings": context, "initializer_range": 0.3} | changes
    gated = {"intermediate_size": 3 * hidden, "num_key_value_heads": 2, "head_dim": hidden // 4} | common
    if family == "llama":
        return LlamaConfig(**({"tie_word_embeddings": True} | gated))
    if family == "qwen3":
        return Qwen3Config(**gated)
    if family == "gemma":
        return GemmaConfig(**gated)
    if family == "mistral":
        return MistralConfig(**({"sliding_window": 9} | gated))
    if family == "gpt_neox":
        return GPTNeoXConfig(**({"intermediate_size": 3 * hidden} | common))
    assert family == "gpt2", family
    return GPT2Config(**common)


def policy(family: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """A random causal LM in eval mode, dropout 0, with predictions far from uniform so that mistakes show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(family, **changes))
    return dropout.set_dropout(model, 0.0).eval()


def reward(family: str = "llama", *, seed: int = 0, bias: float = 0.25, **changes: Any) -> Any:
    """A random reward model whose bias is not 0."""
    model = heads.reward_from_policy(policy(family, seed=seed, **changes), seed=seed)
    heads.set_reward_bias(model, bias)
    return model


def prompts(count: int, *, seed: int = 0, shortest: int = 1, longest: int = 17, vocab: int = VOCAB) -> list[list[int]]:
    """Random prompts of ragged lengths; ids of special tokens are left out."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(8, vocab, (length,), generator=generator).tolist() for length in lengths]


def pair_tokenizer(*, twice: bool = False, types: bool = True) -> PreTrainedTokenizerFast:
    """[CLS] a [SEP] b [SEP], or as RoBERTa writes it: [CLS] a [SEP] [SEP] b [SEP]."""
    bpe = Tokenizer(models.BPE(unk_token="[UNK]"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=380, special_tokens=MARKS, show_progress=False))
    bpe.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in MARKS])
    second = 1 if types else 0
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS]:0 $A:0 [SEP]:0 {'[SEP]:0 ' if twice else ''}$B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_input_names=names,
    )  # fmt: skip


def encoder(folder: Path, *, context: int = 128) -> str:
    """Write the folder of a random bare encoder."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=400, max_position_embeddings=context, initializer_range=0.3, **size)
    BertModel(config).save_pretrained(folder)
    pair_tokenizer().save_pretrained(folder)
    return str(folder)
