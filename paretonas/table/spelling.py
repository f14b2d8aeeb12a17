"""Spellings that mean the same: invisible blanks, equal numbers, true and TRUE."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_JOINERS = re.compile("[\u034f\ufe00-\ufe0f]")  # further invisible characters


def tidy(text: str) -> str:
    r"""Text without blanks at its ends, one plain blank between words, and accents composed (NFC).

    >>> tidy(" conv\u00a03 ")
    'conv 3'
    """
    if not (text.isascii() and text.isprintable()):
        seen = (" " if sign.isspace() else sign for sign in _JOINERS.sub("", text))
        # Control characters (Cc) and format characters (Cf), such as joiners, are invisible.
        kept = (sign for sign in seen if unicodedata.category(sign) not in ("Cc", "Cf"))
        text = unicodedata.normalize("NFC", "".join(kept))
    return " ".join(text.split())


def meaning(text: str) -> str | Decimal:
    """The meaning of tidy text: an exact number, true or false in lower case, or the text itself.

    >>> meaning("8") == meaning("08") == meaning("8e0"), meaning("0.1") == meaning("0.10000000001")
    (True, False)
    >>> meaning("TRUE") == meaning("True"), meaning("A") == meaning("a")
    (True, False)
    """
    if _NUMBER.fullmatch(text):
        try:
            return Decimal(text)  # exact: two different numbers may be equal floats
        except InvalidOperation:  # an exponent of twenty digits
            return text
    folded = text.casefold()
    return folded if folded in ("true", "false") else text


def name_of(spellings: Iterable[str]) -> str:
    """The spelling that names all: the shortest, and the first in alphabetical order among ties.

    >>> name_of(["8.0", "8", "08"])
    '8'
    """
    return min(spellings, key=lambda text: (len(text), text))
