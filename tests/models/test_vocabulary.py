"""Pads, ids without a token, and tokenizers that read every text as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

import tiny
from heedful.config import UserError
from heedful.configs.shared import Generation
from heedful.fast import decoding
from heedful.fast.decoder import FastDecoder
from heedful.models import batches, ids, load, render, scoring, vocabulary
from heedful.models.ids import Ids
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Stream

TEXTS = ["L'Haÿ-les-Roses", "ÿ þ À any text \u2603 é 中", "<|pad|> <|endoftext|> <0x00> \x00 �", " two  spaces\n\n"]


def pad_of(tokenizer: Any, generation: Any = None) -> str | None:
    """The pad token after `fit`, with the promises that every pad keeps."""
    size, before = len(tokenizer), [tokenizer(text).input_ids for text in TEXTS]
    model = tiny.policy(vocab=size, pad_token_id=None)
    if generation is not None:
        model.generation_config = generation
    vocabulary.fit(model, tokenizer, "it")
    assert len(tokenizer) == size
    assert [tokenizer(text).input_ids for text in TEXTS] == before
    if model.config.pad_token_id is not None:
        pad = tokenizer.pad_token_id
        assert pad == model.config.pad_token_id == model.generation_config.pad_token_id
        assert pad not in {*render.stop_ids(tokenizer, model.config, model.generation_config), tokenizer.bos_token_id}
    return None if tokenizer.pad_token is None else str(tokenizer.pad_token)


def test_the_tokenizers_own_pad_stays() -> None:
    assert pad_of(tiny.tokenizer()) == tiny.PAD


@pytest.mark.parametrize("own", [None, tiny.EOS])
@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"), "<|finetune_right_pad_id|>"),
        (("<|fim_pad|>",), "<|fim_pad|>"),
        (("<|tool|>", "<|reserved_special_token_0|>"), "<|reserved_special_token_0|>"),
        (("[unused3]",), "[unused3]"),
    ],
)
def test_a_spare_special_token_becomes_the_pad(own: str | None, extra: tuple[str, ...], expected: str) -> None:
    assert pad_of(tiny.tokenizer(pad=own, extra=extra)) == expected


def test_an_unknown_token_that_text_never_needs_becomes_the_pad() -> None:
    assert pad_of(tiny.tokenizer(pad=None, unk=tiny.UNK)) == tiny.UNK


@pytest.mark.parametrize("own", [None, tiny.EOS])
def test_no_text_token_becomes_the_pad(own: str | None) -> None:
    assert pad_of(tiny.tokenizer(pad=own)) == own


def test_a_pad_that_ends_responses_is_replaced() -> None:
    tokenizer = tiny.tokenizer(template=True, extra=("<|reserved_0|>",))
    generation = GenerationConfig(eos_token_id=[0, tokenizer.pad_token_id])
    assert pad_of(tokenizer, generation) == "<|reserved_0|>"


def test_eos_learns_where_it_is_the_pad_too() -> None:
    model = tiny.policy(pad_token_id=0, tie_word_embeddings=False)  # torch would freeze the pad's row
    vocabulary.fit(model, tiny.tokenizer(pad=tiny.EOS), "it")
    scoring.response_loss(model, batches.collate([[0, 9]], [[10, 11]], None)).backward()
    assert model.get_input_embeddings().weight.grad[0].abs().sum() > 0


@pytest.mark.parametrize("rows", [0, 5])
def test_a_reward_model_gets_a_pad_of_its_own(rows: int, tmp_path: Path) -> None:
    """Plain transformers reads its score at the last token that is not the pad."""
    tokenizer = tiny.tokenizer(pad=tiny.EOS)
    size = len(tokenizer)
    path = tmp_path / "start"
    load.save(tiny.policy(vocab=size + rows, pad_token_id=0), tokenizer, path)
    model, own = load.load_reward_start(path, seed=0)
    assert (own.pad_token, own.pad_token_id, model.config.pad_token_id) == ("<|pad|>", size, size)
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == size + max(rows, 1)
    load.save(model, own, tmp_path / "reward")
    again = AutoTokenizer.from_pretrained(tmp_path / "reward")
    assert again.pad_token_id == size
    assert [render.encode(again, text) for text in TEXTS] == [render.encode(tokenizer, text) for text in TEXTS]
    policy_tokenizer = load.load_policy(path)[1]
    assert render.same_tokens(load.load_reward(tmp_path / "reward")[1], policy_tokenizer)


def test_a_tokenizer_beyond_the_model_is_refused() -> None:
    with pytest.raises(UserError, match="ids up to 319, the model embeds 310"):
        vocabulary.fit(tiny.policy(vocab=310), tiny.tokenizer(), "it")


# --- ids without a token ------------------------------------------------------------------------------------

SHORT = tiny.tokenizer(vocab=tiny.VOCAB - 20)  # 20 rows of the model have no token
PROMPTS = tiny.prompts(6, seed=3, vocab=len(SHORT))
HOLES = Ids(tiny.VOCAB, len(SHORT), (17, 40))


def spare_rows(family: str = "llama", holes: bool = False, **changes: Any) -> Any:
    model = tiny.policy(family, **changes)
    vocabulary.fit(model, SHORT, "it")
    if holes:
        setattr(model, ids._IDS, HOLES)
    return model


def test_which_ids_are_tokens() -> None:
    assert ids.ids_of(spare_rows()) == Ids(tiny.VOCAB, len(SHORT))
    assert ids.ids_of(tiny.policy()).whole
    gapped = tiny.tokenizer()
    gapped.get_vocab = lambda: {"a": 0, "b": 1, "d": 3}
    model = tiny.policy()
    ids.set_ids(model, gapped)
    assert ids.ids_of(model) == Ids(tiny.VOCAB, 4, (2,))
    whole = tiny.policy()
    ids.set_ids(whole, tiny.tokenizer())
    logits_NV = torch.zeros(2, tiny.VOCAB)
    assert ids.ids_of(whole).logits(logits_NV) is logits_NV  # it costs nothing
    assert ids.described({"a": model, "b": whole}) == {"a": "3 of 320 rows are tokens. The others are never sampled"}


@torch.no_grad()
def expected_logprobs(model: Any, prompt: list[int], response: list[int]) -> list[float]:
    """From transformers' own logits, renormalised over the ids that exist."""
    own = ids.ids_of(model)
    logits_SV = model(torch.tensor([prompt + response])).logits[0, :, : own.end].double()
    logits_SV[:, list(own.holes)] = -torch.inf
    logprobs_SV = logits_SV.log_softmax(-1)
    return [float(logprobs_SV[len(prompt) - 1 + t, token]) for t, token in enumerate(response)]


