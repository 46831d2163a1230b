"""`python -m heedful` and `torchrun ... -m heedful` are the command `heedful`."""

from __future__ import annotations

from heedful.cli import main

main()
