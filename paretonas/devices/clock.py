"""The seconds of one call on a device."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, thread_time

import torch

STOPPED_SECONDS = 5e-5  # more wall-clock time than CPU time: the thread was stopped
FLUSHED_BYTES = 2**28  # more than the L2 cache of any GPU


class Clock:
    """Times calls: on the CPU with the wall clock, on a CUDA device with its events.

    Args:
        device: of the calls.
        threads: that the calls use on the CPU.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device, self.threads = device, threads
        self._flushed: torch.Tensor | None = None

    def seconds(self, call: Callable[[], object]) -> tuple[float, bool]:
        """Seconds of one call, and whether its thread was stopped or waited meanwhile.

        On a CUDA device the L2 cache is flushed before the call.
        """
        if self.device.type == "cuda":
            return self._on_cuda(call), False
        busy = thread_time()  # outside, since reading it takes a microsecond
        begin = perf_counter()
        call()
        spent = perf_counter() - begin
        busy = thread_time() - busy
        return spent, self.threads == 1 and spent > 1.05 * busy + STOPPED_SECONDS

    def _on_cuda(self, call: Callable[[], object]) -> float:
        if self._flushed is None:
            self._flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device=self.device)
        self._flushed.zero_()
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self.device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3
