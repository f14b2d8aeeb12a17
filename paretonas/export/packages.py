"""The packages that ONNX files need."""

from __future__ import annotations

from importlib.util import find_spec


def check_onnx() -> None:
    """See that the packages of ``paretonas[onnx]`` are there; none is imported.

    Raises:
        ModuleNotFoundError: one is missing; the message has the pip line.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"ONNX needs {name}: pip install 'paretonas[onnx]'", name=name
            )
