"""The devices that networks are measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def find_device(device: torch.device | str) -> torch.device:
    """The torch device called ``cpu``, ``cuda`` or ``auto`` (cuda if there is one).

    Raises:
        ValueError: the name is unknown, or it is cuda and there is no CUDA device.
    """
    name = "cuda" if str(device) == "cuda:0" else str(device)
    if name not in ("auto", "cpu", "cuda"):
        other = "; CUDA_VISIBLE_DEVICES chooses another GPU" if name.startswith("cuda:") else ""
        raise ValueError(f"the device must be auto, cpu or cuda, got {name!r}{other}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("the device is cuda, but torch finds no CUDA device on this machine")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The model name of the processor or accelerator, such as ``"NVIDIA H100"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "cpu"
