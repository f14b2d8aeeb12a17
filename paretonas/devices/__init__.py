"""The devices and backends that run networks, and how long a network takes there."""

from .backend import BACKENDS, Backend, default_backend, find_backend, measure_latency
from .device import device_name, find_device
from .timer import Measurement

__all__ = [
    "BACKENDS",
    "Backend",
    "Measurement",
    "default_backend",
    "device_name",
    "find_backend",
    "find_device",
    "measure_latency",
]
