"""Every option of the training stages has a test that shows its effect; a new option without one fails here."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import tiny
from heedful.config import Config, UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.grpo import GRPOConfig
from heedful.configs.online import OnlineConfig
from heedful.configs.ppo import PPOConfig
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.rloo import RLOOConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import Checkpointing, Compute, Generation, Lora, Optimiser, StageConfig, TrainingCompute
from heedful.learning import examples, experience, likelihood, online
from heedful.learning.passes import Passes
from heedful.models import load, scoring
from heedful.runs.run import metrics
from heedful.stages import ppo, pretrain, reward, sft
from heedful.training import checkpoint, parallel
from heedful.training.parallel import Ranks
from stages import plain, worlds
from stages.worlds import Files

TESTS = Path(__file__).parents[1]
CHATS = "stages/test_chats.py::"
HERE = "stages/test_options.py::"
SFT, REWARD, PRETRAIN, PPO, EXPERIENCE, UPDATE = (
    f"stages/test_{name}.py::" for name in ("sft", "reward", "pretrain", "ppo", "ppo_experience", "ppo_update")
)
SAVING = "stages/test_saving.py::"
LORA = "stages/test_lora.py::"
FOLDS = "stages/test_reward_folds.py::"
PREFLIGHT = "stages/test_preflight.py::"
WATCH = "stages/test_watch.py::"
HTTP = "rollout/test_http.py::"
GROUPS = "stages/test_groups.py::"
AHEAD = "stages/test_ahead.py::"
LIMITS = HERE + "test_what_is_too_long"
EFFECTS: dict[type[Config], dict[str, str]] = {
    PretrainConfig: {
        "data": PRETRAIN + "test_one_text_is_trained_on",
        "valid_data": PRETRAIN + "test_validation_texts_of_their_own",
        "seed": PRETRAIN + "test_the_seed_sets_the_weights",
        "depth": PRETRAIN + "test_the_dial",
        "vocab_size": HERE + "test_the_vocabulary_is_as_large_as_asked",
        "model": PRETRAIN + "test_a_model_trained_further_begins_where_it_was",
        "width": PRETRAIN + "test_a_width_of_its_own",
        "chat_template": "stages/test_pretrain.py::test_the_tokenizer_gets_the_chat_template",
        "context": PRETRAIN + "test_the_dial",
        "tokens": PRETRAIN + "test_tokens_and_batches_make_steps",
        "batch_tokens": PRETRAIN + "test_tokens_and_batches_make_steps",
        "optimiser": PRETRAIN + "test_the_rate_falls_with_the_width",
        "compute": PRETRAIN + "test_micro_batches_change_nothing",
        "save_dtype": SAVING + "test_the_output_has_the_precision_of_the_input_unless_save_dtype_says_otherwise",
        "checkpoint": HERE + "test_when_checkpoints_are_made",
    },
    SFTConfig: {
        "model": SFT + "test_dropout_works_in_training_and_not_in_validation",
        "data": SFT + "test_nothing_to_train_or_to_validate_on",
        "valid_data": SFT + "test_the_loss_is_the_mean_over_response_tokens_and_eos",
        "valid_fraction": SFT + "test_nothing_to_train_or_to_validate_on",
        "pretrain_data": HERE + "test_texts_are_mixed_in_where_they_are_given",
        "pretrain_fraction": SFT + "test_texts_have_their_weight_and_their_share",
        "select_with": SFT + "test_a_reward_can_pick_the_checkpoint",
        "prompts": SFT + "test_a_reward_can_pick_the_checkpoint",
        "select_samples": SFT + "test_select_samples_is_how_many_prompts_are_answered_and_generation_says_how",
        "seed": HERE + "test_the_seed_changes_what_is_drawn",
        "epochs": SFT + "test_every_demonstration_is_seen_once_an_epoch",
        "batch": SFT + "test_every_demonstration_is_seen_once_an_epoch",
        "evaluations": HERE + "test_how_often_it_validates",
        "preflight": PREFLIGHT + "test_preflight_of_offline_stages_stops_before_the_first_step",
        "dropout": SFT + "test_dropout_works_in_training_and_not_in_validation",
        "max_prompt_tokens": LIMITS,
        "max_response_tokens": SFT + "test_the_loss_is_the_mean_over_response_tokens_and_eos",
        "skip_long": LIMITS,
        "trust_remote_code": HERE + "test_remote_code_is_off_unless_asked_for",
        "template": CHATS + "test_arguments_of_the_template_are_used_and_saved",
        "refused_rows": "inference/test_sample.py::test_rows_that_the_template_refuses",
        "special_text": CHATS + "test_a_row_that_spells_a_special_token_can_be_refused",
        "special_tokens": SFT + "test_special_tokens_are_learned_and_seen_by_rewards",
        "turns": CHATS + "test_all_answers_of_a_chat_share_one_pass",
        "optimiser": HERE + "test_sections_of_the_optimiser_are_used",
        "generation": SFT + "test_select_samples_is_how_many_prompts_are_answered_and_generation_says_how",
        "compute": SFT + "test_micro_batches_and_recomputed_activations_change_nothing",
        "save_dtype": SAVING + "test_the_output_has_the_precision_of_the_input_unless_save_dtype_says_otherwise",
        "checkpoint": HERE + "test_when_checkpoints_are_made",
    },
    RewardConfig: {
        "model": REWARD + "test_without_demonstrations_the_bias_stays",
        "data": REWARD + "test_it_learns_what_labelers_prefer",
        "eval_data": REWARD + "test_loss_accuracy_and_gradient_by_hand",
        "valid_fraction": REWARD + "test_all_tied_rankings_are_counted_skipped_and_reported",
        "demonstrations": REWARD + "test_without_demonstrations_the_bias_stays",
        "groups": REWARD + "test_groups_weigh_their_rankings",
        "preflight": PREFLIGHT + "test_preflight_of_offline_stages_stops_before_the_first_step",
        "members": FOLDS + "test_members_share_what_is_held_out_and_make_an_ensemble",
        **dict.fromkeys(("folds", "fold_seeds"), FOLDS + "test_folds_and_fold_seeds_train_and_resume"),
        "seed": HERE + "test_the_seed_changes_what_is_drawn",
        "epochs": HERE + "test_epochs_and_batches_make_steps",
        "batch": HERE + "test_epochs_and_batches_make_steps",
        "normaliser": REWARD + "test_loss_accuracy_and_gradient_by_hand",
        "evaluations": HERE + "test_how_often_it_validates",
        "max_prompt_tokens": LIMITS,
        "max_response_tokens": HERE + "test_long_completions_are_cut",
        "skip_long": LIMITS,
        "trust_remote_code": HERE + "test_remote_code_is_off_unless_asked_for",
        "template": CHATS + "test_arguments_of_the_template_are_used_and_saved",
        "refused_rows": "inference/test_sample.py::test_rows_that_the_template_refuses",
        "special_text": CHATS + "test_a_row_that_spells_a_special_token_can_be_refused",
        "optimiser": HERE + "test_sections_of_the_optimiser_are_used",
        "compute": REWARD + "test_micro_batches_and_recomputed_activations_change_nothing",
        "save_dtype": SAVING + "test_the_output_has_the_precision_of_the_input_unless_save_dtype_says_otherwise",
        "checkpoint": HERE + "test_when_checkpoints_are_made",
    },
    PPOConfig: {
        "policy": EXPERIENCE + "test_dropout_is_off_in_all_four_networks",
        "reference": "stages/test_reference.py::test_the_kl_is_measured_from_the_named_reference",
        "reward": PPO + "test_a_reward_is_a_weighted_sum_whose_parts_are_logged",
        "prompts": LIMITS,
        "value": EXPERIENCE + "test_a_value_net_given_by_name",
        "pretrain_data": PPO + "test_without_pretraining_data_there_is_no_pretraining_gradient",
        "tax_data": HERE + "test_the_tax_is_the_loss_on_held_out_texts",
        "seed": HERE + "test_the_seed_changes_what_is_drawn",
        "episodes": HERE + "test_epochs_and_batches_make_steps",
        "rollout_batch": HERE + "test_epochs_and_batches_make_steps",
        "minibatch": UPDATE + "test_every_epoch_passes_once_over_the_episodes",
        "epochs": UPDATE + "test_every_epoch_passes_once_over_the_episodes",
        "ahead": AHEAD + "test_answers_come_from_the_weights_before_while_the_policy_learns",
        **dict.fromkeys(("correction", "correction_cap"), AHEAD + "test_advantages_are_weighted_by_the_correction"),
        "kl_coef": HERE + "test_the_first_coefficient",
        "kl_target": PPO + "test_the_next_coefficient",
        "kl_horizon": PPO + "test_the_next_coefficient",
        "kl_ceiling": PPO + "test_passing_the_ceiling_stops_the_run_for_good",
        "at_ceiling": PPO + "test_above_the_ceiling_the_coefficient_grows",
        "preflight": PREFLIGHT + "test_preflight_warns_stops_or_is_off",
        "peak_from": PREFLIGHT + "test_a_kl_budget_past_the_peak_of_an_earlier_run",
        "watch": WATCH + "test_watched_rewards_are_logged_and_change_nothing",
        **dict.fromkeys(("watch_every", "watch_prompts"), WATCH + "test_when_and_on_how_many_prompts_it_measures"),
        "on_alarm": WATCH + "test_the_alarm_warns_or_stops_with_the_best_checkpoint",
        "gamma": EXPERIENCE + "test_advantages_by_hand",
        "lam": EXPERIENCE + "test_advantages_by_hand",
        "clip": UPDATE + "test_clipping",
        "value_clip": UPDATE + "test_clipping",
        "whiten_rewards": EXPERIENCE + "test_advantages_by_hand",
        "missing_eos_penalty": EXPERIENCE + "test_a_missing_eos_replaces_the_score",
        "ptx_coef": UPDATE + "test_the_pretraining_gradient_is_coef_times_that_of_the_mean_loss",
        "ptx_ratio": UPDATE + "test_the_pretraining_gradient_is_coef_times_that_of_the_mean_loss",
        "ptx_tokens": HERE + "test_pretraining_texts_are_cut_where_asked",
        "ema_decay": PPO + "test_no_averaging_gives_the_raw_weights",
        "max_prompt_tokens": LIMITS,
        "skip_long": LIMITS,
        "trust_remote_code": HERE + "test_remote_code_is_off_unless_asked_for",
        "template": CHATS + "test_arguments_of_the_template_are_used_and_saved",
        "refused_rows": "inference/test_sample.py::test_rows_that_the_template_refuses",
        "special_text": CHATS + "test_a_row_that_spells_a_special_token_can_be_refused",
        "optimiser": HERE + "test_policy_and_value_net_have_their_own_rates",
        "value_optimiser": HERE + "test_policy_and_value_net_have_their_own_rates",
        "generation": EXPERIENCE + "test_the_temperature_is_in_sampling_and_scoring_alike",
        "compute": PPO + "test_micro_batches_and_recomputed_activations_change_nothing",
        "save_dtype": SAVING + "test_the_output_has_the_precision_of_the_input_unless_save_dtype_says_otherwise",
        "checkpoint": HERE + "test_when_checkpoints_are_made",
    },
    RLOOConfig: {},
    GRPOConfig: {
        "scale_rewards": GROUPS + "test_advantages_by_hand",
        "loss_type": GROUPS + "test_the_first_gradients_from_first_principles",
    },
    Optimiser: {
        **dict.fromkeys(("lr", "schedule", "warmup"), "training/test_optimiser.py::test_rates"),
        "decay": "training/test_optimiser.py::test_the_share_of_the_steps_in_which_a_stable_rate_falls",
        **dict.fromkeys(("beta1", "beta2"), "training/test_optimiser.py::test_two_steps_by_hand"),
        "eps": "training/test_optimiser.py::test_adam_by_hand",
        "weight_decay": "training/test_optimiser.py::test_decay_pulls_matrices_and_spares_vectors",
        "clip_norm": "training/test_optimiser.py::test_the_norm_is_that_before_clipping_and_clipping_scales",
    },
    TrainingCompute: {
        "device": HERE + "test_the_device",
        "dtype": REWARD + "test_low_precision_scores_stay_close",
        "micro_tokens": HERE + "test_a_pass_has_at_most_micro_tokens",
        "activation_checkpointing": HERE + "test_compute_says_how_forwards_run",
        "shard": "stages/test_shards.py::test_sft_in_shards_is_sft",
        "compile": "fast/test_extras.py::test_compiled_layers_learn_the_same",
        "liger": "fast/test_extras.py::test_ligers_kernels_are_in_this_model_alone",
        "fast": "fast/test_forward.py::test_fast_false_is_transformers_own_padded_forward",
    },
    Checkpointing: dict.fromkeys(("every", "keep"), HERE + "test_when_checkpoints_are_made"),
    Generation: {
        "max_new_tokens": SFT + "test_select_samples_is_how_many_prompts_are_answered_and_generation_says_how",
        "temperature": EXPERIENCE + "test_the_temperature_is_in_sampling_and_scoring_alike",
        "top_p": PPO + "test_what_cannot_be_is_one_line_and_leaves_nothing",
        "top_k": PPO + "test_what_cannot_be_is_one_line_and_leaves_nothing",
        "max_rows": "learning/test_rollouts.py::test_row_r_gets_stream_r_in_the_order_of_the_questions",
    },
}
for _cls in EFFECTS:
    if issubclass(_cls, StageConfig):
        EFFECTS[_cls]["trackers"] = "training/test_trackers.py::test_a_stage_sends_its_metrics_to_its_trackers"
    if "engine" in _cls.model_fields:
        EFFECTS[_cls]["engine"] = "stages/test_engines.py::test_ppo_samples_from_servers_and_reports_the_gap"
    if "lora" in _cls.model_fields:
        EFFECTS[_cls]["lora"] = LORA + "test_a_run_with_lora_leaves_a_plain_model_and_checkpoints_of_what_is_trained"
EFFECTS[EngineConfig] = {
    "kind": HTTP + "test_samples_are_those_of_the_servers_in_the_order_of_the_prompts",
    "urls": HTTP + "test_what_cannot_work_is_refused_in_one_line",
    "sync": HTTP + "test_adapters_are_sent_alone",
    "shared_dir": HTTP + "test_new_weights_are_loaded_by_all_and_samples_say_which_they_had",
    "timeout": HTTP + "test_the_rows_of_a_lost_server_go_to_the_other",
    "tolerance": HTTP + "test_a_server_with_other_weights_is_refused_with_both_figures",
    "sleep": HTTP + "test_servers_sleep_while_the_policy_learns",
}
EFFECTS[Lora] = {
    "rank": LORA + "test_without_matrices_the_manifest_says_so",
    **dict.fromkeys(("alpha", "targets"), LORA + "test_alpha_and_targets_are_those_of_the_paper"),
    "load_in_4bit": "stages/test_qlora.py::test_layers_of_the_body_are_those_of_the_paper_and_the_rest_is_as_it_was",
    "save": LORA + "test_an_adapter_alone_loads_on_its_own_base_and_on_no_other",
}
# What all three share is one code; what a stage has to pass on is tested with the stage.
GROUP_EFFECTS = {
    **{field: EFFECTS[PPOConfig][field] for field in OnlineConfig.model_fields},
    "samples_per_prompt": GROUPS + "test_a_prompt_has_k_answers_side_by_side",
    **dict.fromkeys(("kl_in", "kl_coef"), GROUPS + "test_advantages_by_hand"),
    "seed": GROUPS + "test_the_seed_and_the_temperature_are_passed_on",
    "generation": GROUPS + "test_the_seed_and_the_temperature_are_passed_on",
    "clip": GROUPS + "test_a_tight_clip_cuts",
    "missing_eos_penalty": GROUPS + "test_a_missing_eos_penalty_replaces_the_score",
    **dict.fromkeys(("reward", "rollout_batch", "minibatch", "optimiser"), GROUPS + "test_it_learns_what_is_rewarded"),
    "epochs": GROUPS + "test_every_epoch_is_another_pass",
    "pretrain_data": GROUPS + "test_every_epoch_is_another_pass",
    **dict.fromkeys(("ema_decay", "kl_ceiling"), GROUPS + "test_the_average_and_the_ceiling"),
}
for _cls in (RLOOConfig, GRPOConfig):
    EFFECTS[_cls] |= GROUP_EFFECTS


@pytest.mark.medium
def test_every_field_has_a_test_that_names_it() -> None:
    files = {place.partition("::")[0] for places in EFFECTS.values() for place in places.values()}
    tests = {
        f"{file}::{node.name}": "\n".join(map(ast.unparse, (*node.decorator_list, node)))
        for file in files
        for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    for cls, places in EFFECTS.items():
        assert set(places) == set(cls.model_fields), f"{cls.__name__}: every field needs a test of its effect, once"
        for field, place in places.items():
            assert place in tests, f"{cls.__name__}.{field}: {place} is no test"
            assert field in tests[place], f"{cls.__name__}.{field}: {place} does not mention it"


def test_the_vocabulary_is_as_large_as_asked(files: Files) -> None:
    texts, _ = pretrain._texts(worlds.config("pretrain", files))
    assert [len(pretrain.new_tokenizer(texts, vocab_size, 16)) for vocab_size in (270, 300)] == [270, 300]
    with pytest.raises(ValidationError, match="vocab_size"):  # 256 bytes and two marks need their ids
        PretrainConfig(data="x", vocab_size=200)


@pytest.mark.medium
def test_when_checkpoints_are_made(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps of four documents of sixteen tokens."""
    monkeypatch.setattr(examples, "document_rows", lambda *_: [examples.Example([5], [6] * 15)] * 40)
    kept = []
    for every, keep in ((0, 9), (2, 9), (2, 1), (5, 9)):
        checkpoint = {"every": every, "keep": keep}
        run = worlds.train("pretrain", files, tmp_path / f"{every}-{keep}", tokens=320, checkpoint=checkpoint)
        kept.append([int(path.name[-2:]) for path in sorted((run / "checkpoints").iterdir())])
    assert kept == [[1, 2, 3, 4, 5], [2, 4, 5], [5], [5]]


