"""Loads the models that this process samples from."""

from __future__ import annotations

import gc

import torch
from transformers import PreTrainedTokenizerBase

from heedful.configs.serve import ServeConfig
from heedful.fast.api import fastest
from heedful.models.devices import device_of
from heedful.rollout.engine import load_engine
from heedful.rollout.local import LocalEngine


class Loading:
    """Loads a run, a directory or a hub name with the settings of a server.

    What is there after it stays, so the garbage collector leaves it alone from then on. Otherwise it would walk over
    all of torch and transformers every few hundred requests, and no answer would go on for 0.3 seconds.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.device = device_of(config.compute)

    def __call__(self, ref: str) -> tuple[LocalEngine, PreTrainedTokenizerBase]:
        config = self.config
        gc.unfreeze()  # the model before may go
        with torch.random.fork_rng():  # loading may draw, and nothing here may depend on it
            engine, tokenizer = load_engine(
                ref,
                config.compute,
                self.device,
                trust_remote_code=config.trust_remote_code,
                template=config.template,
            )
        fastest(engine.model, engine.fast)  # tried now, not with the first request
        gc.collect()
        gc.freeze()
        return engine, tokenizer
