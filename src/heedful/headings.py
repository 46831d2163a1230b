"""Headings in the help of a command."""

from __future__ import annotations

INPUT = "Input"
"""Of models and files."""
RUN = "Run"
"""Of what has nothing to do with the result: where it goes, how it is shown."""
REST = "Settings"
"""Of settings without another heading."""
