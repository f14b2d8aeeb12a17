"""A small network whose time shows what else the machine does.

Other programs, also those of other virtual machines, share a processor's cores, caches and power.
Then everything takes longer, up to twice as long, for a fraction of a second or for minutes. A
network whose best time is known tells when.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .._atomic import replacing
from ..forward import seeded
from .clock import Clock
from .device import device_name

KEPT_SECONDS = 24 * 3600.0  # a machine may be another one tomorrow
SLOWER = 1.12  # than at its best: then the machine has other work


class Reference:
    """Runs the reference network, and knows its best time.

    The best time on a device is kept in the user's cache folder for a day, since a machine may be
    busy for the whole time of a measurement.

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
        known = _read().get(self._key)
        self._known = None if known is None else known["seconds"]
        self._seen: list[float] = []

    def seconds(self) -> float:
        """Run it; the better of two times, since what ran before has filled the caches."""
        both = [self._clock.seconds(self._run)[0] for _ in range(2)]
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
            told = {"seconds": self.best, "at": time.time()}
            with suppress(OSError, ValueError), replacing(_path()) as draft:
                draft.write_text(json.dumps(_read() | {self._key: told}, indent=1) + "\n")

    def _run(self) -> object:
        return self._network(self._input)


def cache_folder() -> Path:
    """The user's folder for what can be measured again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretonas"


def _path() -> Path:
    return cache_folder() / "reference.json"


def _read() -> dict[str, dict[str, float]]:
    """What is known and not too old; a file of something else holds nothing."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(_path().read_text())
        if isinstance(found, dict):
            return {key: told for key, told in found.items() if _is_fresh(told)}
    return {}


def _is_fresh(told: object) -> bool:
    if not isinstance(told, dict) or {*told} != {"seconds", "at"}:
        return False
    if not all(isinstance(value, float) for value in told.values()):
        return False
    seconds, at = float(told["seconds"]), float(told["at"])
    return 0 < seconds < 1 and 0 <= time.time() - at < KEPT_SECONDS
