"""The devices and backends that run networks, and how long a network takes there."""

from .backend import BACKENDS, Backend, find_backend
from .device import device_name, find_device
from .timer import Measurement, measure_latency

__all__ = [
    "BACKENDS",
    "Backend",
    "Measurement",
    "device_name",
    "find_backend",
    "find_device",
    "measure_latency",
]
