"""Does a prompt leave room for an answer? One rule for everything that samples.

A prompt fits if the model can read the prompt and `max_new_tokens` more. An answer can therefore always take
`max_new_tokens`, and never ends earlier because the context is full. A prompt that does not fit is an error, or is left
out with `skip_long = true`. A chat with a person asks for fewer tokens instead, if only fewer are left.
"""

from __future__ import annotations

from collections.abc import Sequence

from heedful.config import UserError


def longest_prompt(context: int, max_new_tokens: int) -> int:
    """The most tokens of a prompt that fits. Raises UserError if no prompt can fit."""
    if max_new_tokens >= context:
        raise UserError(
            f"generation.max_new_tokens {max_new_tokens} leaves no room for a prompt: the model reads {context} tokens "
            "in all. Lower it"
        )
    return context - max_new_tokens


def tokens_left(context: int, prompt: int, max_new_tokens: int) -> int:
    """`max_new_tokens`, or what a prompt of `prompt` tokens leaves if that is less. 0: it leaves no room at all."""
    return max(0, min(max_new_tokens, context - prompt))


def keep_fitting(
    prompts: Sequence[Sequence[int]], longest: int, *, context: int, skip_long: bool = False, where: str
) -> list[int]:
    """Indices of the prompts of at most `longest` tokens.

    A longer one raises UserError unless `skip_long`. So does a set of which nothing is left. `where`: the file or
    model, for the message.
    """
    kept = [index for index, ids in enumerate(prompts) if len(ids) <= longest]
    skipped = len(prompts) - len(kept)
    if skipped and not skip_long:
        first = next(index for index, ids in enumerate(prompts) if len(ids) > longest)
        raise UserError(
            f"{where}: prompt {first + 1} has {len(prompts[first])} tokens, the most here is {longest} "
            f"(context {context}). Shorten it or use --skip-long"
        )
    if not kept:
        raise UserError(f"{where}: no prompt is short enough (skipped, of over {longest} tokens: {skipped})")
    return kept
