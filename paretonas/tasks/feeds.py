"""One split of a task's examples, whatever form they come in: arrays, a data set or a loader."""

from __future__ import annotations

import copy
import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from random import Random
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves, tree_map
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from ..arguments import first
from ..data import Split
from ..forward import Generator, generators_inside, seed_each, seeded

__all__ = ["Batch", "Feed", "Target", "feed_of"]

Batch = tuple[Any, Any]
"""The inputs and the targets of some examples: tensors, or nests of tensors."""

Target = str | Sequence[str] | None
"""The names of the entries that are targets, where examples are dicts."""

UNDERSTOOD = (
    "(inputs, targets) of tensors or NumPy arrays, or nests of them; a torch Dataset of "
    "(input, target); or a DataLoader whose batches are (inputs, targets)"
)
NAMED = "name the entries that are targets, as in target='labels'"
WIDER = {np.uint16: np.int32, np.uint32: np.int64, np.uint64: np.int64}  # torch computes with these
_ONE_AT_A_TIME = RLock()  # threads share the global generators


class Feed(ABC):
    """One split, in batches that are the same for the same seed and epoch, bit for bit.

    This holds whatever random numbers a data set, a sampler or a `collate_fn` draws, here or in
    workers. Global generators, and those of the user's objects, keep their states. Several threads
    may use a feed at once.

    Attributes:
        fixed: whether the user's loader decides the batch size.
        size: the batch size of that loader, if it tells it.
        targets: the targets as tensors, if they are in memory; otherwise None.
    """

    fixed: bool = False
    size: int | None = None
    targets: Any = None

    def examples(self) -> int | None:
        """The number of examples of a pass in order; None if it is not known."""
        return None

    @abstractmethod
    def batches(self, size: int, *, seed: int, epoch: int | None) -> Iterable[Batch]:
        """One pass. It has a length, the number of batches, where that is known.

        If there are two examples or more, the last batch of a training has two as well, since batch
        norm needs them: it starts one example earlier. (A loader of an `IterableDataset` keeps its
        own batches.)

        Args:
            size: examples per batch, unless the user's loader decides.
            seed: of the order, and of all that is random.
            epoch: of a training, counted from 0; None for a pass in order, in which nothing is
                shuffled or left out. A loader with a sampler of the user's own keeps its order.
        """

    @abstractmethod
    def first(self, examples: int) -> Batch:
        """The first examples of a pass in order, always the same ones.

        They are fewer if there are fewer, or if the first batch of a loader is smaller.
        """

    def to(self, device: torch.device | str) -> Feed:
        """The same feed, with what is in memory on a device."""
        return self


def feed_of(examples: Any, name: str, target: Target = None) -> Feed:
    """A feed of examples in any of these forms.

    - ``(inputs, targets)``, each a tensor, a NumPy array or a nest of them (see `Arguments`), with
      one row per example. Memory-mapped arrays (`np.memmap`) stay on the disk; only the rows of a
      batch are read. Other arrays must be finite.
    - A `Split`.
    - A torch `Dataset` of ``(input, target)``, or an `IterableDataset`, from which torch's
      `default_collate` makes batches.
    - A `DataLoader` with any settings. Workers that are persistent are started anew for each pass,
      because only then the same epoch gives the same batches.

    Where `target` names entries, each example or batch is a dict instead of a pair, and so may a
    split be that is in memory. The other entries are the inputs: one is the input itself, several
    are keyword arguments of the network.

    A data set with a state of its own, other than random generators, is not copied: the same epoch
    gives the same batches only if its items do not depend on that state.

    Args:
        examples: the examples. They are never changed, and arrays are not copied.
        name: the name of the split, for messages.
        target: the entries of dicts that are targets: a name, or several, which become a dict.

    Raises:
        KeyError: an entry is missing.
        TypeError: the examples have another form, or an array has a type that torch lacks.
        ValueError: there is no example, the numbers of rows differ, or a number is NaN or infinite.
    """
    if isinstance(examples, Split):
        return _Arrays((examples.inputs, examples.labels))
    pairs = _Pairs(name, target)
    if isinstance(examples, DataLoader):
        return _Loader(examples, pairs)
    if isinstance(examples, IterableDataset):
        return _Stream(examples, pairs)
    if type(examples) is TensorDataset and len(examples.tensors) == 2 and len(examples):
        return _Arrays((examples.tensors[0], examples.tensors[1]))
    if isinstance(examples, Dataset):
        return _Items(examples, pairs)
    if isinstance(examples, Mapping):
        examples = pairs.cut(examples)
    if not isinstance(examples, tuple | list):
        raise TypeError(f"the {name} split must be {UNDERSTOOD}; got {type(examples).__name__}")
    if len(examples) != 2:
        raise TypeError(
            f"the {name} split must be {UNDERSTOOD}; got {len(examples)} values instead of 2"
        )
    _check(examples[0], examples[1], name)
    return _Arrays((examples[0], examples[1]))


