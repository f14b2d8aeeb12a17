"""Which channels of a network belong together: they are kept or removed as one.

Each position along each axis of each parameter begins as a unit of its own. The recorded operations
then say which units are the same: an addition couples the channels of both sides, a convolution the
channels of its input with those of its weight, a reshape to heads the channels at the same place of
each head. What an operation does not treat alike stays fixed, with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .coupled_layers import CoupledLayers
from .recording import ForwardPass, Held, Operation
from .units import Axis

_SAME = {  # the results have the axes of the arguments, as for what torch calls pointwise
    *("clone", "_to_copy", "detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous"),
    *("copy", "fill", "zero", "dropout", "native_dropout", "feature_dropout", "alpha_dropout"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "bernoulli"),
    *("uniform", "normal", "exponential", "hardswish", "log_sigmoid_forward", "rsub"),
    *(
        "masked_fill",
        "floor_divide",
        "where",
        "_conj",
        "complex",
        "polar",
        "_prelu_kernel",
        "rrelu_with_noise",
    ),
    *("_softmax", "_log_softmax", "_safe_softmax"),
}
_CONSTANT = {  # new tensors of one value, which can have any size
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"),
}
_REDUCE = {
    *("mean", "sum", "nansum", "var", "std", "var_mean", "std_mean", "amax", "amin", "aminmax"),
    *("max", "min", "prod", "norm", "linalg_vector_norm", "logsumexp", "any", "all", "argmax"),
    *("argmin", "median", "count_nonzero"),
}
_ORDERED = {"cumsum", "cumprod", "roll", "flip", "sort", "topk", "cummax", "cummin", "logcumsumexp"}
_VIEWS = {"select", "slice", "view", "reshape", "unsqueeze", "squeeze", "transpose", "permute"}
_SPATIAL = re.compile(  # the trailing axes are positions, not channels: how many
    r"(?:_?mkldnn_|_?adaptive_|fractional_|quantized_)?_?(?:avg|max)_pool(\d)d(?:_with_indices)?"
    r"|_?_?adaptive_(?:avg|max)_pool(\d)d"
    r"|_?upsample_\w+?(\d)d(?:_aa)?"
    r"|(?:reflection|replication)_pad(\d)d"
    r"|grid_sampler_(\d)d"
)


class Couplings(CoupledLayers):
    """The units of a recorded pass, and which of them are the same or fixed.

    Args:
        recorded: the pass.
        turns: for an operation, by its index, that can be cut along one of several axes: which of
            them is taken, the largest (0) by default.
        keep: names of parameters and buffers whose channels stay fixed.

    Attributes:
        held: for each parameter and buffer that was used, the unit along each axis: equal numbers
            are coupled, 0 is fixed.
    """

    def __init__(
        self, recorded: ForwardPass, turns: Mapping[int, int], keep: Sequence[str] = ()
    ) -> None:
        super().__init__(turns)
        for held in recorded.held.values():
            self._labels[held.index] = tuple(map(self._fresh, held.shape))
        self._known = self._count
        self._read = {held.index for held in recorded.outputs}
        for step in reversed(recorded.steps):
            if self._is_used(step):
                self._read |= {held.index for held in step.tensors}
        for index, step in enumerate(recorded.steps):
            self._index, self._step = index, step
            if self._is_used(step):
                self._run(step)
        for output in recorded.outputs:
            for axis in self.of(output):
                self._fix(axis, "it is an output of the network")
        for name in keep:
            for axis in self._labels[recorded.held[name].index]:
                self._fix(axis, "it is kept as it is")
        self._settle()
        self.held = {
            name: tuple(self._same[axis] for axis in self._labels[held.index])
            for name, held in recorded.held.items()
        }

    @property
    def free(self) -> int:
        """How many different units of parameters are not fixed."""
        return len(np.unique(np.concatenate([a for axes in self.held.values() for a in axes])))

    # Operations

    def _is_used(self, step: Operation) -> bool:
        """Whether more than the shape of what a step gives is used."""
        return step.name not in _VIEWS or any(held.index in self._read for held in step.results)

    def _run(self, step: Operation) -> None:
        rule = getattr(self, f"_op_{step.name}", None)
        given: Sequence[tuple[Axis, ...]]
        if rule is not None:
            try:
                given = rule(**step.arguments)
            except (IndexError, KeyError, TypeError, ValueError):  # it is called in another way
                given = self._unknown(step)
        elif found := _SPATIAL.fullmatch(step.name):
            given = self._spatial(int(next(filter(None, found.groups()))))
        elif step.name in _CONSTANT:
            given = [tuple(map(self._fresh, step.results[0].shape))]
        elif step.name in _REDUCE and step.tensors:
            given = self._reduced(step)
        elif step.name in _ORDERED:
            given = self._ordered(step)
        elif step.pointwise or step.name in _SAME:
            given = self._pointwise(step)
        else:
            given = self._unknown(step)
        for result, label in zip(step.results, given, strict=False):
            sizes = tuple(map(len, label))
            if sizes != result.shape:
                self._unknown(step)
                return
            self._labels[result.index] = tuple(label)

    def _pointwise(self, step: Operation) -> list[tuple[Axis, ...]]:
        held = step.tensors
        return [self._broadcast(held, result.shape) for result in step.results]

    def _reduced(self, step: Operation) -> list[tuple[Axis, ...]]:
        held = step.tensors[0]
        label = list(self.of(held))
        dims = step.arguments.get("dim")
        keep = step.arguments.get("keepdim", False)
        if len(step.tensors) > 1:  # max of two tensors
            return self._pointwise(step)
        dims = (
            range(len(label)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
        )
        gone = {dim % max(1, len(label)) for dim in dims}
        if self._tells_places(step):
            for place in gone:
                self._fix(label[place], f"{self._here} tells which channel it is")
        kept = [
            self._nothing(1) if place in gone else axis
            for place, axis in enumerate(label)
            if keep or place not in gone
        ]
        return [tuple(kept)] * len(step.results)

    def _tells_places(self, step: Operation) -> bool:
        """Whether the result has numbers of channels, which the network uses."""
        if step.name in ("argmax", "argmin"):
            return True
        with_places = step.name in ("max", "min", "median") and len(step.results) > 1
        return with_places and step.results[1].index in self._read

    def _ordered(self, step: Operation) -> list[tuple[Axis, ...]]:
        held = step.tensors[0]
        label = list(self.of(held))
        dims = step.arguments.get("dim", step.arguments.get("dims"))
        dims = (
            range(len(label)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
        )
        for dim in dims:
            self._fix(label[dim], f"{self._here} depends on the order of channels")
            label[dim] = self._nothing(step.results[0].shape[dim])
        return [tuple(label)] * len(step.results)

    # Views and copies

    def _view(self, held: Held) -> list[tuple[Axis, ...]]:
        before = [(n, axis) for n, axis in zip(held.shape, self.of(held), strict=True) if n != 1]
        after = [n for n in self._step.results[0].shape if n != 1]
        if any(n == 0 for n in held.shape):
            return []
        found: list[Axis] = []
        while before or after:
            took, gave = [before.pop(0)], [after.pop(0)]
            while (many := prod(n for n, _ in took)) != (few := prod(gave)):
                if many < few:
                    took.append(before.pop(0))
                else:
                    gave.append(after.pop(0))
            axes = [axis for _, axis in took]
            found += axes if len(took) == len(gave) == 1 else self._split(self._merged(axes), gave)
        rest = iter(found)
        shape = self._step.results[0].shape
        return [tuple(self._nothing(1) if n == 1 else next(rest) for n in shape)]

    def _merged(self, axes: Sequence[Axis]) -> Axis:
        """The units along several axes in a row, when they become one."""
        cut = [place for place, axis in enumerate(axes) if axis.any()]
        if not cut:
            return self._nothing(prod(map(len, axes)))
        kept = max(cut, key=lambda place: (self._is_known(axes[place]), len(axes[place])))
        for place in cut:
            if place != kept:
                self._fix(axes[place], f"two widths become one axis in {self._here}")
        before, after = prod(map(len, axes[:kept])), prod(map(len, axes[kept + 1 :]))
        return np.tile(np.repeat(axes[kept], after), before)

    def _split(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """The units along several axes, which one axis becomes: one of them is cut."""
        if not axis.any() or len(sizes) == 1:
            return [*map(self._nothing, sizes)] if len(sizes) > 1 else [axis]
        grid = axis.reshape(*sizes)
        ways = [np.moveaxis(grid, k, 0).reshape(n, -1) for k, n in enumerate(sizes)]
        plain = [k for k, way in enumerate(ways) if (way == way[:, :1]).all()]
        # As it was before it became one axis; else the largest, and of equal sizes the last.
        kept = plain[0] if plain else len(sizes) - 1 - self._turn(sizes[::-1], axis)
        units = ways[kept]
        self._alike(units, 1)
        return [
            np.ascontiguousarray(units[:, 0]) if place == kept else self._nothing(size)
            for place, size in enumerate(sizes)
        ]

    def _op_view(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._view(arguments["input"])

    _op__unsafe_view = _op_reshape = _op__reshape_alias = _op_view_copy = _op_view
    _op__reshape_copy = _op_view

    def _op_as_strided(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        held = arguments["input"]
        if held.shape != self._step.results[0].shape:
            return self._unknown(self._step)
        return [self.of(held)]  # another layout of the same values

    def _op_expand(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, shape = self.of(arguments["input"]), self._step.results[0].shape
        before = (*map(self._nothing, [1] * (len(shape) - len(label))), *label)
        return [tuple(map(self._repeated, before, shape))]

    def _repeated(self, axis: Axis, length: int) -> Axis:
        """The units along an axis that an axis becomes; one value in a row can have any length."""
        if len(axis) == 1:
            return self._fresh(length)
        return np.tile(axis, length // len(axis)) if len(axis) != length else axis

    _op_expand_copy = _op_expand

    def _op_permute(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = self.of(arguments["input"])
        return [tuple(label[dim] for dim in arguments["dims"])]

    def _op_transpose(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = list(self.of(arguments["input"]))
        if label:
            a, b = arguments["dim0"], arguments["dim1"]
            label[a], label[b] = label[b], label[a]
        return [tuple(label)]

    def _op_t(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return [self.of(arguments["input"])[::-1]]

    def _op_unsqueeze(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = list(self.of(arguments["input"]))
        label.insert(arguments["dim"] % (len(label) + 1), self._nothing(1))
        return [tuple(label)]

    def _op_squeeze(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._view(arguments["input"])

    def _op_select(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = list(self.of(arguments["input"]))
        self._fix(label.pop(arguments["dim"]), f"one channel is taken by {self._here}")
        return [tuple(label)]

    def _op_unbind(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_select(**arguments) * len(self._step.results)

    def _part(self, axis: Axis, start: int, stop: int, step: int = 1) -> Axis:
        """The units of a slice: a slice cuts an axis into equal parts, which are cut alike."""
        part = axis[start:stop:step]
        if len(part) == len(axis) or not axis.any():
            return part
        if step == 1 and len(part) and len(axis) % len(part) == 0 and start % len(part) == 0:
            self._alike(axis.reshape(-1, len(part)), 0)
        elif step > 1 and len(axis) == step * len(part):
            self._alike(axis.reshape(-1, step), 1)
        else:
            self._fix(axis, f"a part of the channels is taken by {self._here}")
            return self._nothing(len(part))
        return np.ascontiguousarray(part)

    def _op_slice(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = list(self.of(arguments["input"]))
        dim, stop = arguments["dim"], arguments["end"]
        bounds = slice(arguments["start"], stop, arguments["step"]).indices(len(label[dim]))
        label[dim] = self._part(label[dim], *bounds)
        return [tuple(label)]

    def _parts(self, held: Held, dim: int, sizes: Sequence[int]) -> list[tuple[Axis, ...]]:
        label = list(self.of(held))
        axis, found, start = label[dim], [], 0
        block = int(np.gcd.reduce(sizes))
        if axis.any() and block > 1 and len(sizes) > 1:
            self._alike(axis.reshape(-1, block), 0)  # each part keeps its share
        elif axis.any() and len(sizes) > 1:
            self._fix(axis, f"it is split into unequal parts by {self._here}")
        for size in sizes:
            part = np.ascontiguousarray(axis[start : start + size])
            found.append((*label[:dim], part, *(label[dim:][1:] if dim != -1 else ())))
            start += size
        return found

    def _op_split(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        held, dim = arguments["input"], arguments["dim"]
        return self._parts(held, dim, [result.shape[dim] for result in self._step.results])

    _op_unsafe_split = _op_split_with_sizes = _op_unsafe_chunk = _op_chunk = _op_split
    _op_split_with_sizes_copy = _op_split_copy = _op_unsafe_split_with_sizes = _op_split

    def _op_cat(self, tensors: Sequence[Held], dim: int = 0) -> list[tuple[Axis, ...]]:
        held = [h for h in tensors if h.shape != (0,)]
        labels = [self.of(h) for h in held]
        result = list(labels[0])
        dim %= len(result)
        for place in range(len(result)):
            if place != dim:
                for label in labels[1:]:
                    self._tie(labels[0][place], label[place])
                result[place] = self._first([label[place] for label in labels])
        result[dim] = np.concatenate([label[dim] for label in labels])
        return [tuple(result)]

    def _op_stack(self, tensors: Sequence[Held], dim: int = 0) -> list[tuple[Axis, ...]]:
        label = list(self._broadcast(tensors, tensors[0].shape))
        label.insert(dim % (len(label) + 1), self._nothing(len(tensors)))
        return [tuple(label)]

    def _op_repeat(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, times = self.of(arguments["input"]), arguments["repeats"]
        shape = self._step.results[0].shape
        before = (*map(self._nothing, [1] * (len(times) - len(label))), *label)
        return [tuple(map(self._repeated, before, shape))]

    def _op_constant_pad_nd(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, pad = list(self.of(arguments["input"])), arguments["pad"]
        for place in range(len(pad) // 2):
            left, right = pad[2 * place : 2 * place + 2]
            axis = label[-1 - place]
            axis = axis[max(0, -left) : len(axis) - max(0, -right)]
            sides = (self._nothing(max(0, left)), self._nothing(max(0, right)))
            if min(left, right) < 0:
                self._fix(label[-1 - place], f"a part of the channels is taken by {self._here}")
            label[-1 - place] = np.concatenate([sides[0], axis, sides[1]])
        return [tuple(label)]

    def _op_index(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, indices = self.of(arguments["input"]), arguments["indices"]
        used = _indexed(indices, arguments["input"].shape)
        for place in used:
            self._fix(label[place], f"it is indexed by {self._here}")
        for held in filter(None, indices):
            for axis in self.of(held):
                self._fix(axis, f"it is an index of {self._here}")
        shape = self._step.results[0].shape
        kept = [axis for place, axis in enumerate(label) if place not in used]
        new = len(shape) - len(kept)
        together = used == [*range(used[0], used[0] + len(used))]
        first = used[0] if together else 0
        found = [*kept[:first], *map(self._nothing, shape[first : first + new]), *kept[first:]]
        return [tuple(found)]

    _op__unsafe_index = _op_index

    def _op_index_select(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, dim = list(self.of(arguments["input"])), arguments["dim"]
        self._fix(label[dim], f"it is indexed by {self._here}")
        label[dim] = self._nothing(self._step.results[0].shape[dim])
        return [tuple(label)]

    def _op_gather(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, dim = list(self.of(arguments["input"])), arguments["dim"]
        index = list(self.of(arguments["index"]))
        self._fix(label[dim], f"it is indexed by {self._here}")
        found = []
        for place, (one, other) in enumerate(zip(label, index, strict=True)):
            if place == dim % len(label):
                found.append(other)
                continue
            if len(one) != len(other):
                self._fix(one, f"it is indexed by {self._here}")
                one = self._nothing(len(other))
            else:
                self._tie(one, other)
            found.append(one)
        return [tuple(found)]

    def _op_index_put(
        self, input: Held, indices: Sequence[Held | None], values: Held, **_: Any
    ) -> list[tuple[Axis, ...]]:
        label, places = self.of(input), _indexed(indices, input.shape)
        for place in places:
            self._fix(label[place], f"it is written to by {self._here}")
        for held in filter(None, indices):
            for axis in self.of(held):
                self._fix(axis, f"it is an index of {self._here}")
        if places != [*range(len(places))]:
            return self._unknown(self._step)
        kept = label[len(places) :]
        given = self.of(values)
        for one, other in zip(reversed(kept), reversed(given), strict=False):
            if len(one) == len(other):
                self._tie(one, other)
        for axis in given[: max(0, len(given) - len(kept))]:
            self._fix(axis, f"it is written by {self._here}")
        return [label]

    _op__index_put_impl = _op__unsafe_index_put = _op_index_put

    def _written(
        self, input: Held, dim: int, index: Held, source: Held | None = None, **others: Any
    ) -> list[tuple[Axis, ...]]:
        """Values are written to places along one axis, or added to what is there."""
        label = self.of(input)
        for held in filter(None, (index, source or others.get("src"))):
            wide = len(held.shape) == len(label)  # else one index for each place
            for place, axis in enumerate(self.of(held)) if wide else ():
                if place == dim % len(label) or len(axis) != len(label[place]):
                    self._fix(axis, f"it is written by {self._here}")
                    self._fix(label[place], f"it is written to by {self._here}")
                else:
                    self._tie(label[place], axis)
        if label:
            self._fix(label[dim], f"it is written to by {self._here}")
        return [label]

    _op_index_add = _op_index_copy = _op_index_reduce = _op_index_fill = _written
    _op_scatter = _op_scatter_add = _op_scatter_reduce = _written

    def _op_max_unpool2d(self, input: Held, indices: Held, **_: Any) -> list[tuple[Axis, ...]]:
        for one, other in zip(self.of(input), self.of(indices), strict=True):
            self._tie(one, other)
        return self._spatial(2)

    def _op_max_unpool3d(self, input: Held, indices: Held, **_: Any) -> list[tuple[Axis, ...]]:
        for one, other in zip(self.of(input), self.of(indices), strict=True):
            self._tie(one, other)
        return self._spatial(3)

    def _op_col2im(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, times = self.of(arguments["input"]), prod(arguments["kernel_size"])
        units = label[-2].reshape(-1, times)
        self._alike(units, 1)
        shape = self._step.results[0].shape
        return [(*label[:-2], np.ascontiguousarray(units[:, 0]), *map(self._nothing, shape[-2:]))]

    def _op_unfold(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, dim = list(self.of(arguments["input"])), arguments["dimension"]
        self._fix(label[dim], f"its positions are mixed by {self._here}")
        label[dim] = self._nothing(self._step.results[0].shape[dim])
        return [(*label, self._nothing(arguments["size"]))]

    def _op_pixel_shuffle(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, times = self.of(arguments["input"]), arguments["upscale_factor"] ** 2
        units = label[-3].reshape(-1, times)
        self._alike(units, 1)
        shape = self._step.results[0].shape
        return [(*label[:-3], np.ascontiguousarray(units[:, 0]), *map(self._nothing, shape[-2:]))]

    def _op_pixel_unshuffle(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, times = self.of(arguments["input"]), arguments["downscale_factor"] ** 2
        shape = self._step.results[0].shape
        return [(*label[:-3], np.repeat(label[-3], times), *map(self._nothing, shape[-2:]))]

    def _op_im2col(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, times = self.of(arguments["input"]), prod(arguments["kernel_size"])
        last = self._step.results[0].shape[-1]
        return [(*label[:-3], np.repeat(label[-3], times), self._nothing(last))]

    def _op_channel_shuffle(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label, groups = list(self.of(arguments["input"])), arguments["groups"]
        units = label[1].reshape(groups, -1)
        self._alike(units, 0)
        label[1] = units.T.reshape(-1)
        return [tuple(label)]

    _op_native_channel_shuffle = _op_channel_shuffle

    def _op_view_as_real(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return [(*self.of(arguments["input"]), self._nothing(2))]

    def _op_view_as_complex(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return [self.of(arguments["input"])[:-1]]

    def _fft(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        label = list(self.of(arguments["input"]))
        for dim in arguments["dim"]:
            self._fix(label[dim], f"{self._here} depends on the order of channels")
            label[dim] = self._nothing(self._step.results[0].shape[dim])
        return [tuple(label)]

    _op__fft_r2c = _op__fft_c2r = _op__fft_c2c = _fft


def _indexed(indices: Sequence[Held | None], shape: Sequence[int]) -> list[int]:
    """The axes that are indexed; a mask has several."""
    found, place = list[int](), 0
    for held in indices:
        wide = held is not None and held.mask
        count = len(held.shape) if held is not None and wide else 1
        if held is not None:
            found += range(place, place + count)
        place += count
    return found
