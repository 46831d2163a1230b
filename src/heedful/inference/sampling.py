"""`heedful sample`: from a model on this machine, or from one behind an address. Importing this needs no torch."""

from __future__ import annotations

from pathlib import Path

from heedful.config import UserError
from heedful.configs.endpoint import EndpointConfig
from heedful.configs.sample import SampleConfig
from heedful.endpoints import client
from heedful.endpoints import sample as from_endpoint


def run(config: SampleConfig, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Write a row of K completions for each prompt, in the order of the prompts. Returns `out`."""
    if client.is_address(config.model):
        return from_endpoint.run(config, out, resume=resume, overwrite=overwrite)
    if config.endpoint != EndpointConfig():
        raise UserError(f"{config.model}: the settings of 'endpoint' are for models given as URL#MODEL. Leave them out")
    from heedful.inference import sample

    return sample.run(config, out, resume=resume, overwrite=overwrite)
