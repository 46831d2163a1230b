"""The engine against a plain loop that reads every sequence from its beginning at every step."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MambaConfig

import tiny
from heedful.config import UserError
from heedful.configs.shared import Compute, Generation
from heedful.fast import cache, decoding
from heedful.fast import decoder as fast_decoder
from heedful.fast.decoder import FastDecoder
from heedful.models import batches, load, scoring
from heedful.rollout import local
from heedful.rollout.engine import open_engine
from heedful.rollout.local import LocalEngine
from heedful.rollout.streams import uniforms
from heedful.rollout.types import Sample, Stream

TOKENIZER = tiny.tokenizer()
STOPS = np.arange(0, 320, 16)  # about one token in 16 ends a response, so that rows finish at all times
PROMPTS = [*tiny.prompts(9, seed=5, longest=20), [9, 10, 11], [9, 10, 11]]
FUSED = ("llama", "qwen3")
STREAMS = [Stream(3, 1, row) for row in range(len(PROMPTS))]


TABLE = pytest.mark.parametrize("wide", [1, 1 << 20], ids=["values as a table", "products"])


def engine(model: Any, *, fast: bool = True) -> LocalEngine:
    one = LocalEngine(model, TOKENIZER, fast=fast)
    one.stops = STOPS
    return one


@torch.no_grad()
def plain(model: Any, prompt: list[int], stream: Stream, settings: Generation) -> Sample:
    ids: list[int] = list(prompt)
    logprobs = []
    for draw in uniforms(stream, settings.max_new_tokens):
        logits_V = model(torch.tensor([ids])).logits[0, -1].double()
        if settings.temperature:
            logprobs_V = (logits_V / settings.temperature).log_softmax(-1)
            token = int(torch.searchsorted(logprobs_V.exp().cumsum(0), float(draw), right=True))
        else:
            logprobs_V = logits_V.log_softmax(-1)
            token = int(logits_V.argmax())
        ids.append(token)
        logprobs.append(float(logprobs_V[token]))
        if token in STOPS:
            return Sample(prompt, ids[len(prompt) :], "stop", logprobs)
    return Sample(prompt, ids[len(prompt) :], "length", logprobs)


def same(actual: list[Sample], expected: list[Sample]) -> None:
    assert [sample.response_ids for sample in actual] == [sample.response_ids for sample in expected]
    assert [sample.finish for sample in actual] == [sample.finish for sample in expected]
    assert [sample.prompt_ids for sample in actual] == [sample.prompt_ids for sample in expected]
    for one, other in zip(actual, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((family, FastDecoder if family in FUSED else decoding.CachedDecoder) for family in tiny.FAMILIES),
        ("llama", decoding.CachedDecoder),
    ],
)
@TABLE
def test_the_engine_equals_the_plain_loop(family: str, kind: type, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged prompts, a queue longer than the rows in flight, a cache so narrow that it must be moved along."""
    tables, bag = [], torch.embedding_bag
    monkeypatch.setattr(torch, "embedding_bag", lambda *a, **kw: tables.append(1) or bag(*a, **kw))
    monkeypatch.setattr(fast_decoder, "WIDE", wide)
    monkeypatch.setattr(cache, "SLACK", 2)
    monkeypatch.setattr(cache, "PART_ROWS", 2)
    monkeypatch.setattr(cache, "UNTIDY", 1.01)
    model = tiny.policy(family)
    settings = Generation(max_new_tokens=20, max_rows=5, temperature=0.8)
    expected = [plain(model, prompt, stream, settings) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]
    fast = kind is FastDecoder
    assert decoding.fastest(model, fast) is kind
    same(engine(model, fast=fast).generate(PROMPTS, STREAMS, settings), expected)
    assert bool(tables) == (wide == 1 and kind is FastDecoder)
    assert {sample.finish for sample in expected} == {"stop", "length"}
    assert expected[-1].response_ids != expected[-2].response_ids


def test_rows_are_read_in_parts_and_put_in_order_when_long_and_short_ones_are_mixed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "PART_ROWS", 2)
    at = cache.Timeline(8)
    at.rows, at.end = 7, 30
    at.starts[:7] = [3, 4, 9, 9, 20, 21, 28]
    at.refresh()
    assert [(part.rows.start, part.rows.stop, part.start) for part in at.parts()] == [
        (0, 2, 3), (2, 4, 9), (4, 6, 20), (6, 7, 28)
    ]  # fmt: skip
    done = np.array([True, False, False, False, False, False, False])
    # the last fills the gap: 2 x 26 + 2 x 21 + 2 x 10 columns; in order 2 x 26 + 2 x 21 + 2 x 9
    assert at.order(done).tolist() == [6, 1, 2, 3, 4, 5]
    monkeypatch.setattr(cache, "UNTIDY", 1.0)
    assert at.order(done).tolist() == [1, 2, 3, 4, 5, 6]
    at.rows = 0
    assert at.parts() == []


