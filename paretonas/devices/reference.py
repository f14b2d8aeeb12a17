"""A small network whose time shows what else the machine does.

Other programs, also those of other virtual machines, share a processor's cores, caches and power.
Then everything takes longer, up to twice as long, for a fraction of a second or for minutes. A
network whose best time is known tells when.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .._atomic import replacing
from ..forward import seeded
from .clock import Clock
from .device import device_name

SLOWER = 1.12  # than at its best: then the machine has other work


class Reference:
    """Runs the reference network, and knows its best time.

    The best time on a device is kept in the user's cache folder, since a machine may be busy for
    the whole time of a measurement.

    Args:
        clock: times it, on its device.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        with seeded(0):
            layers = [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
            self._network = nn.Sequential(*layers).to(clock.device).eval()
            self._input = torch.randn(1, 8, 16, 16).to(clock.device)
        self._key = (
            f"{device_name(clock.device)}, {clock.threads} threads, torch {torch.__version__}"
        )
        self._known = _read().get(self._key)
        self._seen: list[float] = []

    def seconds(self) -> float:
        """Run it; the better of two times, since what ran before has filled the caches."""
        both = [abs(self._clock.seconds(self._run)) for _ in range(2)]
        self._seen.append(min(both))
        return self._seen[-1]

    @property
    def best(self) -> float:
        """Seconds if the machine has no other work, as far as is known."""
        seen = float(np.quantile(self._seen, 0.1))
        return seen if self._known is None else min(seen, self._known)

    def keep(self) -> None:
        """Write the best time down if it was not known, where the folder can be written."""
        if self._seen and (self._known is None or self.best < self._known):
            self._known = self.best
            with suppress(OSError, ValueError), replacing(_path()) as draft:
                draft.write_text(json.dumps(_read() | {self._key: self.best}, indent=1) + "\n")

    def _run(self) -> object:
        return self._network(self._input)


def cache_folder() -> Path:
    """The user's folder for what can be measured again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretonas"


def _path() -> Path:
    return cache_folder() / "reference.json"


def _read() -> dict[str, float]:
    with suppress(OSError, ValueError):
        found = json.loads(_path().read_text())
        if isinstance(found, dict):
            return {k: v for k, v in found.items() if isinstance(v, float) and 0 < v < 1}
    return {}
