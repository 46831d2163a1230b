"""PPO for a language model, from top to bottom in one file: plain PyTorch over heedful.maths.

It does what `heedful ppo` does, without its speed: one row at a time, no packing, no ranks, no resume. Read it to see
the algorithm, or copy it to try an idea. With the same settings and seed it gives the same numbers.

    python examples/ppo_in_200_lines.py runs/sft/model runs/reward/model prompts.jsonl policy

Letters: B episodes, T response tokens, right-padded. A *_BT value at t belongs to response token t.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from heedful.maths.advantages import gae, whiten
from heedful.maths.kl import shaped_rewards
from heedful.maths.logprobs import token_logprobs
from heedful.maths.losses import policy_loss, value_loss
from heedful.maths.masks import length_mask


@dataclass
class Settings:
    """The names and defaults of `heedful ppo`, but for sizes that fit a laptop."""

    seed: int = 0
    iterations: int = 100
    rollout_batch: int = 64
    minibatch: int = 16
    max_new_tokens: int = 48
    kl_coef: float = 0.02
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    lr: float = 9e-6
    value_lr: float = 9e-6


# ------------------------------------------------------------------------------------------ models and random numbers


class Scorer(torch.nn.Module):
    """A sequence classifier with one label, read at any position, plus the bias that heedful keeps in its config.

    At the last token it is the reward model. At the position before each response token it is the value net.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.net = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
        self.bias = getattr(self.net.config, "heedful_reward_bias", 0.0)

    def forward(self, ids: list[int]) -> Tensor:
        """scores_S: one for each position of one sequence."""
        states_SD = self.net.base_model(torch.tensor([ids])).last_hidden_state[0]
        return self.net.score(states_SD).squeeze(-1) + self.bias


