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
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_leaves

from .recording import Held, Pass, Step

Axis = NDArray[np.int64]
"""The unit of each position along an axis; 0 for a position that is fixed."""

_SAME = {  # the results have the axes of the arguments, as for what torch calls pointwise
    *("clone", "_to_copy", "detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous"),
    *("copy", "fill", "zero", "dropout", "native_dropout", "feature_dropout", "alpha_dropout"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "bernoulli"),
    *("uniform", "normal", "exponential", "hardswish", "log_sigmoid_forward", "rsub"),
    *("masked_fill", "floor_divide", "where", "_conj", "_prelu_kernel", "rrelu_with_noise"),
    *("_softmax", "_log_softmax", "_safe_softmax"),
}
_REDUCE = {
    *("mean", "sum", "nansum", "var", "std", "var_mean", "std_mean", "amax", "amin", "aminmax"),
    *("max", "min", "prod", "norm", "linalg_vector_norm", "logsumexp", "any", "all", "argmax"),
    *("argmin", "median", "count_nonzero"),
}
_ORDERED = {"cumsum", "cumprod", "roll", "flip", "sort", "topk", "cummax", "cummin", "logcumsumexp"}
_SPATIAL = re.compile(  # the trailing axes are positions, not channels: how many
    r"(?:_?mkldnn_|_?adaptive_|fractional_|quantized_)?_?(?:avg|max)_pool(\d)d(?:_with_indices)?"
    r"|_?_?adaptive_(?:avg|max)_pool(\d)d"
    r"|_?upsample_\w+?(\d)d(?:_aa)?"
    r"|(?:reflection|replication)_pad(\d)d"
    r"|grid_sampler_(\d)d"
)


