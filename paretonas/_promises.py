"""What the checks of promises share: a broken one is an `AssertionError` that says where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def demand(kept: bool, otherwise: str) -> None:
    """Refuse what breaks a promise.

    Raises:
        AssertionError: the promise is not kept; the message is `otherwise`.
    """
    if not kept:
        raise AssertionError(otherwise)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Say where, if the part that is checked raises.

    Raises:
        AssertionError: anything was raised; its cause.
    """
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{where}: {error!r}") from error