def order(seed: int, stream: int, step: int, size: int, rows: int) -> list[int]:
    """Rows of a step: epochs follow each other, each a permutation of its own. Nothing depends on earlier draws."""
    places = range(step * size, (step + 1) * size)
    return [int(np.random.default_rng([seed, stream, i // rows]).permutation(rows)[i % rows]) for i in places]


def uniforms(seed: int, iteration: int, row: int, n: int) -> np.ndarray:
    """The random numbers of one episode, a stream of its own."""
    philox = np.random.Philox(key=[seed % 2**64, 0], counter=[0, 0, row, iteration])
    return np.random.Generator(philox).random(n)


# -------------------------------------------------------------------------------------------------------------- rollout


@torch.no_grad()
def respond(policy, prompt_ids: list[int], draws: np.ndarray, eos: int) -> list[int]:
    """Sample a response token by token, until EOS or the last draw."""
    response, ids, cache = [], prompt_ids, None
    for draw in draws:
        out = policy(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        cumulative_V = out.logits[0, -1].float().softmax(-1).double().cumsum(-1)
        token = int(torch.searchsorted(cumulative_V, draw * cumulative_V[-1], right=True))
        response.append(token)
        if token == eos:
            break
        ids, cache = [token], out.past_key_values  # the next step reads this token only
    return response


def logprobs(policy, prompt_ids: list[int], response: list[int]) -> Tensor:
    """logprobs_T. The logits at the token before predict a token, so they start at the last token of the prompt."""
    logits_TV = policy(torch.tensor([prompt_ids + response])).logits[0, len(prompt_ids) - 1 : -1]
    return token_logprobs(logits_TV, torch.tensor(response))


def values(value: Scorer, prompt_ids: list[int], response: list[int]) -> Tensor:
    """values_T, each read before its token is seen."""
    return value(prompt_ids + response)[len(prompt_ids) - 1 : -1]


def padded(rows: list[Tensor], T: int = 0) -> Tensor:
    """Rows of different lengths as one tensor of at least T columns, 0 at the padding."""
    x_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return torch.nn.functional.pad(x_BT, (0, max(0, T - x_BT.shape[1])))


# ------------------------------------------------------------------------------------------------------------ the loop


def train(policy, reward: Scorer, prompts: list[list[int]], eos: int, s: Settings):
    """Train `policy` in place. Yield the metrics of each iteration."""
    policy.eval()  # no dropout, in the rollout and in the update
    reference = copy.deepcopy(policy)
    value = copy.deepcopy(reward)  # the value net starts as the reward model, head and bias included
    adam = torch.optim.Adam(policy.parameters(), lr=s.lr, betas=(0.9, 0.95))
    value_adam = torch.optim.Adam(value.parameters(), lr=s.value_lr, betas=(0.9, 0.95))

    for iteration in range(s.iterations):
        # 1) Sample one response to each prompt, and score it at its last token.
        asked = [prompts[i] for i in order(s.seed, 0, iteration, s.rollout_batch, len(prompts))]
        draws = [uniforms(s.seed, iteration, row, s.max_new_tokens) for row in range(s.rollout_batch)]
        episodes = [(ids, respond(policy, ids, row, eos)) for ids, row in zip(asked, draws, strict=True)]
        with torch.no_grad():
            scores_B = torch.stack([reward(prompt + response)[-1] for prompt, response in episodes])
            old_logprobs_BT = padded([logprobs(policy, *episode) for episode in episodes])
            ref_logprobs_BT = padded([logprobs(reference, *episode) for episode in episodes])
            old_values_BT = padded([values(value, *episode) for episode in episodes])
        lengths_B = torch.tensor([len(response) for _, response in episodes])
        mask_BT = length_mask(lengths_B, int(lengths_B.max()))

        # 2) Reward: the score at the last token, minus the KL penalty at every token. Then advantages and returns.
        rewards_BT, kl_BT = shaped_rewards(scores_B, old_logprobs_BT, ref_logprobs_BT, mask_BT, s.kl_coef)
        advantages_BT, returns_BT = gae(rewards_BT, old_values_BT, mask_BT, s.gamma, s.lam)
        advantages_BT = whiten(advantages_BT, mask_BT)

        # 3) One pass over shuffled minibatches: a policy step and a value step each.
        sums = dict.fromkeys(("policy_loss", "value_loss", "clipfrac", "tokens"), 0.0)
        for update in range(s.rollout_batch // s.minibatch):
            number = iteration * (s.rollout_batch // s.minibatch) + update
            chosen = order(s.seed, 1, number, s.minibatch, s.rollout_batch)
            rows, mask, T = [episodes[b] for b in chosen], mask_BT[chosen], mask_BT.shape[1]

            new_logprobs_BT = padded([logprobs(policy, *row) for row in rows], T)
            loss, tokens, found = policy_loss(
                new_logprobs_BT, old_logprobs_BT[chosen], advantages_BT[chosen], mask, s.clip
            )
            step(adam, loss / tokens)
            new_values_BT = padded([values(value, *row) for row in rows], T)
            vloss, _, _ = value_loss(new_values_BT, old_values_BT[chosen], returns_BT[chosen], mask, s.value_clip)
            step(value_adam, vloss / tokens)

            counts = (loss.item(), vloss.item(), found["clipfrac"][0].item(), tokens.item())
            sums = {name: total + one for (name, total), one in zip(sums.items(), counts, strict=True)}

        kl_B = kl_BT.sum(1)
        yield {
            "score": scores_B.mean().item(),
            "kl": kl_B.mean().item(),
            "reward": (scores_B - s.kl_coef * kl_B).mean().item(),
            "length": lengths_B.float().mean().item(),
            **{name: sums[name] / sums["tokens"] for name in ("policy_loss", "value_loss", "clipfrac")},
        }


def step(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


if __name__ == "__main__":
    policy_path, reward_path, prompt_file, out = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(policy_path)
    trained = AutoModelForCausalLM.from_pretrained(policy_path, dtype=torch.float32)
    texts = [json.loads(line)["prompt"] for line in Path(prompt_file).read_text(encoding="utf-8").splitlines()]
    prompt_ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    for metrics in train(trained, Scorer(reward_path), prompt_ids, tokenizer.eos_token_id, Settings()):
        print("  ".join(f"{name} {value:.3g}" for name, value in metrics.items()), flush=True)
    trained.save_pretrained(out)
    tokenizer.save_pretrained(out)