@pytest.mark.medium
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_samplers_logprobs_are_those_of_the_training_forward(family: str) -> None:
    model = tiny.policy(family)
    for temperature in (1.0, 0.7):
        samples = engine(model).generate(PROMPTS, STREAMS, Generation(max_new_tokens=16, temperature=temperature))
        batch = batches.collate(PROMPTS, [sample.response_ids for sample in samples], 1)
        scored = scoring.response_logprobs(model, batch, temperature)
        kept = torch.tensor([logprob for sample in samples for logprob in sample.logprobs or []])
        torch.testing.assert_close(kept, scored[batch.response_mask_BT].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_in_bfloat16_it_samples_what_a_model_loaded_so_samples(family: str, tmp_path: Path) -> None:
    model, settings = tiny.policy(family), Generation(max_new_tokens=12)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    expected = engine(loaded).generate(PROMPTS, STREAMS, settings)
    one = engine(model)
    one.dtype = torch.bfloat16
    same(one.generate(PROMPTS, STREAMS, settings), expected)
    assert [token.id for token in one.stream(PROMPTS[0], STREAMS[0], settings)] == engine(loaded).generate(
        PROMPTS[:1], STREAMS[:1], settings
    )[0].response_ids
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.medium
@pytest.mark.parametrize("max_rows", [3, 100])
def test_nothing_depends_on_what_is_sampled_beside_it(max_rows: int) -> None:
    one = engine(tiny.policy())
    settings = Generation(max_new_tokens=12)
    together = one.generate(PROMPTS, STREAMS, settings.model_copy(update={"max_rows": max_rows}))
    alone = [one.generate([p], [s], settings)[0] for p, s in zip(PROMPTS, STREAMS, strict=True)]
    same(together, alone)
    backwards = one.generate(PROMPTS[::-1], STREAMS[::-1], settings)[::-1]
    same(backwards, alone)


@pytest.mark.medium
def test_greedy_sampling() -> None:
    model = tiny.policy()
    settings = Generation(max_new_tokens=8, temperature=0.0)
    expected = [plain(model, prompt, stream, settings) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]
    same(engine(model).generate(PROMPTS, STREAMS, settings), expected)
    limited = engine(model).generate(PROMPTS, STREAMS, Generation(max_new_tokens=8, top_k=1))
    assert [sample.response_ids for sample in limited] == [sample.response_ids for sample in expected]


@pytest.mark.medium
def test_streaming_gives_the_same_tokens() -> None:
    one = engine(tiny.policy())
    settings = Generation(max_new_tokens=10)
    for prompt, stream, sample in zip(PROMPTS, STREAMS, one.generate(PROMPTS, STREAMS, settings), strict=True):
        tokens = list(one.stream(prompt, stream, settings))
        assert [token.id for token in tokens] == sample.response_ids
        assert tokens[-1].sample is not None
        same([tokens[-1].sample], [sample])
        assert all(token.sample is None for token in tokens[:-1])


def test_a_response_stops_with_its_stop_id_kept() -> None:
    samples = engine(tiny.policy()).generate(PROMPTS, STREAMS, Generation(max_new_tokens=20))
    for sample in samples:
        assert (sample.response_ids[-1] in STOPS) == (sample.finish == "stop")
        assert not set(sample.response_ids[:-1]) & set(STOPS.tolist())
        assert len(sample.response_ids) == 20 or sample.finish == "stop"


def test_by_default_the_tokenizers_eos_stops() -> None:
    assert LocalEngine(tiny.policy(), TOKENIZER).stops.tolist() == [TOKENIZER.eos_token_id]


def test_a_prompt_leaves_room_for_its_whole_answer() -> None:
    one = LocalEngine(tiny.policy("gpt2", context=12), TOKENIZER)
    one.stops = np.array([-1])
    samples = one.generate([[9] * 7, [9] * 3, [9]], STREAMS[:3], Generation(max_new_tokens=5))
    assert [len(sample.response_ids) for sample in samples] == [5, 5, 5]
    assert {sample.finish for sample in samples} == {"length"}
    for prompt in ([9] * 8, []):
        with pytest.raises(UserError, match=f"a prompt of {len(prompt)} tokens: 1 to 7 leave room for 5 more"):
            one.generate([prompt], STREAMS[:1], Generation(max_new_tokens=5))
    with pytest.raises(UserError, match="max_new_tokens 12 leaves no room for a prompt: the model reads 12 tokens"):
        one.stream([9], STREAMS[0], Generation(max_new_tokens=12))


def test_no_prompts_no_samples() -> None:
    assert engine(tiny.policy()).generate([], [], Generation()) == []


def test_a_prompt_is_computed_once_for_its_samples() -> None:
    model = tiny.policy()
    decoding.fastest(model)
    tokens = []
    model.model.embed_tokens.register_forward_hook(lambda _, __, out: tokens.append(out[..., 0].numel()))
    one = engine(model)
    prompt = [9, 10, 11, 12]
    samples = one.generate([prompt] * 18, (STREAMS * 3)[:18], Generation(max_new_tokens=8))
    assert tokens[0] == fast_decoder.PREFILL_ROUND  # 4, filled up
    assert len({tuple(sample.response_ids) for sample in samples}) > 1
    # every later step computes the rows still at work, and no others but to the next eighth
    at_work = [sum(len(sample.response_ids) > step for sample in samples) for step in range(1, 8)]
    assert tokens[1:] == [8 * -(-rows // 8) for rows in at_work if rows]


def test_the_cache_holds_the_rows_in_flight_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(local, "open_decoder", lambda *args: made.append(decoding.open_decoder(*args)) or made[-1])
    engine(tiny.policy()).generate(PROMPTS, STREAMS, Generation(max_new_tokens=8, max_rows=4))
    keys = made[0].cache.layers[0].keys
    longest = max(map(len, PROMPTS))
    assert keys.shape == (4, 2, 2 * (longest + 8), 8)  # they double once rows join late
    engine(tiny.policy()).generate(PROMPTS, STREAMS, Generation(max_new_tokens=8))
    assert made[1].cache.layers[0].keys.shape == (len(PROMPTS), 2, longest + 8, 8)


@pytest.mark.medium
@pytest.mark.parametrize("family", ["llama", "gpt2"])  # the fused decoder and the models' own forward
@pytest.mark.parametrize("max_rows", [3, 256])
def test_columns_come_as_answers_get_longer(monkeypatch: pytest.MonkeyPatch, family: str, max_rows: int) -> None:
    made, settings = [], Generation(max_new_tokens=40, max_rows=max_rows)
    monkeypatch.setattr(local, "open_decoder", lambda *args: made.append(decoding.open_decoder(*args)) or made[-1])
    whole = engine(tiny.policy(family)).generate(PROMPTS, STREAMS, settings)
    monkeypatch.setattr(cache, "FIRST", 2)
    monkeypatch.setattr(cache, "SLACK", 4)
    widths = []
    move = cache.RowLayer.move
    monkeypatch.setattr(
        cache.RowLayer, "move", lambda layer, by: widths.append(move(layer, by) or layer.timeline.columns)
    )
    same(engine(tiny.policy(family)).generate(PROMPTS, STREAMS, settings), whole)
    longest = max(map(len, PROMPTS))
    assert 2 * (longest + 2) in widths
    assert max(widths) <= longest + 40 + 4


@pytest.mark.medium
@TABLE
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("max_rows", [6, 8, 9])
def test_memory_that_nobody_wrote_is_not_read(
    monkeypatch: pytest.MonkeyPatch, family: str, max_rows: int, wide: int
) -> None:
    """Columns come while places are free, and rows into these places afterwards; then a longer row joins."""
    monkeypatch.setattr(fast_decoder, "WIDE", wide)
    monkeypatch.setattr(cache, "FIRST", 2)
    monkeypatch.setattr(cache, "SLACK", 4)
    many, streams = tiny.prompts(40, seed=5, longest=20), [Stream(3, 1, row) for row in range(40)]
    one, settings = engine(tiny.policy(family)), Generation(max_new_tokens=40, max_rows=max_rows)
    expected = one.generate(many, streams, settings)
    assert decoding.fastest(one.model) is not decoding.PlainDecoder
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape, **kind: empty(self, *shape, **kind).fill_(math.nan))
    same(one.generate(many, streams, settings), expected)
    rows, done = one.open(max_rows), {}
    for i in sorted(range(40), key=lambda i: len(many[i])):
        rows.add(many[i], streams[i], settings)
        done |= run(rows, steps=1)
    done |= run(rows)
    same([done[row] for row in sorted(done)], [expected[i] for i in sorted(range(40), key=lambda i: len(many[i]))])


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was_and_no_dropout_acts(training: bool) -> None:
    from heedful.models.dropout import set_dropout

    quiet, noisy = tiny.policy("gpt2"), set_dropout(tiny.policy("gpt2"), 0.5).train(training)
    settings = Generation(max_new_tokens=8)
    same(engine(noisy).generate(PROMPTS, STREAMS, settings), engine(quiet).generate(PROMPTS, STREAMS, settings))
    assert noisy.training == training
    for _ in engine(noisy).stream(PROMPTS[0], STREAMS[0], settings):
        assert noisy.training == training


def test_activation_checkpointing_does_not_disturb_sampling() -> None:
    model = tiny.policy()
    settings = Generation(max_new_tokens=8)
    expected = engine(model).generate(PROMPTS, STREAMS, settings)
    model.activation_checkpointing_enable()
    same(engine(model.train()).generate(PROMPTS, STREAMS, settings), expected)


def test_the_present_weights_are_used() -> None:
    model, other = tiny.policy(), tiny.policy(seed=1)
    one = engine(model)
    before = one.generate(PROMPTS, STREAMS, Generation(max_new_tokens=8))
    model.load_state_dict(other.state_dict())
    after = one.generate(PROMPTS, STREAMS, Generation(max_new_tokens=8))
    assert [s.response_ids for s in after] != [s.response_ids for s in before]
    same(after, engine(other).generate(PROMPTS, STREAMS, Generation(max_new_tokens=8)))


def test_samples_carry_no_graph_and_no_generator_state() -> None:
    state = torch.get_rng_state()
    engine(tiny.policy()).generate(PROMPTS, STREAMS, Generation(max_new_tokens=4))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    iterator = engine(tiny.policy()).stream(PROMPTS[0], STREAMS[0], Generation(max_new_tokens=4))
    next(iterator)
    assert torch.is_grad_enabled()


@pytest.mark.medium
def test_a_model_without_a_plain_cache_is_sampled_without_one(caplog: pytest.LogCaptureFixture) -> None:
    config = MambaConfig(
        vocab_size=tiny.VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.3
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    settings = Generation(max_new_tokens=6, max_rows=4)
    expected = [plain(model, prompt, stream, settings) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]
    same(engine(model).generate(PROMPTS, STREAMS, settings), expected)
    assert "MambaForCausalLM has no plain key-value cache" in caplog.text


@pytest.mark.parametrize("kind", [FastDecoder, decoding.CachedDecoder])
def test_a_pass_fills_rows_that_are_no_neighbours(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fast_decoder, decoding):
        monkeypatch.setattr(module, "PREFILL_TOKENS", 5)  # rows 0 and 2, row 3, rows 1 and 4
    prompts = [[5, 6, 7, 8, 9], [3, 4], [5, 6, 7, 8, 9], [9, 8, 7], [3, 4]]
    model = tiny.policy("llama").eval()
    seen = []
    for decoder in (kind(model, 5), decoding.PlainDecoder(model, 5)):
        seen.append(torch.stack([decoder.add(prompts, [2] * 5), decoder.step(torch.arange(20, 25))]))
    assert torch.allclose(*seen, atol=1e-5)


def test_a_cache_that_gives_other_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    original = cache.RowLayer.write
    monkeypatch.setattr(cache.RowLayer, "write", lambda self, k, v: original(self, k, v * 1.1))
    for family in ("llama", "gpt2"):
        assert decoding.fastest(tiny.policy(family)) is decoding.PlainDecoder


MIXED = [
    Generation(max_new_tokens=12, temperature=temperature, top_k=top_k, top_p=top_p)
    for temperature in (1.0, 0.0, 0.7) for top_k, top_p in ((0, 1.0), (5, 1.0), (0, 0.8), (9, 0.5))
]  # fmt: skip


@pytest.mark.medium
def test_rows_of_one_call_may_have_different_settings() -> None:
    one = engine(tiny.policy())
    settings = [one.model_copy(update={"max_new_tokens": 3 + i}) for i, one in enumerate(MIXED[: len(PROMPTS)])]
    alone = [one.generate([p], [s], own)[0] for p, s, own in zip(PROMPTS, STREAMS, settings, strict=True)]
    same(one.generate(PROMPTS, STREAMS, settings), alone)
    assert len({len(sample.response_ids) for sample in alone}) > 3


def run(rows: local.SamplingLoop, steps: int = 10**6) -> dict[int, Sample]:
    """The samples of the rows that end within so many steps."""
    done = {}
    while rows.busy and steps:
        done |= {token.row: token.sample for token in rows.step() if token.sample is not None}
        steps -= 1
    return done


@pytest.mark.medium
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_join_at_any_time_and_of_any_length(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Shortest first, one every other step, so that each joins beside shorter ones; then more after all have left."""
    monkeypatch.setattr(cache, "FIRST", 2)
    monkeypatch.setattr(cache, "SLACK", 4)
    one = engine(tiny.policy(family))
    order = sorted(range(len(PROMPTS)), key=lambda i: len(PROMPTS[i]))
    alone = [one.generate([PROMPTS[i]], [STREAMS[i]], MIXED[i])[0] for i in order]
    rows, done = one.open(max_rows=6), {}
    numbers = []
    for i in order:
        numbers.append(rows.add(PROMPTS[i], STREAMS[i], MIXED[i]))
        done |= run(rows, steps=2)
    done |= run(rows)
    same([done[number] for number in numbers], alone)
    assert rows.step() == []
    again = [rows.add(PROMPTS[i], STREAMS[i], MIXED[i]) for i in order[::-1]]
    done = run(rows)
    same([done[number] for number in again], alone[::-1])


def test_a_cancelled_row_leaves_and_disturbs_no_other() -> None:
    one, settings = engine(tiny.policy()), Generation(max_new_tokens=12)
    expected = one.generate(PROMPTS, STREAMS, settings)
    rows = one.open(max_rows=4)
    numbers = [rows.add(prompt, stream, settings) for prompt, stream in zip(PROMPTS, STREAMS, strict=True)]
    first = {token.row for token in rows.step()}
    assert first == set(numbers[:4])
    rows.cancel(numbers[1])  # in flight
    rows.cancel(numbers[6])  # waiting
    assert numbers[1] not in {token.row for token in rows.step()}
    done = run(rows)
    kept = [i for i in range(len(PROMPTS)) if i not in (1, 6)]
    assert sorted(done) == [numbers[i] for i in kept]
    same([done[numbers[i]] for i in kept], [expected[i] for i in kept])
    rows.cancel(numbers[0])  # done already
    assert not rows.busy


def test_other_threads_may_add_and_cancel_rows() -> None:
    """Four clients of one loop: each adds its rows, one after the other, and takes one back."""
    one, settings = engine(tiny.policy()), Generation(max_new_tokens=12)
    expected = one.generate(PROMPTS, STREAMS, settings)
    rows, added, failed = one.open(max_rows=5), {}, []

    def client(mine: range) -> None:
        try:
            for i in mine:
                rows.cancel(rows.add(PROMPTS[i], STREAMS[i], settings))
                added[rows.add(PROMPTS[i], STREAMS[i], settings)] = i
        except BaseException as error:
            failed.append(error)
            raise

    clients = [threading.Thread(target=client, args=(range(k, len(PROMPTS), 4),)) for k in range(4)]
    for thread in clients:
        thread.start()
    done: dict[int, Sample] = {}
    while any(thread.is_alive() for thread in clients) or rows.busy:
        done |= {token.row: token.sample for token in rows.step() if token.sample is not None}
    assert not failed
    kept = {added[row]: sample for row, sample in done.items() if row in added}
    same([kept[i] for i in range(len(PROMPTS))], expected)


@pytest.mark.parametrize("fast", [True, False])
def test_samples_say_which_weights_made_each_token(fast: bool) -> None:
    """Ten tokens with a cache: the first four from one model, the others from another one."""
    first, second = tiny.policy(), tiny.policy(seed=1)
    settings = Generation(max_new_tokens=10, temperature=0.0)
    one = LocalEngine(first, TOKENIZER, fast=fast)
    one.stops = np.array([-1])
    rows = one.open(max_rows=4)
    row = rows.add(PROMPTS[0], STREAMS[0], settings)
    begun = [token.id for _ in range(4) for token in rows.step()]
    one.load_weights(second, 7)
    late = rows.add(PROMPTS[1], STREAMS[1], settings)
    done = run(rows)
    assert done[row].versions == [(0, 0), (7, 4)]
    assert done[row].response_ids[:4] == begun
    assert done[late].versions == [(7, 0)]
    after = LocalEngine(second, TOKENIZER)
    after.stops = np.array([-1])
    same([done[late]], after.generate(PROMPTS[1:2], STREAMS[1:2], settings))
    assert done[row].response_ids != one.generate(PROMPTS[:1], STREAMS[:1], settings)[0].response_ids
    assert one.generate(PROMPTS[:1], STREAMS[:1], settings)[0].versions == [(7, 0)]


@pytest.mark.parametrize("family", FUSED)
def test_the_fast_decoder_and_the_models_own_forward_agree(family: str) -> None:
    """In every log-prob, to 1e-5; fast = false never opens the fast decoder."""
    model, settings = tiny.policy(family), Generation(max_new_tokens=16)
    quick, own = (open_engine(model, TOKENIZER, Compute(fast=fast)) for fast in (True, False))
    quick.stops = own.stops = STOPS
    one, other = (engine.generate(PROMPTS, STREAMS, settings) for engine in (quick, own))
    assert [sample.response_ids for sample in one] == [sample.response_ids for sample in other]
    for a, b in zip(one, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
    assert decoding.fastest(model, fast=False) is decoding.CachedDecoder
    assert decoding.fastest(model) is FastDecoder


def test_weights_that_are_too_large_to_copy_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose last layer has the hooks of packed rows, and has just computed some tokens only."""
    model, settings = load.place(tiny.policy(), "cpu", Compute()), Generation(max_new_tokens=8)
    expected = engine(model).generate(PROMPTS, STREAMS, settings)
    monkeypatch.setattr(fast_decoder, "COPIED_BYTES", 0)
    other = load.place(tiny.policy(), "cpu", Compute())
    scoring.response_logprobs(other, batches.collate(PROMPTS, PROMPTS, 1))
    assert decoding.fastest(other) is FastDecoder
    same(engine(other).generate(PROMPTS, STREAMS, settings), expected)


def test_a_hook_or_an_adapter_is_not_gone_around() -> None:
    model = tiny.policy()
    assert decoding.fastest(model) is FastDecoder
    heard = []
    hook = model.model.layers[1].mlp.register_forward_hook(lambda *_: heard.append(1))
    assert decoding.fastest(model) is decoding.CachedDecoder
    engine(model).generate(PROMPTS[:1], STREAMS[:1], Generation(max_new_tokens=2))
    assert heard
    hook.remove()
    assert decoding.fastest(model) is FastDecoder

    class Adapted(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    model.model.layers[0].self_attn.q_proj.__class__ = Adapted
    assert decoding.fastest(model) is decoding.CachedDecoder


@pytest.mark.parametrize(("dtype", "exact"), [("float32", True), ("bfloat16", False)])
def test_log_probs_of_samples_are_exact_in_float32_alone(dtype: str, exact: bool) -> None:
    assert open_engine(tiny.policy(), TOKENIZER, Compute(dtype=dtype)).exact == exact


@pytest.mark.parametrize("failing", ["add", "step"])
def test_no_row_is_lost_when_a_forward_pass_fails(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows wait again, and a later step gives each of them the tokens that it would have had."""
    one, settings = engine(tiny.policy()), Generation(max_new_tokens=12)
    expected = one.generate(PROMPTS, STREAMS, settings)
    rows = one.open(4)
    index_of = {rows.add(PROMPTS[i], STREAMS[i], settings): i for i in range(len(PROMPTS))}
    forward, calls = getattr(FastDecoder, failing), iter(range(1000))

    def fails(self: Any, *args: Any) -> Any:
        if next(calls) % 3 == 1:
            raise RuntimeError("out of memory")
        return forward(self, *args)

    monkeypatch.setattr(FastDecoder, failing, fails)
    found: dict[int, Sample] = {}
    failures = 0
    while rows.busy:
        try:
            found |= {index_of[token.row]: token.sample for token in rows.step() if token.sample is not None}
        except RuntimeError:
            failures += 1
    assert failures > 2
    same([found[i] for i in range(len(PROMPTS))], expected)


def test_a_model_in_eval_mode_is_not_walked_over_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.policy()
    one = engine(model)
    one.generate(PROMPTS, STREAMS, Generation(max_new_tokens=2))
    monkeypatch.setattr(type(model), "train", lambda *_: pytest.fail("walks over all modules"))
    one.generate(PROMPTS, STREAMS, Generation(max_new_tokens=8))