def test_texts_are_mixed_in_where_they_are_given(files: Files) -> None:
    tokenizer = tiny.tokenizer()
    config = worlds.config("sft", files, batch=32)
    rows = examples.documents(config.pretrain_data, tokenizer, 20)
    assert max(map(len, rows)) == 20
    assert len(sft._mixed_in(config, rows, 0)) == 4  # 32 and 4: a tenth or so
    assert sft._mixed_in(config, rows, 0) != sft._mixed_in(config, rows, 1)
    assert sft._mixed_in(config, [], 0) == []


@pytest.mark.slow
def test_the_seed_changes_what_is_drawn(files: Files, tmp_path: Path) -> None:
    for stage, changes in (
        ("sft", {"epochs": 1, "pretrain_data": None}),
        ("reward", {"epochs": 1}),
        ("ppo", {"episodes": 8, "pretrain_data": None}),
    ):
        first, other = (
            metrics(worlds.train(stage, files, tmp_path / f"{stage}{seed}", seed=seed, **changes)) for seed in (0, 1)
        )
        assert first != other


def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages without their arithmetic: only the loop runs."""
    for stage in (sft, reward):
        monkeypatch.setattr(stage, "_gradients", lambda *_: {"loss": 1.0})
        monkeypatch.setattr(stage.optim, "step", lambda *_: 1.0)


@pytest.mark.medium
@pytest.mark.parametrize(("epochs", "batch", "steps"), [(1, 4, 5), (2, 4, 10), (2, 7, 6), (1, 100, 1)])
def test_epochs_and_batches_make_steps(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, batch: int, steps: int
) -> None:
    counted(monkeypatch)
    data = worlds.write(tmp_path / "data.jsonl", worlds.rankings(20))
    run = worlds.train(
        "reward", files, tmp_path / "run", data=data, eval_data=data, epochs=epochs, batch=batch, demonstrations=None
    )
    assert len(metrics(run)) == steps
    seen = []

    def iteration(config: Any, nets: Any, run: Any, step: int) -> Any:
        seen.append(step)
        return {
            "kl": 0.0,
            "ratio": 1.0,
            "ratio_max": 1.0,
            "clipfrac": 0.1,
            "entropy": 1.0,
            "finished": 1.0,
            "score": 0,
        }, None

    monkeypatch.setattr(ppo, "iteration", iteration)
    monkeypatch.setattr(experience, "readable", lambda *_: [])
    worlds.train(
        "ppo",
        files,
        tmp_path / "ppo",
        episodes=epochs * 20,
        rollout_batch=batch,
        minibatch=batch,
        checkpoint={"every": 99},
    )
    assert len(seen) == max(1, epochs * 20 // batch)


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["sft", "reward"])
@pytest.mark.parametrize(("evaluations", "at"), [(0, [2, 5]), (1, [5]), (3, [1, 3, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_how_often_it_validates(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, evaluations: int, at: list[int]
) -> None:
    """Six steps in two epochs."""
    counted(monkeypatch)
    if stage == "reward" and evaluations == 0:
        with pytest.raises(UserError, match="'evaluations': must be at least 1"):
            worlds.config(stage, files, evaluations=0)
        return
    data, sort = (
        worlds.rankings(24) if stage == "reward" else worlds.demonstrations(24),
        "eval" if stage == "reward" else "valid",
    )
    path = worlds.write(tmp_path / "data.jsonl", data)
    changes = {"data": path, f"{sort}_data": path, "batch": 8, "epochs": 2, "evaluations": evaluations}
    changes |= {"demonstrations": None} if stage == "reward" else {"pretrain_data": None}
    logged = metrics(worlds.train(stage, files, tmp_path / "run", **changes))
    assert len(logged) == 6
    assert [row["step"] for row in logged if "valid_loss" in row or "valid_accuracy" in row] == at


@pytest.mark.medium
@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_what_is_too_long(files: Files, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    role = "prompts" if stage == "ppo" else "data"
    longest = max(
        len(examples.render.prompt_ids(tiny.tokenizer(), row.prompt))
        for row in examples.formats.read(getattr(worlds.config(stage, files), role), examples.Prompt)
    )
    changes: dict[str, Any] = {"max_prompt_tokens": longest - 1}
    with pytest.raises(UserError, match=f"the most here is {longest - 1} "):
        worlds.train(stage, files, tmp_path / "run", **changes)
    reached: list[int] = []

    def stop(read: Any) -> Any:
        def then(*args: Any, **kwargs: Any) -> Any:
            rows = read(*args, **kwargs)
            reached.append(len(rows))
            raise KeyboardInterrupt

        return then

    name = {"sft": "demonstrations", "reward": "rankings", "ppo": "questions"}[stage]
    monkeypatch.setattr(examples, name, stop(getattr(examples, name)))
    for skip_long, most in ((True, longest - 1), (False, longest)):
        with pytest.raises(KeyboardInterrupt):
            worlds.train(stage, files, tmp_path / "run", max_prompt_tokens=most, skip_long=skip_long)
    assert 0 < reached[0] < reached[1]


@pytest.mark.medium
def test_long_completions_are_cut(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    monkeypatch.setattr(
        examples, "divided_rankings", lambda config, tokenizer, found, say: limits.append(found) or 1 / 0
    )
    for most in (1024, 5):
        with pytest.raises(ZeroDivisionError):
            worlds.train("reward", files, files.root / "never", max_response_tokens=most)
    assert [found.response for found in limits] == [1024, 5]
    rows = examples.rankings(files.rankings, tiny.tokenizer(), limits[1])
    assert max(len(response) for row in rows for response in row.responses) == 5


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_remote_code_is_off_unless_asked_for(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust_remote_code: bool
) -> None:
    asked = []

    def refuse(kind: Any, ref: Any, dtype: Any, trusted: bool, shards: Any) -> Any:
        asked.append(trusted)
        raise UserError("no")

    monkeypatch.setattr(load, "_load", refuse)
    for stage in ("sft", "reward", "ppo"):
        changes = {"trust_remote_code": True} if trust_remote_code else {}
        with pytest.raises(UserError, match="no"):
            worlds.train(stage, files, tmp_path / "run", **changes)
    assert asked == [trust_remote_code] * 3


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_sections_of_the_optimiser_are_used(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    used = []
    monkeypatch.setattr({"sft": sft, "reward": reward}[stage], "_gradients", lambda *_: {"loss": 1.0})
    step = sft.optim.step
    monkeypatch.setattr(sft.optim, "step", lambda *a: used.append((a[1].defaults, a[2], a[3])) or 1.0)
    optimiser = {"lr": 0.5, "schedule": "linear", "beta1": 0.1, "beta2": 0.2, "eps": 0.3, "clip_norm": 0.7}
    worlds.train(stage, files, tmp_path / "run", optimiser=optimiser, epochs=1, batch=6)
    assert used[0][0]["betas"] == (0.1, 0.2)
    assert used[0][0]["eps"] == 0.3
    assert used[0][1].clip_norm == 0.7
    assert [rate for *_, rate in used] == pytest.approx([0.5 * (1 - i / len(used)) for i in range(len(used))])
    assert step is not sft.optim.step


@pytest.mark.medium
def test_policy_and_value_net_have_their_own_rates(files: Files, tmp_path: Path) -> None:
    moved = {}
    for name, changes in {
        "optimiser": {"optimiser": {"lr": 1e-3}, "value_optimiser": {"lr": 0.0}},
        "value_optimiser": {"optimiser": {"lr": 0.0}, "value_optimiser": {"lr": 1e-3}},
    }.items():
        run = worlds.train("ppo", files, tmp_path / name, episodes=8, pretrain_data=None, **changes)
        step = run / "checkpoints" / "step-00000001"
        moved[name] = [
            max(
                float((worlds.load_file(step / f"{part}.safetensors")[key] - weight).abs().max())
                for key, weight in start
            )
            for part, start in (
                ("policy", tiny.policy().requires_grad_(False).named_parameters()),
                ("value", tiny.reward(seed=1).requires_grad_(False).named_parameters()),
            )
        ]
    assert moved["optimiser"][0] > 1e-4 > moved["optimiser"][1] == 0
    assert moved["value_optimiser"][1] > 1e-4 > moved["value_optimiser"][0] == 0


@pytest.mark.medium
def test_the_first_coefficient(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(ppo, "iteration", lambda *a: seen.append(a[2].kl_coef) or 1 / 0)
    for kl_coef in (0.0, 0.3):
        with pytest.raises(ZeroDivisionError):
            worlds.train("ppo", files, tmp_path / "run", kl_coef=kl_coef)
    assert seen == [0.0, 0.3]


def test_pretraining_texts_are_cut_where_asked(files: Files) -> None:
    class Nets:
        policy, tokenizer = tiny.policy(context=48), tiny.tokenizer()

    longest = []
    for ptx_tokens in (8, 48, 2048):
        config = worlds.config("ppo", files, ptx_tokens=ptx_tokens)
        texts = online.texts_of(config.pretrain_data, Nets, config.ptx_tokens)  # type: ignore[arg-type]
        assert texts == plain.pieces(tiny.tokenizer(), worlds.texts(files), min(ptx_tokens, 48))
        longest.append(max(map(len, texts)))
    assert longest == [8, 48, 48]


@pytest.mark.medium
def test_the_tax_is_that_of_the_averaged_weights(files: Files, tmp_path: Path) -> None:
    """Those of model/: an average that hardly moves keeps the loss of the start, whatever the policy learns."""
    with torch.no_grad():
        start = plain.mean_response_loss(tiny.policy(), plain.pieces(tiny.tokenizer(), worlds.texts(files), 16)).item()
    changes = {"episodes": 16, "tax_data": files.texts, "pretrain_data": None, "optimiser": {"lr": 0.05, "warmup": 0}}
    for decay, apart in ((0.999_999_9, 0.0), (0.0, 0.1)):
        logged = metrics(worlds.train("ppo", files, tmp_path / f"{decay}", ema_decay=decay, **changes))
        moved = abs(logged[-1]["corpus_loss"] - start)
        assert moved > apart if apart else moved < 1e-4


@pytest.mark.medium
def test_the_tax_is_the_loss_on_held_out_texts(files: Files, tmp_path: Path) -> None:
    changes = {"episodes": 24, "tax_data": files.texts, "checkpoint": {"every": 2}, "optimiser": {"lr": 0.0}}
    logged = metrics(worlds.train("ppo", files, tmp_path / "run", pretrain_data=None, **changes))
    assert ["corpus_loss" in row for row in logged] == [False, True, True]
    with torch.no_grad():
        rows = plain.pieces(tiny.tokenizer(), worlds.texts(files), 16)
        loss = plain.mean_response_loss(tiny.policy(), rows).item()
    assert logged[1]["corpus_loss"] == logged[2]["corpus_loss"] == pytest.approx(loss, abs=1e-4)


def test_the_device(files: Files) -> None:
    assert parallel.join_ranks(Compute(device="cpu")).device == torch.device("cpu")
    found = parallel.join_ranks(Compute(device="auto")).device.type
    assert found == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"torch sees no GPU here\. Use 'cpu' or 'auto'"):
            parallel.join_ranks(Compute(device="cuda"))


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    places = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"process 2 .* has no GPU of its own, since torch sees 1"):
        parallel.join_ranks(Compute())


@pytest.mark.parametrize("micro_tokens", [1, 60, 10_000])
def test_a_pass_has_at_most_micro_tokens(files: Files, monkeypatch: pytest.MonkeyPatch, micro_tokens: int) -> None:
    sizes: list[int] = []
    loss = scoring.response_loss
    monkeypatch.setattr(
        scoring, "response_loss", lambda model, batch: sizes.append(int(batch.lengths_B.sum())) or loss(model, batch)
    )
    rows = [
        example
        for _, example in examples.demonstrations(files.demos, tiny.tokenizer(), examples.TokenLimits(128, 128, 128))
    ]
    world = Ranks(0, 1, torch.device("cpu"), torch.float32)
    likelihood.mean_loss(tiny.policy(), rows, Passes(1, micro_tokens, world))
    longest = max(map(len, rows))
    assert max(sizes) <= max(longest, micro_tokens)
    assert (len(sizes) == len(rows)) is (micro_tokens == 1)
    assert (len(sizes) < 4) is (micro_tokens == 10_000)


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "ppo"])
@pytest.mark.parametrize("value", [False, True])
def test_compute_says_how_forwards_run(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, value: bool
) -> None:
    """`fast` reaches every model of a stage, `activation_checkpointing` every one that is trained."""
    placed, place = [], load.place

    def note(model: Any, device: Any, compute: Compute, **how: bool) -> Any:
        placed.append((compute, how.get("trained", False)))
        return place(model, device, compute, **how)

    monkeypatch.setattr(load, "place", note)
    monkeypatch.setattr(checkpoint, "latest", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worlds.train(stage, files, tmp_path / "run", compute={"activation_checkpointing": value, "fast": value})
    assert {(compute.fast, compute.activation_checkpointing) for compute, _ in placed} == {(value, value)}
    assert sum(trained for _, trained in placed) == (2 if stage == "ppo" else 1)


@pytest.mark.parametrize(("asked", "trained"), [(True, True), (True, False), (False, True)])
def test_recomputation_is_switched_on_for_models_in_training(asked: bool, trained: bool) -> None:
    model = load.place(tiny.policy(), "cpu", TrainingCompute(activation_checkpointing=asked), trained=trained)
    found = any(vars(module).get("gradient_checkpointing") for module in model.modules())
    assert found == (asked and trained)
