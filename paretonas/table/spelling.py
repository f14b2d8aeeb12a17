"""Which spellings mean the same: blanks that nobody sees, numbers that are equal, true and TRUE."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_JOINERS = re.compile("[\u034f\ufe00-\ufe0f]")  # further signs that nobody sees


def tidy(text: str) -> str:
    r"""Text without blanks at its ends, one plain blank between words, and accents composed (NFC).

    >>> tidy(" conv\u00a03 ")
    'conv 3'
    """
    if not (text.isascii() and text.isprintable()):
        seen = (" " if sign.isspace() else sign for sign in _JOINERS.sub("", text))
        # Signs of control (Cc) and of format (Cf), such as joiners, are there and not seen.
        kept = (sign for sign in seen if unicodedata.category(sign) not in ("Cc", "Cf"))
        text = unicodedata.normalize("NFC", "".join(kept))
    return " ".join(text.split())


def meaning(text: str) -> str | Decimal:
    """What tidy text stands for: a number exactly, true and false in small letters, or itself.

    >>> meaning("8") == meaning("08") == meaning("8e0"), meaning("0.1") == meaning("0.10000000001")
    (True, False)
    >>> meaning("TRUE") == meaning("True"), meaning("A") == meaning("a")
    (True, False)
    """
    if _NUMBER.fullmatch(text):
        try:
            return Decimal(text)  # exact, where equal floats may be two numbers
        except InvalidOperation:  # an exponent of twenty digits
            return text
    folded = text.casefold()
    return folded if folded in ("true", "false") else text


def name_of(spellings: Iterable[str]) -> str:
    """The spelling that stands for all: the shortest, the first in alphabetical order of those.

    >>> name_of(["8.0", "8", "08"])
    '8'
    """
    return min(spellings, key=lambda text: (len(text), text))
