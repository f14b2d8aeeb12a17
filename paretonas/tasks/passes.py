"""One pass over a split of any task, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any
from weakref import WeakKeyDictionary

from ..forward import generators_inside, seeded
from .feeds import CountedPass, Pass, seeded_each
from .supervised import Supervised
from .task import SplitName, Task

__all__ = ["batch_count", "few", "one_pass"]

_counted: WeakKeyDictionary[Task, int] = WeakKeyDictionary()


def one_pass(task: Task, split: SplitName, *, seed: int, epoch: int) -> Iterable[Any]:
    """The batches of a task; whatever its code draws, they are the same each time.

    Each batch is fetched under a seed of its own, and no global state changes.
    """
    if type(task).batches is Supervised.batches:  # it does this itself
        return task.batches(split, seed=seed, epoch=epoch)

    def start() -> Iterator[Any]:
        return seeded_each(begin, f"{split} {seed} {epoch}", held)

    def begin() -> Iterator[Any]:
        return iter(task.batches(split, seed=seed, epoch=epoch))

    held = generators_inside(task)
    with seeded(0, held=held):
        try:
            length = len(task.batches(split, seed=seed, epoch=epoch))  # type: ignore[arg-type]
        except TypeError:
            return Pass(start)
    return CountedPass(start, length)


def batch_count(task: Task) -> int:
    """The number of batches of the training split; without a length one pass counts them, once."""
    batches = one_pass(task, "train", seed=0, epoch=0)
    if isinstance(batches, Sized):
        return len(batches)
    try:
        if task not in _counted:
            _counted[task] = sum(1 for _ in batches)
        return _counted[task]
    except TypeError:  # a class of the user's own that has no hash
        return sum(1 for _ in batches)


def few(task: Task, split: SplitName, examples: int) -> Any:
    """A small batch of a split: at most so many examples, if the task can cut its batches."""
    cut = getattr(task, "few", None)
    if callable(cut):
        return cut(split, examples)
    return next(iter(one_pass(task, split, seed=0, epoch=0)))
