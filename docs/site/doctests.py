"""Examples in docstrings are shown as code; Markdown would take ``>>>`` for three quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> (?:.*\S.*\n?)+", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around every example of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Put a fence around every example: from its first prompt to the next empty line."""
    return EXAMPLE.sub(
        lambda found: f"{found[1]}```pycon\n{found[0].rstrip()}\n{found[1]}```\n", docstring
    )
