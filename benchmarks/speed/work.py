"""The work that both sides do: models, prompts, forced lengths, documents, pairs. Needs torch and transformers only.

A worker does one row of the table on one model. It says what it does once (`ready`), does it whenever a line `go`
arrives on standard input, and answers with one JSON object a line: seconds, and what shows that the work was the same.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

EOS, PAD, FIRST = 0, 1, 2
SHAPES = {  # hidden, layers, heads, mlp, vocabulary
    "T": (256, 4, 4, 688, 4096),
    "S": (512, 8, 8, 1376, 16384),
    "L": (2048, 16, 16, 5504, 32768),  # 0.9 billion parameters: for a GPU
    "qwen3-0.6b": (1024, 28, 16, 3072, 151936),
    "llama-3.2-1b": (2048, 16, 32, 8192, 128256),
    "tiny": (64, 2, 2, 96, 512),
    "gpt2": (256, 4, 4, 1024, 4096),  # T as other families
    "gemma": (256, 4, 4, 688, 4096),
}
GROUPED = {  # family, width of a head, heads of keys: the attention of public models, with random weights
    "qwen3-0.6b": ("qwen3", 128, 8),
    "llama-3.2-1b": ("llama", 64, 8),
}
CONTEXT = 1024
EPISODES, NEW, STOP = 64, 64, 1 / 24
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def prepare(name: str, place: Path) -> None:
    """Write the policy, the reward model and the tokenizer of a shape, if they are not there."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    if (place / "reward" / "model.safetensors").exists():
        return
    hidden, layers, heads, mlp, vocabulary = SHAPES[name]
    shape = {
        "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers,
        "num_attention_heads": heads, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": EOS, "pad_token_id": PAD,
    }  # fmt: skip
    family = name if name in ("gpt2", "gemma") else "llama"
    if name in GROUPED:
        family, width, keys = GROUPED[name]
        shape |= {"head_dim": width, "num_key_value_heads": keys}
    if family == "gpt2":
        shape |= {"n_inner": mlp, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        del shape["intermediate_size"]
    if family == "gemma":
        shape |= {"head_dim": hidden // heads, "num_key_value_heads": heads}
    words = {"<eos>": EOS, "<pad>": PAD, **{f"w{i}": i for i in range(FIRST, vocabulary)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<eos>", pad_token="<pad>", padding_side="left", model_max_length=CONTEXT
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape)).save_pretrained(place / "policy")
    tokenizer.save_pretrained(place / "policy")
    torch.manual_seed(1)
    scored = AutoConfig.for_model(family, num_labels=1, **shape)
    AutoModelForSequenceClassification.from_config(scored).save_pretrained(place / "reward")
    tokenizer.save_pretrained(place / "reward")


def vocabulary(name: str) -> int:
    return SHAPES[name][4]


def tokens(source: random.Random, name: str, count: int) -> list[int]:
    return [source.randrange(FIRST, vocabulary(name)) for _ in range(count)]


def prompts(name: str, count: int = EPISODES) -> list[list[int]]:
    """16 to 64 tokens each."""
    source = random.Random(1)
    return [tokens(source, name, source.randint(16, 64)) for _ in range(count)]


def lengths(count: int, most: int) -> list[int]:
    """Response lengths where every token ends the response with probability 1/24, at most `most`."""
    source = random.Random(2)
    return [min(most, 1 + int(math.log(1 - source.random()) / math.log(1 - STOP))) for _ in range(count)]


def log_normal(source: random.Random, mean: float, most: int) -> int:
    sigma = 0.8
    return max(4, min(most, round(source.lognormvariate(math.log(mean) - sigma**2 / 2, sigma))))


def documents(name: str, count: int = 16) -> list[list[int]]:
    """Mean length 150, at most 512."""
    source = random.Random(3)
    return [tokens(source, name, log_normal(source, 150, 512)) for _ in range(count)]


def rankings(name: str, k: int) -> list[tuple[list[int], list[list[int]]]]:
    """(prompt, completions best first): 16 prompts of two completions, or one prompt of nine. 160 tokens on average."""
    source = random.Random(4)
    rows = []
    for _ in range(16 if k == 2 else 1):
        prompt = tokens(source, name, log_normal(source, 60, 256) if k == 2 else 60)
        rows.append((prompt, [tokens(source, name, log_normal(source, 100, 256)) for _ in range(k)]))
    return rows


def pairs(name: str, k: int) -> list[tuple[list[int], list[int]]]:
    """(chosen, rejected) whole, every pair of every ranking."""
    return [
        (prompt + completions[i], prompt + completions[j])
        for prompt, completions in rankings(name, k)
        for i in range(k)
        for j in range(i + 1, k)
    ]


def floor(row: str, name: str) -> float:
    """Multiplications and additions of the linear layers that the work needs, each token once and no padding."""
    hidden, layers, heads, mlp, vocab = SHAPES[name]
    _, width, keys = GROUPED.get(name, ("", hidden // heads, heads))
    attention = 2 * hidden * width * (heads + keys)  # queries and output, keys and values
    body, head = 2 * layers * (attention + 3 * hidden * mlp), 2 * hidden * vocab
    if row.startswith("rollout_fixed"):
        asked = sum(map(len, prompts(name)))
        return (asked + EPISODES * (NEW - 1)) * body + EPISODES * NEW * head
    if row.startswith("rollout_mixed"):
        asked, new = sum(map(len, prompts(name, 256))), sum(lengths(256, 128))
        return (asked + new - 256) * body + new * head
    if row.startswith("ppo"):
        epochs = 4 if row.startswith("ppo_4") else 1
        new = sum(lengths(EPISODES, NEW))
        whole = sum(map(len, prompts(name))) + new
        sampling = (whole - EPISODES) * body + new * head
        scoring = 3 * whole * body + new * head
        return sampling + scoring + epochs * 3 * (2 * whole * body + new * head)
    if row.startswith("sft"):
        count = sum(map(len, documents(name)))
        return 3 * count * (body + head)
    k = 9 if "9" in row else 2
    return 3 * body * sum(len(prompt) + sum(map(len, completions)) for prompt, completions in rankings(name, k))


def amount(row: str, name: str) -> tuple[float, str]:
    """How much one repetition does, and of what."""
    if row.startswith("rollout_fixed"):
        return EPISODES * NEW, "tok/s"
    if row.startswith("rollout_mixed"):
        return sum(lengths(256, 128)), "tok/s"
    if row.startswith("ppo"):
        return EPISODES, "episodes/s"
    if row.startswith("sft"):
        return sum(map(len, documents(name))), "tok/s"
    return len(pairs(name, 9 if "9" in row else 2)), "pairs/s"


def is_bfloat16(row: str) -> bool:
    return row.endswith("_bf16")


def matmul_rate(dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of torch's linear layer on shapes as they occur: the best of several."""
    best = 0.0
    shapes = [(2048, 512, 512), (2048, 512, 1376), (1024, 256, 688)]
    for rows, inner, columns in shapes if DEVICE == "cpu" else [*shapes, (8192, 8192, 8192)]:
        x, weight = (torch.randn(count, inner, device=DEVICE, dtype=dtype) for count in (rows, columns))
        for _ in range(12):
            start = clock()
            torch.nn.functional.linear(x, weight)
            best = max(best, 2 * rows * inner * columns / (clock() - start))
    return best


def clock() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib() -> float:
    """Most memory that this process has held."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class Worker:
    """Answers on what was standard output; whatever a library prints goes to standard error."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("SPEED_THREADS", "2")))
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **facts: Any) -> None:
        print(json.dumps(facts), file=self.out, flush=True)

    def wait(self) -> bool:
        return sys.stdin.readline().strip() == "go"

    def serve(self, work: Callable[[], dict[str, Any]]) -> None:
        """Do `work` at every `go`; it returns what shows that the work was the same."""
        self.say(ready=True)
        while self.wait():
            start = clock()
            facts = work()
            self.say(seconds=clock() - start, peak_mib=peak_mib(), **facts)