@pytest.mark.medium
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(
    ("family", "fast", "kind"),
    [
        ("llama", True, FastDecoder),
        ("llama", False, decoding.CachedDecoder),
        ("gpt2", True, decoding.CachedDecoder),
    ],
)
def test_sampler_and_scoring_leave_out_the_same_ids(family: str, fast: bool, kind: type, holes: bool) -> None:
    model = spare_rows(family, holes)
    engine = LocalEngine(model, SHORT, fast=fast)
    assert decoding.fastest(model, fast) is kind
    assert engine.decoder == {"FastDecoder": "fast", "CachedDecoder": "cached"}[kind.__name__]
    # at a high temperature, all rows would be drawn from
    settings = Generation(max_new_tokens=40, temperature=1.0)
    samples = engine.generate(PROMPTS, [Stream(1, 0, row) for row in range(len(PROMPTS))], settings)
    drawn = {token for sample in samples for token in sample.response_ids}
    assert len(drawn) > 50
    assert max(drawn) < len(SHORT)
    assert not drawn & set(ids.ids_of(model).holes)
    batch = batches.collate(PROMPTS, [sample.response_ids for sample in samples], None)
    with torch.no_grad():
        scored_BT = scoring.response_logprobs(model, batch)
    for sample, row in zip(samples, scored_BT.tolist(), strict=True):
        expected = expected_logprobs(model, sample.prompt_ids, sample.response_ids)
        assert sample.logprobs == pytest.approx(expected, abs=2e-5)
        assert row[: len(expected)] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("fast", [True, False])
