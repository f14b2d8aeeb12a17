"""Measuring on this machine."""

from .device import device_name, find_device
from .timer import Measurement, measure_latency

__all__ = ["Measurement", "device_name", "find_device", "measure_latency"]
