"""The command with which a model labels."""

from __future__ import annotations

from typing import Any

from heedful import terminal
from heedful.commands.base import AS_JSON, PEOPLE, command


@command("labeler", PEOPLE, AS_JSON, config="heedful.configs.labeler:LabelerConfig")
def _labeler(settings: Any, as_json: bool) -> None:
    """Let a model behind an address judge the items of a project, through the same API as people.

    A lead adds the model on the page People. Its token is in the environment variable HEEDFUL_TOKEN. The model reads
    the project's guide and rubric, and sees each item in both orders. It never counts as a person.
    """
    from heedful.endpoints import labeler

    terminal.show(settings.project, labeler.run(settings), as_json)