def test_losses_leave_out_the_same_ids(tied: bool, holes: bool, fast: bool) -> None:
    """The fast cross-entropy, the chunked log-softmax and the model's own logits: values and gradients."""
    model = spare_rows(holes=holes, tie_word_embeddings=tied)
    load.place(model, "cpu", load.Compute(fast=fast))
    response = [10, 11, 12]
    batch = batches.collate([PROMPTS[0]], [response], None)
    loss = scoring.response_loss(model, batch)
    assert loss.item() == pytest.approx(-sum(expected_logprobs(model, PROMPTS[0], response)), abs=1e-4)
    loss.backward()
    grad_VD = model.get_output_embeddings().weight.grad
    assert grad_VD[len(SHORT) :].abs().sum() == 0
    assert grad_VD[10:13].abs().sum() > 0
    own = ids.ids_of(model)
    plain = tiny.policy(tie_word_embeddings=tied)
    logits_SV = plain(batch.input_ids_BS).logits[0, :, : own.end]
    logits_SV = logits_SV.index_fill(-1, torch.tensor(own.holes, dtype=torch.long), -torch.inf)
    start = len(PROMPTS[0]) - 1
    torch.nn.functional.cross_entropy(logits_SV[start : start + 3], torch.tensor(response), reduction="sum").backward()
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, weight.grad, rtol=1e-4, atol=1e-5)


# --- added tokens -------------------------------------------------------------------------------------------

SOLVED = "So <answer>twelve</answer> [end]."


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 20])
def test_added_tokens_are_one_id_with_a_row(spare: int, tied: bool, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer(template=True)
    size, old = len(tokenizer), render.encode(tokenizer, "<answer>")
    model = tiny.policy(vocab=size + spare, tie_word_embeddings=tied)
    vocabulary.fit(model, tokenizer, "it")
    before = [one.weight[old].mean(0) for one in (model.get_input_embeddings(), model.get_output_embeddings())]
    more = vocabulary.add_tokens(model, tokenizer, ["<answer>", "</answer>", "[end]"])
    answer, close, end = (more.convert_tokens_to_ids(name) for name in ("<answer>", "</answer>", "[end]"))
    assert {answer, close, end} == {size, size + 1, size + 2}
    assert model.config.vocab_size == max(size + spare, size + 3)
    assert ids.ids_of(model).end == size + 3  # they may be sampled, other rows may not
    for module, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), before, strict=True):
        torch.testing.assert_close(module.weight[answer], mean)
    load.save(model, more, tmp_path / "model")
    again, saved = load.load_policy(tmp_path / "model")
    assert ids.ids_of(again) == ids.ids_of(model)
    for one in (more, saved, AutoTokenizer.from_pretrained(tmp_path / "model")):
        response = render.response_ids(one, SOLVED, finished=True)
        assert [token for token in response if token >= size] == [answer, close, end]
        assert render.response_text(one, response) == SOLVED
        assert answer in render.prompt_ids(one, "Write <answer>")
        assert answer in render.encode(one, "<answer>")
    assert [render.encode(saved, text) for text in TEXTS] == [render.encode(tokenizer, text) for text in TEXTS]


def test_special_tokens_of_a_user_are_part_of_answers() -> None:
    """Added by add_special_tokens before heedful: tags are one id, other names once they are named."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<answer>", "</answer>", "<|answer|>"]})
    tag, named = (tokenizer.convert_tokens_to_ids(name) for name in ("<answer>", "<|answer|>"))
    text = "So <answer>twelve</answer> or <|answer|>"
    response = render.response_ids(tokenizer, text, finished=True)
    assert tag in response
    assert named not in response
    assert render.response_text(tokenizer, response) == text
    model = tiny.policy(vocab=len(tokenizer))
    more = vocabulary.add_tokens(model, tokenizer, ["<|answer|>"])
    assert (len(more), model.config.vocab_size) == (len(tokenizer), len(tokenizer))
    response = render.response_ids(more, text, finished=True)
    assert {tag, named} < set(response)
    assert render.response_text(more, response) == text


@pytest.mark.parametrize(("name", "said"), [
    ("", "is empty"), (" <a>", "begins or ends with a space"), ("three", "is an ordinary token"),
    (tiny.EOS, "ends or frames a turn"), (tiny.PAD, "is the pad"), ("<|im_start|>", "frames a turn"),
])  # fmt: skip
def test_tokens_that_cannot_be_added(name: str, said: str) -> None:
    tokenizer = tiny.tokenizer(template=True, vocab=400)
    tokenizer.get_vocab = lambda: {**type(tokenizer).get_vocab(tokenizer), "three": 399}
    with pytest.raises(UserError, match=f"special_tokens: .*{said}"):
        vocabulary.add_tokens(tiny.policy(vocab=400), tokenizer, [name])
