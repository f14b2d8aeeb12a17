"""Latency tables of other machines: a folder of networks to time there, and what comes back.

`write_runner` writes the folder: ONNX files of whole networks, and a script that times them. The
script needs onnxruntime only. `import_times` makes a table of what it has written.
"""

from .folder import write_runner
from .times import import_times

__all__ = ["import_times", "write_runner"]
