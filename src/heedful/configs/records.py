"""The record of every command that has a config, for the help, reports and the app. Read them through `registry`."""

from __future__ import annotations

from heedful.configs.stage import ACCURACY, GROUPS, LOSSES, SAMPLED, ChartSpec, CommandRecord, Stage

COMMANDS: tuple[CommandRecord, ...] = (
    Stage(
        name="pretrain",
        help="Train a base model from scratch, with its own tokenizer.",
        config_name="heedful.configs.pretrain:PretrainConfig",
        function="heedful.stages.pretrain:train",
        details="With optimiser.lr = 0 the peak learning rate is 3e-3 at width 128, and falls with the square root of "
        "the width.\n\nWith the defaults a run takes hours on a CPU: 20 tokens for each of 3.4 million "
        "parameters. Lower `depth` and `tokens` for a shorter one.",
        place=10,
        heading="Pretraining",
        headline=("valid_loss",),
        charts=(ChartSpec("Pretraining loss", "nats a token", LOSSES),),
    ),
    Stage(
        name="sft",
        help="Fine-tune a model on demonstrations.",
        config_name="heedful.configs.sft:SFTConfig",
        function="heedful.stages.sft:train",
        details="The checkpoint with the lowest validation loss becomes model/. With `select_with` it is the one "
        "whose samples have the highest reward.",
        place=20,
        heading="Supervised fine-tuning",
        headline=("valid_loss",),
        charts=(
            ChartSpec("SFT loss", "nats a token", LOSSES),
            ChartSpec("Reward of samples", "score", {"valid_reward": "held out"}),
        ),
    ),
    Stage(
        name="reward",
        help="Train a reward model on rankings.",
        config_name="heedful.configs.reward:RewardConfig",
        function="heedful.stages.reward:train",
        details="Results: `rankings` and `pairs` in training. `all_tied`, rankings without a pair. `other_groups`, "
        "rankings of groups without a weight. `bias`, which gives the demonstrations a mean reward of 0. "
        "`valid`, the accuracy on held-out pairs.",
        place=30,
        heading="Reward model training",
        headline=("valid_accuracy",),
        charts=(ChartSpec("Ranking loss", "nats a pair", {"pair_loss": "training"}), ACCURACY),
        writes_text=False,
    ),
    Stage(
        name="ppo",
        help="Train a policy with PPO or PPO-ptx: more reward, with a KL penalty.",
        config_name="heedful.configs.ppo:PPOConfig",
        function="heedful.stages.ppo:train",
        details="Each iteration samples `rollout_batch` answers and learns from them. `rollout_batch` must be a "
        "multiple of `minibatch`. The run watches for signs of failure and names each sign with a remedy.",
        place=40,
        heading="PPO",
        headline=("score", "kl"),
        charts=(
            *SAMPLED,
            ChartSpec(
                "Loss on mixed-in text", "nats a token", {"ptx_loss": "loss"}, "The pretraining text of PPO-ptx."
            ),
            ChartSpec(
                "Value net",
                "explained variance",
                {"explained_variance": "explained"},
                "1 means that it foresees the return of every answer, 0 that it knows only their mean.",
            ),
        ),
        online=True,
    ),
    Stage(
        name="rloo",
        help="Train a policy with RLOO: the other answers to a prompt are the baseline.",
        config_name="heedful.configs.rloo:RLOOConfig",
        function="heedful.stages.rloo:train",
        place=50,
        heading="RLOO",
        headline=("score", "kl"),
        charts=(*SAMPLED, GROUPS),
        online=True,
    ),
    Stage(
        name="grpo",
        help="Train a policy with GRPO: PPO's loss, each answer compared with the others to its prompt.",
        config_name="heedful.configs.grpo:GRPOConfig",
        function="heedful.stages.grpo:train",
        place=60,
        heading="GRPO",
        headline=("score", "kl"),
        charts=(*SAMPLED, GROUPS),
        online=True,
    ),
    Stage(
        name="dpo",
        help="Train a policy on rankings with direct preference optimisation, a baseline.",
        config_name="heedful.configs.dpo:DPOConfig",
        function="heedful.stages.dpo:train",
        details="Every pair of a ranking counts, except ties. Each completion goes through the model once.",
        place=70,
        heading="DPO",
        headline=("valid_accuracy",),
        charts=(
            ChartSpec("DPO loss", "nats a pair", {"loss": "training", "valid_loss": "held out"}),
            ACCURACY,
        ),
    ),
    CommandRecord(
        name="best-of-n",
        help="Sample n answers to each prompt and keep the one with the best reward.",
        config_name="heedful.configs.best_of_n:BestOfNConfig",
        function="heedful.inference.best_of_n:run",
        details="Rows hold the best answer, its score in `scores`, and the scores of all n in `all_scores`. Results: "
        "the mean `score` of the best, `mean_score` of all, and `kl_bound`, ln n - (n - 1)/n nats. The bound "
        "limits the KL from the model for n independent samples. `without_choice` "
        "counts the prompts whose n answers have one score.",
    ),
    CommandRecord(
        name="sample",
        help="Sample K completions for each prompt.",
        config_name="heedful.configs.sample:SampleConfig",
        function="heedful.inference.sampling:run",
        details="Rows have the order of the prompts. They hold `completions`, `models`, `finish`, `token_ids` and "
        "every field of the prompt's row. A completion depends on the seed, its row and its number alone: -k "
        "2 gives the first two of -k 4. `--model https://HOST/v1#MODEL` asks an OpenAI-compatible endpoint, with the "
        "key in HEEDFUL_API_KEY. A text prompt is then one message of the user, and rows hold no `token_ids`.",
    ),
    CommandRecord(
        name="score",
        help="Score the answers in a file with a reward.",
        config_name="heedful.configs.score:ScoreConfig",
        function="heedful.inference.score:run",
        details="Rows keep their fields and get `scores`, a number for each answer. With several rewards "
        "`score_parts` holds the numbers of each. A reward model with the policy's tokenizer scores the "
        "sampled ids. Another one reads the text.",
    ),
)