class _Arrays(Feed):
    """Tensors and arrays, indexed by rows; arrays become tensors batch by batch."""

    def __init__(self, nest: Batch) -> None:
        self._nest = nest
        self._rows = len(tree_leaves(nest)[0])

    @property
    def targets(self) -> Any:
        if any(_mapped(leaf) for leaf in tree_leaves(self._nest[1])):
            return None
        return tree_map(lambda t: t if isinstance(t, Tensor) else tensor_of(t), self._nest[1])

    def examples(self) -> int:
        return self._rows

    def batches(self, size: int, *, seed: int, epoch: int | None) -> Iterable[Batch]:
        rows = _Rows(self._rows, size, seed, epoch)
        return CountedPass(lambda: self._cut(rows), len(rows))

    def first(self, examples: int) -> Batch:
        return next(self._cut(_Rows(self._rows, max(1, examples), 0, None)))

    def to(self, device: torch.device | str) -> _Arrays:
        device = torch.device(device)

        def move(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return leaf.detach().to(device)
            return leaf if device.type == "cpu" or _mapped(leaf) else tensor_of(leaf).to(device)

        inputs, targets = tree_map(move, self._nest)
        return _Arrays((inputs, targets))

    def _cut(self, rows: _Rows) -> Iterator[Batch]:
        order = rows.order()
        devices = {leaf.device for leaf in tree_leaves(self._nest) if isinstance(leaf, Tensor)}
        # To a device the order goes once, not a part of it with every batch.
        orders = {device: order.to(device, non_blocking=True) for device in devices}

        def take(leaf: Any, part: slice) -> Tensor:
            if isinstance(leaf, Tensor):
                return leaf.detach()[orders[leaf.device][part]]
            return tensor_of(leaf[order[part].numpy()])

        for part in rows.parts():
            inputs, targets = tree_map(partial(take, part=part), self._nest)
            yield inputs, targets


class _Items(Feed):
    """A data set of single examples that are fetched by their number."""

    def __init__(self, dataset: Dataset[Any], pairs: _Pairs) -> None:
        self._dataset, self._pairs = dataset, pairs
        try:
            self._rows = len(dataset)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError) as error:
            raise TypeError(
                f"the data set of the {pairs.name} split needs a length (__len__), or must be an "
                f"IterableDataset; {type(dataset).__name__} has none"
            ) from error
        if self._rows == 0:
            raise ValueError(f"the {pairs.name} split needs at least one example, got none")

    def examples(self) -> int:
        return self._rows

    def batches(self, size: int, *, seed: int, epoch: int | None) -> Iterable[Batch]:
        rows = _Rows(self._rows, size, seed, epoch)
        return CountedPass(lambda: self._fetched(rows, f"{seed} {epoch}"), len(rows))

    def first(self, examples: int) -> Batch:
        rows = torch.arange(min(examples, self._rows))
        return next(self._fetched([rows], "first"))

    def _fetched(self, rows: Iterable[Tensor], seed: str) -> Iterator[Batch]:
        def start() -> Iterator[Any]:
            lists = (some.tolist() for some in rows)
            return iter(DataLoader(self._dataset, batch_sampler=lists))

        return _fetched(start, seed, generators_inside(self._dataset), self._pairs)


class _Stream(Feed):
    """An iterable data set, whose examples come in its own order."""

    def __init__(self, dataset: IterableDataset[Any], pairs: _Pairs) -> None:
        self._dataset, self._pairs = dataset, pairs

    def batches(self, size: int, *, seed: int, epoch: int | None) -> Iterable[Batch]:
        _check_size(size)
        return Pass(lambda: self._fetched(size, f"{seed} {epoch}", training=epoch is not None))

    def first(self, examples: int) -> Batch:
        return next(self._fetched(examples, "first", training=False))

    def _fetched(self, size: int, seed: str, *, training: bool) -> Iterator[Batch]:
        def start() -> Iterator[Any]:
            items = iter(self._dataset)
            groups = iter(lambda: list(islice(items, size)), [])
            return map(default_collate, _never_single(groups) if training and size > 1 else groups)

        return _fetched(start, seed, generators_inside(self._dataset), self._pairs)


