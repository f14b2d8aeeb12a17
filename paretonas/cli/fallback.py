"""What becomes of a latency whose backend nobody named, if ONNX cannot hold the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from paretonas.cli.display import console
from paretonas.devices.onnx_session import NotInOnnxError

Made = TypeVar("Made")
Named = TypeVar("Named")


def or_in_torch(make: Callable[[Named | str | None], Made], backend: Named | None) -> Made:
    """What is made with a backend; with eager torch, and a line why, if none was named.

    Args:
        make: gets the backend that was named, or None for the default one.
        backend: the one that was named; by its name, or several by what they are for.

    Raises:
        ValueError: ONNX cannot hold the networks, and its backend was named.
    """
    try:
        return make(backend)
    except NotInOnnxError as error:
        if backend is not None:
            raise
        console().print(f"latency is measured in eager torch, since {error}", soft_wrap=True)
        return make("torch")
