"""The tables of costs of a search: measured beside it, so that it can tell how far they are."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event
from typing import TypeVar

import torch

from .clock import Clock
from .plan import too_small
from .step import Step

Progress = Callable[[int, int], None]
Made = TypeVar("Made")

EVERY = 0.5  # seconds between two messages
LEAST = 1.0  # seconds of measuring before it is judged how long it will take


def followed(
    work: Callable[[Progress], Made], clock: Clock, step: Callable[[str], Step]
) -> Generator[Step, None, Made]:
    """Do some measuring in a thread of its own, and tell how far it is.

    Args:
        work: is called with a function of the number of rounds that are done and of all rounds, 0
            while that is not known.
        clock: of the search. If nothing of its budget would be left, the work is given up.
        step: makes a step of what a person should read.

    Yields:
        A step from time to time.

    Raises:
        ValueError: the work takes the whole budget.
    """
    told: Queue[tuple[int, int]] = Queue()
    stop = Event()

    def report(done: int, total: int) -> None:
        if stop.is_set():
            raise InterruptedError("the search has ended")
        told.put((done, total))

    def alone() -> Made:
        torch.set_num_threads(1)  # a new thread has a number of its own
        return work(report)

    first = said = -EVERY
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(alone)
        try:
            while not future.done():
                if clock.left() == 0:
                    raise too_small(clock, "the tables of costs are not ready", clock.gone())
                try:
                    done, total = told.get(timeout=0.1)
                except Empty:
                    continue
                first = clock.gone() if not total or first < 0 else first
                needed = first + (clock.gone() - first) * total / max(1, done)
                # The first rounds are warm-up: a guess from few of them may be far off.
                enough = done > max(1, total / 20) and clock.gone() - first >= LEAST
                if enough and needed > clock.seconds:
                    raise too_small(clock, f"the tables alone take {needed:.0f} s", needed)
                if clock.gone() - said >= EVERY:
                    said = clock.gone()
                    share = f"{done / total:.0%}" if total else f"{done} architectures seen"
                    yield step(f"tables: {share}")
        finally:
            stop.set()
        return future.result()