class _Loader(Feed):
    """A loader of the user, of which each pass uses a copy."""

    fixed = True

    def __init__(self, loader: DataLoader[Any], pairs: _Pairs) -> None:
        self._loader, self._pairs = loader, pairs
        self.size = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
        sampler = _copied(loader, None)["batch_sampler"]
        plain = isinstance(sampler, BatchSampler) and not _streams(loader)
        self._rows = _length(sampler.sampler) if plain else None
        if self._rows == 0:
            raise ValueError(f"the {pairs.name} split needs at least one example, got none")

    def examples(self) -> int | None:
        return self._rows

    def batches(self, size: int, *, seed: int, epoch: int | None) -> Iterable[Batch]:
        def start() -> Iterator[Batch]:
            return self._fetched(f"{seed} {epoch}", **_copied(self._loader, epoch))

        length = None
        # Each worker of an iterable data set makes batches of its own, so their number is unknown.
        if not (_streams(self._loader) and self._loader.num_workers > 1):
            length = _length(_with(self._loader, **_copied(self._loader, epoch)))
        return Pass(start) if length is None else CountedPass(start, length)

    def first(self, examples: int) -> Batch:
        parts = _copied(self._loader, None)
        lists = parts["batch_sampler"]
        if lists is not None and not _streams(self._loader):
            # The user's own `collate_fn` sees so many examples, since its result need not be one
            # that can be cut.
            parts["batch_sampler"] = (list(rows)[:examples] for rows in islice(lists, 1))
            workers = min(1, self._loader.num_workers)
            return next(self._fetched("first", **parts, num_workers=workers))
        batch: Batch = first(next(self._fetched("first", **parts)), examples)
        return batch

    def _fetched(self, seed: str, **changes: Any) -> Iterator[Batch]:
        loader = self._loader
        inside = generators_inside(loader.dataset, loader.collate_fn, loader.worker_init_fn)
        others = generators_inside(loader.generator, loader.sampler, loader.batch_sampler)
        held = list({id(generator): generator for generator in [*inside, *others]}.values())
        if not _streams(loader):
            # Workers are told ahead what to fetch; the order must not depend on how far ahead.
            which = "sampler" if changes["batch_sampler"] is None else "batch_sampler"
            order = changes[which]
            changes[which] = seeded_each(lambda: iter(order), f"{seed} order", others)
        changes["worker_init_fn"] = partial(_begin, loader.worker_init_fn, inside)
        twin = _with(loader, **changes)
        return _fetched(lambda: iter(twin), seed, held, self._pairs)


@dataclass(frozen=True)
class _Rows:
    """The rows of each batch of a pass."""

    examples: int
    size: int
    seed: int
    epoch: int | None

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __len__(self) -> int:
        return math.ceil(self.examples / self.size)

    def __iter__(self) -> Iterator[Tensor]:
        order = self.order()
        return (order[part] for part in self.parts())

    def order(self) -> Tensor:
        """All rows in the order of the pass, (examples,)."""
        if self.epoch is None:
            return torch.arange(self.examples)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.examples, generator=generator)

    def parts(self) -> Iterator[slice]:
        """The place of each batch in the order."""
        last = self.examples if self.epoch is None else max(0, self.examples - 2)
        for start in range(0, self.examples, self.size):
            yield slice(min(start, last), start + self.size)  # batch norm needs two


