"""A split in any form gives the batches that plain torch gives, again and again the same ones."""

import random
import threading
from collections import namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from paretonas.arguments import Arguments
from paretonas.data import Split
from paretonas.forward import Generators
from paretonas.tasks.feeds import Feed, feed_of

N = 11


class Squares(Dataset):
    def __init__(self, n: int = N) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([float(index), float(index) ** 2]), index


class Augmented(Squares):
    """Draws from every kind of generator, global and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = partial(noise, generator=torch.Generator().manual_seed(5))
        self.rng = np.random.default_rng(7)

    def __getitem__(self, index):
        drawn = [random.random(), np.random.rand(), self.rng.random()]
        inputs = torch.cat([torch.rand(1), torch.tensor(drawn).float()])
        return self.transform(inputs) + index, index


def noise(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + torch.rand(inputs.shape, generator=generator)


class Streamed(IterableDataset):
    def __init__(self, n: int = N) -> None:
        self.n = n

    def __iter__(self):
        return iter(Augmented()[index] for index in range(self.n))


class Shuffling(Sampler):
    """Shuffles its own list in place, and counts its passes."""

    def __init__(self) -> None:
        self.order, self.rng, self.passes = list(range(N)), random.Random(3), 0

    def __iter__(self):
        self.passes += 1
        self.rng.shuffle(self.order)
        yield from self.order[: self.passes + 2]


def padded(items):
    inputs, targets = zip(*items, strict=True)
    return pad_sequence(inputs, batch_first=True), torch.tensor(targets)


def packed(items):
    inputs, targets = zip(*items, strict=True)
    return pack_sequence(inputs, enforce_sorted=False), torch.tensor(targets)


class Lengths(Squares):
    def __getitem__(self, index):
        return torch.arange(1.0 + index % 4), index


ITEMS = TensorDataset(torch.arange(2.0 * N).reshape(N, 2), torch.arange(N))
FORMS = {
    "tensors": lambda: (torch.arange(2.0 * N).reshape(N, 2), torch.arange(N)),
    "arrays": lambda: (np.arange(2.0 * N).reshape(N, 2), np.arange(N)),
    "split": lambda: Split(torch.arange(2.0 * N).reshape(N, 2), torch.arange(N)),
    "nests": lambda: ({"a": torch.rand(N, 2), "b": (np.zeros((N, 1)),)}, {"y": torch.arange(N)}),
    "arguments": lambda: (Arguments(torch.rand(N, 2), mask=torch.ones(N, 2)), torch.arange(N)),
    "tensor data set": lambda: ITEMS,
    "data set": Squares,
    "augmented": Augmented,
    "subset of augmented": lambda: Subset(Augmented(), [4, 2, 0, 1]),
    "stream": Streamed,
    "loader": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True),
    "loader with a generator": lambda: DataLoader(
        Augmented(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1)
    ),
    "loader with a sampler": lambda: DataLoader(Squares(), batch_size=4, sampler=Shuffling()),
    "loader with weights": lambda: DataLoader(
        Squares(), batch_size=4, sampler=WeightedRandomSampler([1.0] * N, 7)
    ),
    "loader with a batch sampler": lambda: DataLoader(
        Squares(), batch_sampler=BatchSampler(RandomSampler(Squares()), 3, drop_last=True)
    ),
    "loader of one by one": lambda: DataLoader(ITEMS, batch_size=None, shuffle=True),
    "loader with a collate_fn": lambda: DataLoader(
        Lengths(), batch_size=4, shuffle=True, collate_fn=padded
    ),
    "loader of packed sequences": lambda: DataLoader(Lengths(), batch_size=4, collate_fn=packed),
    "loader of a stream": lambda: DataLoader(Streamed(), batch_size=4),
}


def same(one, other) -> bool:
    ones, others = (torch.utils._pytree.tree_leaves(list(nest)) for nest in (one, other))
    return len(ones) == len(others) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(ones, others, strict=True)
    )


def targets_of(batches) -> list[list[int]]:
    return [targets.tolist() for _, targets in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


# --- the same batches, whatever the form ----------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_and_epoch_give_the_same_batches_and_change_no_generator(form):
    examples = FORMS[form]()
    feed = feed_of(examples, "train")
    held = [torch.Generator] if not isinstance(examples, DataLoader) else [examples.generator]
    states = [g.get_state().clone() for g in held if isinstance(g, torch.Generator)]
    before = Generators.now()
    wanted = list(feed.batches(4, seed=1, epoch=2))
    wanted_in_order = list(feed.batches(4, seed=1, epoch=None))
    wanted_first = feed.first(3)
    assert not before.moved()
    assert all(torch.equal(g.get_state(), s) for g, s in zip(held, states, strict=False))

    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    list(feed.batches(3, seed=5, epoch=6))
    passing = feed.batches(4, seed=1, epoch=2)
    for again in (passing, passing, feed_of(FORMS[form](), "train").batches(4, seed=1, epoch=2)):
        if form not in ("nests", "arguments"):  # these draw their examples
            assert same(wanted, again)
    assert same(wanted_in_order, feed.batches(4, seed=1, epoch=None))
    assert same([wanted_first], [feed.first(3)])


@pytest.mark.parametrize("form", FORMS)
def test_a_length_is_the_number_of_batches(form):
    feed = feed_of(FORMS[form](), "train")
    unknown = {"stream", "loader of a stream", "loader with a sampler"}
    for epoch in (0, None):
        batches = feed.batches(4, seed=0, epoch=epoch)
        assert isinstance(feed, Feed)
        assert hasattr(batches, "__len__") == (form not in unknown)
        if form not in unknown:
            assert len(batches) == len(list(batches))


@pytest.mark.parametrize("form", FORMS)
def test_a_pass_in_order_holds_each_example_once(form):
    chosen = {"loader with a sampler", "loader with weights", "loader with a batch sampler"}
    if form in chosen or form == "subset of augmented" or form == "loader of one by one":
        return
    feed = feed_of(FORMS[form](), "valid")
    if form == "nests":
        numbers = [
            int(n) for _, targets in feed.batches(4, seed=0, epoch=None) for n in targets["y"]
        ]
    else:
        numbers = flat(targets_of(feed.batches(4, seed=0, epoch=None)))
    assert numbers == list(range(N))
    assert feed.examples() in (N, None)


@pytest.mark.parametrize("form", ["tensors", "arrays", "nests", "tensor data set", "data set"])
@pytest.mark.parametrize(("n", "size"), [(1, 4), (2, 1), (9, 4), (10, 4), (5, 2), (8, 4)])
def test_a_training_takes_the_documented_rows(form, n, size):
    """Against the rule, written out: a permutation, cut so that no last batch has one example."""
    full = {
        "tensors": lambda: (torch.arange(n), torch.arange(n)),
        "arrays": lambda: (np.arange(n), np.arange(n)),
        "nests": lambda: ({"a": torch.arange(n)}, torch.arange(n)),
        "tensor data set": lambda: TensorDataset(torch.arange(n), torch.arange(n)),
        "data set": lambda: Squares(n),
    }[form]()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3 * 1_000_003 + 5)).tolist()
    wanted = [order[start : start + size] for start in range(0, n, size)]
    if len(wanted[-1]) == 1 and n > 1:
        wanted[-1] = order[-2:]
    if size == 2 or (size, n) == (1, 2):  # the rule, where a batch of one precedes the last
        wanted = [order[min(k * size, max(0, n - 2)) : (k + 1) * size] for k in range(len(wanted))]
    assert targets_of(feed_of(full, "train").batches(size, seed=3, epoch=5)) == wanted


def test_epochs_and_seeds_differ():
    for form in ("tensors", "data set", "loader", "loader with a generator"):
        feed = feed_of(FORMS[form](), "train")
        passes = [targets_of(feed.batches(4, seed=s, epoch=e)) for s, e in ((0, 0), (0, 1), (1, 0))]
        assert len({str(batches) for batches in passes}) == 3


def test_batches_of_a_data_set_are_those_of_default_collate():
    items = Squares()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1_000_003)).tolist()
    rows = [order[:4], order[4:8], order[8:]]
    wanted = [default_collate([items[i] for i in some]) for some in rows]
    assert same(wanted, feed_of(items, "train").batches(4, seed=1, epoch=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_it_gives_by_itself(workers):
    """Against plain torch: in order, with drop_last, and with a custom collate_fn."""
    loader = DataLoader(Lengths(), batch_size=4, collate_fn=padded, num_workers=workers)
    assert same(list(loader), feed_of(loader, "valid").batches(99, seed=0, epoch=None))
    assert feed_of(loader, "valid").fixed


def test_workers_draw_the_same_numbers_again_and_no_two_draw_the_same():
    loader = DataLoader(
        Augmented(), batch_size=2, num_workers=2, persistent_workers=True, in_order=False
    )
    feed = feed_of(loader, "train")
    before = Generators.now()
    one, same_one, other = (list(feed.batches(1, seed=0, epoch=e)) for e in (0, 0, 1))
    assert not before.moved()
    assert loader._iterator is None
    assert same(one, same_one)
    assert not same(one, other)
    drawn = torch.cat([inputs - targets[:, None] for inputs, targets in one])
    assert len(drawn.flatten().unique()) == drawn.numel()


def test_a_loader_with_workers_trains_in_the_order_that_it_has_without():
    order = [
        targets_of(
            feed_of(
                DataLoader(Squares(), batch_size=4, shuffle=True, num_workers=workers), "train"
            ).batches(1, seed=3, epoch=1)
        )
        for workers in (0, 1)
    ]
    assert order[0] == order[1]


def test_augmentation_differs_between_batches_of_an_epoch():
    inputs = torch.cat(
        [x - y[:, None] for x, y in feed_of(Augmented(), "train").batches(1, seed=0, epoch=0)]
    )
    assert len(inputs.flatten().unique()) == inputs.numel()


class Slotted:
    __slots__ = ("rng",)

    def __init__(self, rng):
        self.rng = rng

    def draw(self):
        return self.rng.random()


OWN = np.random.default_rng(8)


def draw_globally():
    return OWN.random()


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: Slotted(rng).draw,
        lambda rng: {"deep": [(Slotted(rng),)]}["deep"][0][0].draw,
        lambda rng: lambda: rng.random(),
        lambda rng: partial(lambda source: source["rng"].random(), {"rng": rng}),
        lambda rng: draw_globally,
    ],
    ids=["method", "nest", "closure", "partial", "global"],
)
def test_a_generator_is_found_wherever_a_data_set_holds_it(make):
    data = Squares()
    data.draw = make(np.random.default_rng(7))

    class Drawing(Squares):
        def __getitem__(self, index):
            return data.draw(), index

    feed = feed_of(Drawing(), "train")
    one, same_one, other = (list(feed.batches(4, seed=0, epoch=e)) for e in (0, 0, 1))
    assert same(one, same_one)
    assert not {*flat([x.tolist() for x, _ in one])} & {*flat([x.tolist() for x, _ in other])}


# --- what a pass leaves as it was -----------------------------------------------------------------


def test_a_sampler_and_its_generators_stay_as_they_were():
    sampler = Shuffling()
    data = Augmented()
    feed = feed_of(DataLoader(data, batch_size=4, sampler=sampler), "train")
    state, drawn = sampler.rng.getstate(), data.rng.bit_generator.state
    own = data.transform.keywords["generator"].get_state()
    iterator = iter(feed.batches(1, seed=0, epoch=0))
    next(iterator)
    list(feed.batches(1, seed=0, epoch=None)), feed.first(2)
    assert (sampler.passes, sampler.order) == (0, list(range(N)))
    assert sampler.rng.getstate() == state
    assert data.rng.bit_generator.state == drawn
    assert torch.equal(data.transform.keywords["generator"].get_state(), own)


def test_epochs_are_told_to_samplers_that_want_them():
    sampler = torch.utils.data.DistributedSampler(Squares(), num_replicas=1, rank=0, seed=4)
    loader = DataLoader(Squares(), batch_size=4, sampler=sampler)
    batches = targets_of(feed_of(loader, "train").batches(1, seed=0, epoch=3))
    assert sampler.epoch == 0
    sampler.set_epoch(3)
    assert batches == [t.tolist() for _, t in loader]


@pytest.mark.parametrize("form", ["tensors", "arrays", "nests", "tensor data set", "data set"])
def test_batches_are_copies(form):
    examples = FORMS[form]()
    feed = feed_of(examples, "train")
    wanted = feed.first(N)
    kept = torch.utils._pytree.tree_map(Tensor.clone, wanted)
    for epoch in (0, None):
        for batch in feed.batches(4, seed=0, epoch=epoch):
            for leaf in torch.utils._pytree.tree_leaves(batch):
                leaf.zero_()
    for leaf in torch.utils._pytree.tree_leaves(wanted):
        leaf.zero_()
    assert same([feed.first(N)], [kept])


def test_arrays_that_cannot_be_written_are_taken_as_they_are():
    inputs, targets = np.arange(6.0).reshape(3, 2), np.arange(3)
    inputs.flags.writeable = targets.flags.writeable = False
    batch = feed_of((inputs, targets), "train").first(2)
    batch[0].zero_()
    assert np.array_equal(inputs, np.arange(6.0).reshape(3, 2))


def test_several_threads_get_what_one_gets():
    feeds = [feed_of(FORMS[form](), "train") for form in ("augmented", "loader", "stream")]
    wanted = [list(feed.batches(4, seed=0, epoch=0)) for feed in feeds]
    before, found = Generators.now(), {}

    def read(key: int) -> None:
        found[key] = [list(feeds[key % 3].batches(4, seed=0, epoch=0)) for _ in range(5)]

    threads = [threading.Thread(target=read, args=(key,)) for key in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(wanted[key % 3], some) for key in found for some in found[key])
    assert len(found) == 6
    assert not before.moved()


# --- arrays ---------------------------------------------------------------------------------------


def test_a_memory_mapped_array_is_read_by_rows_only(tmp_path, monkeypatch):
    """Eight gigabytes, of which a sparse file stores nothing: reading them all would take long."""
    shape = (2_000_000, 1024)
    inputs = np.memmap(tmp_path / "inputs", np.float32, "w+", shape=shape)
    inputs[1_999_999] = 7
    read = []
    take = np.memmap.__getitem__
    monkeypatch.setattr(
        np.memmap, "__getitem__", lambda a, rows: (read.append(np.size(rows)), take(a, rows))[1]
    )
    feed = feed_of((inputs, torch.arange(shape[0])), "train").to("cpu")
    assert sum(n for n in read if n) <= 1  # an empty slice shows the type
    batch = next(iter(feed.batches(32, seed=0, epoch=0)))
    assert batch[0].shape == (32, 1024)
    assert sum(read) < 100
    last = feed_of((np.asarray(inputs)[-3:], np.arange(3)), "valid").first(3)
    assert last[0][:, 0].tolist() == [0, 0, 7]


def test_a_read_only_memory_map_gives_batches_that_may_be_written(tmp_path):
    np.save(tmp_path / "x.npy", np.full((6, 2), np.nan))  # which nobody looks at
    inputs = np.load(tmp_path / "x.npy", mmap_mode="r")
    feed = feed_of((inputs, np.arange(6)), "train")
    for epoch in (0, None):
        for batch, _ in feed.batches(4, seed=0, epoch=epoch):
            batch.zero_()
    feed.first(6)[0].zero_()
    assert np.isnan(inputs).all()


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("uint8", torch.uint8), ("int16", torch.int16), ("uint16", torch.int32),
        ("uint32", torch.int64), ("uint64", torch.int64), (">i4", torch.int32),
        (">f8", torch.float64), ("float16", torch.float16), ("bool", torch.bool),
        (">u2", torch.int32), ("complex64", torch.complex64),
    ],
)  # fmt: skip
def test_any_numeric_type_of_numpy_is_taken(dtype, wanted):
    array = np.array([0, 1, 1], dtype)
    batch = feed_of((np.zeros((3, 2)), array), "train").first(3)[1]
    assert batch.dtype == wanted
    assert batch.tolist() == [0, 1, 1]
    assert array.dtype == np.dtype(dtype)


def test_strides_of_any_kind_are_taken():
    array = np.arange(12.0).reshape(3, 4)[::-1, ::2]
    assert feed_of((array, np.arange(3)), "train").first(3)[0].tolist() == array.tolist()


Pair = namedtuple("Pair", "left right")


def test_a_nest_keeps_its_form():
    inputs = {"a": [torch.zeros(4, 2), Pair(np.zeros(4), torch.ones(4))]}
    batch, targets = feed_of((inputs, (torch.arange(4), torch.arange(4))), "train").first(2)
    assert isinstance(batch["a"], list)
    assert isinstance(batch["a"][1], Pair)
    assert batch["a"][1].right.shape == (2,)
    assert isinstance(targets, tuple)
    arguments, _ = feed_of((Arguments(torch.zeros(4), m=torch.ones(4)), np.arange(4)), "t").first(2)
    assert isinstance(arguments, Arguments)
    assert arguments.kwargs["m"].tolist() == [1, 1]


def test_only_the_examples_that_are_wanted_reach_a_collate_fn():
    seen = []

    def collate(items):
        seen.append(len(items))
        return packed(items)

    inputs, targets = feed_of(DataLoader(Lengths(), batch_size=8, collate_fn=collate), "t").first(3)
    assert seen == [3]
    assert targets.tolist() == [0, 1, 2]
    assert isinstance(inputs, PackedSequence)


def test_arrays_in_a_loaders_batches_become_tensors():
    def collate(items):
        return {"x": np.zeros((len(items), 2)), "y": None}, np.arange(len(items), dtype=np.uint16)

    inputs, targets = feed_of(DataLoader(Squares(), 4, collate_fn=collate), "train").first(2)
    assert inputs["x"].shape == (2, 2)
    assert inputs["y"] is None
    assert targets.dtype == torch.int32


def test_no_batch_of_a_training_has_one_example():
    for form in (DataLoader(Squares(9), 4, shuffle=True), Streamed(9), DataLoader(Squares(9), 8)):
        batches = targets_of(feed_of(form, "train").batches(4, seed=0, epoch=0))
        assert min(map(len, batches)) == 2
        assert set(flat(batches)) == set(range(9))
    loader = DataLoader(Squares(9), 4, shuffle=True, drop_last=True)
    assert [len(b) for b in targets_of(feed_of(loader, "train").batches(4, seed=0, epoch=0))] == [
        4,
        4,
    ]
    in_order = targets_of(feed_of(loader, "train").batches(4, seed=0, epoch=None))
    assert in_order == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_a_batch_sampler_of_the_user_chooses_the_examples_of_an_evaluation():
    batches = BatchSampler([5, 3, 1], 2, drop_last=True)
    feed = feed_of(DataLoader(Squares(), batch_sampler=batches), "valid")
    assert targets_of(feed.batches(1, seed=0, epoch=None)) == [[5, 3], [1]]
    assert targets_of([feed.first(1)]) == [[5]]


# --- what is refused ------------------------------------------------------------------------------


class Dictionaries(Squares):
    def __getitem__(self, index):
        return {"pixels": torch.zeros(2), "label": index}


class Failing(Squares):
    def __getitem__(self, index):
        raise OSError(f"no file {index}")


class Sizeless(Dataset):
    def __getitem__(self, index):
        return index


zeros, numbers = torch.zeros(4, 2), torch.arange(4)


@pytest.mark.parametrize(
    ("examples", "kind", "message"),
    [
        (zeros, TypeError, r"the train split must be \(inputs, targets\) of tensors.*got Tensor"),
        ("cifar", TypeError, "got str"),
        ((zeros, numbers, numbers), TypeError, "got 3 values instead of 2"),
        ((zeros, [0, 1, 2, 3]), TypeError, r"targets\[0\] of the train split .* got int"),
        ((zeros, torch.arange(3)), ValueError, "inputs has 4 rows and targets has 3"),
        (({"a": zeros, "b": zeros[:3]}, numbers), ValueError, r"'a'\] has 4 rows .*\['b'\] has 3"),
        ((Arguments(zeros, m=zeros[:1]), numbers), ValueError, r"inputs.kwargs\['m'\] has 1"),
        (([torch.zeros(3), torch.zeros(5)], numbers), ValueError, "different sizes need a Dataset"),
        ((zeros[:0], numbers[:0]), ValueError, "at least one example, got none"),
        ((torch.tensor(1.0), numbers), ValueError, "inputs .* a first dimension of examples"),
        ((zeros, {}), TypeError, "the train split has no targets"),
        ((zeros, np.array(["a", "b", "c", "d"])), TypeError, "NumPy type <U1: .*number of each"),
        ((zeros, np.array([0, None, 1, 2])), TypeError, "targets .* is of the NumPy type object"),
        ((zeros, np.zeros(4, np.longdouble)), TypeError, "NumPy type float128"),
        ((zeros, np.ma.zeros(4)), TypeError, "targets of the train split is a masked array"),
        ((zeros.to_sparse(), numbers), TypeError, "must be dense, got torch.sparse_coo"),
        ((zeros, np.full(4, 2**63, np.uint64)), ValueError, "end at 2.63 - 1, got 92233"),
        (
            ({"x": np.array([0, 1, np.nan, np.inf])}, numbers),
            ValueError,
            r"inputs\['x'\] .* NaN or infinity in 2 of 4 examples, first in example 2",
        ),
        (
            (zeros, torch.tensor([0, -torch.inf, 0, 0])),
            ValueError,
            "targets .* in 1 of 4 examples, first in example 1; .* TensorDataset",
        ),
        (Squares(0), ValueError, "the train split needs at least one example"),
        (DataLoader(Squares(0)), ValueError, "the train split needs at least one example"),
        (Sizeless(), TypeError, "needs a length"),
    ],
)  # fmt: skip
def test_bad_examples_are_refused_in_one_line(examples, kind, message):
    with pytest.raises(kind, match=message) as caught:
        feed_of(examples, "train").first(4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("examples", "kind", "message"),
    [
        (Dictionaries(), TypeError, r"pair \(inputs, targets\), got a dict .* 'pixels', 'label'"),
        (TensorDataset(zeros), TypeError, "got 1 values"),
        (DataLoader(zeros, batch_size=2), TypeError, "got Tensor"),
        (Failing(), OSError, "no file 10"),
        (DataLoader(Squares(), 20, drop_last=True), ValueError, "the train split gave no batch"),
        (Streamed(0), ValueError, "the train split gave no batch"),
    ],
)  # fmt: skip
def test_bad_batches_are_refused_and_errors_of_the_user_reach_the_caller(examples, kind, message):
    feed = feed_of(examples, "train")
    before = Generators.now()
    with pytest.raises(kind, match=message):
        list(feed.batches(2, seed=0, epoch=0))
    assert not before.moved()


def test_an_error_in_a_worker_reaches_the_caller():
    feed = feed_of(DataLoader(Failing(), num_workers=1), "train")
    with pytest.raises(OSError, match="no file 0"):
        next(iter(feed.batches(2, seed=0, epoch=0)))


def test_what_is_not_finite_may_come_in_a_data_set():
    inputs = torch.tensor([0.0, torch.nan, -torch.inf])
    batch, _ = feed_of(TensorDataset(inputs, torch.arange(3)), "train").first(3)
    assert batch.isfinite().tolist() == [True, False, False]


@pytest.mark.parametrize("form", ["tensors", "data set", "stream"])
def test_a_batch_has_an_example(form):
    with pytest.raises(ValueError, match="at least one example, got the size 0"):
        feed_of(FORMS[form](), "train").batches(0, seed=0, epoch=0)


def test_targets_in_memory_can_be_looked_at_without_a_pass(tmp_path):
    np.save(tmp_path / "y.npy", np.arange(4))
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    targets = feed_of((zeros, {"y": np.array([3, 2, 1, 0], ">u2")}), "train").targets
    assert targets["y"].tolist() == [3, 2, 1, 0]
    assert feed_of((zeros, mapped), "train").targets is None
    assert feed_of(Squares(), "train").targets is None