class Couplings:
    """The units of a recorded pass, and which of them are the same or fixed.

    Args:
        recorded: the pass.
        turns: for an operation, by its index, that can be cut along one of several axes: which of
            them is taken, the largest (0) by default.
        keep: names of parameters and buffers whose channels stay fixed.

    Attributes:
        held: for each parameter and buffer that was used, the unit along each axis: equal numbers
            are coupled, 0 is fixed.
        reasons: why units are fixed, by a number that `reason_of` finds.
        sites: the operations that can be cut along one of several axes: the sizes of these axes.
    """

    def __init__(self, recorded: Pass, turns: Mapping[int, int], keep: Sequence[str] = ()) -> None:
        self._turns = turns
        self._count = 1
        self._labels: dict[int, tuple[Axis, ...]] = {}
        self._ties: list[tuple[Axis, Axis]] = []
        self._fixed: list[tuple[Axis, str]] = []
        self._none: dict[int, Axis] = {}
        self.sites: dict[int, tuple[tuple[int, ...], Axis]] = {}
        for held in recorded.held.values():
            self._labels[held.index] = tuple(map(self._fresh, held.shape))
        for index, step in enumerate(recorded.steps):
            self._index, self._step = index, step
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

    # Units

    def of(self, held: Held) -> tuple[Axis, ...]:
        """The units along each axis of a tensor, as they were given out."""
        label = self._labels.get(held.index)
        if label is None:
            label = self._labels[held.index] = tuple(map(self._nothing, held.shape))
        return label

    def found(self, held: Held) -> tuple[Axis, ...]:
        """The units along each axis of a tensor: equal numbers are coupled, 0 is fixed."""
        return tuple(self._same[axis] for axis in self.of(held))

    def same(self, units: Axis) -> Axis:
        """The units that these ones are coupled with; 0 if fixed."""
        return self._same[units]

    @property
    def free(self) -> int:
        """How many different units of parameters are not fixed."""
        return len(np.unique(np.concatenate([a for axes in self.held.values() for a in axes])))

    def reason(self, units: Axis) -> str:
        """Why the first of these fixed units is fixed."""
        roots = {int(root) for root in np.unique(self._root[units]) if root}
        found = (why for root, why in self._why.items() if root in roots)
        return next(found, "its size is fixed")

    def _fresh(self, length: int) -> Axis:
        if length < 2:
            return self._nothing(length)
        self._count += length
        return np.arange(self._count - length, self._count)

    def _nothing(self, length: int) -> Axis:
        if length not in self._none:
            self._none[length] = np.zeros(length, np.int64)
        return self._none[length]

    def _tie(self, a: Axis, b: Axis, why: str = "") -> None:
        if a is b:
            return
        fixed = (a == 0) | (b == 0)
        if fixed.any():
            why = why or f"it meets a size that is no width in {self._here}"
            self._fix(a[fixed], why)
            self._fix(b[fixed], why)
            a, b = a[~fixed], b[~fixed]
        if len(a):
            self._ties.append((a, b))

    def _fix(self, axis: Axis, why: str = "") -> None:
        axis = axis[axis != 0]
        if len(axis):
            self._fixed.append((axis, why or f"of {self._here}"))

    def _settle(self) -> None:
        """Find the units that are the same, and those that are fixed."""
        root = np.arange(self._count)
        if self._ties:
            pairs = np.stack([np.concatenate(side) for side in zip(*self._ties, strict=True)])
            one, other = np.unique(pairs, axis=1)
            while True:
                low = np.minimum(root[one], root[other])
                found = root.copy()
                np.minimum.at(found, root[one], low)
                np.minimum.at(found, root[other], low)
                while not np.array_equal(found, found[found]):
                    found = found[found]
                if np.array_equal(found, root):
                    break
                root = found
        self._root = root
        self._why: dict[int, str] = {}
        for units, why in self._fixed:
            for each in np.unique(root[units]):
                self._why.setdefault(int(each), why)
        self._same = root.copy()
        self._same[np.isin(root, [0, *self._why])] = 0

    @property
    def _here(self) -> str:
        where = f"{self._step.module!r}" if self._step.module else "the network's own forward"
        return f"{self._step.name} in {where}"

    # Operations

    def _run(self, step: Step) -> None:
        rule = getattr(self, f"_op_{step.name}", None)
        if rule is not None:
            given = rule(**step.arguments)
        elif found := _SPATIAL.fullmatch(step.name):
            given = self._spatial(int(next(filter(None, found.groups()))))
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

    def _unknown(self, step: Step) -> list[tuple[Axis, ...]]:
        factory = step.name.startswith("new_") or step.name in ("_local_scalar_dense", "item")
        for held in () if factory else step.tensors:
            for axis in self.of(held):
                self._fix(axis, f"{self._here} is not known to treat channels alike")
        return []

    def _pointwise(self, step: Step) -> list[tuple[Axis, ...]]:
        held = step.tensors
        return [self._broadcast(held, result.shape) for result in step.results]

    def _broadcast(self, held: Sequence[Held], shape: Sequence[int]) -> tuple[Axis, ...]:
        label = []
        for place in range(-len(shape), 0):
            axes = [
                self.of(h)[place]
                for h in held
                if len(h.shape) >= -place and h.shape[place] == shape[place] > 1
            ]
            for axis in axes[1:]:
                self._tie(axes[0], axis)
            label.append(self._first(axes) if axes else self._nothing(shape[place]))
        return tuple(label)

    @staticmethod
    def _first(axes: Sequence[Axis]) -> Axis:
        return next((axis for axis in axes if axis.any()), axes[0])

    def _reduced(self, step: Step) -> list[tuple[Axis, ...]]:
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
        kept = [
            self._nothing(1) if place in gone else axis
            for place, axis in enumerate(label)
            if keep or place not in gone
        ]
        return [tuple(kept)] * len(step.results)

    def _ordered(self, step: Step) -> list[tuple[Axis, ...]]:
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

    def _spatial(self, count: int) -> list[tuple[Axis, ...]]:
        step = self._step
        held = step.tensors[0]
        label = self.of(held)
        for axis in label[len(label) - count :]:
            self._fix(axis, f"its positions are mixed by {self._here}")
        result = step.results[0].shape
        kept = label[: len(label) - count]
        return [(*kept, *map(self._nothing, result[len(kept) :]))] * len(step.results)

    # Layers

    def _op_convolution(
        self, input: Held, weight: Held, bias: Held | None, transposed: bool, groups: int, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x, w = self.of(input), self.of(weight)
        batched = len(x) == len(w)
        channels = x[1] if batched else x[0]
        for axis in (*w[2:], *(x[2:] if batched else x[1:])):
            self._fix(axis, f"its positions are mixed by {self._here}")
        ins, outs = (w[0], w[1]) if transposed else (w[1], w[0])
        if groups > 1:
            outs = self._grouped(channels, w[0], w[1], transposed, groups)
        else:
            self._tie(channels, ins)
        if bias is not None:
            self._tie(outs, self.of(bias)[0])
        result = self._step.results[0].shape
        label = [x[0], outs] if batched else [outs]
        return [(*label, *map(self._nothing, result[len(label) :]))]

    def _grouped(self, channels: Axis, w0: Axis, w1: Axis, transposed: bool, groups: int) -> Axis:
        """Tie the channels of a grouped convolution; the units of the output."""
        inside = len(channels) // groups
        least = min(inside, len(w1) if transposed else len(w0) // groups)
        by_group = self._turn([groups, least], w0) == 0 if least > 1 else True
        ins = channels.reshape(groups, inside)
        whole = w0.reshape(groups, -1)
        if by_group:  # whole groups are cut
            self._alike(ins, 1)
            self._alike(whole, 1)
            self._tie(ins[:, 0], whole[:, 0])
            self._fix(w1, f"it is inside a group of {self._here}")
            return np.repeat(whole[:, 0], len(w1)) if transposed else w0
        self._alike(ins, 0)
        self._alike(whole, 0)
        if transposed:
            self._tie(ins[0], whole[0])
            return np.tile(w1, groups)
        self._tie(ins[0], w1)
        return w0

    def _alike(self, units: Axis, axis: int) -> None:
        """Tie units along an axis of a matrix of units."""
        first = np.broadcast_to(units.take([0], axis), units.shape)
        rest = [slice(None), slice(None)]
        rest[axis] = slice(1, None)
        self._tie(first[tuple(rest)].reshape(-1), units[tuple(rest)].reshape(-1))

    def _turn(self, sizes: Sequence[int], units: Axis) -> int:
        """Which of several axes is cut: the largest, or the turn that is asked for."""
        order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
        self.sites[self._index] = tuple(sizes), units
        return order[self._turns.get(self._index, 0) % len(order)]

    def _op__convolution(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_convolution(**arguments)

    def _op_tril(self, **_: Any) -> list[tuple[Axis, ...]]:
        return self._spatial(2)

    _op_triu = _op_tril

    _op_mkldnn_convolution = _op_convolution_overrideable = _op__convolution

    def _op_linear(
        self, input: Held, weight: Held, bias: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x, w = self.of(input), self.of(weight)
        self._tie(x[-1], w[-1])
        if bias is not None:
            self._tie(w[0], self.of(bias)[0])
        return [(*x[:-1], w[0])] if len(w) > 1 else [x[:-1]]

    def _op_mm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        a, b = (self.of(held) for held in list(arguments.values())[:2])
        self._tie(a[-1], b[-2] if len(b) > 1 else b[0])
        for one, other in zip(a[:-2], b[:-2], strict=True):
            self._tie(one, other)
        batch = [self._first(pair) for pair in zip(a[:-2], b[:-2], strict=True)]
        rows = a[-2:-1]
        return [(*batch, *rows, *(b[-1:] if len(b) > 1 else ()))]

    def _op_bmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    def _op_mv(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    def _op_dot(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_mm(**arguments)

    def _op_addmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        bias, *pair = list(arguments.values())[:3]
        (label,) = self._op_mm(a=pair[0], b=pair[1])
        given = self.of(bias)
        for place in range(-len(given), 0):
            if len(given[place]) > 1:
                self._tie(given[place], label[place])
        return [label]

    def _op_baddbmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_addmm(**arguments)

    def _op_addmv(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._op_addmm(**arguments)

    def _op_addbmm(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        return self._unknown(self._step)

    def _op__trilinear(self, **_: Any) -> list[tuple[Axis, ...]]:
        return self._unknown(self._step)

    def _op_embedding(self, weight: Held, indices: Held, **_: Any) -> list[tuple[Axis, ...]]:
        w = self.of(weight)
        self._fix(w[0], f"it is looked up by {self._here}")
        return [(*self.of(indices), w[1])]

    def _normed(self, input: Held, *held: Held | None) -> list[tuple[Axis, ...]]:
        """A norm whose tensors have the channels of axis 1."""
        x = self.of(input)
        for each in held:
            if each is not None and each.shape != (0,):
                self._tie(x[1] if len(x) > 1 else x[0], self.of(each)[0])
        saved = [self.of(h) for h in self._step.results[1:]]
        return [x, *saved]

    def _op_native_batch_norm(
        self, input: Held, weight: Held | None = None, bias: Held | None = None, **others: Any
    ) -> list[tuple[Axis, ...]]:
        running = [h for name, h in others.items() if name in ("running_mean", "running_var")]
        return self._normed(input, weight, bias, *running)

    _op__native_batch_norm_legit = _op_native_batch_norm
    _op__native_batch_norm_legit_no_training = _op_native_batch_norm
    _op_cudnn_batch_norm = _op_native_batch_norm
    _op__batch_norm_impl_index = _op_native_batch_norm
    _op__batch_norm_with_update = _op_native_batch_norm

    def _op_native_layer_norm(
        self,
        input: Held,
        normalized_shape: Sequence[int],
        weight: Held | None = None,
        bias: Held | None = None,
        **_: Any,
    ) -> list[tuple[Axis, ...]]:
        x = self.of(input)
        if weight is None and bias is None:
            for axis in x[-len(normalized_shape) :]:
                self._fix(axis, f"its size is a plain number of {self._here}")
        for held in (weight, bias):
            if held is not None:
                for one, other in zip(x[-len(normalized_shape) :], self.of(held), strict=True):
                    self._tie(one, other)
        return [x, *(self.of(h) for h in self._step.results[1:])]

    def _op__fused_rms_norm(
        self, input: Held, normalized_shape: Sequence[int], weight: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        return self._op_native_layer_norm(input, normalized_shape, weight)

    def _op_native_group_norm(
        self, input: Held, weight: Held | None, bias: Held | None, group: int, **_: Any
    ) -> list[tuple[Axis, ...]]:
        x = self.of(input)
        if weight is None and bias is None:
            self._fix(x[1], f"the number of groups is a plain number of {self._here}")
        if group > 1:
            units = x[1].reshape(group, -1)
            by_group = units.shape[1] == 1 or self._turn(units.shape, x[1]) == 0
            self._alike(units, 1 if by_group else 0)
        return self._normed(input, weight, bias)

    def _op__scaled_dot_product_flash_attention_for_cpu(
        self, query: Held, key: Held, value: Held, attn_mask: Held | None = None, **_: Any
    ) -> list[tuple[Axis, ...]]:
        q, k, v = self.of(query), self.of(key), self.of(value)
        for place in range(len(q) - 2):
            self._tie(q[place], k[place])
            self._tie(q[place], v[place])
        self._tie(q[-1], k[-1])
        self._tie(k[-2], v[-2])
        if attn_mask is not None:
            mask = self.of(attn_mask)
            for place, axis in zip(range(-len(mask), 0), mask, strict=True):
                self._fix(axis)
                if len(axis) > 1:
                    self._fix(k[-2] if place == -1 else q[place])
        return [(*q[:-1], v[-1])]

    _op__scaled_dot_product_efficient_attention = _op__scaled_dot_product_flash_attention_for_cpu
    _op__scaled_dot_product_flash_attention = _op__scaled_dot_product_flash_attention_for_cpu

    def _op_RNNBase(  # noqa: N802
        self, layer: nn.RNNBase, args: Any, kwargs: Any, tensors: Mapping[str, Held]
    ) -> list[tuple[Axis, ...]]:
        held = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Held)]
        hidden = self.of(tensors["weight_hh_l0"])[1]
        inner = self.of(tensors["weight_hr_l0"])[1] if layer.proj_size else hidden
        self._tie(self.of(held[0])[-1], self.of(tensors["weight_ih_l0"])[1])
        for state, axis in zip(held[1:], (hidden, inner), strict=False):
            self._tie(self.of(state)[-1], axis)
        several = np.tile(hidden, 2 if layer.bidirectional else 1)
        for name, each in tensors.items():
            label = self.of(each)
            if name.startswith("weight_hr"):
                self._tie(label[0], hidden)
                self._tie(label[1], inner)
                continue
            for block in label[0].reshape(-1, len(inner)):  # of each gate
                self._tie(inner, block)
            if name.startswith("weight_hh"):
                self._tie(label[1], hidden)
            elif name.startswith("weight_ih") and "_l0" not in name:
                self._tie(label[1], several)
            elif name.startswith("weight_ih"):
                self._tie(label[1], self.of(tensors["weight_ih_l0"])[1])
        first, *states = self._step.results
        return [
            (*map(self._nothing, first.shape[:-1]), several),
            *((*self.of(s)[:-1], axis) for s, axis in zip(states, (hidden, inner), strict=False)),
        ]

    def _op_MultiheadAttention(  # noqa: N802
        self,
        layer: nn.MultiheadAttention,
        args: Any,
        kwargs: Any,
        tensors: Mapping[str, Held],
    ) -> list[tuple[Axis, ...]]:
        held = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Held)]
        out = self.of(tensors["out_proj.weight"])
        embed, heads = out[0], layer.num_heads
        units = embed.reshape(heads, -1)
        self._alike(units, 1 if self._turn(units.shape[::-1], embed) else 0)
        for name, each in tensors.items():
            label = self.of(each)
            if name == "in_proj_weight":
                self._tie(label[1], embed)
            elif name in ("k_proj_weight", "v_proj_weight"):
                self._tie(label[1], self.of(held[1 if name[0] == "k" else 2])[-1])
            elif len(label) == 2:
                self._tie(label[1], embed)
            for block in label[-1 if name.startswith("bias_") else 0].reshape(-1, len(embed)):
                self._tie(block, embed)
        self._tie(self.of(held[0])[-1], embed)
        if layer._qkv_same_embed_dim:
            for other in held[1:3]:
                self._tie(self.of(other)[-1], embed)
        return [(*self.of(held[0])[:-1], embed)]

    def _op_glu(self, **arguments: Any) -> list[tuple[Axis, ...]]:
        held, dim = list(arguments.values())[:2]
        label = list(self.of(held))
        halves = label[dim].reshape(2, -1)
        self._alike(halves, 0)
        label[dim] = halves[0]
        return [tuple(label)]

    def _op__weight_norm_interface(self, v: Held, g: Held, **_: Any) -> list[tuple[Axis, ...]]:
        return [self._broadcast([v, g], v.shape), self.of(g)]

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
        kept = max(cut, key=lambda place: len(axes[place]))
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
        return [self._broadcast([arguments["input"]], self._step.results[0].shape)]

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
        new = len(times) - len(label)
        tiled = [np.tile(axis, n) for axis, n in zip(label, times[new:], strict=True)]
        return [(*map(self._nothing, times[:new]), *tiled)]

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
        used = [place for place, index in enumerate(indices) if index is not None]
        for place in used:
            self._fix(label[place], f"it is indexed by {self._here}")
            for axis in self.of(indices[place]):
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