class Pass:
    """One pass over a split, the same each time that it is started."""

    def __init__(self, start: Callable[[], Iterator[Batch]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[Batch]:
        return self._start()


class CountedPass(Pass):
    """A pass whose number of batches is known."""

    def __init__(self, start: Callable[[], Iterator[Batch]], length: int) -> None:
        super().__init__(start)
        self._length = length

    def __len__(self) -> int:
        return self._length


# --- fetching -------------------------------------------------------------------------------------


def _fetched(
    start: Callable[[], Iterator[Any]], seed: str, held: list[Generator], pairs: _Pairs
) -> Iterator[Batch]:
    """The batches of a loader or another iterable."""
    none = True
    for batch in seeded_each(start, seed, held):
        none = False
        yield pairs(batch)
    if none:
        raise ValueError(f"the {pairs.name} split gave no batch")


def seeded_each(
    start: Callable[[], Iterator[Any]], seed: str, held: list[Generator]
) -> Iterator[Any]:
    """The values of an iterator; it is made, and gives each value, under a seed of its own."""

    def alone(place: int) -> AbstractContextManager[None]:
        return seeded(Random(f"{seed} {place}").getrandbits(62), held=held)

    with _ONE_AT_A_TIME, alone(0):
        source = start()
    for place in count(1):
        with _ONE_AT_A_TIME, alone(place):
            try:
                value = next(source)
            except StopIteration:
                return
            except BaseException:
                # The garbage collector would stop them too, but wait for five seconds for each.
                getattr(source, "_shutdown_workers", lambda: None)()
                raise
        yield value


@dataclass(frozen=True)
class _Pairs:
    """Makes pairs of inputs and targets from what a loader gives.

    Attributes:
        name: the name of the split, for messages.
        target: the entries that are targets, where batches are dicts.
    """

    name: str
    target: Target = None

    def __call__(self, batch: Any) -> Batch:
        """The pair of a batch, with tensors in the place of arrays."""
        pair = self.cut(batch)
        inputs, targets = tree_map(lambda v: tensor_of(v) if isinstance(v, np.ndarray) else v, pair)
        return inputs, targets

    def cut(self, batch: Any) -> Any:
        """The pair of a batch, as it is."""
        if self.target is not None:
            return self._entries(batch, self.target)
        if isinstance(batch, tuple | list) and len(batch) == 2:
            return batch
        found, remedy = type(batch).__name__, "a DataLoader with a collate_fn can make pairs"
        if isinstance(batch, Mapping):
            found, remedy = f"a dict with the keys {', '.join(map(repr, batch))}", NAMED
        elif isinstance(batch, tuple | list):
            found = f"{len(batch)} values"
        raise TypeError(
            f"a batch of the {self.name} split must be a pair (inputs, targets), got {found}; "
            f"{remedy}"
        )

    def _entries(self, batch: Any, target: str | Sequence[str]) -> tuple[Any, Any]:
        names = [target] if isinstance(target, str) else list(target)
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"target={target!r} names entries, so the {self.name} split must consist of "
                f"dicts, got {type(batch).__name__}"
            )
        inputs = {key: value for key, value in batch.items() if key not in names}
        keys = ", ".join(map(repr, batch)) or "no key"
        for name in names:
            if name not in batch:
                raise KeyError(f"the {self.name} split has no entry {name!r}, only {keys}")
        if not inputs:
            raise ValueError(f"the {self.name} split has only targets, no inputs: {keys}")
        targets = (
            batch[target] if isinstance(target, str) else {name: batch[name] for name in names}
        )
        return next(iter(inputs.values())) if len(inputs) == 1 else inputs, targets


def _never_single(groups: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """The same groups; one of a single example begins with the last one of the group before."""
    before: list[Any] = []
    for group in groups:
        yield [*before[-1:], *group] if len(group) == 1 else group
        before = group


def _copied(loader: DataLoader[Any], epoch: int | None) -> dict[str, Any]:
    """The sampler and the batch sampler of a pass: copies, since a pass may change their state.

    The data set is not copied, nor are generators, which have their own states put back.
    """
    shared = [loader.dataset, *generators_inside(loader.sampler, loader.batch_sampler)]
    for part in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        shared += [v for v in getattr(part, "__dict__", {}).values() if isinstance(v, Dataset)]
    sampler, lists = parts = (loader.sampler, loader.batch_sampler)
    with suppress(TypeError, NotImplementedError):  # what cannot be copied is used as it is
        sampler, lists = copy.deepcopy(parts, {id(part): part for part in shared})
    if epoch is not None:
        for part in (sampler, lists, getattr(lists, "sampler", None)):
            if callable(set_epoch := getattr(part, "set_epoch", None)):  # as distributed ones have
                set_epoch(epoch)
        if type(lists) is BatchSampler and lists.batch_size > 1 and not _streams(loader):
            lists = _NeverSingle(lists.sampler, lists.batch_size, lists.drop_last)
    elif type(lists) is BatchSampler:
        order = lists.sampler
        if type(order) is RandomSampler and not order.replacement:
            every = order.num_samples == len(order.data_source)
            order = SequentialSampler(order.data_source) if every else order
        lists = BatchSampler(order, lists.batch_size, drop_last=False)
    drop_last = epoch is not None and loader.drop_last
    return {"sampler": sampler, "batch_sampler": lists, "drop_last": drop_last}


class _NeverSingle(BatchSampler):
    """Batches of which the last one does not consist of a single example."""

    def __iter__(self) -> Iterator[list[Any]]:
        return _never_single(super().__iter__())


def _with(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """A copy of a loader with other settings; its workers live for one pass."""
    twin = copy.copy(loader)
    # Not by assignment, which a loader forbids.
    vars(twin).update(persistent_workers=False, in_order=True, _iterator=None, **changes)
    return twin


def _begin(user: Callable[[int], None] | None, held: list[Generator], worker: int) -> None:
    """Start a worker: its generators, copies of those of this process, get seeds of their own."""
    information = get_worker_info()
    assert information is not None
    seed_each(held, information.seed)
    if user is not None:
        user(worker)


def _streams(loader: DataLoader[Any]) -> bool:
    return isinstance(loader.dataset, IterableDataset)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return None


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"a batch needs at least one example, got the size {size}")


# --- arrays ---------------------------------------------------------------------------------------


def _check(inputs: Any, targets: Any, name: str) -> None:
    """Refuse arrays that cannot be cut into batches, or that hold NaN or infinity."""
    named = [
        (f"{what}{keystr(path)}", leaf)
        for what, nest in (("inputs", inputs), ("targets", targets))
        for path, leaf in tree_flatten_with_path(nest)[0]
    ]
    for place, leaf in named:
        _check_kind(place, leaf, name)
    for what in ("inputs", "targets"):
        if not any(place.startswith(what) for place, _ in named):
            raise TypeError(f"the {name} split has no {what}")
    place, leaf = named[0]
    for other, part in named[1:]:
        if len(part) != len(leaf):
            raise ValueError(
                f"in the {name} split, {place} has {len(leaf)} rows and {other} has {len(part)}: "
                "one row per example is needed (examples of different sizes need a Dataset, and a "
                "DataLoader with a collate_fn)"
            )
    if len(leaf) == 0:
        raise ValueError(f"the {name} split needs at least one example, got none")
    for place, leaf in named:
        _check_finite(place, leaf, name)


def _check_kind(place: str, leaf: Any, name: str) -> None:
    where = f"{place} of the {name} split"
    if not isinstance(leaf, Tensor | np.ndarray):
        raise TypeError(f"{where} must be a tensor or a NumPy array, got {type(leaf).__name__}")
    if leaf.ndim == 0:
        raise ValueError(f"{where} needs a first dimension of examples, got a single number")
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(f"{where} is a masked array, whose mask would be lost")
    if isinstance(leaf, Tensor):
        if leaf.layout is not torch.strided:
            raise TypeError(f"{where} must be dense, got {leaf.layout}; use to_dense()")
        return
    try:
        tensor_of(np.empty(0, leaf.dtype))
    except TypeError as error:
        remedy = "give numbers"
        if leaf.dtype.kind in "OUST":
            remedy = "give numbers, such as the number of each class"
        raise TypeError(f"{where} is of the NumPy type {leaf.dtype}: {remedy}") from error


def _check_finite(place: str, leaf: Tensor | NDArray[Any], name: str) -> None:
    floating = (
        leaf.dtype.kind in "fc"
        if isinstance(leaf, np.ndarray)
        else (leaf.is_floating_point() or leaf.is_complex())
    )
    if not floating or _mapped(leaf):
        return
    bad, seen = [], 0
    some = max(1, 2**22 // max(1, math.prod(leaf.shape[1:])))  # rows at once, to spare memory
    for start in range(0, len(leaf), some):
        part = leaf[start : start + some]
        rows = part.detach() if isinstance(part, Tensor) else tensor_of(part)
        wrong = ~torch.isfinite(rows.reshape(len(rows), -1)).all(dim=1)
        bad += [start + int(row) for row in wrong.nonzero()[:1]]
        seen += int(wrong.sum())
    if bad:
        raise ValueError(
            f"{place} of the {name} split must be finite, found NaN or infinity in {seen} of "
            f"{len(leaf)} examples, first in example {bad[0]}; if that is meant, hand the examples "
            "in as a Dataset, such as TensorDataset"
        )


def _mapped(leaf: Any) -> bool:
    """Whether an array lies in a file, and not in memory."""
    while isinstance(leaf, np.ndarray):
        leaf = leaf.base
    return isinstance(leaf, mmap.mmap)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """A tensor of an array: of a type that torch computes with, and that may be written."""
    native = array.dtype.newbyteorder("=")
    wider = np.dtype(WIDER.get(native.type, native))
    if native.type is np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"torch's integers end at 2^63 - 1, got {array.max()}")
    if min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(np.require(array, wider, ["C", "W"]))
